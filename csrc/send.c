/* Sending: what is asked for, checked and stored. A batch that is all plain takes a
 * short way, some rows a statement; any other goes item by item. See store.h.
 */
#include "checksum.h"
#include "store.h"

#include <string.h>

/* What is sent beside the body. A number that was not given is -1. */
struct fields {
    struct slice type, source, key, attributes;
    int64_t priority, delay_ms, at_ms, ttl_ms;
    struct slice dedup_id;
    int64_t tried_ms; /* boot_ms since when it may be stored already; 0: not yet */
};

#define FIELDS_FEW 4 /* the texts alone */
#define FIELDS_ALL 9
#define FIELDS_RETRIED 10

static int number_is_sound(int64_t value, int64_t most) {
    return value >= -1 && value <= most;
}

static int fields_read(const char *data, size_t size, struct fields *f) {
    *f = (struct fields){
        .priority = -1, .delay_ms = -1, .at_ms = -1, .ttl_ms = -1, .tried_ms = -1};
    if (!size) return 0;
    struct unpacker u = unpack_from(data, size);
    uint32_t count = unpack_array(&u);
    f->type = unpack_slice(&u);
    f->source = unpack_slice(&u);
    f->key = unpack_slice(&u);
    f->attributes = unpack_slice(&u);
    if (count == FIELDS_ALL || count == FIELDS_RETRIED) {
        f->priority = unpack_int(&u);
        f->delay_ms = unpack_int(&u);
        f->at_ms = unpack_int(&u);
        f->ttl_ms = unpack_int(&u);
        f->dedup_id = unpack_slice(&u);
        if (count == FIELDS_RETRIED) f->tried_ms = unpack_int(&u);
    } else if (count != FIELDS_FEW) {
        return -1;
    }
    return !u.failed && u.next == u.end &&
                   number_is_sound(f->priority, EMBQ_PRIORITY_MAX) &&
                   number_is_sound(f->delay_ms, EMBQ_DURATION_MAX_MS) &&
                   number_is_sound(f->at_ms, EMBQ_TIME_MAX_MS) &&
                   number_is_sound(f->ttl_ms, EMBQ_DURATION_MAX_MS) &&
                   number_is_sound(f->tried_ms, INT64_MAX)
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

/* Of the default priority, ready at once and for ever, and not to be told from others.
 */
static int item_is_plain(const struct item *it) {
    return it->place.lane == EMBQ_LANE_DEFAULT && !it->place.expires_ms &&
           !it->fields.dedup_id.data;
}

static void item_open(struct item *it, const struct channel *c, struct slice body,
                      struct slice packed, int64_t now_ms) {
    it->body = body;
    fields_read(packed.data, packed.size, &it->fields);
    it->place = place_of(&c->options, &it->fields, now_ms);
}

/* The next one of a batch, which was found to be sound. */
static void item_next(struct unpacker *u, struct item *it, const struct channel *c,
                      int64_t now_ms) {
    struct slice body, packed;
    item_read(u, &body, &packed);
    item_open(it, c, body, packed, now_ms);
}

/* The parameters of one row, the `at`-th of its statement. */
static void item_bind(sqlite3_stmt *s, int at, struct channel *c, int64_t id,
                      int64_t now_ms, const struct item *it) {
    int first = at * MESSAGE_PARAMETERS;
    sq.bind_int64(s, first + 1, id);
    sq.bind_int64(s, first + 2,
                  flags_of(it->place.priority, it->body.data, it->body.size));
    sq.bind_int64(s, first + 3, now_ms);
    bind_slice(s, first + 4, it->fields.type);
    bind_slice(s, first + 5, it->fields.source);
    bind_slice(s, first + 6, it->fields.key);
    bind_slice(s, first + 7, it->fields.attributes);
    sq.bind_blob(s, first + 8, it->body.data, (int)it->body.size, SQLITE_STATIC);
    c->sent++;
    c->sent_bytes += (int64_t)it->body.size;
    sq.bind_int64(s, first + 9, c->sent_bytes);
}

/* Store one; its row, or -1. */
static int64_t item_insert(struct engine *e, struct channel *c, int64_t sequence,
                           int64_t now_ms, const struct item *it) {
    const struct place *p = &it->place;
    int placed = p->lane != EMBQ_LANE_DEFAULT || p->expires_ms;
    int64_t id = message_id(c->id, p->lane, sequence);
    sqlite3_stmt *s =
        statement(e, placed ? ST_MESSAGE_INSERT_PLACED : ST_MESSAGE_INSERT, c->shard);
    if (!s) return -1;
    item_bind(s, 0, c, id, now_ms, it);
    if (placed) {
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

/* Store one, unless it was sent before: its row, perhaps with EMBQ_DUPLICATE, or a
 * code. */
static int64_t item_send(struct engine *e, struct channel *c, int64_t now_ms,
                         const struct item *it) {
    struct slice dedup =
        c->options.dedup_window_ms ? it->fields.dedup_id : (struct slice){NULL, 0};
    int64_t known = dedup.data ? dedup_find(e, c, dedup, now_ms) : 0;
    if (known < 0) return -1;
    if (known) {
        c->sub.duplicates++;
        c->dirty = 1;
        return known | EMBQ_DUPLICATE;
    }
    int64_t sequence = channel_allocate(c, 1);
    if (sequence < 0) return sequence;
    int64_t id = item_insert(e, c, sequence, now_ms, it);
    if (id > 0 && dedup.data && dedup_note(e, c, dedup, id, now_ms) < 0) return -1;
    return id;
}

/* Several rows a statement: it finds its place in the B-tree once. */
static int rows_insert(struct engine *e, struct channel *c, struct unpacker *u,
                       int64_t id, int64_t now_ms) {
    sqlite3_stmt *s = statement(e, ST_MESSAGE_INSERT_MANY, c->shard);
    for (int i = 0; s && i < MESSAGE_ROWS; i++) {
        struct item it;
        item_next(u, &it, c, now_ms);
        item_bind(s, i, c, id++, now_ms, &it);
    }
    return statement_step(e, s);
}

/* A batch whose rows follow each other: the first, or a code. */
static int64_t plain_send(struct engine *e, struct channel *c, struct unpacker *u,
                          uint32_t count, int64_t now_ms) {
    int64_t sequence = channel_allocate(c, count);
    if (sequence < 0) return sequence;
    int64_t first = message_id(c->id, EMBQ_LANE_DEFAULT, sequence);
    for (int64_t id = first; count > 0;) {
        if (count >= MESSAGE_ROWS) {
            if (rows_insert(e, c, u, id, now_ms) < 0) return -1;
            id += MESSAGE_ROWS;
            count -= MESSAGE_ROWS;
        } else {
            struct item it;
            item_next(u, &it, c, now_ms);
            if (item_insert(e, c, message_sequence(id), now_ms, &it) < 0) return -1;
            id++;
            count--;
        }
    }
    return first;
}

/* Any other batch: its rows are the answer. */
static int64_t mixed_send(struct engine *e, struct op *op, struct channel *c,
                          struct unpacker *u, uint32_t count, int64_t now_ms) {
    op->out.size = 0;
    op->count = (int)count;
    pack_array(&op->out, count);
    for (; count > 0; count--) {
        struct item it;
        item_next(u, &it, c, now_ms);
        int64_t row = item_send(e, c, now_ms, &it);
        if (row < 0) return row;
        pack_int(&op->out, row);
    }
    if (op->out.failed) e->storage_error = SQLITE_NOMEM;
    return op->out.failed ? -1 : message_id(c->id, EMBQ_LANE_DEFAULT, 0);
}

static int order_check(const struct channel *c, const struct item *it) {
    if (!c->options.ordered || it->place.lane == EMBQ_LANE_DEFAULT) return 0;
    return error_set(EMBQ_INVALID_ARGUMENT,
                     "queue %s is ordered: no priority, delay or at can change that",
                     c->name);
}

/* One that is sent again must find its first try, under a dedup id that is still known.
 */
static int retry_check(const struct channel *c, const struct item *it) {
    int64_t window_ms = c->options.dedup_window_ms, tried_ms = it->fields.tried_ms;
    if (tried_ms < 0) return 0;
    if (!it->fields.dedup_id.data)
        return error_set(EMBQ_INVALID_ARGUMENT, "a retry without a dedup id");
    if (window_ms && (!tried_ms || clock_boot_ms() - tried_ms < window_ms)) return 0;
    return error_set(EMBQ_INVALID_ARGUMENT,
                     "queue %s: retries need a dedup_window that lasts as long as they "
                     "do, and it is %lld ms; see configure()",
                     c->name, (long long)window_ms);
}

static int item_check(const struct channel *c, const struct item *it) {
    int code = order_check(c, it);
    return code < 0 ? code : retry_check(c, it);
}

/* Whether all of a batch are of the default priority, ready at once and for ever: 1, 0,
 * or a code. */
static int batch_check(const struct channel *c, struct unpacker u, uint32_t count,
                       int64_t now_ms) {
    int plain = 1;
    for (; count > 0; count--) {
        struct item it;
        item_next(&u, &it, c, now_ms);
        plain &= item_is_plain(&it);
        int code = item_check(c, &it);
        if (code < 0) return code;
    }
    return plain;
}

/* What is to be stored, and the dedup ids in it. */
struct need {
    int64_t messages, bytes;
    struct unique ids;
};

/* Count what this item stores: a duplicate, also of one before it in its batch, needs
 * no room. */
static int need_add(struct engine *e, struct channel *c, const struct item *it,
                    int64_t now_ms, struct need *need) {
    struct slice id = it->fields.dedup_id;
    if (c->options.dedup_window_ms && id.data) {
        int64_t known = dedup_find(e, c, id, now_ms);
        int fresh = known ? 0 : unique_add(&need->ids, id);
        if (fresh < 0) e->storage_error = SQLITE_NOMEM;
        if (known < 0 || fresh < 0) return -1;
        if (!fresh) return 0;
    }
    need->messages++;
    need->bytes += (int64_t)it->body.size;
    return 0;
}

/* Room within the bounds for a whole batch, before its first is stored: 0 or a code. */
static int batch_fits(struct engine *e, struct op *op, struct channel *c,
                      struct unpacker u, uint32_t count, int64_t now_ms) {
    struct need need = {0};
    int code = 0;
    for (; count > 0 && code == 0; count--) {
        struct item it;
        item_next(&u, &it, c, now_ms);
        code = need_add(e, c, &it, now_ms, &need);
    }
    unique_free(&need.ids);
    return code < 0 ? -1 : overflow_check(e, op, c, need.messages, need.bytes);
}

static int64_t batch_send(struct engine *e, struct op *op, struct channel *c,
                          int64_t now_ms) {
    struct unpacker u = unpack_from(op->bytes, op->size);
    uint32_t count = unpack_array(&u);
    int plain = batch_check(c, u, count, now_ms);
    if (plain < 0) return plain;
    int code = channel_has_room(c, count); /* for all of them, before the first */
    if (code == 0 && overflow_matters(e, op, c))
        code = batch_fits(e, op, c, u, count, now_ms);
    if (code < 0) return code;
    if (count) channel_offer(e, c);
    op->out.size = 0;
    op->count = 0;
    return plain ? plain_send(e, c, &u, count, now_ms)
                 : mixed_send(e, op, c, &u, count, now_ms);
}

static int64_t one_send(struct engine *e, struct op *op, struct channel *c,
                        int64_t now_ms) {
    struct item it;
    item_open(&it, c, (struct slice){op->bytes, op->size},
              (struct slice){op->bytes + op->size, op->extra_size}, now_ms);
    int code = item_check(c, &it);
    if (code == 0 && overflow_matters(e, op, c)) {
        struct need need = {0};
        code = need_add(e, c, &it, now_ms, &need);
        unique_free(&need.ids);
        if (code == 0) code = overflow_check(e, op, c, need.messages, need.bytes);
    }
    if (code < 0) return code;
    channel_offer(e, c);
    return item_send(e, c, now_ms, &it);
}

int64_t message_send(struct engine *e, struct op *op) {
    int64_t code;
    struct channel *c = channel_of_op(e, op, &code);
    if (c) code = message_validate(op, c->options.max_body);
    if (code < 0) return code;
    int64_t now_ms = clock_wall_ms();
    return op->kind == OP_SEND ? one_send(e, op, c, now_ms)
                               : batch_send(e, op, c, now_ms);
}
