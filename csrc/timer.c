/* What the wall clock does to messages. embq_due has those that were sent with a delay,
 * until they are handed out first; embq_expiry those that perish at a time. A message
 * that does neither has no row, and a channel without such messages pays nothing: its
 * `lanes` say what it has.
 *
 * A claim, of any channel, first lets perish what is to, as it ends leases: no janitor
 * is needed. A message in flight does not perish. Its row in embq_expiry is met once
 * and goes; when the lease ends otherwise than by an ack it is written again.
 */
#include "store.h"

/* Delete one row: in a damaged file it may be found, and not be there. */
static int row_delete(struct engine *e, enum statement which, int count,
                      const int64_t *values) {
    int gone = (int)statement_int(e, which, 0, count, values, 0);
    return e->storage_error || !gone ? storage_corrupt(e) : 0;
}

int timer_defer(struct engine *e, struct channel *c, int lane, int64_t at_ms,
                int64_t message) {
    channel_use(c, LANES_DEFERRED | (int64_t)1 << lane);
    return statement_do(e, ST_DUE_INSERT, 0, INTS(c->sub.id, lane, at_ms, message));
}

int timer_take(struct engine *e, struct channel *c, int64_t at_ms, struct delivery *d) {
    return row_delete(e, ST_DUE_DELETE, INTS(c->sub.id, d->lane, at_ms, d->message));
}

/* ---- expiry ---- */

int timer_expire_at(struct engine *e, struct channel *c, int64_t at_ms,
                    int64_t message) {
    channel_use(c, LANES_EXPIRY);
    if (at_ms < e->next_expiry_ms) e->next_expiry_ms = at_ms;
    return statement_do(e, ST_EXPIRY_INSERT, 0, INTS(at_ms, message));
}

/* When a message is due and perishes, 0 for never, and the lane of its priority. */
struct times {
    int64_t due_ms, expires_ms;
    int lane;
};

static int times_read(struct engine *e, struct channel *c, int64_t message,
                      struct times *t) {
    sqlite3_stmt *s = statement_ints(e, ST_MESSAGE_TIMES, c->shard, INTS(message));
    if (statement_step(e, s) <= 0) return storage_corrupt(e);
    t->due_ms = sq.column_int64(s, 0);
    t->expires_ms = sq.column_int64(s, 1);
    t->lane = lane_of_priority(sq.column_int64(s, 2) & MESSAGE_PRIORITY);
    sq.reset(s);
    return 0;
}

int timer_rearm(struct engine *e, struct channel *c, int64_t message) {
    struct times t;
    if (!(c->sub.lanes & LANES_EXPIRY)) return 0;
    if (times_read(e, c, message, &t) < 0) return -1;
    return t.expires_ms ? timer_expire_at(e, c, t.expires_ms, message) : 0;
}

/* By the queue's choice a dead letter, or nothing. */
static int perish(struct engine *e, struct channel *c, struct delivery *d) {
    const struct slice none = {NULL, 0};
    if (c->options.dead_letter && !c->options.expiry_drops)
        return delivery_bury(e, c, d, "ttl", none);
    return delivery_drop(e, c, d);
}

int timer_untaken(struct engine *e, struct channel *c, struct delivery *d) {
    struct times t;
    int lane = message_lane(d->message);
    if (lane != EMBQ_LANE_DEFERRED && d->message <= c->sub.cursor[lane]) return 0;
    if (times_read(e, c, d->message, &t) < 0) return -1;
    d->lane = t.lane;
    if (lane == EMBQ_LANE_DEFERRED) return timer_take(e, c, t.due_ms, d) < 0 ? -1 : 1;
    return 1;
}

/* Its time is over: unless it is in flight, it perishes. */
static int expire(struct engine *e, int64_t message, int64_t at_ms) {
    struct channel *c = channel_get(e, message_channel(message));
    struct delivery d = {.message = message};
    if (!c || !channel_has_given_out(c, message)) return storage_corrupt(e);
    if (row_delete(e, ST_EXPIRY_DELETE, INTS(at_ms, message)) < 0) return -1;
    int found = delivery_read(e, c, message, &d);
    int held = found > 0 && d.owner;
    if (found == 0) {
        found = timer_untaken(e, c, &d);
        held = found == 0;
    }
    if (found < 0) return -1;
    return held ? 0 : perish(e, c, &d);
}

/* Messages whose time is over, earliest first; how many, or -1. */
static int passed_find(struct engine *e, int64_t now_ms, int64_t *messages,
                       int64_t *times) {
    int count = 0, more;
    sqlite3_stmt *s =
        statement_ints(e, ST_EXPIRY_PASSED, 0, INTS(now_ms, EMBQ_EXPIRE_STEP));
    while ((more = statement_step(e, s)) > 0) {
        messages[count] = sq.column_int64(s, 0);
        times[count++] = sq.column_int64(s, 1);
    }
    return more < 0 ? -1 : count;
}

/* When the next one perishes. */
static int64_t expiry_look(struct engine *e) {
    e->next_expiry_ms = statement_int(e, ST_EXPIRY_NEXT, 0, 0, NULL, INT64_MAX);
    e->next_expiry_epoch = e->epoch;
    return e->next_expiry_ms;
}

int timers_expire(struct engine *e) {
    int64_t messages[EMBQ_EXPIRE_STEP], times[EMBQ_EXPIRE_STEP], now = clock_wall_ms();
    if (e->next_expiry_epoch == e->epoch && now < e->next_expiry_ms) return 0;
    if (e->perished_in == e->transaction) return 1; /* one step for the whole group */
    if (now < expiry_look(e)) return e->storage_error ? -1 : 0;
    int count = passed_find(e, now, messages, times);
    if (!count) storage_corrupt(e); /* looked for otherwise it is there: endless */
    for (int i = 0; i < count; i++)
        if (expire(e, messages[i], times[i]) < 0) return -1;
    e->perished_in = e->transaction;
    int more = now >= expiry_look(e);
    return e->storage_error ? -1 : more;
}
