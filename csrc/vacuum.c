/* Giving free pages back to the file system, in bounded steps while nothing is written.
 * A file that was made by embq is at auto_vacuum = incremental; in another one these do
 * nothing.
 */
#include "engine.h"

#include <stdlib.h>

/* 1 MiB: a writer waits for 2 ms at the most. */
#define STEP "pragma incremental_vacuum(256)"
/* So few pages are not worth it, as the next backlog takes them again; nor is less than
 * a quarter of the file. */
#define FREE_MIN 1024
#define FREE_SHARE 4

static int number_read(void *number, int columns, char **values, char **names) {
    (void)names;
    if (columns == 1 && values[0]) *(int64_t *)number = atoll(values[0]);
    return 0;
}

/* On the connection that only the keeper uses. */
int vacuum_due(struct engine *e) {
    int64_t free_pages = 0, pages = 0;
    pthread_mutex_lock(&e->checkpoint_mutex);
    sq.exec(e->hold_db, "pragma freelist_count", number_read, &free_pages, NULL);
    sq.exec(e->hold_db, "pragma page_count", number_read, &pages, NULL);
    pthread_mutex_unlock(&e->checkpoint_mutex);
    return free_pages > FREE_MIN && free_pages > pages / FREE_SHARE;
}

int64_t vacuum_step(struct engine *e) {
    int result = sq.exec(e->db, STEP, NULL, NULL, NULL);
    if (result != SQLITE_OK) e->storage_error = result;
    return result == SQLITE_OK ? 0 : -1;
}
