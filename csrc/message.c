/* Messages: storing, handing over, removing, burying. See store.h. */
#include "store.h"

#include <string.h>

enum {
    COL_ID,
    COL_SENT_AT,
    COL_TYPE,
    COL_SOURCE,
    COL_KEY,
    COL_PUBLIC_ID,
    COL_ATTRIBUTES,
    COL_HISTORY,
    COL_BODY
};

#define PUBLIC_ID_SIZE 32

struct fields {
    struct slice type, source, key, attributes;
};

static int fields_read(const char *data, size_t size, struct fields *f) {
    memset(f, 0, sizeof *f);
    if (!size) return 0;
    struct unpacker u = unpack_from(data, size);
    if (unpack_array(&u) != 4) return -1;
    f->type = unpack_slice(&u);
    f->source = unpack_slice(&u);
    f->key = unpack_slice(&u);
    f->attributes = unpack_slice(&u);
    return u.failed || u.next != u.end ? -1 : 0;
}

/* One item of a packed batch: a body, or [body, fields]. */
static int item_read(struct unpacker *u, struct slice *body, struct slice *fields) {
    *fields = (struct slice){NULL, 0};
    if (unpack_is_array(u)) {
        if (unpack_array(u) != 2) return -1;
        *body = unpack_slice(u);
        *fields = unpack_slice(u);
    } else {
        *body = unpack_slice(u);
    }
    return u->failed || !body->data ? -1 : 0;
}

/* Headers and the other fields count towards the limit: they are stored beside the
 * body. */
static int size_check(size_t body, size_t fields, int64_t max_body) {
    if (max_body > EMBQ_STORED_MAX) max_body = EMBQ_STORED_MAX;
    if ((int64_t)(body + fields) <= max_body) return 0;
    return error_set(EMBQ_MESSAGE_TOO_LARGE,
                     "a body and fields of %zu bytes; the queue takes %lld",
                     body + fields, (long long)max_body);
}

int message_validate(const struct op *op, int64_t max_body) {
    struct fields f;
    if (op->kind == OP_SEND) {
        if (fields_read(op->bytes + op->size, op->extra_size, &f) < 0)
            return error_set(EMBQ_INVALID_ARGUMENT, "fields of a message: malformed");
        return size_check(op->size, op->extra_size, max_body);
    }
    struct unpacker u = unpack_from(op->bytes, op->size);
    uint32_t count = unpack_array(&u);
    for (uint32_t i = 0; i < count; i++) {
        struct slice body, fields;
        if (item_read(&u, &body, &fields) < 0 ||
            fields_read(fields.data, fields.size, &f) < 0)
            return error_set(EMBQ_INVALID_ARGUMENT,
                             "message %u of the batch: malformed", i);
        int code = size_check(body.size, fields.size, max_body);
        if (code < 0) return code;
    }
    if (u.failed || u.next != u.end)
        return error_set(EMBQ_INVALID_ARGUMENT, "a batch of messages: malformed");
    return 0;
}

/* The parameters of one row, the `at`-th of its statement. */
static void message_bind(sqlite3_stmt *s, int at, struct channel *c, int64_t id,
                         int64_t now_ms, struct slice body, struct slice packed) {
    struct fields f;
    int first = at * MESSAGE_PARAMETERS;
    fields_read(packed.data, packed.size, &f);
    sq.bind_int64(s, first + 1, id);
    sq.bind_int64(s, first + 2, now_ms);
    bind_slice(s, first + 3, f.type);
    bind_slice(s, first + 4, f.source);
    bind_slice(s, first + 5, f.key);
    bind_slice(s, first + 6, f.attributes);
    sq.bind_blob(s, first + 7, body.data, (int)body.size, SQLITE_STATIC);
    c->sent++;
    c->sent_bytes += (int64_t)body.size;
    sq.bind_int64(s, first + 8, c->sent_bytes);
}

/* Several rows a statement: it finds its place in the B-tree once. */
static int batch_insert(struct engine *e, struct channel *c, struct unpacker *u,
                        uint32_t count, int64_t id, int64_t now_ms) {
    while (count > 0) {
        int rows = count < MESSAGE_ROWS ? 1 : MESSAGE_ROWS;
        sqlite3_stmt *s = statement(
            e, rows == 1 ? ST_MESSAGE_INSERT : ST_MESSAGE_INSERT_MANY, c->shard);
        for (int i = 0; s && i < rows; i++) {
            struct slice body, fields;
            item_read(u, &body, &fields);
            message_bind(s, i, c, id++, now_ms, body, fields);
        }
        if (statement_step(e, s) < 0) return -1;
        count -= (uint32_t)rows;
    }
    return 0;
}

int64_t message_send(struct engine *e, struct op *op) {
    struct channel *c = channel_get(e, op->channel);
    if (!c)
        return e->storage_error ? -1 : error_set(EMBQ_NOT_FOUND, "the queue is gone");
    int code = message_validate(op, c->options.max_body);
    if (code < 0) return code;
    struct unpacker u = unpack_from(op->bytes, op->size);
    uint32_t count = op->kind == OP_SEND ? 1 : unpack_array(&u);
    int64_t sequence = channel_allocate(c, count);
    if (sequence < 0) return sequence;
    int64_t first = message_id(c->id, EMBQ_LANE_DEFAULT, sequence),
            now = clock_wall_ms();
    if (op->kind == OP_SEND_MANY) {
        if (batch_insert(e, c, &u, count, first, now) < 0) return -1;
    } else {
        struct slice body = {op->bytes, op->size};
        struct slice fields = {op->bytes + op->size, op->extra_size};
        sqlite3_stmt *s = statement(e, ST_MESSAGE_INSERT, c->shard);
        if (s) message_bind(s, 0, c, first, now, body, fields);
        if (statement_step(e, s) < 0) return -1;
    }
    if (count) channel_offer(e, c);
    return first;
}

void message_pack(struct engine *e, sqlite3_stmt *row, const struct delivered *d,
                  struct op *claim) {
    struct packer *out = &claim->out;
    char made[PUBLIC_ID_SIZE + 1];
    struct slice id = column_slice(row, COL_PUBLIC_ID);
    if (!id.data) {
        snprintf(made, sizeof made, "%016llx%016llx", (unsigned long long)e->file_id,
                 (unsigned long long)d->message);
        id = (struct slice){made, PUBLIC_ID_SIZE};
    }
    const int64_t receipt[] = {d->run, d->token, d->message};
    pack_array(out, 10);
    pack_text(out, id.data, id.size);
    pack_int(out, sq.column_int64(row, COL_SENT_AT));
    for (int column = COL_TYPE; column <= COL_HISTORY; column++) {
        if (column == COL_PUBLIC_ID) continue;
        struct slice text = column_slice(row, column);
        pack_text(out, text.data, text.size);
    }
    pack_int(out, d->receive_count);
    pack_blob(out, receipt, sizeof receipt);
    pack_raw(&claim->receipts, receipt, sizeof receipt);
    /* The blob first: asking for it may convert, and the size is of what it converted
     * to. */
    if (sq.column_type(row, COL_BODY) != SQLITE_BLOB) storage_corrupt(e);
    const void *body = sq.column_blob(row, COL_BODY);
    pack_blob(out, body, (size_t)sq.column_bytes(row, COL_BODY));
}

int64_t message_remove(struct engine *e, struct channel *c, int64_t id) {
    int64_t size = statement_int(e, ST_MESSAGE_SIZE, c->shard, INTS(id), -1);
    if (size < 0 || statement_do(e, ST_MESSAGE_DELETE, c->shard, INTS(id)) < 0)
        return storage_corrupt(e); /* a delivery of nothing */
    c->dirty = 1;
    return size;
}

/* The queue that a dead letter of `c` goes to; made with the codec of `c` when it is
 * not there. It has no dead-letter queue of its own, so nothing goes round in circles.
 */
static struct channel *grave(struct engine *e, const struct channel *c) {
    const char *name = c->options.dead_letter;
    int64_t id = channel_find(e, name, strlen(name));
    if (id == 0) {
        struct options o = c->options;
        o.dead_letter = NULL;
        id = channel_create(e, name, strlen(name), &o);
    }
    if (id < 0) {
        /* A limit is no storage error by itself, but the message has nowhere to go. */
        if (!e->storage_error) e->storage_error = SQLITE_FULL;
        return NULL;
    }
    struct channel *to = channel_get(e, id);
    if (!to) storage_corrupt(e);
    return to;
}

int64_t message_bury(struct engine *e, struct channel *c, int64_t id,
                     const struct burial *b) {
    struct channel *to = grave(e, c);
    int64_t sequence = to ? channel_allocate(to, 1) : -1;
    sqlite3_stmt *from = statement(e, ST_MESSAGE_MOVE, c->shard);
    sqlite3_stmt *into = statement(e, ST_MESSAGE_BURY, to ? to->shard : 0);
    if (sequence < 0 || !from || !into) {
        if (!e->storage_error) e->storage_error = SQLITE_FULL;
        return -1;
    }
    char made[PUBLIC_ID_SIZE + 1];
    snprintf(made, sizeof made, "%016llx%016llx", (unsigned long long)e->file_id,
             (unsigned long long)id);
    sq.bind_int64(from, 1, id);
    sq.bind_text(from, 2, c->name, -1, SQLITE_STATIC);
    sq.bind_text(from, 3, b->reason, -1, SQLITE_STATIC);
    bind_slice(from, 4, b->error);
    sq.bind_int64(from, 5, b->receive_count);
    sq.bind_int64(from, 6, b->first_at_ms);
    sq.bind_int64(from, 7, clock_wall_ms());
    sq.bind_text(from, 8, made, -1, SQLITE_STATIC);
    if (statement_step(e, from) <= 0) return storage_corrupt(e);
    if (sq.column_type(from, 8) != SQLITE_BLOB) {
        sq.reset(from);
        return storage_corrupt(e);
    }
    sq.bind_int64(into, 1, message_id(to->id, EMBQ_LANE_DEFAULT, sequence));
    sq.bind_int64(into, 2, sq.column_int64(from, 0));
    sq.bind_int64(into, 3, sq.column_int64(from, 1));
    for (int column = 2; column < 8; column++)
        bind_slice(into, column + 2, column_slice(from, column));
    const void *body = sq.column_blob(from, 8);
    int64_t size = sq.column_bytes(from, 8);
    sq.bind_blob(into, 10, body ? body : "", (int)size, SQLITE_STATIC);
    to->sent++;
    to->sent_bytes += size;
    sq.bind_int64(into, 11, to->sent_bytes);
    int done = statement_step(e, into);
    sq.reset(from);
    if (done < 0 || statement_do(e, ST_MESSAGE_DELETE, c->shard, INTS(id)) < 0)
        return -1;
    c->dirty = 1;
    channel_offer(e, to);
    return size;
}
