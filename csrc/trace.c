/* With secure_delete what was removed leaves no trace. In the database SQLite writes
 * zeros over it. The -wal, though, keeps the pages of former commits until others are
 * written over them. So in idle moments it is started over, by a write that changes
 * nothing, and cut to that one page (`pragma journal_size_limit`, see connection.c).
 */
#include "store.h"

#define FRAME_HEADER 24
#define WAL_HEADER 32
#define AGAIN_US 10000000 /* when a reader still needs the old pages */

int trace_due(const struct engine *e) {
    if (!ATOMIC_LOAD(&e->secure)) return 0;
    int64_t clean = WAL_HEADER + FRAME_HEADER + wal_page_size(&e->wal);
    if (wal_frames(&e->wal) <= 1 && wal_file_size(e->wal_fd) <= clean) return 0;
    return wal_salt(&e->wal) != e->traced_salt || clock_real_us() >= e->trace_again_us;
}

int trace_remove(struct engine *e) {
    e->traced_salt = wal_salt(&e->wal);
    e->trace_again_us = clock_real_us() + AGAIN_US;
    return wal_start_over(e);
}
