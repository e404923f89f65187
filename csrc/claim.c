/* Claiming: which messages a consumer gets next. See store.h and "The order of
 * hand-outs" in ARCHITECTURE.md: higher priorities go first, and among equals what
 * waited goes before what is new, but at least one hand-out in eight is new; a suspect
 * goes alone, and only one of them is in flight in a process; what has its last try
 * goes alone as well.
 */
#include "claim.h"

#define FAR_MS ((int64_t)3600 * 1000)
#define DAMAGED_LEAST_MS 1000 /* until a damaged one is looked at again */

/* ---- what waited: rows of embq_delivery, and what was sent with a delay ---- */

static int waiter_read(struct claim *k, const struct waiter *w, struct delivery *d) {
    if (w->deferred) {
        if (!channel_has_given_out(k->c, w->message)) return storage_corrupt(k->e);
        *d = (struct delivery){.message = w->message, .lane = k->lane};
        return timer_take(k->e, k->c, w->due_ms, d);
    }
    int found = delivery_read(k->e, k->c, w->message, d);
    return found <= 0 || d->owner ? storage_corrupt(k->e) : 0; /* another has it */
}

int damaged_refuse(struct claim *k, sqlite3_stmt *row, struct delivery *d) {
    static const char why[] = "its body is not what was sent";
    char made[PUBLIC_ID_SIZE + 1];
    struct channel *c = k->c;
    damage_note(k->e, c, public_id_of(k->e, row, d->message, made));
    sq.reset(row);
    k->damaged++;
    count_received(k, d->receive_count);
    return delivery_refuse(k->e, c, d, DAMAGED_LEAST_MS, "damaged",
                           (struct slice){why, sizeof why - 1});
}

int waiter_take(struct claim *k, const struct waiter *w) {
    struct engine *e = k->e;
    struct delivery d;
    if (waiter_read(k, w, &d) < 0) return -1;
    sqlite3_stmt *row =
        statement_ints(e, ST_MESSAGE_READ, k->c->shard, INTS(w->message));
    if (statement_step(e, row) <= 0) return storage_corrupt(e);
    d.receive_count++;
    if (!d.first_at_ms) d.first_at_ms = k->wall_ms;
    if (message_is_damaged(row)) return damaged_refuse(k, row, &d);
    d.token = token_new();
    d.deadline_ms = k->deadline_ms;
    const struct delivered given = {0, d.token, w->message, d.receive_count};
    message_pack(e, row, &given, k->op);
    sq.reset(row);
    count_delivered(k, d.receive_count);
    if (k->op->flags & EMBQ_CLAIM_AUTO_ACK) {
        k->c->sub.acked++;
        return delivery_remove(e, k->c, &d);
    }
    if (d.kind == DELIVERY_SUSPECT)
        e->suspect =
            (struct suspect){w->message, d.token, d.deadline_ms, k->c->generation};
    return delivery_store(e, k->c, &d, e->slot);
}

int64_t waiters_find(struct claim *k, enum delivery_kind kind, int64_t limit,
                     struct waiter *found) {
    sqlite3_stmt *s =
        statement_ints(k->e, ST_DELIVERY_RETRIES, 0,
                       INTS(k->c->sub.id, k->lane, kind, k->wall_ms, limit));
    int64_t count = 0;
    int more;
    while ((more = statement_step(k->e, s)) > 0)
        found[count++] = (struct waiter){
            .message = sq.column_int64(s, 0),
            .due_ms = sq.column_int64(s, 1),
            .deferred = (int)sq.column_int64(s, 2),
            .receive_count = sq.column_int64(s, 3),
        };
    return more < 0 ? -1 : count;
}

static int suspect_in_flight(const struct claim *k) {
    const struct suspect *s = &k->e->suspect;
    if (!s->token || k->now_ms >= s->deadline_ms) return 0;
    struct channel *c = channel_get(k->e, message_channel(s->message));
    return c && channel_is(c, handle_of(c->id, s->generation));
}

/* Give the next one to new messages when retries had their turns and there is a new
 * one. */
static int turn_of_new(const struct claim *k, int64_t available) {
    return available > 0 && k->c->retries_in_row >= EMBQ_RETRIES_IN_A_ROW;
}

static int waits_before(const struct waiter *a, const struct waiter *b) {
    return a->due_ms < b->due_ms || (a->due_ms == b->due_ms && a->message < b->message);
}

/* Whether a death would bury it, whoever died of what. */
static int has_last_try(const struct claim *k, const struct waiter *w) {
    return k->c->options.dead_letter &&
           w->receive_count >= k->c->options.max_receives - 1;
}

/* How many go before the first that has its last try. */
static int64_t waiters_together(const struct claim *k, const struct waiter *w,
                                int64_t count) {
    int64_t n = 0;
    while (n < count && !has_last_try(k, &w[n])) n++;
    return n;
}

static int waiter_take_alone(struct claim *k, const struct waiter *w) {
    k->c->retries_in_row++;
    k->alone = 1;
    return waiter_take(k, w);
}

/* What waited in this lane, by the rules above. Returns how many new messages may
 * follow, or -1. */
static int64_t waiters_claim(struct claim *k) {
    struct waiter plain[EMBQ_RUN_IDS], suspect;
    int64_t limit = k->limit - k->count;
    if (!k->c->sub.waiting && !(k->c->sub.lanes & LANES_DEFERRED)) return limit;
    int64_t retries = waiters_find(k, DELIVERY_AGAIN, limit, plain);
    int64_t suspects =
        suspect_in_flight(k) ? 0 : waiters_find(k, DELIVERY_SUSPECT, 1, &suspect);
    int64_t fresh = k->c->options.ordered == ORDERED_WHOLLY ? 0 : fresh_count(k, limit);
    if (retries < 0 || suspects < 0 || k->e->storage_error) return -1;
    int64_t together = waiters_together(k, plain, retries);
    if (!k->count && !(k->op->flags & CLAIM_NO_SUSPECT) && !turn_of_new(k, fresh)) {
        if (suspects && (!retries || waits_before(&suspect, plain)))
            return waiter_take_alone(k, &suspect);
        if (retries && !together) return waiter_take_alone(k, plain);
    }
    if (!k->count) k->op->suspect_due |= suspects > 0 || together < retries;
    retries = together;
    int64_t taken = 0, left = 0;
    while (taken + left < limit && (taken < retries || left < fresh)) {
        if (taken < retries && !turn_of_new(k, fresh - left)) {
            taken++;
            k->c->retries_in_row++;
        } else {
            left++;
            k->c->retries_in_row = 0;
        }
    }
    for (int64_t i = 0; i < taken && !claim_is_full(k); i++)
        if (waiter_take(k, &plain[i]) < 0) return -1;
    return left;
}

/* ---- nothing there: when to look again ---- */

static int64_t min_wait(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Then all that the counters count must be held, or wait for a time to come: a damaged
 * file must not pass for an empty one. `due`: the first one to come. */
static int emptiness_check(struct claim *k, int64_t due) {
    const struct subscription *u = &k->c->sub;
    int none_waits = due == INT64_MAX && !k->op->suspect_due && !suspect_in_flight(k);
    int none_is_held = k->e->next_deadline_ms == INT64_MAX;
    if (k->c->options.ordered && u->in_flight) none_waits = 0; /* behind those */
    int wholly_ordered = k->c->options.ordered == ORDERED_WHOLLY;
    int64_t deferred = k->c->sent - u->removed - u->in_flight - u->waiting;
    if (wholly_ordered && (u->in_flight || u->waiting)) deferred = 0; /* as well */
    if ((deferred && !(u->lanes & LANES_DEFERRED)) || deferred < 0 ||
        ((u->waiting || deferred) && none_waits) || (u->in_flight && none_is_held))
        return storage_corrupt(k->e);
    return 0;
}

/* Of the lane: when something that waits there is due, INT64_MAX for never. */
static int64_t lane_due_ms(struct claim *k, int lane) {
    int64_t due = INT64_MAX, id = k->c->sub.id;
    if (k->c->sub.waiting)
        due = statement_int(k->e, ST_DELIVERY_NEXT_DUE, 0,
                            INTS(id, lane, 0, k->wall_ms), INT64_MAX);
    if (k->c->sub.lanes & LANES_DEFERRED)
        due = min_wait(due,
                       statement_int(k->e, ST_DUE_NEXT, 0, INTS(id, lane), INT64_MAX));
    return due;
}

/* How long, or -1. */
static int64_t next_due_ms(struct claim *k) {
    int64_t next = FAR_MS, due = INT64_MAX;
    if (k->e->next_deadline_ms != INT64_MAX)
        next = k->e->next_deadline_ms - k->now_ms; /* of any queue: it may be ours */
    for (int lane = 0; lane < EMBQ_LANES; lane++)
        if (k->c->sub.lanes >> lane & 1) due = min_wait(due, lane_due_ms(k, lane));
    if (due != INT64_MAX) next = min_wait(next, due - k->wall_ms);
    if (k->e->next_expiry_ms != INT64_MAX) /* it may become a dead letter here */
        next = min_wait(next, k->e->next_expiry_ms - k->wall_ms);
    if (k->c->sub.waiting && suspect_in_flight(k))
        next = min_wait(next, k->e->suspect.deadline_ms - k->now_ms);
    if (emptiness_check(k, due) < 0) return -1;
    return next < 0 ? 0 : min_wait(next, FAR_MS);
}

/* One after another: what is in flight, or waits to be tried again, is all there is. */
static int wholly_ordered_claim(struct claim *k) {
    k->lane = EMBQ_LANE_DEFAULT;
    k->limit = 1;
    if (k->c->sub.in_flight) return 0;
    if (k->c->sub.waiting) return waiters_claim(k) < 0 ? -1 : 0;
    return fresh_claim(k, 1);
}

/* What waited, then what is new. */
static int lane_claim(struct claim *k) {
    int64_t fresh = waiters_claim(k);
    if (fresh < 0) return -1;
    if (claim_is_full(k)) return 0;
    if (fresh_claim(k, fresh) < 0) return -1;
    /* All that is new may have had to wait behind others of its keys. */
    int again = k->c->options.ordered && fresh && !claim_is_full(k);
    return again && waiters_claim(k) < 0 ? -1 : 0;
}

/* Higher priorities first. */
static int lanes_claim(struct claim *k) {
    if (k->c->options.ordered == ORDERED_WHOLLY) return wholly_ordered_claim(k);
    for (int priority = EMBQ_PRIORITY_MAX; priority >= 0; priority--) {
        k->lane = lane_of_priority(priority);
        if (!(k->c->sub.lanes >> k->lane & 1) || claim_is_full(k)) continue;
        if (lane_claim(k) < 0) return -1;
    }
    return 0;
}

/* Nothing, for so long. */
static int64_t claim_nothing(struct claim *k, int64_t wait_ms) {
    pack_array_count(&k->op->out, 0, 0);
    ATOMIC_STORE(&k->op->next_due_us,
                 clock_real_us() + min_wait(wait_ms, FAR_MS) * 1000);
    return 0;
}

/* Whether one death buries all that is in hand: then that is one message, for
 * `messages()` too (test_poison.py). */
static int must_be_alone(const struct claim *k) {
    return k->c->options.max_receives == 1 && k->c->options.dead_letter;
}

int64_t claim_run(struct engine *e, struct op *op) {
    struct claim k = {.e = e, .op = op, .limit = op->limit};
    op->out.size = op->receipts.size = 0;
    op->suspect_due = op->again = 0;
    if (leases_expire(e) < 0) return -1;
    int64_t code;
    if (!(k.c = channel_of_op(e, op, &code))) return code;
    int more = timers_expire(e);
    if (more < 0) return -1;
    pack_array(&op->out, 0);
    if (more && k.c->sub.lanes & LANES_EXPIRY) {
        op->again = 1; /* what is to perish must not be handed out */
        return 0;
    }
    if (k.limit > EMBQ_RUN_IDS) k.limit = EMBQ_RUN_IDS;
    int alone = must_be_alone(&k);
    if (alone) k.limit = 1;
    k.now_ms = clock_boot_ms();
    k.wall_ms = clock_wall_ms();
    k.deadline_ms = k.now_ms + k.c->options.visibility_timeout_ms;
    op->taken_deadline_ms = k.deadline_ms;
    if (k.wall_ms < k.c->paused_until_ms)
        return claim_nothing(&k, k.c->paused_until_ms - k.wall_ms);
    if (alone && op->flags & CLAIM_NO_SUSPECT) return claim_nothing(&k, FAR_MS);
    if (lanes_claim(&k) < 0) return -1;
    if (op->out.failed || op->receipts.failed) {
        e->storage_error = SQLITE_NOMEM;
        return -1;
    }
    pack_array_count(&op->out, 0, (uint32_t)k.count);
    if (!k.count && k.damaged) op->again = 1; /* others may stand behind those */
    if (!k.count && !op->again)
        ATOMIC_STORE(&op->next_due_us, clock_real_us() + next_due_ms(&k) * 1000);
    if (alone) op->suspect_due = 1; /* so that nothing is asked for ahead */
    return e->storage_error ? -1 : k.count;
}
