/* Results of what is to be done once: the calls that begin and end them, and the reads.
 * See result.c, and embq_api.h.
 */
#include "reading.h"
#include "ring.h"
#include "store.h"

#include <string.h>
#include <unistd.h>

#define RESULT_MAX ((size_t)1 << 20)
#define WRITING_NAP_US 100

static const struct slice none;

/* ---- calls ---- */

/* A call about one key; NULL with its code. */
static struct op *key_call(struct broker *b, enum op_kind kind, struct slice names,
                           struct slice result, int timeout_ms, int64_t *code) {
    struct names n;
    if ((*code = names_split(names.data, names.size, &n)) < 0) return NULL;
    if (result.size > RESULT_MAX)
        *code = error_set(EMBQ_MESSAGE_TOO_LARGE, "a result of %zu bytes, of %zu",
                          result.size, RESULT_MAX);
    if (*code < 0) return NULL;
    /* Of the wake class of its key: that is all that the number is for. */
    int64_t number = wake_class(key_hash(names));
    return call_begin(b, kind, number, names, result, timeout_ms, code);
}

/* JSON is never empty. */
static int result_check(size_t size, long long ttl_ms) {
    if (size && ttl_ms >= 0 && ttl_ms <= EMBQ_DURATION_MAX_MS) return 0;
    return error_set(EMBQ_INVALID_ARGUMENT, "a result of %zu bytes, a ttl of %lld ms",
                     size, ttl_ms);
}

int embq_result_begin(embq_ref broker, const char *names, size_t names_size,
                      int wait_ms, embq_bytes *out) {
    int64_t code;
    struct broker *b = broker_of(broker);
    struct slice named = {names, names_size};
    struct op *op = key_call(b, OP_RESULT_BEGIN, named, none, -1, &code);
    if (!op) return (int)code;
    op->wait_until_us = wait_ms < 0 ? -1
                        : wait_ms   ? clock_real_us() + wait_ms * 1000LL
                                    : 0;
    op->answer = out;
    return (int)call_run(b, op);
}

int embq_result_end(embq_ref broker, const char *names, size_t names_size,
                    const char *token, const char *result, size_t result_size,
                    long long ttl_ms, embq_bytes *out) {
    int64_t code = result_check(result_size, ttl_ms);
    struct broker *b = broker_of(broker);
    struct slice named = {names, names_size}, value = {result, result_size};
    struct op *op =
        code < 0 ? NULL : key_call(b, OP_RESULT_END, named, value, -1, &code);
    if (!op) return (int)code;
    memcpy(&op->token, token, sizeof op->token);
    op->delay_ms = ttl_ms;
    op->answer = out;
    return (int)call_run(b, op);
}

int embq_result_set(embq_ref broker, const char *names, size_t names_size,
                    const char *result, size_t result_size, long long ttl_ms,
                    int timeout_ms) {
    int64_t code = result_check(result_size, ttl_ms);
    struct broker *b = broker_of(broker);
    struct slice named = {names, names_size}, value = {result, result_size};
    struct op *op =
        code < 0 ? NULL : key_call(b, OP_RESULT_SET, named, value, timeout_ms, &code);
    if (!op) return (int)code;
    op->delay_ms = ttl_ms;
    op->timed = timeout_ms >= 0;
    op->full = b->full != 0;
    return (int)call_run(b, op);
}

int embq_result_delete(embq_ref broker, const char *names, size_t names_size) {
    int64_t code;
    struct broker *b = broker_of(broker);
    struct slice named = {names, names_size};
    struct op *op = key_call(b, OP_RESULT_DELETE, named, none, -1, &code);
    return op ? (int)call_run(b, op) : (int)code;
}

/* The engine, so that its last close waits for us; NULL when it is not in use: then
 * nothing is in flight here, or what is is the parent's. */
static struct engine *engine_in_use(struct broker *b) {
    struct engine *e = b->engine;
    pthread_mutex_lock(&e->mutex);
    int used = ATOMIC_LOAD(&e->attached) || ATOMIC_LOAD(&e->forking);
    int there = used && !ATOMIC_LOAD(&e->failed);
    e->in_calls += there;
    pthread_mutex_unlock(&e->mutex);
    return there ? e : NULL;
}

static int stage_free(struct broker *b, const struct names *n, const char *token,
                      int seen) {
    struct op *op = op_new(b, OP_RESULT_FREE, 0, n->both.size, 0);
    if (!op) return EMBQ_NO_MEMORY;
    memcpy(op->bytes, n->both.data, n->both.size);
    memcpy(&op->token, token, sizeof op->token);
    op->nowait = 1;
    op->seen = (uint8_t)seen;
    int code = ring_stage(b->engine, op);
    op_release(op);
    return code;
}

int embq_result_free(embq_ref broker, const char *names, size_t names_size,
                     const char *token) {
    struct names n;
    struct broker *b = broker_of(broker);
    int code = names_split(names, names_size, &n);
    struct engine *e = code < 0 ? NULL : engine_in_use(b);
    if (!e) return code;
    code = stage_free(b, &n, token, 0);
    /* Other brokers of the file are open, and the key is not to be kept from them. */
    if (code == EMBQ_CLOSED) code = stage_free(e->keeper_broker, &n, token, 1);
    engine_leave(e);
    return code;
}

/* ---- reads ---- */

/* The row of a stored result; NULL when there is none. To be reset. */
static sqlite3_stmt *result_row(struct reading *r, const struct names *n) {
    sqlite3_stmt *s = reading_ints(r, ST_RESULT_GET, 0, 0, NULL);
    if (!s) return NULL;
    bind_slice(s, 1, n->scope);
    bind_slice(s, 2, n->key);
    sq.bind_int64(s, 3, clock_wall_ms());
    if (!reading_step(r, s)) return NULL;
    if (sq.column_type(s, 0) == SQLITE_TEXT) return s;
    sq.reset(s);
    reading_corrupt(r);
    return NULL;
}

int embq_result_get(embq_ref broker, const char *names, size_t names_size,
                    embq_bytes *out) {
    struct reading r;
    struct names n;
    struct packer p = {0};
    int64_t code = names_split(names, names_size, &n);
    if (code == 0) code = reading_begin(&r, broker_of(broker));
    if (code < 0) return (int)code;
    sqlite3_stmt *s = result_row(&r, &n);
    if (s) {
        struct slice result = column_slice(s, 0);
        if (out) pack_raw(&p, result.data, result.size);
        sq.reset(s);
        hits_note(r.e, n.scope);
    }
    if (!out) return (int)reading_end(&r, s != NULL);
    return (int)reading_answer(&r, s != NULL, &p, out);
}

/* Until the counts of hits are either in the file or not: with hits_mutex. */
static void hits_hold(struct engine *e) {
    pthread_mutex_lock(&e->hits_mutex);
    while (e->hits_writing) {
        pthread_mutex_unlock(&e->hits_mutex);
        usleep(WRITING_NAP_US);
        pthread_mutex_lock(&e->hits_mutex);
    }
}

int embq_scopes(embq_ref broker, embq_bytes *out) {
    struct reading r;
    struct packer p = {0};
    uint32_t count = 0;
    int64_t code = reading_begin(&r, broker_of(broker));
    if (code < 0) return (int)code;
    pack_array(&p, 0);
    hits_hold(r.e);
    sqlite3_stmt *s = reading_ints(&r, ST_SCOPE_ALL, 0, 0, NULL);
    while (reading_step(&r, s)) {
        struct slice name = column_slice(s, 0);
        pack_array(&p, 3);
        pack_text(&p, name.data, name.size);
        pack_int(&p, sq.column_int64(s, 1));
        pack_int(&p, sq.column_int64(s, 2) + hits_pending(r.e, name));
        count++;
    }
    pthread_mutex_unlock(&r.e->hits_mutex);
    pack_array_count(&p, 0, count);
    return (int)reading_answer(&r, 0, &p, out);
}

/* ---- the keeper ---- */

void results_look(struct engine *e) {
    struct wal_header now;
    int64_t at = clock_wall_ms();
    wal_index_read(&e->wal, &now); /* before the read: a commit between them counts */
    if (!memcmp(&now, &e->no_forget, sizeof now) && at < e->forget_at_ms) return;
    int64_t next = keeper_glance(e, ST_RESULT_NEXT, 0, NULL);
    if (next < 0) return;
    e->no_forget = now;
    e->forget_at_ms = next ? next : INT64_MAX;
    if (next && next <= at) keeper_stage(e, OP_FORGET, 0);
}
