/* Looking at messages without receiving them. Nothing is written, so what a look says
 * is true of the last commit, and may be old when it is read. The states are those of
 * the view embq_messages.
 */
#include "reading.h"
#include "store.h"

#define PAGE_BYTES ((size_t)1 << 20)
/* New messages that a peek goes through: more would be a long read. */
#define PEEK_ROWS 16384

/* Columns of ST_LOOK: the last of a message, and what comes after. */
enum {
    COL_EXPIRES = 10,
    COL_SENT_DUE,
    COL_DUE,
    COL_KIND,
    COL_COUNT,
    COL_OWNER,
    COL_DEADLINE,
    COL_ERROR
};

struct look {
    struct reading r;
    struct counts n;
    int64_t channel, wall_ms, paused_until_ms;
    int ordered, limit, count;
    struct packer out;
};

/* 0, or a code: then it is over. */
static int look_begin(struct look *l, embq_ref broker, int64_t handle, int limit) {
    *l = (struct look){.channel = handle_channel(handle), .limit = limit};
    int code = reading_begin(&l->r, broker_of(broker));
    if (code < 0) return code;
    l->wall_ms = clock_wall_ms();
    if (!counts_read(&l->r, handle, &l->n))
        return (int)reading_end(&l->r, reading_gone(&l->r));
    pack_array(&l->out, 0);
    sqlite3_stmt *s = reading_ints(&l->r, ST_LOOK_QUEUE, 0, INTS(l->channel));
    if (reading_step(&l->r, s)) {
        l->paused_until_ms = sq.column_int64(s, 0);
        l->ordered = (int)sq.column_int64(s, 1);
        sq.reset(s);
    }
    return 0;
}

static int look_end(struct look *l, embq_bytes *out) {
    pack_array_count(&l->out, 0, (uint32_t)l->count);
    return (int)reading_answer(&l->r, l->count, &l->out, out);
}

static int is_full(const struct look *l) {
    return l->r.result || l->count >= l->limit || l->out.size > PAGE_BYTES;
}

/* ---- a row ---- */

static int state_of(const struct look *l, sqlite3_stmt *s, int64_t row) {
    int64_t due = sq.column_int64(s, COL_DUE);
    if (sq.column_type(s, COL_OWNER) != SQLITE_NULL) return EMBQ_IN_FLIGHT;
    if (sq.column_type(s, COL_DUE) != SQLITE_NULL)
        return due < 0 ? EMBQ_BLOCKED : due > l->wall_ms ? EMBQ_DELAYED : EMBQ_READY;
    if (sq.column_type(s, COL_SENT_DUE) != SQLITE_NULL)
        return sq.column_int64(s, COL_SENT_DUE) > l->wall_ms ? EMBQ_DELAYED
                                                             : EMBQ_READY;
    return row > l->n.cursor[message_lane(row)] ? EMBQ_READY : EMBQ_IN_FLIGHT;
}

static void row_pack(struct look *l, sqlite3_stmt *s) {
    const struct slice no_receipt = {"", 0};
    int64_t row = sq.column_int64(s, 0);
    int state = state_of(l, s, row), has_delivery = sq.column_int64(s, COL_COUNT) > 0;
    int64_t receives = has_delivery ? sq.column_int64(s, COL_COUNT)
                                    : sq.column_type(s, COL_DUE) == SQLITE_NULL &&
                                          state == EMBQ_IN_FLIGHT;
    struct slice error = column_slice(s, COL_ERROR);
    if (message_channel(row) != l->channel) reading_corrupt(&l->r);
    pack_array(&l->out, 6);
    pack_int(&l->out, row);
    if (message_pack_row(l->r.e, s, row, receives, no_receipt, &l->out) < 0)
        reading_corrupt(&l->r);
    pack_int(&l->out, state);
    pack_int(&l->out,
             sq.column_int64(s, sq.column_type(s, COL_DUE) == SQLITE_NULL ? COL_SENT_DUE
                                                                          : COL_DUE));
    pack_int(&l->out, sq.column_int64(s, COL_KIND));
    pack_text(&l->out, error.data, error.size);
    l->count++;
}

static sqlite3_stmt *rows_from(struct look *l, int64_t after, int64_t last,
                               int64_t limit) {
    return reading_ints(&l->r, ST_LOOK, (int)l->n.shard,
                        INTS(after, last, limit, l->n.subscription));
}

/* ---- browsing ---- */

int embq_browse(embq_ref broker, long long channel, long long after, int limit,
                embq_bytes *out) {
    struct look l;
    int code = look_begin(&l, broker, channel, limit);
    if (code < 0) return code;
    int64_t first = message_id(l.channel, 0, 0), end = message_id(l.channel + 1, 0, 0);
    sqlite3_stmt *s = rows_from(&l, after > first ? after : first, end - 1, l.limit);
    int more = 0;
    while (!is_full(&l) && (more = reading_step(&l.r, s)) > 0) row_pack(&l, s);
    if (more > 0) sq.reset(s);
    return look_end(&l, out);
}

/* ---- what would come next ---- */

/* Whether another message of its key is before it. */
static int is_behind(struct look *l, sqlite3_stmt *s) {
    struct slice key = column_slice(s, 4);
    if (l->ordered != ORDERED_BY_KEY || !key.data) return 0;
    return reading_int(&l->r, ST_KEY_HOLDER, 0, INTS(l->n.subscription, key_hash(key)),
                       0) != 0;
}

/* Whether the next claim removes it, as its time is over. */
static int has_perished(const struct look *l, sqlite3_stmt *s) {
    return sq.column_type(s, COL_EXPIRES) != SQLITE_NULL &&
           sq.column_int64(s, COL_EXPIRES) <= l->wall_ms;
}

static void row_peek(struct look *l, int64_t row) {
    sqlite3_stmt *s = rows_from(l, row - 1, row, 1);
    if (!reading_step(&l->r, s)) return;
    if (!has_perished(l, s)) row_pack(l, s);
    sq.reset(s);
}

/* Those in the lane that waited, and are due. */
static void waiters_peek(struct look *l, int lane, int kind) {
    int64_t rows[EMBQ_RUN_IDS];
    int64_t most = l->limit - l->count;
    int count = 0, more = 0;
    if (most > EMBQ_RUN_IDS) most = EMBQ_RUN_IDS;
    sqlite3_stmt *s =
        reading_ints(&l->r, ST_DELIVERY_RETRIES, 0,
                     INTS(l->n.subscription, lane, kind, l->wall_ms, most));
    while (count < most && (more = reading_step(&l->r, s)) > 0)
        rows[count++] = sq.column_int64(s, 0);
    if (more > 0) sq.reset(s);
    for (int i = 0; i < count && !is_full(l); i++) row_peek(l, rows[i]);
}

/* Those that nobody has had. Of a key the first alone goes. */
static void new_peek(struct look *l, int lane) {
    int64_t from =
        l->n.cursor[lane] ? l->n.cursor[lane] : message_id(l->channel, lane, 0);
    int more = 0, keys = 0;
    int64_t seen[EMBQ_RUN_IDS];
    sqlite3_stmt *s = rows_from(
        l, from, message_id(l->channel, lane, 0) + EMBQ_SEQUENCE_MAX - 1, PEEK_ROWS);
    while (!is_full(l) && (more = reading_step(&l->r, s)) > 0) {
        int goes = !is_behind(l, s) && !has_perished(l, s);
        int64_t key = l->ordered == ORDERED_BY_KEY ? key_hash(column_slice(s, 4)) : 0;
        for (int i = 0; key && i < keys; i++) goes &= seen[i] != key;
        if (!goes) continue;
        if (key && keys < EMBQ_RUN_IDS) seen[keys++] = key;
        row_pack(l, s);
    }
    if (more > 0) sq.reset(s);
}

static void lanes_peek(struct look *l) {
    for (int priority = EMBQ_PRIORITY_MAX; priority >= 0; priority--) {
        int lane = lane_of_priority(priority);
        if (!(l->n.lanes >> lane & 1)) continue;
        waiters_peek(l, lane, DELIVERY_AGAIN);
        waiters_peek(l, lane, DELIVERY_SUSPECT);
        waiters_peek(l, lane, DELIVERY_NEW);
        new_peek(l, lane);
    }
}

int embq_peek(embq_ref broker, long long channel, int limit, embq_bytes *out) {
    struct look l;
    int code =
        look_begin(&l, broker, channel, limit < EMBQ_RUN_IDS ? limit : EMBQ_RUN_IDS);
    if (code < 0) return code;
    int in_turn = l.ordered == ORDERED_WHOLLY;
    if (in_turn) l.limit = 1;
    if (l.wall_ms < l.paused_until_ms || (in_turn && l.n.in_flight)) l.limit = 0;
    if (in_turn && l.n.waiting) {
        waiters_peek(&l, EMBQ_LANE_DEFAULT, DELIVERY_AGAIN);
        waiters_peek(&l, EMBQ_LANE_DEFAULT, DELIVERY_SUSPECT);
    } else {
        lanes_peek(&l);
    }
    return look_end(&l, out);
}

/* ---- one ---- */

/* The row of a message by its public id: 0 when the queue has none. Unless it moved
 * here, its row stands in its id; else all of the queue are gone through. */
static int64_t row_find(struct look *l, struct slice id) {
    if (id.size != PUBLIC_ID_SIZE) return 0;
    int64_t row = public_id_place(l->r.e, id);
    if (row && message_channel(row) == l->channel &&
        reading_int(&l->r, ST_MESSAGE_UNMOVED, (int)l->n.shard, INTS(row), 0))
        return row;
    sqlite3_stmt *s = reading_ints(
        &l->r, ST_MESSAGE_BY_PUBLIC_ID, (int)l->n.shard,
        INTS(message_id(l->channel, 0, 0), message_id(l->channel + 1, 0, 0) - 1));
    if (s) bind_slice(s, 3, id);
    if (!reading_step(&l->r, s)) return 0;
    row = sq.column_int64(s, 0);
    sq.reset(s);
    return row;
}

struct holder {
    int64_t owner, deadline_ms, claimed_at_ms;
};

/* Of one that a run holds. */
static struct holder run_holder(struct look *l, int64_t row) {
    struct holder h = {0, 0, 0};
    int more = 0;
    sqlite3_stmt *s = reading_ints(&l->r, ST_LOOK_RUN, 0, INTS(l->n.subscription, row));
    while (!h.owner && (more = reading_step(&l->r, s)) > 0) {
        int64_t place = row - sq.column_int64(s, 1);
        const uint8_t *states = sq.column_blob(s, 2);
        if (place < 0 || place / 4 >= sq.column_bytes(s, 2)) continue;
        if ((states[place / 4] >> (place & 3) * 2 & 3) != MEMBER_HELD) continue;
        h = (struct holder){sq.column_int64(s, 3),
                            run_deadline_ms(sq.column_int64(s, 0)),
                            sq.column_int64(s, 4)};
    }
    if (more > 0) sq.reset(s);
    return h;
}

/* The public id of a row, or nil. */
static void id_pack(struct look *l, int64_t row) {
    char made[PUBLIC_ID_SIZE + 1];
    sqlite3_stmt *s = row ? rows_from(l, row - 1, row, 1) : NULL;
    if (!reading_step(&l->r, s)) {
        pack_nil(&l->out);
        return;
    }
    struct slice id = public_id_of(l->r.e, s, row, made);
    pack_text(&l->out, id.data, id.size);
    sq.reset(s);
}

static void facts_pack(struct look *l, int64_t row, struct holder h, int64_t key) {
    int64_t first = 0;
    if (h.owner) h.owner = reading_int(&l->r, ST_LOOK_OWNER, 0, INTS(h.owner), 0);
    if (key)
        first = reading_int(&l->r, ST_KEY_HOLDER, 0, INTS(l->n.subscription, key), 0);
    pack_array(&l->out, 7);
    pack_int(&l->out, h.owner);
    pack_int(&l->out, h.deadline_ms);
    pack_int(&l->out, h.claimed_at_ms);
    id_pack(l, first == row ? 0 : first);
    pack_int(&l->out, l->paused_until_ms);
    pack_int(&l->out, l->wall_ms);
    pack_int(&l->out, clock_boot_ms());
}

int embq_get(embq_ref broker, long long channel, const char *id, size_t id_size,
             embq_bytes *out) {
    struct look l;
    int code = look_begin(&l, broker, channel, 1);
    if (code < 0) return code;
    int64_t row = row_find(&l, (struct slice){id, id_size}), key = 0;
    sqlite3_stmt *s = row ? rows_from(&l, row - 1, row, 1) : NULL;
    if (reading_step(&l.r, s)) {
        struct holder h = {sq.column_int64(s, COL_OWNER),
                           sq.column_int64(s, COL_DEADLINE), 0};
        int in_run = sq.column_type(s, COL_DUE) == SQLITE_NULL &&
                     state_of(&l, s, row) == EMBQ_IN_FLIGHT;
        if (l.ordered == ORDERED_BY_KEY) key = key_hash(column_slice(s, 4));
        row_pack(&l, s);
        sq.reset(s);
        if (in_run) h = run_holder(&l, row);
        facts_pack(&l, row, h, key);
        l.count++;
    }
    return look_end(&l, out);
}
