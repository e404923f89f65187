/* One claim under way, for claim.c and fresh.c. */
#ifndef EMBQ_CLAIM_H
#define EMBQ_CLAIM_H

#include "store.h"

struct claim {
    struct engine *e;
    struct channel *c;
    struct op *op;
    int lane;  /* where it looks now */
    int alone; /* a suspect or a last try was taken: nothing goes with it */
    int64_t limit, count;
    int64_t damaged; /* were found, and are dealt with */
    int64_t now_ms, wall_ms, deadline_ms;
};

static inline int claim_is_full(const struct claim *k) {
    return k->alone || k->count >= k->limit || k->op->out.size > EMBQ_BATCH_BYTES;
}

/* A damaged one counts as received and refused, though it is in nobody's hand. */
static inline void count_received(struct claim *k, int64_t receive_count) {
    k->c->sub.delivered++;
    k->c->sub.redelivered += receive_count > 1;
    k->c->dirty = 1;
}

static inline void count_delivered(struct claim *k, int64_t receive_count) {
    k->count++;
    count_received(k, receive_count);
}

/* ---- claim.c ---- */

/* A message that waits to be handed out. */
struct waiter {
    int64_t message, due_ms, receive_count;
    int deferred; /* it was sent with a delay, and has no delivery yet */
};

/* Those in the lane that are due, earliest first; how many, or -1. */
int64_t waiters_find(struct claim *k, enum delivery_kind kind, int64_t limit,
                     struct waiter *found);
int waiter_take(struct claim *k, const struct waiter *w);
/* Settle one whose body is damaged, of a stepped row, which is reset. */
int damaged_refuse(struct claim *k, sqlite3_stmt *row, struct delivery *d);

/* ---- fresh.c: what was never handed out ---- */

/* How many there are in the lane, counting to `most`; some may have to wait behind
 * others of their keys. */
int64_t fresh_count(struct claim *k, int64_t most);
int fresh_claim(struct claim *k, int64_t most);

#endif
