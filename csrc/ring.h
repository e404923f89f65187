/* The ring of waiting calls: what goes on it, who takes from it, how a call ends. */
#ifndef EMBQ_RING_H
#define EMBQ_RING_H

#include "op.h"

struct broker;
struct engine;

#define HANDLERS_US 1000000 /* a signal just before a sleep is noticed after it */

/* ---- ring.c ---- */

void ring_init(struct engine *e);
/* The first half of ring_call: 0, or EMBQ_BUSY when there was no room in time. */
int ring_submit(struct engine *e, struct op *op);
/* Put a staged operation on the ring; 0 or EMBQ_FULL. Never blocks. */
int ring_stage(struct engine *e, struct op *op);
/* Nobody waits for it any more: take it back when it has not begun, else let it end
 * alone. Consumes the caller's reference. */
void ring_abandon(struct engine *e, struct op *op);
/* Under the mutex: whose turn is it? Wakes that thread, or the keeper. */
void ring_pass_on(struct engine *e);
/* Under the mutex: the operation is over; its engine reference goes. Its threads are
 * woken by ring_unlock, which must follow: woken under the mutex they would queue up at
 * it. */
void ring_finish(struct engine *e, struct op *op);
void ring_unlock(struct engine *e);
/* Under the mutex: it did a part of its work and goes on the ring again. */
void ring_again(struct engine *e, struct op *op);
/* Under the mutex: nothing was found for this claim; it waits on, if it may. */
void ring_park(struct engine *e, struct op *op);
/* Under the mutex: everything on the ring, in lines and all parked claims of this
 * broker (NULL: of all) end with this code; staged operations too when `staged`. The
 * text is this thread's. */
void ring_fail(struct engine *e, const struct broker *b, int code, int staged);
/* Under the mutex: take operations for a group; returns how many. */
int ring_take(struct engine *e, struct link *group);
/* Under the mutex: take one off the ring; its engine reference stays. */
void ring_drop(struct engine *e, struct op *op);

/* ---- wait.c ---- */

/* Put the call on the ring and see it through: lead, sync, watch or sleep, as it comes.
 * Consumes the caller's reference, except when it returns EMBQ_INTERRUPTED. */
int64_t ring_call(struct engine *e, struct op *op);
/* A signal came: keep the call, so that this thread can find it again. */
void ring_push_pending(struct op *op);
/* This thread's latest interrupted call, kept no more; NULL when there is none. */
struct op *ring_pop_pending(void);
/* ring_call from where it stood. */
int64_t ring_resume(struct engine *e, struct op *op);
/* Wait for an operation that is on its way; the reference stays the caller's. */
int64_t ring_wait(struct engine *e, struct op *op);

#endif
