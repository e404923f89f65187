/* Looking at messages without receiving them. Nothing is written, so what a look says
 * is true of the last commit, and may be old when it is read. The states are those of
 * the view embq_messages.
 */
#include "look.h"

#define PAGE_BYTES ((size_t)1 << 20)

int look_begin(struct look *l, embq_ref broker, int64_t handle, int limit) {
    *l = (struct look){.channel = handle_channel(handle), .limit = limit};
    int code = reading_begin(&l->r, broker_of(broker));
    if (code < 0) return code;
    l->wall_ms = clock_wall_ms();
    if (!counts_read(&l->r, handle, &l->n))
        return (int)reading_end(&l->r, reading_gone(&l->r));
    pack_array(&l->out, 0);
    return 0;
}

int look_end(struct look *l, embq_bytes *out) {
    pack_array_count(&l->out, 0, (uint32_t)l->count);
    return (int)reading_answer(&l->r, l->count, &l->out, out);
}

int look_is_full(const struct look *l) {
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

void look_pack(struct look *l, sqlite3_stmt *s) {
    const struct slice no_receipt = {"", 0};
    int64_t row = sq.column_int64(s, 0);
    int state = state_of(l, s, row), has_delivery = sq.column_int64(s, COL_COUNT) > 0;
    int64_t receives = has_delivery ? sq.column_int64(s, COL_COUNT)
                                    : sq.column_type(s, COL_DUE) == SQLITE_NULL &&
                                          state == EMBQ_IN_FLIGHT;
    struct slice error = column_slice(s, COL_ERROR);
    if (message_channel(row) != l->channel) reading_corrupt(&l->r);
    pack_array(&l->out, 7);
    pack_int(&l->out, row);
    if (message_pack_row(l->r.e, s, row, receives, no_receipt, &l->out) < 0)
        reading_corrupt(&l->r);
    pack_int(&l->out, state);
    pack_int(&l->out,
             sq.column_int64(s, sq.column_type(s, COL_DUE) == SQLITE_NULL ? COL_SENT_DUE
                                                                          : COL_DUE));
    pack_int(&l->out, sq.column_int64(s, COL_KIND));
    pack_text(&l->out, error.data, error.size);
    pack_int(&l->out, message_is_damaged(s));
    l->count++;
}

sqlite3_stmt *look_rows(struct look *l, int64_t after, int64_t last, int64_t limit) {
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
    sqlite3_stmt *s = look_rows(&l, after > first ? after : first, end - 1, l.limit);
    int more = 0;
    while (!look_is_full(&l) && (more = reading_step(&l.r, s)) > 0) look_pack(&l, s);
    if (more > 0) sq.reset(s);
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
        int64_t first = sq.column_int64(s, 1);
        if (first <= 0 || first > row) continue; /* of damage; or behind it */
        int64_t place = row - first;
        const uint8_t *states = sq.column_blob(s, 2);
        if (place / 4 >= sq.column_bytes(s, 2)) continue;
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
    sqlite3_stmt *s = row ? look_rows(l, row - 1, row, 1) : NULL;
    if (!reading_step(&l->r, s)) {
        pack_nil(&l->out);
        return;
    }
    struct slice id = public_id_of(l->r.e, s, row, made);
    pack_text(&l->out, id.data, id.size);
    sq.reset(s);
}

/* Of a queue that is ordered, which message goes before this one, whose row is stepped:
 * the one that has its key, the first that is to take it, or the first of all. 0: none,
 * or none was met. */
static int64_t first_find(struct look *l, sqlite3_stmt *s, int64_t row) {
    struct slice key = column_slice(s, COL_KEY);
    int64_t from = look_cursor(l, EMBQ_LANE_DEFAULT);
    if (l->n.ordered == ORDERED_WHOLLY)
        return reading_int(&l->r, ST_MESSAGE_NEXT, (int)l->n.shard,
                           INTS(message_id(l->channel, EMBQ_LANE_DEFAULT, 0), row - 1),
                           0);
    if (l->n.ordered != ORDERED_BY_KEY || !key.data) return 0;
    int64_t first =
        reading_int(&l->r, ST_KEY_HOLDER, 0, INTS(l->n.subscription, key_hash(key)), 0);
    if (first || row <= from) return first == row ? 0 : first;
    sqlite3_stmt *before = reading_ints(&l->r, ST_KEY_BEFORE, (int)l->n.shard,
                                        INTS(from, row - 1, LOOK_ROWS));
    if (before) bind_slice(before, 4, key);
    if (!reading_step(&l->r, before)) return 0;
    first = sq.column_int64(before, 0);
    sq.reset(before);
    return first;
}

/* Those that go before one that is ready, nil when it is not, or waits for another. */
static void ahead_pack(struct look *l, int64_t row, int state, int64_t first) {
    int more = 0, waits = first && l->n.ordered == ORDERED_BY_KEY;
    if (state != EMBQ_READY || waits) pack_nil(&l->out);
    else pack_int(&l->out, look_ahead(l, row, &more));
    pack_int(&l->out, more);
}

static void facts_pack(struct look *l, int64_t row, sqlite3_stmt *s) {
    int state = state_of(l, s, row);
    int in_run = state == EMBQ_IN_FLIGHT && sq.column_type(s, COL_DUE) == SQLITE_NULL;
    struct holder h = {sq.column_int64(s, COL_OWNER), sq.column_int64(s, COL_DEADLINE),
                       0};
    int64_t first = first_find(l, s, row);
    sq.reset(s);
    if (in_run) h = run_holder(l, row);
    if (h.owner) h.owner = reading_int(&l->r, ST_LOOK_OWNER, 0, INTS(h.owner), 0);
    pack_array(&l->out, 9);
    pack_int(&l->out, h.owner);
    pack_int(&l->out, h.deadline_ms);
    pack_int(&l->out, h.claimed_at_ms);
    id_pack(l, first);
    ahead_pack(l, row, state, first);
    pack_int(&l->out, l->n.paused_until_ms);
    pack_int(&l->out, l->wall_ms);
    pack_int(&l->out, clock_boot_ms());
}

static int one_look(embq_ref broker, int64_t channel, struct slice id, int with_facts,
                    embq_bytes *out) {
    struct look l;
    int code = look_begin(&l, broker, channel, 1);
    if (code < 0) return code;
    int64_t row = row_find(&l, id);
    sqlite3_stmt *s = row ? look_rows(&l, row - 1, row, 1) : NULL;
    if (reading_step(&l.r, s)) {
        look_pack(&l, s);
        if (with_facts) facts_pack(&l, row, s);
        else sq.reset(s);
        l.count += with_facts;
    }
    return look_end(&l, out);
}

int embq_get(embq_ref broker, long long channel, const char *id, size_t id_size,
             embq_bytes *out) {
    return one_look(broker, channel, (struct slice){id, id_size}, 0, out);
}

int embq_explain(embq_ref broker, long long channel, const char *id, size_t id_size,
                 embq_bytes *out) {
    return one_look(broker, channel, (struct slice){id, id_size}, 1, out);
}
