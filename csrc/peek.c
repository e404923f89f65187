/* What would come next: the messages that a claim hands out, in the order in which it
 * does (claim.c), found without claiming. Higher priorities go first; in each, what
 * waited goes by (due, row), suspects too, then what waited behind another of its key
 * and does not any more, then what is new. What the next claim removes, as its time is
 * over, is passed over; in an ordered queue what stands behind it is not looked for.
 */
#include "look.h"

struct walk {
    struct look *l;
    int64_t sought; /* the row to stop at; 0: all are packed */
    int64_t most, count;
    int over;  /* nothing is to be looked for any more */
    int found; /* the one that is sought */
    int keys;  /* whose first one was met */
    int64_t seen[EMBQ_RUN_IDS];
};

static int walk_is_over(const struct walk *w) {
    return w->l->r.result || w->over || w->found || w->count >= w->most ||
           (!w->sought && look_is_full(w->l));
}

static int has_perished(const struct walk *w, sqlite3_stmt *s) {
    return sq.column_type(s, COL_EXPIRES) != SQLITE_NULL &&
           sq.column_int64(s, COL_EXPIRES) <= w->l->wall_ms;
}

static void meet(struct walk *w, sqlite3_stmt *s) {
    if (w->sought && sq.column_int64(s, 0) == w->sought) {
        w->found = 1;
    } else if (has_perished(w, s)) {
        w->over = w->l->n.ordered == ORDERED_WHOLLY;
    } else {
        if (!w->sought) look_pack(w->l, s);
        w->count++;
    }
}

/* Those that the search names. */
static void waiters_walk(struct walk *w, sqlite3_stmt *waiters) {
    int more = 0;
    while (!walk_is_over(w) && (more = reading_step(&w->l->r, waiters)) > 0) {
        int64_t row = sq.column_int64(waiters, 0);
        sqlite3_stmt *s = look_rows(w->l, row - 1, row, 1);
        if (!reading_step(&w->l->r, s)) continue;
        meet(w, s);
        sq.reset(s);
    }
    if (more > 0) sq.reset(waiters);
}

/* Whether another of its key goes first. */
static int is_behind(struct walk *w, sqlite3_stmt *s) {
    struct look *l = w->l;
    int64_t key =
        l->n.ordered == ORDERED_BY_KEY ? key_hash(column_slice(s, COL_KEY)) : 0;
    if (!key) return 0;
    for (int i = 0; i < w->keys; i++)
        if (w->seen[i] == key) return 1;
    if (reading_int(&l->r, ST_KEY_HOLDER, 0, INTS(l->n.subscription, key), 0)) return 1;
    if (w->keys == EMBQ_RUN_IDS) return w->over = 1;
    w->seen[w->keys++] = key;
    return 0;
}

/* Those that nobody has had. */
static void new_walk(struct walk *w, int lane) {
    struct look *l = w->l;
    int64_t last = message_id(l->channel, lane, EMBQ_SEQUENCE_MAX - 1), looked = 0;
    int more = 0;
    sqlite3_stmt *s = look_rows(l, look_cursor(l, lane), last, LOOK_ROWS);
    while (!walk_is_over(w) && (more = reading_step(&l->r, s)) > 0) {
        looked++;
        if (!is_behind(w, s)) meet(w, s);
    }
    if (more > 0) sq.reset(s);
    w->over |= looked == LOOK_ROWS;
}

static void lane_walk(struct walk *w, int lane) {
    struct look *l = w->l;
    int64_t id = l->n.subscription, every = -1;
    if (l->n.waiting || l->n.lanes & LANES_DEFERRED)
        waiters_walk(
            w, reading_ints(&l->r, ST_LOOK_WAITING, 0, INTS(id, lane, l->wall_ms)));
    if (l->n.ordered == ORDERED_WHOLLY && l->n.waiting) return; /* that is all */
    if (l->n.ordered == ORDERED_BY_KEY && l->n.waiting)
        waiters_walk(w, reading_ints(&l->r, ST_DELIVERY_RETRIES, 0,
                                     INTS(id, lane, DELIVERY_NEW, l->wall_ms, every)));
    new_walk(w, lane);
}

static void lanes_walk(struct walk *w) {
    for (int priority = EMBQ_PRIORITY_MAX; priority >= 0; priority--) {
        int lane = lane_of_priority(priority);
        if (w->l->n.lanes >> lane & 1 && !walk_is_over(w)) lane_walk(w, lane);
    }
}

int embq_peek(embq_ref broker, long long channel, int limit, embq_bytes *out) {
    struct look l;
    int code =
        look_begin(&l, broker, channel, limit < EMBQ_RUN_IDS ? limit : EMBQ_RUN_IDS);
    if (code < 0) return code;
    struct walk w = {.l = &l, .most = l.limit};
    if (l.n.ordered == ORDERED_WHOLLY) w.most = l.n.in_flight ? 0 : 1;
    if (l.wall_ms >= l.n.paused_until_ms) lanes_walk(&w);
    return look_end(&l, out);
}

int64_t look_ahead(struct look *l, int64_t row, int *more) {
    struct walk w = {.l = l, .sought = row, .most = LOOK_AHEAD + 1};
    if (l->n.ordered == ORDERED_WHOLLY) { /* all that were sent before it */
        int64_t from = message_id(l->channel, EMBQ_LANE_DEFAULT, 0);
        w.count = reading_int(&l->r, ST_MESSAGE_COUNT, (int)l->n.shard,
                              INTS(from, row - 1, w.most), 0);
        w.found = 1;
    } else {
        lanes_walk(&w);
    }
    *more = !w.found || w.count > LOOK_AHEAD;
    return w.count > LOOK_AHEAD ? LOOK_AHEAD : w.count;
}
