/* Attaching an engine to its file, and detaching it: connections, descriptors, slot and
 * keeper come and go together. Between the two, for a fork, it only comes to rest.
 */
#include "connection.h"
#include "ring.h"
#include "store.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LEAVE_US 1000000 /* for taking leave in the file at the last close */
#define HASTE_US 50000   /* for either once a signal's handler waits to be run */

static int file_open(const struct engine *e, int *fd) {
    if (*fd < 0) *fd = wal_file_open(e->path);
    return *fd < 0 ? *fd : 0;
}

static int files_open(struct engine *e) {
    struct stat s;
    int code;
    if ((code = file_open(e, &e->wal_fd)) < 0 ||
        (code = file_open(e, &e->gate_fd)) < 0 ||
        (code = file_open(e, &e->life_fd)) < 0)
        return code;
    /* An empty -wal may be new, and its name not yet durable. */
    return fstat(e->wal_fd, &s) == 0 && s.st_size == 0 ? directory_sync(e->path) : 0;
}

int engine_register(struct engine *e, enum op_kind kind) {
    struct op *op = op_new(e->keeper_broker, kind, e->slot, 0, 0);
    if (!op) return EMBQ_NO_MEMORY;
    /* Sequences that jumped must not be forgotten once one was given out: a power cut
     * at normal would make the next boot jump to the same ones (test_crash_images.py).
     */
    op->full = kind == OP_REGISTER;
    int64_t limit_us = (int64_t)e->busy_timeout_ms * 1000;
    if (kind == OP_RECOVER && limit_us > LEAVE_US) limit_us = LEAVE_US;
    op->deadline_us = clock_real_us() + limit_us;
    int64_t result = ring_call(e, op);
    /* It is short, unless others have the write lock: a signal's handler runs after it.
     */
    int may_hurry = kind == OP_RECOVER || e->opening;
    while (result == EMBQ_INTERRUPTED) {
        op = ring_pop_pending();
        int64_t soon_us = clock_real_us() + HASTE_US;
        if (may_hurry && soon_us < op->deadline_us) {
            ATOMIC_STORE(&op->deadline_us, soon_us);
            e->hurried = 1;
            may_hurry = 0;
        }
        result = ring_resume(e, op);
    }
    return (int)result;
}

void engine_rest(struct engine *e, int checkpoint) {
    keeper_stop(e);
    pthread_mutex_lock(&e->mutex);
    e->leading = e->syncing = e->keeper_leads = e->keeper_syncs = 0;
    ATOMIC_STORE(&e->completing, 0);
    ATOMIC_STORE(&e->keeper_waits, 0);
    ATOMIC_STORE(&e->extended, 0);
    pthread_mutex_unlock(&e->mutex);
    runs_drop(e);
    e->epoch++;
    memset(&e->left, 0, sizeof e->left);
    memset(e->absent, 0, sizeof e->absent);
    memset(&e->no_delete, 0, sizeof e->no_delete);
    memset(&e->no_redrive, 0, sizeof e->no_redrive);
    memset(&e->no_forget, 0, sizeof e->no_forget);
    if (!list_is_empty(&e->unsynced))
        lead_sync(e); /* the keeper was asked, and is gone */
    connections_close(e, checkpoint);
    e->names_since = 0;
    file_close(&e->wal_fd);
    file_close(&e->gate_fd);
}

void engine_detach(struct engine *e) {
    if (e->guarded) guard_unlock(e->guard); /* the last close needs the lock */
    e->guarded = 0;
    engine_rest(e, 1);
    file_close(&e->life_fd);
    e->guard = NULL;
    e->slot = 0;
}

int engine_attach(struct engine *e) {
    int rested = e->slot != 0;
    /* Whether it may be where it is, was decided when it was opened. */
    int code = clock_find();
    if (code == 0 && !e->guard)
        code = guard_open(e->path, EMBQ_OPEN_ANYWHERE, &e->guard);
    if (code == 0) code = connections_open(e);
    if (code == 0 && !e->guarded) {
        code = guard_lock(e->guard);
        e->guarded = code == 0;
    }
    if (code == 0) code = files_open(e);
    if (code == 0) space_look(e);
    if (code == 0) code = keeper_start(e);
    if (code == 0 && !rested) code = engine_register(e, OP_REGISTER);
    if (code == 0) ATOMIC_STORE(&e->attached, 1);
    else engine_detach(e);
    return code;
}

static int has_role(const struct engine *e) {
    int leads = e->leading && !e->keeper_leads && !ATOMIC_LOAD(&e->keeper_waits);
    return leads || (e->syncing && !e->keeper_syncs) || ATOMIC_LOAD(&e->watching) > 0;
}

int engine_quiesce(struct engine *e, int64_t limit_us) {
    int64_t end = clock_real_us() + limit_us;
    pthread_mutex_lock(&e->mutex);
    e->stopping = 1;
    for (;;) {
        if (!has_role(e) || clock_real_us() >= end) break;
        pthread_mutex_unlock(&e->mutex);
        watch_kick(e);
        usleep(NAP_US);
        pthread_mutex_lock(&e->mutex);
    }
    int quiet = !has_role(e);
    pthread_mutex_unlock(&e->mutex);
    return quiet;
}

int engine_secure(struct engine *e, int64_t limit_us) {
    if (e->secure) return 0;
    int attached = e->attached, code = 0;
    if (attached && !engine_quiesce(e, limit_us)) {
        engine_resume(e);
        return error_set(EMBQ_BUSY, "%s: it is open without secure_delete, and in use",
                         e->path);
    }
    /* As for a fork: the connections are opened anew, and nobody notices. */
    ATOMIC_STORE(&e->forking, attached);
    if (attached) engine_rest(e, 0);
    ATOMIC_STORE(&e->secure, 1);
    if (attached) code = engine_attach(e);
    ATOMIC_STORE(&e->forking, 0);
    if (attached) engine_resume(e);
    return code;
}

void engine_resume(struct engine *e) {
    pthread_mutex_lock(&e->mutex);
    e->stopping = 0;
    /* Parked claims slept on their own words meanwhile: some must watch again. */
    memset(e->watchers, 0, sizeof e->watchers);
    LIST_EACH (op, &e->parked) {
        ATOMIC_STORE(&op->word, (uint32_t)WORD_WATCH);
        futex_wake(&op->word, 1);
    }
    ring_pass_on(e);
    pthread_mutex_unlock(&e->mutex);
}
