/* Syncing: the role beside leading. One fdatasync of the -wal proves all commits before
 * it, and confirms whoever waits for that.
 */
#include "engine.h"
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int wal_sync(int fd) {
    int result;
    do {
#ifdef F_FULLFSYNC
        result = fcntl(fd, F_FULLFSYNC);
#else
        result = fdatasync(fd);
#endif
    } while (result && errno == EINTR); /* some file systems let a signal end it */
    return result;
}

void lead_sync(struct engine *e) {
    struct link synced;
    list_init(&synced);
    pthread_mutex_lock(&e->mutex);
    LIST_EACH (op, &e->unsynced) op_move(op, &synced, PLACE_UNSYNCED);
    pthread_mutex_unlock(&e->mutex);
    int failed = wal_sync(e->wal_fd) ? errno : 0;
    pthread_mutex_lock(&e->mutex);
    ATOMIC_COUNT(&e->syncs);
    if (failed && !ATOMIC_LOAD(&e->sync_failed)) {
        struct wal_header now;
        wal_index_read(&e->wal, &now);
        memcpy(e->failed_salt, now.words + WAL_SALT, 8);
        ATOMIC_STORE(&e->sync_failed, 1);
    }
    /* After a failure the kernel takes the pages for clean: the next fdatasync succeeds
     * and proves nothing about what lies before. */
    if (ATOMIC_LOAD(&e->sync_failed) && !failed) failed = EIO;
    LIST_EACH (op, &synced) {
        if (failed)
            op_outcome(
                op,
                error_set(EMBQ_COMMIT_UNCERTAIN,
                          "%s: fsync of the -wal failed (%s); it may still be stored",
                          e->path, strerror(failed)));
        else if (op->kind == OP_DECLARE &&
                 handle_channel(op->result) > e->channels_certain)
            ATOMIC_STORE(&e->channels_certain, handle_channel(op->result));
        ring_finish(e, op);
    }
    e->syncing = 0;
    ring_pass_on(e);
    if (wal_extension_due(e)) keeper_wake(e);
    ring_unlock(e);
}
