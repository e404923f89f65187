/* Looking at messages, for look.c and peek.c. */
#ifndef EMBQ_LOOK_H
#define EMBQ_LOOK_H

#include "reading.h"
#include "store.h"

/* New messages that one look goes through: more would be a long read. */
#define LOOK_ROWS 16384
/* Those before a message are counted so far. */
#define LOOK_AHEAD 1000

/* Columns of ST_LOOK: those of a message that matter here, and what comes after. */
enum {
    COL_KEY = 4,
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
    int64_t channel, wall_ms;
    int limit, count;
    struct packer out;
};

/* ---- look.c ---- */

/* 0, or a code: then it is over. */
int look_begin(struct look *l, embq_ref broker, int64_t handle, int limit);
int look_end(struct look *l, embq_bytes *out);
/* Whether it failed, or has as many as it may. */
int look_is_full(const struct look *l);
/* Rows behind `after` up to `last`, by ST_LOOK. */
sqlite3_stmt *look_rows(struct look *l, int64_t after, int64_t last, int64_t limit);
/* Append a stepped one. */
void look_pack(struct look *l, sqlite3_stmt *s);
/* How far first deliveries have gone in a lane. */
static inline int64_t look_cursor(const struct look *l, int lane) {
    return l->n.cursor[lane] ? l->n.cursor[lane] : message_id(l->channel, lane, 0);
}

/* ---- peek.c ---- */

/* How many would be handed out before this one, which is ready: counted to LOOK_AHEAD,
 * with `*more` when there are, or may be, more. */
int64_t look_ahead(struct look *l, int64_t row, int *more);

#endif
