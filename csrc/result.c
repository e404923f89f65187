/* Results of what is to be done once: a key in a scope, and the JSON that came of it.
 *
 *     none --begin--> in flight --end--> stored --its ttl, delete--> none
 *                         |                ^
 *                         +--free, death--+-- set, from wherever it was
 *
 * They are rows of embq_idempotency whose scope is a text. One in flight has an owner,
 * as a lease has, and a token, which proves whose it is; when the owner is gone, or
 * gives it up, the next one begins. Who finds one in flight parks, as a claim does that
 * finds nothing. embq_scope counts what is stored of each scope.
 */
#include "store.h"

#include <string.h>

#define SCOPES_MAX 4096 /* so that stats() stays short */
#define FORGET_STEP 128

int names_split(const char *data, size_t size, struct names *n) {
    const char *nul = data ? memchr(data, 0, size) : NULL;
    size_t length = nul ? (size_t)(nul - data) : size;
    size_t rest = nul ? size - length - 1 : 0;
    if (!length || length > EMBQ_NAME_MAX || !rest || rest > EMBQ_NAME_MAX ||
        memchr(nul + 1, 0, rest))
        return error_set(EMBQ_INVALID_ARGUMENT, "a scope of %zu bytes, a key of %zu",
                         length, rest);
    *n = (struct names){{data, length}, {nul + 1, rest}, {data, size}};
    return 0;
}

/* ---- rows ---- */

/* A row as it is: `result` is SQLite's until the next statement. */
struct found {
    sqlite3_stmt *row;
    struct slice result;
    int64_t owner, token, expires_ms; /* owner 0: it is stored */
};

static sqlite3_stmt *named(struct engine *e, enum statement which,
                           const struct names *n) {
    sqlite3_stmt *s = statement(e, which, 0);
    if (!s) return NULL;
    bind_slice(s, 1, n->scope);
    bind_slice(s, 2, n->key);
    return s;
}

/* 1 found: to be let go by sq.reset(f->row); 0, -1. */
static int row_find(struct engine *e, const struct names *n, struct found *f) {
    *f = (struct found){.row = named(e, ST_RESULT_FIND, n)};
    int there = statement_step(e, f->row);
    if (there <= 0) return there;
    int stored = sq.column_type(f->row, 0) == SQLITE_TEXT;
    f->owner = sq.column_int64(f->row, 1);
    f->token = sq.column_int64(f->row, 2);
    f->expires_ms = sq.column_int64(f->row, 3);
    if (stored) f->result = column_slice(f->row, 0);
    if (stored ? f->owner == 0 : f->owner > 0 && f->token) return 1;
    sq.reset(f->row);
    return storage_corrupt(e);
}

static int row_write(struct engine *e, const struct names *n, struct slice result,
                     int64_t expires_ms, int64_t owner, int64_t token) {
    sqlite3_stmt *s = named(e, ST_RESULT_WRITE, n);
    if (!s) return -1;
    bind_slice(s, 3, result);
    sq.bind_int64(s, 4, expires_ms);
    bind_or_null(s, 5, owner);
    bind_or_null(s, 6, token);
    return statement_run(e, s);
}

static int row_delete(struct engine *e, const struct names *n) {
    sqlite3_stmt *s = named(e, ST_RESULT_DELETE, n);
    return s ? statement_run(e, s) : -1;
}

/* Count what is stored. */
static int scope_count(struct engine *e, struct slice scope, int64_t more) {
    sqlite3_stmt *s = statement(e, ST_SCOPE_COUNT, 0);
    if (!s) return -1;
    bind_slice(s, 1, scope);
    sq.bind_int64(s, 2, more);
    return statement_run(e, s);
}

/* 0, -1, or LIMIT_REACHED. One that holds nothing makes way for a new one. */
static int scope_make(struct engine *e, struct slice scope) {
    sqlite3_stmt *s = statement(e, ST_SCOPE_READ, 0);
    if (!s) return -1;
    bind_slice(s, 1, scope);
    int there = statement_step(e, s);
    if (there > 0) sq.reset(s);
    if (there) return there < 0 ? -1 : 0;
    if (statement_int(e, ST_SCOPE_NUMBER, 0, 0, NULL, 0) >= SCOPES_MAX) {
        if (statement_do(e, ST_SCOPE_EMPTY, 0, 0, NULL) < 0) return -1;
        if (!sq.changes(e->db))
            return error_set(EMBQ_LIMIT_REACHED, "%s: %d scopes have stored results",
                             e->path, SCOPES_MAX);
    }
    if (!(s = statement(e, ST_SCOPE_INSERT, 0))) return -1;
    bind_slice(s, 1, scope);
    return statement_run(e, s);
}

/* Who waits for this key looks again. */
static void key_offer(struct engine *e, const struct names *n) {
    e->wake_bits |= wake_bit(key_hash(n->both));
}

static int result_keep(struct engine *e, const struct names *n, struct slice result,
                       int64_t ttl_ms, int counted) {
    int64_t now = clock_wall_ms();
    int64_t until = ttl_ms ? now + ttl_ms : EMBQ_TIME_MAX_MS;
    key_offer(e, n);
    if (row_write(e, n, result, until, 0, 0) < 0) return -1;
    return counted ? 0 : scope_count(e, n->scope, 1);
}

/* ---- operations ---- */

/* 0, or -1 when there is no memory for it. */
static int answer(struct engine *e, struct op *op, const void *data, size_t size) {
    pack_raw(&op->out, data, size);
    if (op->out.failed) e->storage_error = SQLITE_NOMEM;
    return op->out.failed ? -1 : 0;
}

/* What is stored already is the answer. */
static int64_t answer_stored(struct engine *e, struct op *op, const struct names *n,
                             const struct found *f, int64_t outcome) {
    int code = answer(e, op, f->result.data, f->result.size);
    sq.reset(f->row);
    op->full = op->broker->full != 0; /* it may be newer than the last sync */
    hits_note(e, n->scope);
    return code < 0 ? -1 : outcome;
}

/* Its names, and the row of its key as row_find() gives it, or a code. An operation
 * runs again when its group was rolled back. */
static int op_begin(struct engine *e, struct op *op, struct names *n, struct found *f) {
    op->count = 0;
    op->full = 0;
    pack_free(&op->out);
    int code = names_split(op->bytes, op->size, n);
    return code < 0 ? code : row_find(e, n, f);
}

int64_t result_begin(struct engine *e, struct op *op) {
    struct names n;
    struct found f;
    int64_t there = op_begin(e, op, &n, &f);
    if (there < 0) return there;
    if (there && !f.owner && f.expires_ms > clock_wall_ms())
        return answer_stored(e, op, &n, &f, EMBQ_RESULT_STORED);
    if (there) sq.reset(f.row);
    if (there && f.owner) {
        ATOMIC_STORE(&op->next_due_us, INT64_MAX); /* what ends it wakes us */
        return 0;
    }
    int code = space_check(e, op);
    if (code < 0 || (code = scope_make(e, n.scope)) < 0) return code;
    op->token = token_new();
    if (there && scope_count(e, n.scope, -1) < 0) return -1; /* its time is over */
    const struct slice none = {NULL, 0};
    if (row_write(e, &n, none, EMBQ_TIME_MAX_MS, e->slot, op->token) < 0) return -1;
    op->count = 1;
    int told = answer(e, op, &op->token, sizeof op->token);
    return told < 0 ? -1 : EMBQ_RESULT_BEGUN;
}

int64_t result_end(struct engine *e, struct op *op) {
    struct names n;
    struct found f;
    int64_t there = op_begin(e, op, &n, &f);
    if (there < 0) return there;
    if (there && !f.owner && f.expires_ms > clock_wall_ms())
        return answer_stored(e, op, &n, &f, 0);
    if (there) sq.reset(f.row);
    int same = there && f.owner && f.token == op->token;
    if (same && f.owner != e->slot)
        return error_set(EMBQ_PARENTS,
                         "%s: it was begun before a fork; its outcome is the parent's",
                         e->path);
    if (!same)
        return error_set(EMBQ_LEASE_LOST,
                         "%s: another result was set meanwhile, and is gone again",
                         e->path);
    struct slice result = {op->bytes + op->size, op->extra_size};
    int code = scope_make(e, n.scope);
    if (code < 0) return code;
    op->full = op->broker->full != 0;
    return result_keep(e, &n, result, op->delay_ms, 0) < 0 ? -1 : 1;
}

int64_t result_set(struct engine *e, struct op *op) {
    struct names n;
    struct found f;
    int64_t there = op_begin(e, op, &n, &f);
    if (there < 0) return there;
    if (there) sq.reset(f.row);
    int code = space_check(e, op);
    if (code < 0 || (code = scope_make(e, n.scope)) < 0) return code;
    struct slice result = {op->bytes + op->size, op->extra_size};
    op->full = op->broker->full != 0;
    return result_keep(e, &n, result, op->delay_ms, there && !f.owner) < 0 ? -1 : 1;
}

int64_t result_delete(struct engine *e, struct op *op) {
    struct names n;
    struct found f;
    int64_t there = op_begin(e, op, &n, &f);
    if (there < 0) return there;
    if (there) sq.reset(f.row);
    if (!there || f.owner) return 0; /* what is in flight is its owner's */
    op->full = op->broker->full != 0;
    if (row_delete(e, &n) < 0 || scope_count(e, n.scope, -1) < 0) return -1;
    return f.expires_ms > clock_wall_ms();
}

int64_t result_free(struct engine *e, struct op *op) {
    struct names n;
    struct found f;
    int64_t there = op_begin(e, op, &n, &f);
    if (there < 0) return there;
    if (there) sq.reset(f.row);
    if (!there || f.owner != e->slot || f.token != op->token) return 0;
    key_offer(e, &n);
    return row_delete(e, &n) < 0 ? -1 : 1;
}

/* ---- what ends by itself ---- */

int results_of_owner(struct engine *e, int64_t owner) {
    if (statement_do(e, ST_RESULT_OF_OWNER, 0, INTS(owner)) < 0) return -1;
    if (sq.changes(e->db)) e->wake_bits = UINT32_MAX;
    return 0;
}

int results_void(struct engine *e) {
    return statement_do(e, ST_RESULT_VOID, 0, 0, NULL);
}

int results_forget(struct engine *e, int64_t now_ms, int64_t most) {
    /* Each send with a dedup id asks, and the search alone is half of a delete. */
    if (statement_int(e, ST_RESULT_NEXT, 0, 0, NULL, INT64_MAX) > now_ms)
        return e->storage_error ? -1 : 0;
    sqlite3_stmt *s = statement_ints(e, ST_RESULT_FORGET, 0, INTS(now_ms, most));
    int count = 0, more;
    while ((more = statement_step(e, s)) > 0) {
        count++;
        if (sq.column_type(s, 0) != SQLITE_TEXT) continue; /* a queue's dedup id */
        if (scope_count(e, column_slice(s, 0), -1) < 0) {
            sq.reset(s);
            return -1;
        }
    }
    return more < 0 ? -1 : count;
}

int64_t results_step(struct engine *e) {
    int count = results_forget(e, clock_wall_ms(), FORGET_STEP);
    if (count < 0) return -1;
    e->stepping |= count == FORGET_STEP;
    return count == FORGET_STEP;
}
