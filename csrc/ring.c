/* The ring: where calls wait, and who does the work for all of them.
 *
 * Leader and followers. A caller puts its operation on the ring; if nobody leads, it
 * leads: it runs everything that waits as one transaction and tells the others. When it
 * is done the next waiting caller leads the next group, or the keeper when nobody
 * waits. So one thread pays no hand-over and a hundred threads share one commit.
 *
 * Syncing is a second role, held beside leading: after the commit of a group with full
 * sends one of their callers calls fdatasync for all that was committed before, while
 * the next leader already works. Full sends that arrive meanwhile collect, unless an
 * impatient operation takes them along.
 *
 * A role is given by writing it into the futex word of an operation whose thread waits,
 * always under the mutex; it is never given to an operation whose thread went to look
 * after a signal.
 */
#include "engine.h"
#include "line.h"
#include "ring.h"

#include <errno.h>
#include <limits.h>

#define WAKES_MAX 512 /* beyond that they are woken under the mutex */
#define SCAN_MAX \
    64 /* operations looked at for a waiting thread before the keeper is taken */

void ring_init(struct engine *e) {
    list_init(&e->ring);
    list_init(&e->unsynced);
    list_init(&e->parked);
    list_init(&e->flushing);
    e->lines = NULL;
    e->line_count = e->line_bytes = 0;
    e->ring_count = e->ring_bytes = e->lingering = e->patient = 0;
    e->leading = e->syncing = e->keeper_leads = e->keeper_syncs = 0;
}

/* Nothing is lost by letting it wait for the end of a sync, as it needs the next one
 * anyway. A barrier is in this class with the sends that it must not overtake. */
static int is_patient(const struct op *op) {
    return op->full && op->kind != OP_CLAIM;
}

/* What stands in lines counts too, but only against what would only join it: an ack may
 * be what they wait for. */
static int has_room(const struct engine *e, const struct op *op) {
    if (op->kind == OP_RESULT_FREE) return 1; /* there are no more than threads */
    int joins = op->nowait && op->kind == OP_SEND;
    int64_t count = e->ring_count + (joins ? e->line_count : 0);
    int64_t bytes = e->ring_bytes + (joins ? e->line_bytes : 0);
    return count < EMBQ_RING_COUNT &&
           (count == 0 || bytes + op_bytes(op) <= EMBQ_RING_BYTES);
}

static void ring_put(struct engine *e, struct op *op) {
    ATOMIC_ADD(&op->refs, 1);
    op_move(op, &e->ring, PLACE_RING);
    e->ring_count++;
    e->ring_bytes += op_bytes(op);
    e->patient += is_patient(op);
    if (op->lingers && e->lingering++ == 0) e->linger_since_us = clock_real_us();
}

void ring_drop(struct engine *e, struct op *op) {
    op_unlink(op);
    e->ring_count--;
    e->ring_bytes -= op_bytes(op);
    e->patient -= is_patient(op);
    e->lingering -= op->lingers;
    if (e->room_waiters) {
        e->room++;
        futex_wake(&e->room, INT_MAX);
    }
}

int ring_take(struct engine *e, struct link *group) {
    int count = 0;
    int64_t bytes = 0;
    list_init(group);
    LIST_EACH (op, &e->ring) {
        if (count == EMBQ_GROUP_COUNT || bytes >= EMBQ_GROUP_BYTES) break;
        if (e->syncing && is_patient(op)) continue;
        if (op->kind == OP_CHECKPOINT && count) break; /* alone in its group */
        ring_drop(e, op);
        op_move(op, group, PLACE_GROUP);
        bytes += op_bytes(op);
        count++;
        if (op->kind == OP_CHECKPOINT) break;
    }
    return count;
}

/* ---- roles ---- */

static int give_role(struct op *op, enum op_word role) {
    if (!op->waiting || op->word != WORD_WAIT) return 0;
    if (role == WORD_SYNC && op->timed) return 0;
    ATOMIC_STORE(&op->word, (uint32_t)role);
    if (op->asleep) futex_wake(&op->word, 1);
    return 1;
}

static int give_role_in(struct link *head, enum op_word role) {
    int scanned = 0;
    LIST_EACH (op, head) {
        if (give_role(op, role)) return 1;
        if (++scanned == SCAN_MAX) break;
    }
    return 0;
}

void ring_pass_on(struct engine *e) {
    if (e->stopping) return;
    if (!e->syncing && !list_is_empty(&e->unsynced)) {
        e->syncing = 1;
        if (!give_role_in(&e->unsynced, WORD_SYNC)) {
            e->keeper_syncs = 1;
            keeper_wake(e);
        }
    }
    if (e->leading || !e->ring_count) return;
    if (e->syncing && e->patient == e->ring_count) return; /* they collect */
    if (e->lingering == e->ring_count && e->lingering < EMBQ_LINGER_COUNT) {
        keeper_wake(e); /* it takes the time */
        return;
    }
    e->leading = 1;
    if (give_role_in(&e->ring, WORD_LEAD)) return;
    e->keeper_leads = 1;
    keeper_wake(e);
}

/* ---- outcomes ---- */

static void failure_note(struct op *op) {
    struct broker *b = op->broker;
    ATOMIC_COUNT(&b->unawaited);
    if (!b->first_failure) {
        b->first_failure = (int)op->result;
        snprintf(b->first_error, sizeof b->first_error, "%s", op_error(op));
    }
}

/* Whether it took what must go back when nobody gets it. */
static int has_taken(const struct op *op) {
    if (op->kind == OP_RESULT_BEGIN) return op->result == EMBQ_RESULT_BEGUN;
    return op->kind == OP_CLAIM && op->result > 0 && op->receipts.size;
}

/* What an abandoned claim brought goes back, by a staged operation of its own. */
static void claim_return(struct engine *e, struct op *claim) {
    int key = claim->kind == OP_RESULT_BEGIN;
    struct slice what =
        key ? (struct slice){claim->bytes, claim->size}
            : (struct slice){claim->receipts.data, claim->receipts.size};
    struct op *op = op_new(claim->broker, key ? OP_RESULT_FREE : OP_SETTLE,
                           claim->channel, what.size, 0);
    if (!op) return; /* then its lease must run out, or its owner end */
    __builtin_memcpy(op->bytes, what.data, what.size);
    op->token = claim->token;
    op->verb = EMBQ_GIVE_BACK;
    op->count = (int)(claim->receipts.size / EMBQ_RECEIPT_SIZE);
    op->nowait = op->seen = 1;
    ring_put(e, op);
    op_release(op);
    ring_pass_on(e);
}

/* Words to wake once the mutex is free. Their operations may be gone by then, if a
 * thread came to by itself: a wake of a word that nobody sleeps on is nothing. */
static _Thread_local struct {
    uint32_t *words[WAKES_MAX];
    int count;
} wakes;

static void wake_later(uint32_t *word) {
    if (wakes.count < WAKES_MAX) wakes.words[wakes.count++] = word;
    else futex_wake(word, INT_MAX);
}

void ring_unlock(struct engine *e) {
    pthread_mutex_unlock(&e->mutex);
    for (int i = 0; i < wakes.count; i++) futex_wake(wakes.words[i], INT_MAX);
    wakes.count = 0;
}

void ring_finish(struct engine *e, struct op *op) {
    op_unlink(op);
    if (op->abandoned && has_taken(op)) claim_return(e, op);
    if (op->nowait && !op->seen && op->result < 0 && op->refs == 1) failure_note(op);
    int watches = e->watchers[wake_class(op->channel)] == op;
    int told_to = op->word == WORD_WATCH;
    ATOMIC_STORE(&op->word, (uint32_t)WORD_DONE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST); /* the word before the look at who waits */
    if (op->asleep || ATOMIC_LOAD(&op->ticket_waits)) wake_later(&op->word);
    if (watches || told_to) watch_leave(e, op); /* somebody else is told to */
    if (watches) wal_wake(&e->wal, wake_bit(op->channel));
    op_release(op);
}

void ring_again(struct engine *e, struct op *op) {
    ring_put(e, op);
    op_release(op); /* it had the engine's reference already */
}

void ring_park(struct engine *e, struct op *op) {
    int may_wait = op->wait_until_us < 0 || op->wait_until_us > clock_real_us();
    if (may_wait && op->broker->closed)
        op_outcome(op, error_set(EMBQ_CLOSED, "%s: this broker was closed", e->path));
    if (!may_wait || op->nowait || op->broker->closed) {
        ring_finish(e, op);
        return;
    }
    op->was_parked = 1;
    ATOMIC_STORE(&op->deadline_us, op->wait_until_us);
    op_move(op, &e->parked, PLACE_PARKED);
    give_role(op, WORD_WATCH); /* its time limit is another one now, and it may watch */
}

static void list_fail(struct engine *e, struct link *head, const struct broker *b,
                      int code, int staged) {
    LIST_EACH (op, head) {
        if ((b && op->broker != b) || (op->nowait && !staged)) continue;
        if (op->place == PLACE_RING) ring_drop(e, op);
        if (op->place == PLACE_LINE) line_give_up(e, op);
        /* Told to lead, and not yet at it: the lead is somebody else's. */
        if (op->word == WORD_LEAD) e->leading = 0;
        op_outcome(op, code);
        ring_finish(e, op);
    }
}

void ring_fail(struct engine *e, const struct broker *b, int code, int staged) {
    list_fail(e, &e->ring, b, code, staged);
    list_fail(e, &e->parked, b, code, staged);
    list_fail(e, &e->flushing, b, code, staged);
    for (struct line *l = e->lines; l; l = l->next)
        list_fail(e, &l->ops, b, code, staged);
    lines_clear(e);
    ring_pass_on(e);
}

void embq_ticket_free(embq_ref ticket) {
    struct op *op = (struct op *)ticket;
    struct engine *e = op->broker->engine;
    if (fork_defers(embq_ticket_free, ticket)) return;
    pthread_mutex_lock(&e->mutex);
    if (op->word == WORD_DONE && !op->seen && op->result < 0) failure_note(op);
    op_release(op);
    pthread_mutex_unlock(&e->mutex);
}

void ring_abandon(struct engine *e, struct op *op) {
    pthread_mutex_lock(&e->mutex);
    op->abandoned = op->nowait = op->seen = 1;
    op->waiting = 0;
    if (op->place == PLACE_LINE) line_give_up(e, op);
    if (op->place == PLACE_RING) ring_drop(e, op);
    else if (op->place == PLACE_PARKED || op->place == PLACE_LINE) op_unlink(op);
    else if (op->word == WORD_DONE && has_taken(op)) claim_return(e, op);
    else if (op->word != WORD_DONE) goto done; /* in its group: it ends alone */
    watch_leave(e, op);
    if (op->word != WORD_DONE) op_release(op); /* the engine's reference */
done:
    pthread_mutex_unlock(&e->mutex);
    op_release(op);
}

/* ---- arriving ---- */

/* Wait for room on the ring, with the mutex held; 0, EINTR or ETIMEDOUT. */
static int ring_wait_for_room(struct engine *e, struct op *op) {
    int why = 0;
    while (!has_room(e, op) && !why) {
        uint32_t room = e->room;
        int64_t timeout = op->deadline_us < 0 ? -1 : op->deadline_us - clock_real_us();
        e->room_waiters++;
        pthread_mutex_unlock(&e->mutex);
        why = timeout < 0 && op->deadline_us >= 0 ? ETIMEDOUT
                                                  : futex_wait(&e->room, room, timeout);
        pthread_mutex_lock(&e->mutex);
        e->room_waiters--;
    }
    return why;
}

int ring_submit(struct engine *e, struct op *op) {
    pthread_mutex_lock(&e->mutex);
    int why;
    /* A signal here finds nothing begun: wait on, Python's handler runs a little later.
     */
    while ((why = ring_wait_for_room(e, op)) == EINTR) {}
    if (why) {
        pthread_mutex_unlock(&e->mutex);
        return error_set(EMBQ_BUSY, "%s: the ring of waiting calls had no room in time",
                         e->path);
    }
    op->waiting = 1;
    ring_put(e, op);
    /* Also when the keeper was asked, but is at a checkpoint. */
    int free_to_lead = !e->leading || (e->keeper_leads && ATOMIC_LOAD(&e->keeper_busy));
    if (free_to_lead && !e->stopping && !(e->syncing && e->patient == e->ring_count)) {
        e->leading = 1;
        e->keeper_leads = 0;
        op->word = WORD_LEAD; /* the cheap way: no other thread is woken */
    }
    pthread_mutex_unlock(&e->mutex);
    return 0;
}

int ring_stage(struct engine *e, struct op *op) {
    int code = 0;
    pthread_mutex_lock(&e->mutex);
    if (op->broker->closed || (op->broker->ending && !op->seen)) {
        code = error_set(EMBQ_CLOSED, "%s: this broker is closed", e->path);
    } else if (has_room(e, op)) {
        ring_put(e, op);
        if (!op->lingers || e->lingering == 1 || e->lingering == EMBQ_LINGER_COUNT)
            ring_pass_on(e);
    } else {
        code = error_set(EMBQ_FULL, "%s: %lld operations are staged already", e->path,
                         (long long)e->ring_count);
    }
    pthread_mutex_unlock(&e->mutex);
    return code;
}
