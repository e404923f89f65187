/* The verbs: from arguments to an operation on the ring, and back. See embq_api.h. */
#include "ring.h"
#include "store.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- one call, from entering to leaving ---- */

static int64_t deadline_of(const struct broker *b, int timeout_ms) {
    int64_t ms = timeout_ms < 0 ? b->busy_timeout_ms : timeout_ms;
    return clock_real_us() + ms * 1000;
}

static const struct slice none;

/* A new operation that owns copies of its bytes and of what comes with them; NULL when
 * there is no memory. */
static struct op *op_of(struct broker *b, enum op_kind kind, int64_t channel,
                        struct slice bytes, struct slice extra) {
    struct op *op = op_new(b, kind, channel, bytes.size, extra.size);
    if (op && bytes.size) memcpy(op->bytes, bytes.data, bytes.size);
    if (op && extra.size) memcpy(op->bytes + bytes.size, extra.data, extra.size);
    return op;
}

struct op *call_begin(struct broker *b, enum op_kind kind, int64_t channel,
                      struct slice bytes, struct slice extra, int timeout_ms,
                      int64_t *code) {
    *code = engine_enter(b);
    if (*code < 0) return NULL;
    struct op *op = op_of(b, kind, channel, bytes, extra);
    if (op) op->deadline_us = deadline_of(b, timeout_ms);
    else *code = EMBQ_NO_MEMORY, engine_leave(b->engine);
    return op;
}

int64_t call_run(struct broker *b, struct op *op) {
    int64_t result = ring_call(b->engine, op);
    engine_leave(b->engine);
    return result;
}

long long embq_resume(void) {
    struct op *op = ring_pop_pending();
    if (!op) return error_set(EMBQ_INVALID_ARGUMENT, "no call to go on with");
    struct broker *b = op->broker;
    if (op->generation != fork_generation)
        return error_set(EMBQ_PARENTS, "a fork came between; the call is the parent's");
    if (op->consumer) return consumer_resume(op->consumer);
    int code = engine_enter(b);
    if (code < 0) {
        ring_abandon(b->engine, op);
        return code;
    }
    int64_t result = ring_resume(b->engine, op);
    engine_leave(b->engine);
    return result;
}

void embq_abandon(void) {
    struct op *op = ring_pop_pending();
    if (op && op->generation == fork_generation && !op->consumer)
        ring_abandon(op->broker->engine, op);
    /* A consumer's batch stays the consumer's, which gives it back when it is closed.
     */
}

/* ---- the verbs ---- */

long long embq_declare(embq_ref broker, const char *name, size_t name_size,
                       const char *options, size_t options_size, embq_bytes *stored) {
    int64_t code;
    struct broker *b = broker_of(broker);
    struct op *op = call_begin(b, OP_DECLARE, 0, (struct slice){name, name_size},
                               (struct slice){options, options_size}, -1, &code);
    if (!op) return code;
    op->answer = stored;
    return call_run(b, op);
}

int embq_configure(embq_ref broker, long long channel, const char *expected,
                   size_t expected_size, const char *options, size_t options_size) {
    int64_t code;
    struct broker *b = broker_of(broker);
    struct op *op =
        call_begin(b, OP_CONFIGURE, channel, (struct slice){expected, expected_size},
                   (struct slice){options, options_size}, -1, &code);
    return (int)(op ? call_run(b, op) : code);
}

/* A call about a queue with one number. */
static int64_t call_with(embq_ref broker, enum op_kind kind, int64_t channel,
                         int64_t number) {
    int64_t code;
    struct broker *b = broker_of(broker);
    struct op *op = call_begin(b, kind, channel, none, none, -1, &code);
    if (!op) return code;
    op->delay_ms = number;
    return call_run(b, op);
}

int embq_pause(embq_ref broker, long long channel, long long until_ms) {
    if (until_ms < 0 || until_ms > EMBQ_TIME_MAX_MS)
        return error_set(EMBQ_INVALID_ARGUMENT, "a pause until %lld", until_ms);
    return (int)call_with(broker, OP_PAUSE, channel, until_ms);
}

long long embq_purge(embq_ref broker, long long channel) {
    return call_with(broker, OP_PURGE, channel, 0);
}

long long embq_delete(embq_ref broker, const char *name, size_t name_size) {
    int64_t code;
    struct broker *b = broker_of(broker);
    struct op *op =
        call_begin(b, OP_DELETE, 0, (struct slice){name, name_size}, none, -1, &code);
    return op ? call_run(b, op) : code;
}

int embq_cancel(embq_ref broker, long long channel, const char *id, size_t id_size) {
    int64_t code;
    struct broker *b = broker_of(broker);
    struct op *op =
        call_begin(b, OP_CANCEL, channel, (struct slice){id, id_size}, none, -1, &code);
    return (int)(op ? call_run(b, op) : code);
}

long long embq_redrive(embq_ref broker, long long channel, const char *target,
                       size_t target_size, const char *conditions,
                       size_t conditions_size, double rate) {
    int64_t code;
    struct broker *b = broker_of(broker);
    if (!(rate >= 0)) return error_set(EMBQ_INVALID_ARGUMENT, "a rate of %f", rate);
    struct op *op =
        call_begin(b, OP_REDRIVE, channel, (struct slice){target, target_size},
                   (struct slice){conditions, conditions_size}, -1, &code);
    if (!op) return code;
    op->rate = rate;
    op->full = b->full != 0; /* it is promised to go on, whatever happens */
    int64_t token = ring_call(b->engine, op);
    if (token > 0) keeper_stage(b->engine, OP_REDRIVE_STEP, 0); /* else at a tick */
    engine_leave(b->engine);
    return token;
}

int embq_redrive_cancel(embq_ref broker, long long channel, long long token) {
    return (int)call_with(broker, OP_REDRIVE_CANCEL, channel, token);
}

static struct op *send_begin(struct broker *b, enum op_kind kind, int64_t channel,
                             const char *body, size_t body_size, const char *fields,
                             size_t fields_size, int timeout_ms, int64_t *code) {
    struct op *op = call_begin(b, kind, channel, (struct slice){body, body_size},
                               (struct slice){fields, fields_size}, timeout_ms, code);
    if (!op) return NULL;
    op->full = b->full != 0;
    op->timed = timeout_ms >= 0;
    return op;
}

long long embq_send(embq_ref broker, long long channel, const char *body,
                    size_t body_size, const char *fields, size_t fields_size,
                    int timeout_ms) {
    int64_t code;
    struct broker *b = broker_of(broker);
    struct op *op = send_begin(b, OP_SEND, channel, body, body_size, fields,
                               fields_size, timeout_ms, &code);
    return op ? call_run(b, op) : code;
}

long long embq_send_many(embq_ref broker, long long channel, const char *packed,
                         size_t packed_size, int timeout_ms, embq_bytes *rows) {
    int64_t code;
    struct broker *b = broker_of(broker);
    struct op *op = send_begin(b, OP_SEND_MANY, channel, packed, packed_size, NULL, 0,
                               timeout_ms, &code);
    if (!op) return code;
    op->answer = rows;
    return call_run(b, op);
}

int embq_claim(embq_ref broker, long long channel, int limit, int wait_ms, int flags,
               embq_bytes *out) {
    int64_t code;
    if (limit < 1) return error_set(EMBQ_INVALID_ARGUMENT, "a claim of %d", limit);
    struct broker *b = broker_of(broker);
    struct op *op = call_begin(b, OP_CLAIM, channel, none, none, -1, &code);
    if (!op) return (int)code;
    op->limit = limit;
    op->flags = flags & EMBQ_CLAIM_AUTO_ACK;
    op->full = b->full && op->flags; /* removed durably before it is handed over */
    op->wait_until_us = wait_ms < 0 ? -1
                        : wait_ms   ? clock_real_us() + wait_ms * 1000LL
                                    : 0;
    op->answer = out;
    return damage_tell(b, call_run(b, op));
}

static int settle_check(int verb, int count, long long delay_ms) {
    int least = verb == EMBQ_EXTEND ? 0 : -1;
    if (verb >= EMBQ_ACK && verb <= EMBQ_REFUSE && count >= 0 && delay_ms >= least &&
        delay_ms <= EMBQ_DURATION_MAX_MS)
        return 0;
    return error_set(EMBQ_INVALID_ARGUMENT,
                     "settling %d receipts by verb %d, with a delay of %lld ms", count,
                     verb, delay_ms);
}

int embq_settle(embq_ref broker, long long channel, int verb, const char *receipts,
                int count, long long delay_ms, const char *note, size_t note_size,
                int timeout_ms) {
    int64_t code;
    struct broker *b = broker_of(broker);
    if ((code = settle_check(verb, count, delay_ms)) < 0) return (int)code;
    struct slice all = {receipts, (size_t)count * EMBQ_RECEIPT_SIZE};
    struct op *op = call_begin(b, OP_SETTLE, channel, all,
                               (struct slice){note, note_size}, timeout_ms, &code);
    if (!op) return (int)code;
    op->verb = verb;
    op->count = count;
    op->delay_ms = delay_ms;
    return (int)call_run(b, op);
}

static int barrier(struct broker *b, int full, int flushes, int timeout_ms) {
    int64_t code;
    struct op *op = call_begin(b, OP_BARRIER, 0, none, none, timeout_ms, &code);
    if (!op) return (int)code;
    op->full = full != 0;
    op->flushes = (uint8_t)flushes;
    return (int)call_run(b, op);
}

int embq_ping(embq_ref broker, int timeout_ms) {
    return barrier(broker_of(broker), 0, 0, timeout_ms);
}

int unawaited_take(struct broker *b) {
    struct engine *e = b->engine;
    pthread_mutex_lock(&e->mutex);
    int code = b->first_failure;
    int64_t more = b->unawaited - b->reported;
    b->first_failure = 0;
    b->reported = b->unawaited;
    pthread_mutex_unlock(&e->mutex);
    if (!code) return 0;
    return error_set(code,
                     "%s (a staged operation that nobody awaited; %lld failed so)",
                     b->first_error, (long long)more);
}

int embq_flush(embq_ref broker, int timeout_ms) {
    struct broker *b = broker_of(broker);
    int code = barrier(b, b->full, 1, timeout_ms);
    return code < 0 ? code : unawaited_take(b);
}

/* ---- staging: never blocks ---- */

/* In the child of a fork, until a call that may block opens the file again. In the
 * parent the ring goes on meanwhile. */
static int is_detached(const struct broker *b) {
    return !ATOMIC_LOAD(&b->closed) && !ATOMIC_LOAD(&b->engine->attached) &&
           !ATOMIC_LOAD(&b->engine->forking);
}

static struct op *stage_begin(struct broker *b, enum op_kind kind, int64_t channel,
                              struct slice bytes, struct slice extra) {
    struct engine *e = b->engine;
    if (is_detached(b)) return NULL;
    int closed = ATOMIC_LOAD(&b->closed), failed = ATOMIC_LOAD(&e->failed);
    if (closed) error_set(EMBQ_CLOSED, "%s: this broker is closed", e->path);
    else if (failed)
        error_set(failed,
                  "%s: an earlier write failed, and this handle goes no further",
                  e->path);
    if (closed || failed) return NULL;
    struct op *op = op_of(b, kind, channel, bytes, extra);
    if (op) op->nowait = 1;
    return op;
}

static int refusal(const struct broker *b) {
    int failed = ATOMIC_LOAD(&b->engine->failed);
    return is_detached(b)            ? EMBQ_DETACHED
           : ATOMIC_LOAD(&b->closed) ? EMBQ_CLOSED
           : failed                  ? failed
                                     : EMBQ_NO_MEMORY;
}

embq_ref embq_send_nowait(embq_ref broker, long long channel, const char *body,
                          size_t body_size, const char *fields, size_t fields_size) {
    struct broker *b = broker_of(broker);
    struct op *op = stage_begin(b, OP_SEND, channel, (struct slice){body, body_size},
                                (struct slice){fields, fields_size});
    if (!op) return refusal(b);
    op->full = b->full != 0;
    int code = ring_stage(b->engine, op);
    if (code == 0) return (embq_ref)op;
    op_release(op);
    return code;
}

int embq_ack_nowait(embq_ref broker, long long channel, const char *receipt) {
    struct broker *b = broker_of(broker);
    struct op *op = stage_begin(b, OP_SETTLE, channel,
                                (struct slice){receipt, EMBQ_RECEIPT_SIZE}, none);
    if (!op) return refusal(b);
    op->verb = EMBQ_ACK;
    op->count = 1;
    op->lingers = 1;
    int code = ring_stage(b->engine, op);
    op_release(op);
    return code;
}

static int is_parents(const struct op *op) {
    return op->generation != fork_generation && ATOMIC_LOAD(&op->word) != WORD_DONE;
}

static int parents_error(void) {
    return error_set(EMBQ_PARENTS,
                     "this call was made before a fork; its outcome is the "
                     "parent's");
}

long long embq_ticket_result(embq_ref ticket) {
    struct op *op = (struct op *)ticket;
    if (is_parents(op)) return parents_error();
    if (ATOMIC_LOAD(&op->word) != WORD_DONE) return EMBQ_NOT_YET;
    ATOMIC_STORE(&op->seen, 1); /* several threads may ask */
    if (op->result < 0) error_set((int)op->result, "%s", op_error(op));
    return op->result;
}

long long embq_ticket_wait(embq_ref ticket, int timeout_ms) {
    struct op *op = (struct op *)ticket;
    int64_t end = timeout_ms < 0 ? -1 : clock_real_us() + timeout_ms * 1000LL;
    if (is_parents(op)) return parents_error();
    while (ATOMIC_LOAD(&op->word) != WORD_DONE) {
        int64_t left = end < 0 ? -1 : end - clock_real_us();
        if (end >= 0 && left <= 0) return EMBQ_NOT_YET;
        ATOMIC_STORE(&op->ticket_waits, 1);
        __atomic_thread_fence(__ATOMIC_SEQ_CST); /* that we wait, before the word */
        if (futex_wait(&op->word, WORD_WAIT, left) == EINTR) return EMBQ_INTERRUPTED;
    }
    return embq_ticket_result(ticket);
}

void embq_bytes_free(embq_bytes *bytes) {
    free(bytes->data);
    *bytes = (embq_bytes){0};
}

unsigned long long embq_file_id(embq_ref broker) {
    return broker_of(broker)->engine->file_id;
}

int embq_refuses(embq_ref broker) {
    const struct broker *b = broker_of(broker);
    int failed = ATOMIC_LOAD(&b->engine->failed);
    if (ATOMIC_LOAD(&b->closed)) return EMBQ_CLOSED;
    if (failed || !b->full) return failed;
    return ATOMIC_LOAD(&b->engine->sync_failed) ? EMBQ_STORAGE_IO_ERROR : 0;
}

long long embq_unawaited_failures(embq_ref broker) {
    return ATOMIC_LOAD(&broker_of(broker)->unawaited);
}
