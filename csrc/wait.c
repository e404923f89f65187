/* Waiting: a thread sees its call through, by sleeping, by leading, syncing or watching
 * when it is told to, until the outcome, the end of its time, or a signal.
 */
#include "engine.h"
#include "line.h"
#include "ring.h"

#include <errno.h>

/* The call's time is over. Under the mutex; 1 when `*result` is its outcome. */
static int ring_expire(struct engine *e, struct op *op, int64_t *result) {
    if (op->word != WORD_WAIT) return 0;
    if (op->place == PLACE_PARKED) {
        watch_leave(e, op);
        *result = op->result = 0;
    } else if (op->place == PLACE_LINE) {
        line_give_up(e, op);
        if (op->kind == OP_BARRIER)
            op_outcome(op, error_set(EMBQ_BUSY,
                                     "%s: staged messages wait for room in their "
                                     "queues; they stay staged",
                                     e->path));
        *result = error_set((int)op->result, "%s", op_error(op)); /* or: no room */
    } else if (op->place == PLACE_RING && (op->again || op->was_parked)) {
        /* It looked, and found nothing yet; what is left of a delete is the keeper's.
         */
        ring_drop(e, op);
        *result = op->result = op->kind == OP_DELETE ? op->total : 0;
    } else if (op->place == PLACE_RING) {
        ring_drop(e, op);
        *result = error_set(EMBQ_BUSY,
                            "%s: the write lock was not free in time; nothing was "
                            "written",
                            e->path);
        op_outcome(op, *result);
    } else if ((op->kind == OP_CLAIM && op->flags & EMBQ_CLAIM_AUTO_ACK) ||
               (op->turn && op->place == PLACE_GROUP)) {
        /* What it takes is gone from the file: hand it over. What waited for room comes
         * back to its line in a moment, or is stored. */
        op->deadline_us = -1;
        return 0;
    } else {
        /* Its group has it: it ends alone, and what it claims goes back. */
        op->abandoned = op->nowait = op->seen = 1;
        op->waiting = 0;
        if (op->was_parked) *result = 0;
        else
            *result =
                op_parks(op)
                    ? error_set(EMBQ_BUSY, "%s: nothing was claimed in time", e->path)
                    : error_set(EMBQ_COMMIT_UNCERTAIN,
                                "%s: not confirmed in time; it may still be stored",
                                e->path);
        return 1;
    }
    ring_finish(e, op);
    return 1;
}

/* In a line: the keeper looks for it. */
static int line_sleep(struct op *op, int64_t timeout_us) {
    int64_t most =
        timeout_us < 0 || timeout_us > HANDLERS_US ? HANDLERS_US : timeout_us;
    int why = futex_wait(&op->word, WORD_WAIT, most);
    if (why == ETIMEDOUT) op->handlers_ran = 0;
    return why;
}

/* A thread sleeps until it is given a role or an outcome: futex_wait's result. */
static int ring_sleep(struct engine *e, struct op *op) {
    int64_t timeout = -1;
    int64_t deadline_us = ATOMIC_LOAD(&op->deadline_us);
    if (deadline_us >= 0) {
        timeout = deadline_us - clock_real_us();
        if (timeout <= 0) return ETIMEDOUT;
    }
    int parked, in_line, watches = 0;
    pthread_mutex_lock(&e->mutex);
    op->asleep = 1;
    parked = op->place == PLACE_PARKED && !e->stopping;
    in_line = op->place == PLACE_LINE;
    /* A signal that came while this thread led a group woke nobody, and nothing would
     * for ever: Python's handlers run before a long sleep. Test: test_signals.py, "in
     * the middle". */
    if ((parked || in_line) && !op->handlers_ran) {
        op->handlers_ran = 1;
        pthread_mutex_unlock(&e->mutex);
        return EINTR;
    }
    if (parked) {
        struct op **watcher = &e->watchers[wake_class(op->channel)];
        if (!*watcher) *watcher = op;
        watches = *watcher == op;
        if (watches) ATOMIC_ADD(&e->watching, 1);
    }
    pthread_mutex_unlock(&e->mutex);
    if (in_line) return line_sleep(op, timeout);
    if (!parked) return futex_wait(&op->word, WORD_WAIT, timeout);
    int why = watch_sleep(e, op, watches, timeout);
    if (watches) ATOMIC_ADD(&e->watching, -1);
    return why;
}

/* What a sleep ended with, when it was no role: 1 when the call is over or interrupted.
 */
static int ring_woken(struct engine *e, struct op *op, int why, int64_t *result) {
    int over = 0;
    pthread_mutex_lock(&e->mutex);
    if (why == ETIMEDOUT && op->deadline_us >= 0 &&
        clock_real_us() >= op->deadline_us && ring_expire(e, op, result)) {
        over = 1;
    } else if (why == EINTR && op->word == WORD_WAIT) {
        op->waiting = 0;
        watch_leave(e, op);
        *result = EMBQ_INTERRUPTED;
        over = 1;
    }
    ring_unlock(e);
    return over;
}

static int take_role(struct engine *e, struct op *op) {
    pthread_mutex_lock(&e->mutex);
    uint32_t role = op->word;
    op->asleep = 0;
    if (role != WORD_DONE) op->word = WORD_WAIT;
    pthread_mutex_unlock(&e->mutex);
    return (int)role;
}

int64_t ring_wait(struct engine *e, struct op *op) {
    int64_t result;
    pthread_mutex_lock(&e->mutex);
    op->waiting = 1;
    ring_pass_on(e); /* nobody may have had a thread to lead with */
    pthread_mutex_unlock(&e->mutex);
    for (;;) {
        switch (ATOMIC_LOAD(&op->word) == WORD_WAIT ? WORD_WAIT : take_role(e, op)) {
        case WORD_LEAD: lead_group(e, 0); continue;
        case WORD_SYNC: lead_sync(e); continue;
        case WORD_WATCH: continue; /* ring_sleep sees that nobody watches */
        case WORD_DONE:
            op->seen = 1;
            if (op->result < 0) error_set((int)op->result, "%s", op_error(op));
            return op->result;
        default: break;
        }
        int why = ring_sleep(e, op);
        if (why && ring_woken(e, op, why, &result)) return result;
    }
}

/* Interrupted calls of this thread, the latest first; embq_resume goes on with it. A
 * signal handler may itself call verbs, so there can be several. */
static _Thread_local struct op *pending;

void ring_push_pending(struct op *op) {
    op->pending = pending;
    pending = op;
}

struct op *ring_pop_pending(void) {
    struct op *op = pending;
    if (op) pending = op->pending;
    return op;
}

int64_t ring_resume(struct engine *e, struct op *op) {
    int64_t result = ring_wait(e, op);
    if (result == EMBQ_INTERRUPTED) {
        ring_push_pending(op);
        return result;
    }
    /* The packer's memory becomes the caller's; but when the wait ended in the middle
     * of a group, the leader still writes there. */
    if (op->answer && result >= 0 && !op->abandoned) {
        *op->answer = (embq_bytes){op->out.data, (long long)op->out.size, op->count};
        op->out = (struct packer){0};
    }
    op_release(op);
    return result;
}

int64_t ring_call(struct engine *e, struct op *op) {
    int code = ring_submit(e, op);
    if (code == 0) return ring_resume(e, op);
    op_release(op);
    return code;
}
