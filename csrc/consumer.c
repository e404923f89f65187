/* Prefetch: a consumer claims a batch ahead while the one before it is being handled.
 *
 *     next()  the batch that was asked for, or a claim that waits
 *     take()  before a hand-out: is its lease still good? is it still ours?
 *     tend()  the keeper gives back, uncounted, what nobody took in time
 *
 * A suspect is never prefetched. When a batch says that one is due, nothing more is
 * asked for in advance; what is in hand is worked off, and the suspect is claimed
 * alone.
 */
#include "engine.h"
#include "ring.h"

#include <stdlib.h>
#include <string.h>

#define BATCH_FIRST 8 /* before a consumer that adapts knows the handling time */
#define BATCH_MAX 1000
#define BATCH_US 20000 /* it aims at batches that take so long */
#define SOON_US 500    /* a batch on its way is waited for so long, GIL in hand */
#define GROWTH 4       /* at most from one batch to the next */
#define MARGIN_MS 1000 /* give back so long before the lease ends ... */
#define MARGIN_SHARE 4 /* ... or this share of it, whichever is less */
#define TEND_MAX 64    /* consumers tended in one tick */
/* An at-most-once consumer that adapts loses no more than this to a crash. */
#define AUTO_ACK_MAX 100

struct consumer {
    struct consumer *next; /* of its engine; under the engine's mutex */
    struct broker *broker;
    int64_t channel;
    int prefetch, flags;
    int batch; /* how many the next claim asks for */

    struct op *claim; /* a claim on its way: ahead, or waited for */
    int ahead;
    int busy; /* under the mutex: a thread is in next(), the keeper keeps off */
    int64_t wait_until_us; /* of the call of next() that goes on */
    embq_bytes *out;

    /* The batch in hand. Under the engine's mutex, as the keeper may end it. */
    struct packer receipts;
    int count, taken, over;
    int64_t deadline_ms, started_us, lease_ms;
    int suspect_due;
};

embq_ref embq_consumer_open(embq_ref broker, long long channel, int prefetch,
                            int flags) {
    struct broker *b = broker_of(broker);
    if (prefetch < 0)
        return error_set(EMBQ_INVALID_ARGUMENT, "a prefetch of %d", prefetch);
    struct consumer *c = calloc(1, sizeof *c);
    if (!c) return error_set(EMBQ_NO_MEMORY, "no memory for a consumer");
    c->broker = b;
    c->channel = channel;
    c->prefetch = prefetch;
    c->flags = flags & EMBQ_CLAIM_AUTO_ACK;
    c->batch = BATCH_FIRST;
    pthread_mutex_lock(&b->engine->mutex);
    c->next = b->engine->consumers;
    b->engine->consumers = c;
    pthread_mutex_unlock(&b->engine->mutex);
    return (embq_ref)c;
}

/* Two batches are out at once, so each is half of what may be. An at-most-once consumer
 * has but one: what a crash can lose is a batch. */
static int batch_limit(const struct consumer *c) {
    if (!c->prefetch) return c->batch;
    return c->flags || c->prefetch < 2 ? c->prefetch : c->prefetch / 2;
}

/* After a batch: how many of its kind take BATCH_US? */
static void batch_adapt(struct consumer *c) {
    if (!c->taken || c->taken < c->count) return;
    int64_t took = clock_real_us() - c->started_us;
    int64_t fit = took > 0 ? (int64_t)c->count * BATCH_US / took : BATCH_MAX;
    int64_t most = (int64_t)c->batch * GROWTH;
    if (fit > most) fit = most;
    int64_t bound = c->flags ? AUTO_ACK_MAX : BATCH_MAX;
    c->batch = fit < 1 ? 1 : fit > bound ? (int)bound : (int)fit;
}

static struct op *claim_new(struct consumer *c, int limit, int flags) {
    struct op *op = op_new(c->broker, OP_CLAIM, c->channel, 0, 0);
    if (!op) return NULL;
    op->limit = limit;
    op->flags = flags;
    op->full = c->broker->full && c->flags;
    op->consumer = c;
    return op;
}

/* Ask for the next batch while this one is worked off, if there is time for both. */
static void claim_ahead(struct consumer *c, int64_t batch_us) {
    if (c->flags || c->suspect_due || c->prefetch == 1) return;
    if (!batch_us || batch_us * 2 > c->lease_ms * 1000 / MARGIN_SHARE) return;
    struct op *op = claim_new(c, batch_limit(c), CLAIM_NO_SUSPECT);
    if (!op) return;
    op->nowait = op->seen = 1;
    if (ring_stage(c->broker->engine, op) < 0) {
        op_release(op);
        return;
    }
    c->claim = op;
    c->ahead = 1;
}

/* Wait for the claim on its way; a signal leaves it there. */
static int64_t claim_wait(struct consumer *c) {
    int64_t result = ring_wait(c->broker->engine, c->claim);
    if (result == EMBQ_INTERRUPTED) ring_push_pending(c->claim);
    return result;
}

/* The batch has come: it is in hand now. */
static void batch_accept(struct consumer *c, int64_t count, embq_bytes *out) {
    struct engine *e = c->broker->engine;
    struct op *op = c->claim;
    int64_t last_us =
        c->count && c->taken == c->count ? clock_real_us() - c->started_us : 0;
    int64_t each_us = last_us / (c->count ? c->count : 1);
    batch_adapt(c);
    pthread_mutex_lock(&e->mutex);
    pack_free(&c->receipts);
    c->receipts = op->receipts;
    op->receipts = (struct packer){0};
    c->count = (int)count;
    c->taken = c->over = 0;
    c->deadline_ms = op->taken_deadline_ms;
    c->lease_ms = c->deadline_ms - clock_boot_ms();
    c->started_us = clock_real_us();
    c->suspect_due = op->suspect_due;
    pthread_mutex_unlock(&e->mutex);
    if (count > 0) {
        *out = (embq_bytes){op->out.data, (long long)op->out.size, count};
        op->out = (struct packer){0};
    }
    op_release(op);
    c->claim = NULL;
    c->ahead = 0;
    if (count > 0 && last_us) claim_ahead(c, each_us * count + 1);
}

static int64_t next_batch(struct consumer *c) {
    struct engine *e = c->broker->engine;
    if (c->claim) {
        if (c->ahead)
            c->claim->deadline_us =
                clock_real_us() + (int64_t)c->broker->busy_timeout_ms * 1000;
        int64_t result = claim_wait(c);
        if (result != 0 || !c->ahead) return result;
        /* Nothing was there when it looked: from here on wait for what comes. */
        c->suspect_due |= c->claim->suspect_due;
        op_release(c->claim);
        c->claim = NULL;
        c->ahead = 0;
    }
    struct op *op = claim_new(c, c->suspect_due ? 1 : batch_limit(c), c->flags);
    if (!op) return EMBQ_NO_MEMORY;
    op->deadline_us = clock_real_us() + (int64_t)c->broker->busy_timeout_ms * 1000;
    op->wait_until_us = c->wait_until_us;
    c->claim = op;
    int code = ring_submit(e, op);
    return code < 0 ? code : claim_wait(c);
}

static void busy_set(struct consumer *c, int busy) {
    pthread_mutex_lock(&c->broker->engine->mutex);
    c->busy = busy;
    pthread_mutex_unlock(&c->broker->engine->mutex);
}

/* Enter, wait, leave; the claim stays with the consumer when it was interrupted. */
static int64_t consumer_run(struct consumer *c) {
    int64_t result = engine_enter(c->broker);
    if (result < 0) return result;
    busy_set(c, 1);
    result = next_batch(c);
    if (result >= 0 && !c->claim->abandoned) {
        batch_accept(c, result, c->out);
    } else if (result != EMBQ_INTERRUPTED && c->claim) {
        /* When its time was over in a group, the leader still has it. */
        op_release(c->claim);
        c->claim = NULL;
    }
    busy_set(c, 0);
    engine_leave(c->broker->engine);
    return result;
}

/* The keeper is at it: a moment's wait with the GIL in hand is less than what taking
 * the GIL back would cost beside a computing thread, and less than the switch interval
 * for others. */
static int claim_comes_soon(struct op *op) {
    ATOMIC_STORE(&op->ticket_waits, 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (ATOMIC_LOAD(&op->word) == WORD_WAIT) futex_wait(&op->word, WORD_WAIT, SOON_US);
    return ATOMIC_LOAD(&op->word) == WORD_DONE;
}

int embq_consumer_ready(embq_ref consumer, embq_bytes *out) {
    struct consumer *c = (struct consumer *)consumer;
    busy_set(c, 1);
    int64_t count = 0;
    if (c->ahead && !c->broker->closed && claim_comes_soon(c->claim))
        count = c->claim->result;
    if (count > 0) batch_accept(c, count, out);
    busy_set(c, 0);
    return count > 0 ? damage_tell(c->broker, count) : 0;
}

int64_t consumer_resume(struct consumer *c) {
    return consumer_run(c);
}

int embq_consumer_next(embq_ref consumer, int wait_ms, embq_bytes *out) {
    struct consumer *c = (struct consumer *)consumer;
    c->out = out;
    c->wait_until_us = wait_ms < 0 ? -1
                       : wait_ms   ? clock_real_us() + wait_ms * 1000LL
                                   : 0;
    return damage_tell(c->broker, consumer_run(c));
}

int embq_consumer_take(embq_ref consumer) {
    struct consumer *c = (struct consumer *)consumer;
    struct engine *e = c->broker->engine;
    pthread_mutex_lock(&e->mutex);
    int good = !c->over && c->taken < c->count &&
               (c->flags || clock_boot_ms() < c->deadline_ms);
    if (good) c->taken++;
    pthread_mutex_unlock(&e->mutex);
    return good;
}

/* ---- giving back ---- */

/* An operation that gives back what was not taken; NULL when nothing is left. Under the
 * mutex. */
static struct op *rest_return(struct consumer *c) {
    int left = c->over || c->flags ? 0 : c->count - c->taken;
    c->over = 1;
    if (left <= 0) return NULL;
    size_t size = (size_t)left * EMBQ_RECEIPT_SIZE;
    struct op *op = op_new(c->broker, OP_SETTLE, c->channel, size, 0);
    if (!op) return NULL;
    memcpy(op->bytes, c->receipts.data + (size_t)c->taken * EMBQ_RECEIPT_SIZE, size);
    op->verb = EMBQ_GIVE_BACK;
    op->count = left;
    return op;
}

static int64_t margin_ms(const struct consumer *c) {
    int64_t share = c->lease_ms / MARGIN_SHARE;
    return share < MARGIN_MS ? share : MARGIN_MS;
}

static void give_back_all(struct engine *e, struct op **rest, int count) {
    for (int i = 0; i < count; i++) {
        rest[i]->nowait = rest[i]->seen = 1;
        ring_stage(e, rest[i]);
        op_release(rest[i]);
    }
}

void consumers_tend(struct engine *e) {
    struct op *late[TEND_MAX], *done[TEND_MAX];
    int count = 0, dropped = 0;
    int64_t now = clock_boot_ms();
    pthread_mutex_lock(&e->mutex);
    struct consumer *c = e->consumers;
    for (; c && count < TEND_MAX && dropped < TEND_MAX; c = c->next) {
        if (c->busy || c->flags) continue;
        if (c->ahead && c->claim->word == WORD_DONE && c->claim->result > 0 &&
            now >= c->claim->taken_deadline_ms - margin_ms(c)) {
            done[dropped++] = c->claim; /* ring_abandon gives back what it brought */
            c->claim = NULL;
            c->ahead = 0;
        }
        if (c->over || c->taken >= c->count) continue;
        if (now < c->deadline_ms - margin_ms(c)) continue;
        if ((late[count] = rest_return(c))) count++;
    }
    pthread_mutex_unlock(&e->mutex);
    for (int i = 0; i < dropped; i++) ring_abandon(e, done[i]);
    give_back_all(e, late, count);
}

void consumers_return(struct engine *e, const struct broker *b) {
    struct op *rest[TEND_MAX], *ahead[TEND_MAX];
    int count = 0, dropped = 0;
    pthread_mutex_lock(&e->mutex);
    struct consumer *c = e->consumers;
    for (; c && count < TEND_MAX && dropped < TEND_MAX; c = c->next) {
        if (c->broker != b || c->busy) continue;
        if (c->claim) ahead[dropped++] = c->claim;
        c->claim = NULL;
        c->ahead = 0;
        if ((rest[count] = rest_return(c))) count++;
    }
    pthread_mutex_unlock(&e->mutex);
    for (int i = 0; i < dropped; i++) ring_abandon(e, ahead[i]);
    give_back_all(e, rest, count);
}

void consumers_forget(struct engine *e) {
    for (struct consumer *c = e->consumers; c; c = c->next) {
        c->over = 1;
        c->count = c->taken = c->ahead = c->busy = 0;
        /* It stays where it is: the lists that it stood in are no more. */
        c->claim = NULL;
    }
    e->consumers = NULL;
}

static void close_later(embq_ref consumer) {
    embq_consumer_close(consumer);
}

int embq_consumer_close(embq_ref consumer) {
    struct consumer *c = (struct consumer *)consumer;
    struct engine *e = c->broker->engine;
    if (fork_defers(close_later, consumer)) return 0;
    busy_set(c, 1); /* for good: the keeper has nothing to tend here any more */
    if (c->claim) ring_abandon(e, c->claim);
    c->claim = NULL;
    c->ahead = 0;
    int code = engine_enter(c->broker);
    if (code < 0) return code == EMBQ_CLOSED ? 0 : code;
    pthread_mutex_lock(&e->mutex);
    struct op *op = rest_return(c);
    pthread_mutex_unlock(&e->mutex);
    if (op) {
        op->deadline_us = clock_real_us() + (int64_t)c->broker->busy_timeout_ms * 1000;
        code = (int)ring_call(e, op);
        /* What was not ours any more is given back, so is all of a queue that is gone,
         * and at a close. */
        if (code == EMBQ_LEASE_LOST || code == EMBQ_NOT_FOUND || code == EMBQ_CLOSED)
            code = 0;
    }
    engine_leave(e);
    return code < 0 ? code : 0;
}

void embq_consumer_free(embq_ref consumer) {
    struct consumer *c = (struct consumer *)consumer;
    struct engine *e = c->broker->engine;
    if (fork_defers(embq_consumer_free, consumer)) return;
    if (c->claim) ring_abandon(e, c->claim);
    pthread_mutex_lock(&e->mutex);
    for (struct consumer **at = &e->consumers; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    pthread_mutex_unlock(&e->mutex);
    pack_free(&c->receipts);
    free(c);
}
