/* Settling: ack, nack, reject, extend, give back, refuse, each by receipt. See store.h.
 *
 * A receipt is {run, token, message}. It is good while the message is held under that
 * token, and after the lease ended by time or death as long as nobody claimed the
 * message again (as SQS allows; a queue that refused would only make the work be done
 * twice).
 */
#include "store.h"

#include <math.h>
#include <string.h>

struct receipt {
    int64_t run, token, message;
};

_Static_assert(sizeof(struct receipt) == EMBQ_RECEIPT_SIZE, "a receipt's size");

/* 1 found, 0 when the lease is another's or over, -1. */
static int receipt_find(struct engine *e, struct channel *c, const struct receipt *r,
                        struct delivery *d) {
    struct run *run = r->run ? run_get(e, r->run) : NULL;
    if (e->storage_error) return -1;
    if (run && run->channel == c &&
        token_of_member(run->token, r->message) == r->token &&
        run_member(run, r->message) == MEMBER_HELD) {
        return delivery_of_run(e, run, r->message, d) < 0 ? -1 : 1;
    }
    int found = delivery_read(e, c, r->message, d);
    return found > 0 ? r->token != 0 && d->token == r->token : found;
}

/* The queue's retry policy: exponential, capped; jitter takes up to half of it away, so
 * that what failed together does not come back together. */
static int64_t retry_delay_ms(const struct options *o, int64_t receive_count) {
    double delay =
        (double)o->retry_first_ms *
        pow(o->retry_factor, (double)(receive_count > 0 ? receive_count - 1 : 0));
    if (!(delay < (double)o->retry_cap_ms)) delay = (double)o->retry_cap_ms;
    if (o->retry_jitter)
        delay *= 0.5 + 0.5 * (double)(random_u64() >> 11) / 9007199254740992.0;
    return (int64_t)delay;
}

static int nack(struct engine *e, struct channel *c, struct delivery *d,
                int64_t delay_ms, struct slice error) {
    c->sub.nacked++;
    if (delivery_is_last(c, d)) return delivery_bury(e, c, d, "max_receives", error);
    if (delay_ms < 0) delay_ms = retry_delay_ms(&c->options, d->receive_count);
    d->due_at_ms = clock_wall_ms() + delay_ms;
    d->kind = DELIVERY_AGAIN; /* its handler lived to tell */
    d->token = 0;
    d->error = error;
    return delivery_store(e, c, d, 0);
}

static int reject(struct engine *e, struct channel *c, struct delivery *d,
                  struct slice reason) {
    c->sub.rejected++;
    if (c->options.dead_letter) return delivery_bury(e, c, d, "rejected", reason);
    return delivery_remove(e, c, d);
}

/* Another may read it, or mend it: it is never removed. So it becomes a dead letter
 * where there are any now, whatever the receiver knew of that, and waits elsewhere, as
 * it would be met again at once. */
int delivery_refuse(struct engine *e, struct channel *c, struct delivery *d,
                    int64_t least_ms, const char *reason, struct slice why) {
    if (!c->options.dead_letter) {
        int64_t delay_ms = retry_delay_ms(&c->options, d->receive_count);
        return nack(e, c, d, delay_ms > least_ms ? delay_ms : least_ms, why);
    }
    c->sub.rejected++;
    return delivery_bury(e, c, d, reason, why);
}

static int extend(struct engine *e, struct channel *c, struct delivery *d,
                  int64_t hold_ms) {
    d->deadline_ms = clock_boot_ms() + hold_ms;
    if (!d->owner) d->kind = DELIVERY_AGAIN; /* it was late, but lives */
    if (e->suspect.token == d->token) e->suspect.deadline_ms = d->deadline_ms;
    return delivery_store(e, c, d, d->owner ? d->owner : e->slot);
}

/* It was prefetched and nobody saw it: as if it had not been claimed. At the tail of
 * what was handed out the cursor just goes back; elsewhere it waits, before all others.
 */
static int give_back(struct engine *e, struct channel *c, struct delivery *d) {
    if (d->run && c->sub.cursor[d->lane] == d->message) {
        run_set(d->run, d->message, MEMBER_LEFT);
        c->sub.in_flight--;
        c->sub.cursor[d->lane] = d->message - 1;
        c->sub.delivered--;
        c->dirty = 1;
        channel_offer(e, c);
        if (d->key && key_release(e, c, d->key) < 0) return -1;
        return timer_rearm(e, c, d->message);
    }
    c->sub.delivered--;
    c->sub.redelivered -= d->receive_count > 1;
    d->receive_count--;
    d->due_at_ms = 0;
    d->token = 0;
    return delivery_store(e, c, d, 0);
}

static int settle_one(struct engine *e, const struct op *op, struct channel *c,
                      struct delivery *d) {
    struct slice note = {op->extra_size ? op->bytes + op->size : NULL, op->extra_size};
    if (e->suspect.token && e->suspect.token == d->token && op->verb != EMBQ_EXTEND) {
        e->suspect.token = 0;
        e->wake_bits = UINT32_MAX; /* the next suspect may go, of whatever queue */
    }
    switch (op->verb) {
    case EMBQ_ACK: c->sub.acked++; return delivery_remove(e, c, d);
    case EMBQ_NACK: return nack(e, c, d, op->delay_ms, note);
    case EMBQ_REJECT: return reject(e, c, d, note);
    case EMBQ_REFUSE: return delivery_refuse(e, c, d, op->delay_ms, "schema", note);
    case EMBQ_EXTEND: return extend(e, c, d, op->delay_ms);
    default: return give_back(e, c, d);
    }
}

int64_t settle_run(struct engine *e, struct op *op) {
    int64_t settled = 0, none;
    struct channel *c = channel_of_op(e, op, &none);
    int code = EMBQ_LEASE_LOST;
    if (!c) return none;
    /* From the last to the first, so that a run given back rewinds the cursor all the
     * way. */
    for (int i = op->count - 1; i >= 0; i--) {
        struct receipt r;
        struct delivery d;
        memcpy(&r, op->bytes + (size_t)i * sizeof r, sizeof r);
        if (message_channel(r.message) != c->id) {
            code = EMBQ_INVALID_RECEIPT;
            continue;
        }
        int found = receipt_find(e, c, &r, &d);
        if (found < 0 || (found && settle_one(e, op, c, &d) < 0)) return -1;
        settled += found;
    }
    if (settled && op->verb == EMBQ_REFUSE && !c->options.dead_letter) return 0;
    if (settled || !op->count) return settled;
    if (code == EMBQ_INVALID_RECEIPT)
        return error_set(code, "queue %s: a receipt of no message of this queue",
                         c->name);
    return error_set(
        code, "queue %s: the message is settled, or its lease is another's", c->name);
}
