/* Checkpoints: by the keeper, in idle gaps first, so that no caller's commit pays for
 * them.
 *
 * SQLite 3.7.0 to 3.51.2 has a race between a checkpoint and a writer that starts the
 * WAL over (sqlite.org/wal.html, "the WAL-reset bug"). It cannot happen while another
 * connection holds a read transaction on a WAL that is not empty, so a step beside the
 * writers holds one; the completing one holds the write lock, behind which nobody can
 * start the WAL over. No TRUNCATE and no RESTART: overwriting a WAL costs half of
 * appending to it.
 */
#include "store.h"

#include <sys/stat.h>
#include <unistd.h>

#define IDLE_BYTES ((int64_t)64 << 10) /* worth a step in an idle gap */
#define WAL_BYTES ((int64_t)8 << 20)   /* from here on the WAL should start over ... */
#define BUSY_SHARE 2                   /* this share of that is worth a step ... */
#define COMPLETE_SHARE 4 /* ... and so little is done under the write lock */
#define WAL_BYTES_MAX ((int64_t)64 << 20) /* here it must, whatever it costs */
#define AGAIN_US 250000                   /* after a checkpoint that got nowhere */
#define EXTEND_SYNCS 64                   /* so many syncs make it worth while */
#define EXTEND_STEP 16  /* blocks a round, so that no writer waits long */
#define EXTEND_SHARE 16 /* of what is left on the disk, at the most */

static int64_t frame_bytes(const struct engine *e, uint32_t frames) {
    return (int64_t)frames * (wal_page_size(&e->wal) + 24);
}

static int64_t pending_bytes(const struct engine *e) {
    uint32_t frames = wal_frames(&e->wal), done = wal_backfilled(&e->wal);
    return frames > done ? frame_bytes(e, frames - done) : 0;
}

/* Where the WAL should start over: earlier on a small disk. */
static int64_t wal_bytes(const struct engine *e) {
    return space_for_wal(e, WAL_BYTES);
}

int checkpoint_due(const struct engine *e, int idle) {
    if (ATOMIC_LOAD(&e->completing) || ATOMIC_LOAD(&e->failed)) return 0;
    int enough = ATOMIC_LOAD(&e->sync_failed) || (idle && trace_due(e)) ||
                 pending_bytes(e) >= (idle ? IDLE_BYTES : wal_bytes(e) / BUSY_SHARE);
    return enough && clock_real_us() >= ATOMIC_LOAD(&e->checkpoint_after_us);
}

/* A PASSIVE checkpoint; how many frames are left, or -1. */
static int64_t checkpoint_passive(struct engine *e) {
    int frames = 0, done = 0;
    int result = sq.wal_checkpoint_v2(e->checkpoint_db, "main",
                                      SQLITE_CHECKPOINT_PASSIVE, &frames, &done);
    if (result != SQLITE_OK) return -1; /* busy: another process is at it */
    ATOMIC_COUNT(&e->checkpoints);
    return frames - done;
}

/* Nothing of it can be written back now, as some reader still needs the old pages. */
static void checkpoint_put_off(struct engine *e) {
    ATOMIC_STORE(&e->checkpoint_after_us, clock_real_us() + AGAIN_US);
}

void checkpoint_stage(struct engine *e) {
    if (ATOMIC_LOAD(&e->completing)) return;
    ATOMIC_STORE(&e->completing, 1);
    if (keeper_stage(e, OP_CHECKPOINT, 0) < 0) ATOMIC_STORE(&e->completing, 0);
}

/* Some reader needs the pages of before frames that were there when a checkpoint began.
 * While it does the WAL cannot start over, and grows by all that is written. That is
 * told once for each WAL, and by stats(). */
static void held_note(struct engine *e, uint32_t frames, uint32_t salt) {
    int64_t size = frame_bytes(e, frames);
    if (wal_salt(&e->wal) != salt) return; /* another one by now */
    if (size < space_for_wal(e, WAL_BYTES_MAX) || wal_backfilled(&e->wal) >= frames) {
        ATOMIC_STORE(&e->held_since_us, 0);
        return;
    }
    if (!e->held_since_us) ATOMIC_STORE(&e->held_since_us, clock_real_us());
    if (e->held_salt != salt &&
        notice_leave("%s: a reader keeps the -wal from starting over: it has %lld MiB, "
                     "and grows by all that is written until the read transaction is "
                     "ended that some connection has open",
                     e->path, (long long)(size >> 20)))
        e->held_salt = salt;
}

int64_t checkpoint_held_ms(const struct engine *e) {
    int64_t since_us = ATOMIC_LOAD(&e->held_since_us);
    int held = since_us && pending_bytes(e) > 0;
    return held ? (clock_real_us() - since_us) / 1000 + 1 : 0;
}

void checkpoint_step(struct engine *e) {
    uint32_t before = wal_backfilled(&e->wal), frames = wal_frames(&e->wal);
    uint32_t salt = wal_salt(&e->wal);
    pthread_mutex_lock(&e->checkpoint_mutex);
    int holds = sq.exec(e->hold_db, "begin", NULL, NULL, NULL) == SQLITE_OK &&
                sq.exec(e->hold_db, "select schema_version\nfrom embq_meta", NULL, NULL,
                        NULL) == SQLITE_OK;
    if (holds && frames > 0 && checkpoint_passive(e) >= 0) held_note(e, frames, salt);
    if (!sq.get_autocommit(e->hold_db))
        sq.exec(e->hold_db, "rollback", NULL, NULL, NULL);
    pthread_mutex_unlock(&e->checkpoint_mutex);
    int64_t wal = frame_bytes(e, wal_frames(&e->wal)), after = pending_bytes(e);
    int starts_over = wal >= wal_bytes(e) && after <= wal_bytes(e) / COMPLETE_SHARE;
    int failed = ATOMIC_LOAD(&e->sync_failed) || trace_due(e);
    if (wal_backfilled(&e->wal) == before || failed) checkpoint_put_off(e);
    if (starts_over || wal >= WAL_BYTES_MAX || failed) checkpoint_stage(e);
}

int checkpoint_overdue(const struct engine *e) {
    return frame_bytes(e, wal_frames(&e->wal)) >= WAL_BYTES_MAX &&
           !ATOMIC_LOAD(&e->failed) &&
           clock_real_us() >= ATOMIC_LOAD(&e->checkpoint_after_us);
}

int wal_start_over(struct engine *e) {
    /* There and back: SQLite writes no page for a value that stays. */
    return statement_do(e, ST_META_SHIFT, 0, INTS(1)) < 0 ||
                   statement_do(e, ST_META_SHIFT, 0, INTS(-1)) < 0
               ? -1
               : 0;
}

int64_t checkpoint_complete(struct engine *e) {
    /* All is in the database, and the next write starts the WAL over. Full sends may
     * wait for that, or it has what was removed; it may be that nobody else writes. */
    int failed = ATOMIC_LOAD(&e->sync_failed);
    if (pending_bytes(e) == 0 && (failed || trace_due(e))) {
        ATOMIC_STORE(&e->completing, 0);
        return failed ? wal_start_over(e) : trace_remove(e);
    }
    pthread_mutex_lock(&e->checkpoint_mutex);
    if (checkpoint_passive(e) != 0) checkpoint_put_off(e);
    pthread_mutex_unlock(&e->checkpoint_mutex);
    ATOMIC_STORE(&e->completing, 0);
    return 0;
}

/* ---- the -wal, long beforehand ----
 *
 * An fdatasync that makes the file longer must write the file system's journal too,
 * which doubles its time. So a handle that syncs often fills the -wal with zeros once,
 * up to where it starts over; SQLite stops reading at the first frame whose checksum is
 * wrong. The write lock is held: nobody else appends meanwhile.
 */

int wal_extension_due(const struct engine *e) {
    return !ATOMIC_LOAD(&e->extended) && !ATOMIC_LOAD(&e->secure) &&
           ATOMIC_LOAD(&e->syncs) >= EXTEND_SYNCS;
}

void wal_extension_stage(struct engine *e) {
    ATOMIC_STORE(&e->extended, 1);
    keeper_stage(e, OP_EXTEND, 0);
}

int64_t wal_extend(struct engine *e) {
    static const char zeros[1 << 16];
    struct stat s;
    if (fstat(e->wal_fd, &s)) return 0;
    off_t end = s.st_size, wanted = wal_bytes(e) + wal_bytes(e) / COMPLETE_SHARE;
    if (space_look(e) / EXTEND_SHARE < wanted) return 0;
    for (int i = 0; i < EXTEND_STEP && end < wanted; i++) {
        ssize_t n = pwrite(e->wal_fd, zeros, sizeof zeros, end);
        if (n <= 0) return 0; /* no room: then it grows as it must */
        end += n;
    }
    return end < wanted;
}
