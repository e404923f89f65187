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
    COL_BODY,
    COL_FLAGS,
    COL_EXPIRES_AT
};

#define PUBLIC_ID_SIZE 32

/* What is sent beside the body. A number that was not given is -1. */
struct fields {
    struct slice type, source, key, attributes;
    int64_t priority, delay_ms, at_ms, ttl_ms;
};

#define FIELDS_FEW 4 /* the texts alone */
#define FIELDS_ALL 8

static int number_is_sound(int64_t value, int64_t most) {
    return value >= -1 && value <= most;
}

static int fields_read(const char *data, size_t size, struct fields *f) {
    *f = (struct fields){.priority = -1, .delay_ms = -1, .at_ms = -1, .ttl_ms = -1};
    if (!size) return 0;
    struct unpacker u = unpack_from(data, size);
    uint32_t count = unpack_array(&u);
    f->type = unpack_slice(&u);
    f->source = unpack_slice(&u);
    f->key = unpack_slice(&u);
    f->attributes = unpack_slice(&u);
    if (count == FIELDS_ALL) {
        f->priority = unpack_int(&u);
        f->delay_ms = unpack_int(&u);
        f->at_ms = unpack_int(&u);
        f->ttl_ms = unpack_int(&u);
    } else if (count != FIELDS_FEW) {
        return -1;
    }
    return !u.failed && u.next == u.end &&
                   number_is_sound(f->priority, EMBQ_PRIORITY_MAX) &&
                   number_is_sound(f->delay_ms, EMBQ_DURATION_MAX_MS) &&
                   number_is_sound(f->at_ms, EMBQ_TIME_MAX_MS) &&
                   number_is_sound(f->ttl_ms, EMBQ_DURATION_MAX_MS)
               ? 0
               : -1;
}

/* Where a message stands in its channel, and what waits for it. */
struct place {
    int lane;
    int64_t priority, due_ms, expires_ms; /* 0: ready at once; never */
};

static struct place place_of(const struct options *o, const struct fields *f,
                             int64_t now_ms) {
    struct place p = {.priority =
                          f->priority < 0 ? EMBQ_PRIORITY_DEFAULT : f->priority};
    int64_t delay_ms = f->delay_ms < 0 ? o->delay_ms : f->delay_ms;
    int64_t ttl_ms = f->ttl_ms < 0 ? o->ttl_ms : f->ttl_ms;
    if (f->at_ms > now_ms) p.due_ms = f->at_ms;
    else if (f->at_ms < 0 && delay_ms) p.due_ms = now_ms + delay_ms;
    if (ttl_ms) p.expires_ms = (p.due_ms ? p.due_ms : now_ms) + ttl_ms;
    p.lane = p.due_ms ? EMBQ_LANE_DEFERRED : lane_of_priority(p.priority);
    return p;
}

static int place_is_plain(const struct place *p) {
    return p->lane == EMBQ_LANE_DEFAULT && !p->expires_ms;
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

/* One message on its way into the file. */
struct item {
    struct slice body;
    struct fields fields;
    struct place place;
};

static void item_open(struct item *it, const struct channel *c, struct slice body,
                      struct slice packed, int64_t now_ms) {
    it->body = body;
    fields_read(packed.data, packed.size, &it->fields);
    it->place = place_of(&c->options, &it->fields, now_ms);
}

/* The parameters of one row, the `at`-th of its statement. */
static void item_bind(sqlite3_stmt *s, int at, struct channel *c, int64_t id,
                      int64_t now_ms, const struct item *it) {
    int first = at * MESSAGE_PARAMETERS;
    sq.bind_int64(s, first + 1, id);
    sq.bind_int64(s, first + 2, now_ms);
    bind_slice(s, first + 3, it->fields.type);
    bind_slice(s, first + 4, it->fields.source);
    bind_slice(s, first + 5, it->fields.key);
    bind_slice(s, first + 6, it->fields.attributes);
    sq.bind_blob(s, first + 7, it->body.data, (int)it->body.size, SQLITE_STATIC);
    c->sent++;
    c->sent_bytes += (int64_t)it->body.size;
    sq.bind_int64(s, first + 8, c->sent_bytes);
}

/* Store one; its row, or -1. */
static int64_t item_insert(struct engine *e, struct channel *c, int64_t sequence,
                           int64_t now_ms, const struct item *it) {
    const struct place *p = &it->place;
    int plain = place_is_plain(p);
    int64_t id = message_id(c->id, p->lane, sequence);
    sqlite3_stmt *s =
        statement(e, plain ? ST_MESSAGE_INSERT : ST_MESSAGE_INSERT_PLACED, c->shard);
    if (!s) return -1;
    item_bind(s, 0, c, id, now_ms, it);
    if (!plain) {
        sq.bind_int64(s, 9, p->priority);
        bind_or_null(s, 10, p->due_ms);
        bind_or_null(s, 11, p->expires_ms);
        channel_use(c, (int64_t)1 << p->lane);
    }
    if (statement_step(e, s) < 0) return -1;
    if (p->due_ms &&
        timer_defer(e, c, lane_of_priority(p->priority), p->due_ms, id) < 0)
        return -1;
    if (p->expires_ms && timer_expire_at(e, c, p->expires_ms, id) < 0) return -1;
    return id;
}

/* Several rows a statement: it finds its place in the B-tree once. */
static int rows_insert(struct engine *e, struct channel *c, struct unpacker *u,
                       int64_t id, int64_t now_ms) {
    sqlite3_stmt *s = statement(e, ST_MESSAGE_INSERT_MANY, c->shard);
    for (int i = 0; s && i < MESSAGE_ROWS; i++) {
        struct slice body, fields;
        struct item it;
        item_read(u, &body, &fields);
        item_open(&it, c, body, fields, now_ms);
        item_bind(s, i, c, id++, now_ms, &it);
    }
    return statement_step(e, s);
}

/* With rows of several lanes, which do not follow each other, the answer lists them. */
static int batch_insert(struct engine *e, struct op *op, struct channel *c,
                        struct unpacker *u, uint32_t count, int64_t sequence,
                        int64_t now_ms, int plain) {
    op->out.size = 0;
    op->count = plain ? 0 : (int)count;
    if (!plain) pack_array(&op->out, count);
    while (count > 0) {
        int rows = plain && count >= MESSAGE_ROWS ? MESSAGE_ROWS : 1;
        if (rows > 1) {
            int64_t first = message_id(c->id, EMBQ_LANE_DEFAULT, sequence);
            if (rows_insert(e, c, u, first, now_ms) < 0) return -1;
        } else {
            struct slice body, fields;
            struct item it;
            item_read(u, &body, &fields);
            item_open(&it, c, body, fields, now_ms);
            int64_t id = item_insert(e, c, sequence, now_ms, &it);
            if (id < 0) return -1;
            if (!plain) pack_int(&op->out, id);
        }
        sequence += rows;
        count -= (uint32_t)rows;
    }
    if (op->out.failed) e->storage_error = SQLITE_NOMEM;
    return op->out.failed ? -1 : 0;
}

static int order_check(const struct channel *c, const struct item *it) {
    if (!c->options.ordered || it->place.lane == EMBQ_LANE_DEFAULT) return 0;
    return error_set(EMBQ_INVALID_ARGUMENT,
                     "queue %s is ordered: no priority, delay or at can change that",
                     c->name);
}

/* Whether all of a batch are of the default priority, ready at once and for ever: 1, 0,
 * or a code. */
static int batch_check(const struct channel *c, struct unpacker u, uint32_t count,
                       int64_t now_ms) {
    int plain = 1;
    for (; count > 0; count--) {
        struct slice body, fields;
        struct item it;
        item_read(&u, &body, &fields);
        item_open(&it, c, body, fields, now_ms);
        plain &= place_is_plain(&it.place);
        int code = order_check(c, &it);
        if (code < 0) return code;
    }
    return plain;
}

static int64_t batch_send(struct engine *e, struct op *op, struct channel *c,
                          int64_t now_ms) {
    struct unpacker u = unpack_from(op->bytes, op->size);
    uint32_t count = unpack_array(&u);
    int plain = batch_check(c, u, count, now_ms);
    int64_t sequence = plain < 0 ? plain : channel_allocate(c, count);
    if (sequence < 0) return sequence;
    if (batch_insert(e, op, c, &u, count, sequence, now_ms, plain) < 0) return -1;
    if (count) channel_offer(e, c);
    return message_id(c->id, EMBQ_LANE_DEFAULT, sequence);
}

static int64_t one_send(struct engine *e, struct op *op, struct channel *c,
                        int64_t now_ms) {
    struct item it;
    item_open(&it, c, (struct slice){op->bytes, op->size},
              (struct slice){op->bytes + op->size, op->extra_size}, now_ms);
    int code = order_check(c, &it);
    int64_t sequence = code < 0 ? code : channel_allocate(c, 1);
    if (sequence < 0) return sequence;
    channel_offer(e, c);
    return item_insert(e, c, sequence, now_ms, &it);
}

int64_t message_send(struct engine *e, struct op *op) {
    struct channel *c = channel_get(e, op->channel);
    if (!c)
        return e->storage_error ? -1 : error_set(EMBQ_NOT_FOUND, "the queue is gone");
    int code = message_validate(op, c->options.max_body);
    if (code < 0) return code;
    int64_t now_ms = clock_wall_ms();
    return op->kind == OP_SEND ? one_send(e, op, c, now_ms)
                               : batch_send(e, op, c, now_ms);
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
    pack_array(out, 12);
    pack_text(out, id.data, id.size);
    pack_int(out, sq.column_int64(row, COL_SENT_AT));
    for (int column = COL_TYPE; column <= COL_HISTORY; column++) {
        if (column == COL_PUBLIC_ID) continue;
        struct slice text = column_slice(row, column);
        pack_text(out, text.data, text.size);
    }
    int64_t priority = sq.column_int64(row, COL_FLAGS) & MESSAGE_PRIORITY;
    if (priority > EMBQ_PRIORITY_MAX) storage_corrupt(e);
    pack_int(out, priority);
    if (sq.column_type(row, COL_EXPIRES_AT) == SQLITE_NULL) pack_nil(out);
    else pack_int(out, sq.column_int64(row, COL_EXPIRES_AT));
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
    if (size < 0) return storage_corrupt(e); /* a delivery of nothing */
    return messages_delete(e, c, id, id) < 0 ? -1 : size;
}

int messages_delete(struct engine *e, struct channel *c, int64_t first, int64_t last) {
    c->dirty = 1;
    if (c->sub.lanes & LANES_EXPIRY &&
        statement_do(e, ST_EXPIRY_DELETE_RANGE, c->shard, INTS(first, last)) < 0)
        return -1;
    return first == last
               ? statement_do(e, ST_MESSAGE_DELETE, c->shard, INTS(first))
               : statement_do(e, ST_MESSAGE_DELETE_RANGE, c->shard, INTS(first, last));
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
        o.ordered = ORDERED_NOT;
        o.delay_ms = o.ttl_ms = 0;
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
    bind_or_null(from, 6, b->first_at_ms);
    sq.bind_int64(from, 7, clock_wall_ms());
    sq.bind_text(from, 8, made, -1, SQLITE_STATIC);
    if (statement_step(e, from) <= 0) return storage_corrupt(e);
    if (sq.column_type(from, 8) != SQLITE_BLOB) {
        sq.reset(from);
        return storage_corrupt(e);
    }
    int lane = to->options.ordered
                   ? EMBQ_LANE_DEFAULT
                   : lane_of_priority(sq.column_int64(from, 0) & MESSAGE_PRIORITY);
    channel_use(to, (int64_t)1 << lane);
    sq.bind_int64(into, 1, message_id(to->id, lane, sequence));
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
    if (done < 0 || messages_delete(e, c, id, id) < 0) return -1;
    channel_offer(e, to);
    return size;
}
