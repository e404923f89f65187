/* Reads on the readers' connection: they wait for no writer; each is one short read
 * transaction, as a long one keeps the WAL from starting over. */
#ifndef EMBQ_READING_H
#define EMBQ_READING_H

#include "statement.h"

/* A read under way: the connection is ours until reading_end. */
struct reading {
    struct broker *broker;
    struct engine *e;
    int result;
};

/* A read transaction: 0, or a code. */
int reading_begin(struct reading *r, struct broker *b);
/* `result`, or the code of what failed meanwhile. */
int64_t reading_end(struct reading *r, int64_t result);
sqlite3_stmt *reading_ints(struct reading *r, enum statement which, int shard,
                           int count, const int64_t *values);
/* 1 row, 0 none. */
int reading_step(struct reading *r, sqlite3_stmt *s);
/* The first number of the first row; `otherwise` when there is none. */
int64_t reading_int(struct reading *r, enum statement which, int shard, int count,
                    const int64_t *values, int64_t otherwise);
/* What was read contradicts itself. Returns 0. */
int reading_corrupt(struct reading *r);
/* The code of a queue that is not there. */
int64_t reading_gone(struct reading *r);
/* reading_end, and hand over what was packed meanwhile: `result`, or a code. */
int64_t reading_answer(struct reading *r, int64_t result, struct packer *p,
                       embq_bytes *out);
/* For the keeper, which is no call of anybody's: the first number of the first row, 0
 * when there is none, -1 when it cannot be read now. */
int64_t keeper_glance(struct engine *e, enum statement which, int count,
                      const int64_t *values);
/* The same of what only a commit can bring: there is no read as long as nobody has
 * committed since there was none, which `*none` keeps. */
int64_t keeper_glance_anew(struct engine *e, struct wal_header *none,
                           enum statement which);

/* ---- stats.c ---- */

#define TOTALS 10
/* A column of ST_CHANNEL_READ. */
#define CHANNEL_ORDERED 17

/* What the two rows of a queue say. */
struct counts {
    int64_t sent, sent_bytes, shard, next_sequence, subscription, lanes;
    int64_t paused_until_ms, ordered;
    int64_t cursor[EMBQ_LANES]; /* 0: nothing handed out yet */
    int64_t removed, removed_bytes, in_flight, waiting;
    int64_t totals[TOTALS]; /* delivered .. redriven */
};

/* 1; 0 when there is no such queue, or the read failed. */
int counts_read(struct reading *r, int64_t handle, struct counts *n);

#endif
