/* Leading: one group of operations as one transaction.
 *
 *     gate -> begin -> (was anybody else here? then forget all) -> run every operation
 *       -> serve who waits -> write counters -> commit -> fence -> leave the gate
 *       -> confirm, or leave to the sync -> pass the lead on
 *
 * A group can be rolled back under us. When anything of storage fails, nothing of the
 * group is confirmed: it is rolled back and each operation runs again alone, acks
 * before sends, so that one that cannot be stored (a full disk) takes nobody with it.
 */
#include "line.h"
#include "names.h"
#include "ring.h"
#include "store.h"

#include <sched.h>
#include <string.h>
#include <unistd.h>

/* A foreign writer that commits in a loop leaves the lock free for microseconds only:
 * look without a pause for a while, a caller shortly, the keeper longer, before
 * napping. */
#define BUSY_LOOK_CALLER_US 50
#define BUSY_LOOK_KEEPER_US 2000
#define BUSY_NAP_US 1000
/* What is long is done in steps, and between two of them the file is free for as long
 * as the step took, but not for longer than this. */
#define STEP_PAUSE_LEAST_US 1000
#define STEP_PAUSE_MOST_US 20000

/* ---- begin and commit ---- */

static int transaction_begin(struct engine *e) {
    e->storage_error = 0;
    e->used = NULL;
    e->transaction++;
    e->looks++;
    e->wake_bits = 0;
    if (statement_do(e, ST_BEGIN, 0, 0, NULL) < 0) return e->storage_error;
    struct wal_header now;
    wal_index_read(&e->wal, &now);
    if (memcmp(&now, &e->left, sizeof now) != 0) e->epoch++;
    return SQLITE_OK;
}

static void transaction_rollback(struct engine *e) {
    int error = e->storage_error;
    e->storage_error = 0;
    if (!sq.get_autocommit(e->db)) statement_do(e, ST_ROLLBACK, 0, 0, NULL);
    e->storage_error = error;
    e->epoch++; /* what we remember was never written */
    runs_drop(e);
}

/* After a commit, before anybody is told: is the file that we wrote still the file? */
static int fence_check(struct engine *e) {
    int moved = 0;
    if (names_are_kept(e->names_since)) return 0;
    uint64_t since = names_watch(e->path); /* before the look */
    sq.file_control(e->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    e->names_since = since;
    if (!moved && !wal_file_gone(e->wal_fd)) return 0;
    int code = error_set(EMBQ_DATABASE_REPLACED,
                         "%s: the file was moved, removed or replaced while it was in "
                         "use; what was just written may be in neither",
                         e->path);
    ATOMIC_STORE(&e->failed, code);
    return code;
}

/* 0, or the code for everything in the group. */
static int transaction_commit(struct engine *e) {
    if (channels_flush(e) < 0 || statement_do(e, ST_COMMIT, 0, 0, NULL) < 0) {
        int code = error_sqlite(e->db, e->storage_error, e->path);
        /* A failed write of the commit itself may come to light after a crash. */
        if (code == EMBQ_STORAGE_IO_ERROR) {
            code = error_set(EMBQ_COMMIT_UNCERTAIN, "%s: %s", e->path, error_text());
            ATOMIC_STORE(&e->failed, code);
        }
        transaction_rollback(e);
        return code;
    }
    wal_index_read(&e->wal, &e->left);
    /* Other salts: the WAL started over, and nothing is behind the frames in doubt any
     * more. */
    if (ATOMIC_LOAD(&e->sync_failed) &&
        memcmp(e->left.words + WAL_SALT, e->failed_salt, 8) != 0)
        ATOMIC_STORE(&e->sync_failed, 0);
    return fence_check(e);
}

/* ---- one operation ---- */

static int64_t op_execute(struct engine *e, struct op *op) {
    int code;
    op->no_room = 0;
    if (op->full && ATOMIC_LOAD(&e->sync_failed))
        return error_set(
            EMBQ_STORAGE_IO_ERROR,
            "%s: an fsync failed; full sends are refused until the -wal started "
            "over",
            e->path);
    switch (op->kind) {
    case OP_SEND:
    case OP_SEND_MANY:
        return (code = space_check(e, op)) < 0 ? code : message_send(e, op);
    case OP_CLAIM: return claim_run(e, op);
    case OP_SETTLE: return settle_run(e, op);
    case OP_DECLARE: return channel_declare(e, op);
    case OP_CONFIGURE: return admin_configure(e, op);
    case OP_PAUSE: return admin_pause(e, op);
    case OP_PURGE: return admin_purge(e, op);
    case OP_CANCEL: return admin_cancel(e, op);
    case OP_DELETE: return delete_run(e, op);
    case OP_REDRIVE: return redrive_begin(e, op);
    case OP_REDRIVE_CANCEL: return redrive_cancel(e, op);
    case OP_RESULT_BEGIN: return result_begin(e, op);
    case OP_RESULT_END: return result_end(e, op);
    case OP_RESULT_SET: return result_set(e, op);
    case OP_RESULT_DELETE: return result_delete(e, op);
    case OP_RESULT_FREE: return result_free(e, op);
    case OP_REGISTER: return owner_register(e);
    case OP_RECOVER: return owner_recover(e, op->channel);
    case OP_CHECKPOINT: return checkpoint_complete(e);
    case OP_EXTEND: return wal_extend(e);
    case OP_VACUUM: return vacuum_step(e);
    case OP_REDRIVE_STEP: return redrive_step(e);
    case OP_HITS: return hits_write(e);
    case OP_FORGET: return results_step(e);
    default: return 0; /* a barrier */
    }
}

int op_run(struct engine *e, struct op *op) {
    int64_t result = op_execute(e, op);
    if (e->storage_error) return -1;
    op_outcome(op, result);
    return 0;
}

/* Everything else goes before the claims, and a claim that found nothing looks again
 * when something became ready in its class of channels: a claim that is parked had
 * nothing at the end of its group, not at its turn in it. Sends that wait for room look
 * when all is done that may have made some, but not beside one that runs `alone`. */
static int group_execute(struct engine *e, struct link *group, int foreign, int alone) {
    for (int pass = 0; pass < 3; pass++) {
        if (pass == 1 && !alone && lines_serve(e, group, foreign) < 0) return -1;
        LIST_EACH (op, group) {
            int claims = op_parks(op);
            int again =
                claims && op->result == 0 && e->wake_bits & wake_bit(op->channel);
            if (pass == 0 ? claims : pass == 1 ? !claims : !again) continue;
            if (op_run(e, op) < 0) return -1;
        }
    }
    return 0;
}

/* Claims that wait in this process and may find something now, in their order. Those
 * that do join the group. */
static int parked_serve(struct engine *e, struct link *group, int foreign) {
    struct link looking;
    list_init(&looking);
    int64_t now = clock_real_us();
    pthread_mutex_lock(&e->mutex);
    LIST_EACH (op, &e->parked) {
        if (foreign || e->wake_bits & wake_bit(op->channel) || op->next_due_us <= now)
            op_move(op, &looking, PLACE_GROUP);
    }
    pthread_mutex_unlock(&e->mutex);
    while (!list_is_empty(&looking)) {
        struct op *op = list_first(&looking);
        int64_t result = e->storage_error       ? 0
                         : op->kind == OP_CLAIM ? claim_run(e, op)
                                                : result_begin(e, op);
        pthread_mutex_lock(&e->mutex);
        /* With an error the group will run again, and a parked claim with it. */
        op_move(op, group, PLACE_GROUP);
        op_outcome(op, result);
        pthread_mutex_unlock(&e->mutex);
    }
    return e->storage_error ? -1 : 0;
}

/* Run and commit; 0, or a code. With `*again` the group is as if it had never begun. */
static int group_run(struct engine *e, struct link *group, int foreign, int alone,
                     int *again) {
    struct suspect before = e->suspect;
    int code;
    if (group_execute(e, group, foreign, alone) < 0 ||
        parked_serve(e, group, foreign) < 0) {
        code = error_sqlite(e->db, e->storage_error, e->path);
        transaction_rollback(e);
    } else {
        code = transaction_commit(e);
    }
    if (code < 0) e->suspect = before;
    damage_end(e, code >= 0);
    hits_end(e, code >= 0);
    *again = code < 0 && !e->failed;
    return code;
}

static void group_fail(struct link *group, int code) {
    LIST_EACH (op, group) {
        op_outcome(op, code);
        op->no_room = 0;
    }
}

/* The rollback let go of the write lock, and a foreign writer may have it. */
static int begin_again(struct engine *e) {
    int result = SQLITE_BUSY;
    int64_t end = clock_real_us() + (int64_t)e->busy_timeout_ms * 1000;
    while ((result & 0xff) == SQLITE_BUSY && clock_real_us() < end) {
        result = transaction_begin(e);
        if ((result & 0xff) == SQLITE_BUSY) usleep(BUSY_NAP_US);
    }
    return result == SQLITE_OK ? 0 : error_sqlite(e->db, result, e->path);
}

/* The disk is full: once the database has all that is in the -wal, this starts over in
 * bytes that it has already. */
static void room_make(struct engine *e) {
    if (begin_again(e) < 0) return;
    checkpoint_complete(e);
    transaction_rollback(e);
}

/* Run it alone; what ended with it goes to `done`. Returns 0 or its code. */
static int op_run_alone(struct engine *e, struct op *op, struct link *done) {
    struct link alone;
    int again, code = e->failed;
    list_init(&alone);
    op_move(op, &alone, PLACE_GROUP);
    if (!code) code = begin_again(e);
    if (!code) code = group_run(e, &alone, 1, 1, &again);
    if (code < 0) group_fail(&alone, code);
    LIST_EACH (ended, &alone) op_move(ended, done, PLACE_GROUP);
    if (op->no_room) { /* at once, so that none of its line passes it */
        pthread_mutex_lock(&e->mutex);
        line_join(e, op);
        ring_unlock(e);
    }
    return code;
}

/* Each operation alone, acks first, and then what waited for room already: what cannot
 * be stored takes nobody with it, what makes room goes before what needs it, and nobody
 * passes who waits. */
static void group_split(struct engine *e, struct link *group) {
    uint32_t wake_bits = 0;
    int stored = 0;
    struct link done;
    list_init(&done);
    for (int pass = 0; pass < 3; pass++) {
        LIST_EACH (op, group) {
            if (pass != (op->kind == OP_SETTLE ? 0 : op->turn ? 1 : 2)) continue;
            if (op_run_alone(e, op, &done) < 0) continue;
            wake_bits |= e->wake_bits;
            stored = 1;
        }
    }
    LIST_EACH (op, &done) op_move(op, group, PLACE_GROUP);
    e->wake_bits = wake_bits;
    if (stored) lines_look_again(e); /* at what a group saw that never was */
}

/* ---- the whole of it ---- */

enum begun { BEGUN, ASK_KEEPER, GIVEN_UP };

static int nobody_waits(struct engine *e) {
    pthread_mutex_lock(&e->mutex);
    int nobody = e->keeper_stops || (!e->ring_count && !e->lines);
    pthread_mutex_unlock(&e->mutex);
    return nobody;
}

/* Take the gate and the write lock. A foreign writer knows no gate, so the lock may be
 * busy even behind it: the keeper then naps and tries, and holds the gate meanwhile. */
static enum begun lead_begin(struct engine *e, int wait, int *code) {
    int64_t look_end =
        clock_real_us() + (wait ? BUSY_LOOK_KEEPER_US : BUSY_LOOK_CALLER_US);
    /* Another process may be stopped in the gate: who closes or forks does not wait for
     * a keeper that waits there (test_closing.py, test_forking_beside.py). */
    if (wait) ATOMIC_STORE(&e->keeper_waits, 1);
    *code = gate_enter(e->gate_fd, wait);
    if (wait) ATOMIC_STORE(&e->keeper_waits, 0);
    if (*code == 0) return ASK_KEEPER;
    while (*code > 0) {
        int result = transaction_begin(e);
        if (result == SQLITE_OK) return BEGUN;
        if ((result & 0xff) != SQLITE_BUSY) {
            *code = error_sqlite(e->db, result, e->path);
            break;
        }
        int looks = clock_real_us() < look_end;
        if (!looks && (!wait || nobody_waits(e))) {
            gate_leave(e->gate_fd);
            return wait ? GIVEN_UP : ASK_KEEPER;
        }
        if (looks) sched_yield();
        else usleep(BUSY_NAP_US);
    }
    gate_leave(e->gate_fd);
    return GIVEN_UP;
}

/* It did a step, so that nobody waits long, and there are more. */
static int goes_on(const struct op *op) {
    switch (op->kind) {
    case OP_RECOVER:
    case OP_EXTEND:
    case OP_REDRIVE_STEP:
    case OP_FORGET: return op->result > 0;
    case OP_CLAIM: return op->again && op->result == 0;
    case OP_PURGE:
    case OP_DELETE: return op->again && op->result >= 0;
    default: return 0;
    }
}

/* Under the mutex: tell each caller, or send it on to the sync or to wait. */
static void group_confirm(struct engine *e, struct link *group) {
    LIST_EACH (op, group) {
        ATOMIC_COUNT(&e->operations);
        int nothing = op_parks(op) && op->result == 0;
        if (op->no_room) line_join(e, op);
        else if (op->flushes && op->result >= 0 && line_join_flush(e, op)) continue;
        else if (op->full && op->result >= 0 && !nothing)
            op_move(op, &e->unsynced, PLACE_UNSYNCED);
        else if (goes_on(op)) ring_again(e, op);
        else if (nothing && !op->abandoned) ring_park(e, op);
        else ring_finish(e, op);
    }
}

static void lead_end(struct engine *e, struct link *group, int code) {
    pthread_mutex_lock(&e->mutex);
    if (group) group_confirm(e, group);
    lines_end(e);
    if (code < 0) ring_fail(e, NULL, code, 1);
    ATOMIC_STORE(&e->looked, e->left.words[2]);
    e->leading = 0;
    ring_pass_on(e);
    if (checkpoint_due(e, 0)) keeper_wake(e);
    ring_unlock(e);
}

/* Who waits at the gate is not handed it, but must come before us: without a pause the
 * next step would keep other processes out. */
static int64_t step_pause_us(int64_t took_us) {
    return took_us < STEP_PAUSE_LEAST_US  ? STEP_PAUSE_LEAST_US
           : took_us > STEP_PAUSE_MOST_US ? STEP_PAUSE_MOST_US
                                          : took_us;
}

void lead_group(struct engine *e, int wait) {
    struct link group;
    int code = 0, again = 0;
    uint64_t epoch = e->epoch;
    int64_t begun_us = clock_real_us(), pause_us = 0;
    switch (lead_begin(e, wait, &code)) {
    case ASK_KEEPER:
        pthread_mutex_lock(&e->mutex);
        e->keeper_leads = 1; /* leading stays set: it is the keeper's now */
        keeper_wake(e);
        int busy = ATOMIC_LOAD(&e->keeper_busy);
        pthread_mutex_unlock(&e->mutex);
        /* At a checkpoint: the next caller may lead before it. */
        if (busy) usleep(BUSY_NAP_US);
        return;
    case GIVEN_UP: lead_end(e, NULL, code); return;
    case BEGUN: break;
    }
    pthread_mutex_lock(&e->mutex);
    ring_take(e, &group);
    pthread_mutex_unlock(&e->mutex);
    code = group_run(e, &group, e->epoch != epoch, 0, &again);
    if (again && code == EMBQ_STORAGE_FULL) room_make(e);
    if (again && code != EMBQ_CORRUPT) group_split(e, &group), code = e->failed;
    else if (code < 0) group_fail(&group, code);
    gate_leave(e->gate_fd);
    ATOMIC_COUNT(&e->groups);
    ATOMIC_STORE(&e->last_group_us, clock_real_us());
    uint32_t bits = e->wake_bits;
    if (checkpoint_overdue(e)) checkpoint_stage(e);
    if (bits) ATOMIC_ADD(&e->watching, 1); /* the mapping stays until the wake */
    if (e->stepping) pause_us = step_pause_us(clock_real_us() - begun_us);
    e->stepping = 0;
    lead_end(e, &group, e->failed ? code : 0);
    if (bits) {
        wal_wake(&e->wal, bits);
        ATOMIC_ADD(&e->watching, -1);
    }
    if (pause_us) usleep((useconds_t)pause_us);
}
