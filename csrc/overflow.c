/* The bounds of a queue: whether what is sent has room, and what makes way for it. It
 * is asked under the write lock, of counters that no other process can change
 * meanwhile, so the bounds are exact. What somebody holds never makes way. See store.h.
 */
#include "line.h"
#include "store.h"

/* What is stored, or what is to be: messages, and the bytes of their bodies. */
struct load {
    int64_t messages, bytes;
};

static int within(int64_t stored, int64_t more, int64_t most) {
    return !more || !most || (more <= most && stored <= most - more);
}

static struct load load_of(const struct channel *c) {
    return (struct load){c->sent - c->sub.removed,
                         c->sent_bytes - c->sub.removed_bytes};
}

static int fits(const struct channel *c, struct load stored, struct load more) {
    return within(stored.messages, more.messages, c->options.max_messages) &&
           within(stored.bytes, more.bytes, c->options.max_bytes);
}

static int refuse(const struct channel *c, struct load more) {
    struct load stored = load_of(c);
    return error_set(
        EMBQ_QUEUE_FULL,
        "queue %s: %lld messages of %lld bytes do not fit beside %lld of %lld bytes, "
        "of which %lld are in flight (max_messages %lld, max_bytes %lld; 0: any)",
        c->name, (long long)more.messages, (long long)more.bytes,
        (long long)stored.messages, (long long)stored.bytes,
        (long long)c->sub.in_flight, (long long)c->options.max_messages,
        (long long)c->options.max_bytes);
}

/* ---- the oldest that nobody holds ---- */

/* In each lane the next one, by id: 0 when there is none. */
struct oldest {
    int64_t next[EMBQ_LANES];
};

/* The first one of a lane behind `after` that nobody holds: 0 none, -1. */
static int64_t lane_next(struct engine *e, const struct channel *c, int lane,
                         int64_t after) {
    int64_t last = message_id(c->id, lane, c->next_sequence - 1);
    if (!(c->sub.lanes >> lane & 1)) return 0;
    int64_t id = 0, cursor = channel_cursor(c, lane);
    if (lane == EMBQ_LANE_DEFERRED)
        id = statement_int(e, ST_MESSAGE_FREE, c->shard, INTS(after, last, c->sub.id),
                           0);
    else if (c->sub.waiting && after < cursor)
        id = statement_int(e, ST_DELIVERY_FREE, 0, INTS(after, cursor, c->sub.id), 0);
    if (!id && lane != EMBQ_LANE_DEFERRED)
        id = statement_int(e, ST_MESSAGE_NEXT, c->shard,
                           INTS(after < cursor ? cursor : after, last), 0);
    if (e->storage_error) return -1;
    return !id || (id > after && id <= last) ? id : storage_corrupt(e);
}

static int oldest_begin(struct engine *e, const struct channel *c, struct oldest *o) {
    for (int lane = 0; lane < EMBQ_LANES; lane++)
        if ((o->next[lane] = lane_next(e, c, lane, message_id(c->id, lane, 0))) < 0)
            return -1;
    return 0;
}

/* The oldest of all lanes, and go on in its lane: 0 none, -1. */
static int64_t oldest_take(struct engine *e, const struct channel *c,
                           struct oldest *o) {
    int first = -1;
    for (int lane = 0; lane < EMBQ_LANES; lane++) {
        if (!o->next[lane]) continue;
        if (first < 0 ||
            message_sequence(o->next[lane]) < message_sequence(o->next[first]))
            first = lane;
    }
    if (first < 0) return 0;
    int64_t id = o->next[first];
    o->next[first] = lane_next(e, c, first, id);
    return o->next[first] < 0 ? -1 : id;
}

/* Whether it would fit if all went that nobody holds, before any of it goes: 1, 0, -1.
 */
static int can_fit(struct engine *e, const struct channel *c, struct load more) {
    struct oldest o;
    struct load left = load_of(c);
    if (!within(c->sub.in_flight, more.messages, c->options.max_messages)) return 0;
    if (!c->options.max_bytes) return 1;
    if (!within(0, more.bytes, c->options.max_bytes)) return 0;
    if (oldest_begin(e, c, &o) < 0) return -1;
    while (!within(left.bytes, more.bytes, c->options.max_bytes)) {
        int64_t id = oldest_take(e, c, &o);
        if (id <= 0) return (int)id;
        int64_t size = statement_int(e, ST_MESSAGE_SIZE, c->shard, INTS(id), -1);
        if (size < 0) return storage_corrupt(e);
        left.bytes -= size;
    }
    return 1;
}

static int give_way(struct engine *e, struct channel *c, int64_t id) {
    const struct slice none = {NULL, 0};
    struct delivery d = {.message = id};
    int found = delivery_read(e, c, id, &d);
    if (found == 0) found = timer_untaken(e, c, &d);
    if (found <= 0 || d.owner) return storage_corrupt(e);
    return c->options.overflow == OVERFLOW_DEAD_LETTER
               ? delivery_bury(e, c, &d, "overflow", none)
               : delivery_drop(e, c, &d);
}

static int make_way(struct engine *e, struct channel *c, struct load more) {
    struct oldest o;
    int can = can_fit(e, c, more);
    if (can <= 0) return can < 0 ? -1 : refuse(c, more);
    if (oldest_begin(e, c, &o) < 0) return -1;
    while (!fits(c, load_of(c), more)) {
        int64_t id = oldest_take(e, c, &o);
        if (id == 0) return storage_corrupt(e); /* then the counters are wrong */
        if (id < 0 || give_way(e, c, id) < 0) return -1;
    }
    return 0;
}

/* What was acked, what perished and whose lease ended, of which the counters or the
 * deliveries do not tell yet. */
static int catch_up(struct engine *e) {
    if (runs_flush(e) < 0 || leases_expire(e) < 0) return -1;
    return timers_expire(e) < 0 || runs_flush(e) < 0 ? -1 : 0;
}

/* What waits goes first, in the order of its calls, whatever its size; also when the
 * queue blocks no more, or has no bounds any more: then it goes on by what holds now.
 */
static int is_behind(struct engine *e, const struct op *send, const struct channel *c) {
    return c->no_room_at == e->looks || line_is_before(e, send);
}

/* It waits, unless it would for ever. */
static int wait_or_refuse(const struct engine *e, struct op *send, struct channel *c,
                          struct load more) {
    if (fits(c, (struct load){0}, more)) {
        send->no_room = 1;
        send->removed = c->sub.removed;
        c->no_room_at = e->looks;
    }
    return refuse(c, more);
}

int overflow_matters(struct engine *e, const struct op *send, const struct channel *c) {
    return options_are_bounded(&c->options) || is_behind(e, send, c);
}

int overflow_check(struct engine *e, struct op *send, struct channel *c, int64_t count,
                   int64_t bytes) {
    const struct load more = {count, bytes};
    if (!count) return 0; /* a duplicate of what is stored */
    if (is_behind(e, send, c)) return wait_or_refuse(e, send, c, more);
    if (fits(c, load_of(c), more)) return 0;
    if (catch_up(e) < 0) return -1;
    if (fits(c, load_of(c), more)) return 0;
    switch (c->options.overflow) {
    case OVERFLOW_BLOCK: return wait_or_refuse(e, send, c, more);
    case OVERFLOW_REJECT: return refuse(c, more);
    default: return make_way(e, c, more);
    }
}
