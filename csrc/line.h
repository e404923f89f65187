/* Lines: sends that wait for room in a queue that blocks, and flushes behind them. */
#ifndef EMBQ_LINE_H
#define EMBQ_LINE_H

#include "op.h"

struct engine;

/* The sends of this process that wait for one queue, in the order of their turns. */
struct line {
    struct line *next;
    int64_t channel; /* a handle */
    struct link ops;
    int64_t removed; /* by its queue when its first found no room; -1: look again */
    int64_t tried;   /* the transaction in which that was */
};

/* ---- by whoever leads ---- */

/* Whether somebody of its queue waits before this send. */
int line_is_before(struct engine *e, const struct op *send);
/* Sends that waited go on, each line until its first finds no room, and then those of
 * this group that found none. With `foreign` other processes may have made room. */
int lines_serve(struct engine *e, struct link *group, int foreign);
/* A queue has other bounds: all look again. */
void lines_look_again(struct engine *e);

/* ---- under the mutex ---- */

/* By whoever leads: this send found no room. It waits, or that is its outcome. */
void line_join(struct engine *e, struct op *send);
/* By whoever leads: 1 when this flush waits, for what was staged and stands in lines.
 */
int line_join_flush(struct engine *e, struct op *flush);
/* Those that are empty go. */
void lines_clear(struct engine *e);
/* By whoever leads, at the end of its group. */
void lines_end(struct engine *e);
/* It gave up: those behind it may fit where it did not. */
void line_give_up(struct engine *e, const struct op *op);
/* For op_unlink alone. */
void line_left(const struct op *op);
/* Whether the keeper should lead a group for the lines now, and after how long it asks
 * again; INT64_MAX when there are none. */
int lines_are_due(const struct engine *e, int64_t now_us);
int64_t lines_pace_us(const struct engine *e, int64_t now_us);

#endif
