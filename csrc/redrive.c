/* Redrive: what nobody holds goes from a dead-letter queue back to where it died last,
 * or to another queue. The task is a row of embq_redrive, which moves on in the
 * transaction that moves the messages: whoever goes on after a death does none twice
 * and leaves none out. The keeper of one process does it in steps, so that nobody waits
 * long for the write lock; when that process is gone, the keeper of another does.
 *
 * It goes once through the rows that were there when it began, lane by lane in the
 * order of sending. What is in flight then, and what the task does not want, stays.
 */
#include "reading.h"
#include "store.h"

#include <stdlib.h>
#include <string.h>

/* Of one step: rows that are looked at, bytes that are moved. */
#define STEP 128
#define STEP_BYTES ((int64_t)4 << 20)
/* A task that was kept from its work makes up for so long at the most. */
#define ARREARS_MS 1000

struct task {
    struct channel *c;
    int64_t below, position, moved, skipped;
    double next_ms, rate; /* rate 0: no limit */
    char *target;         /* NULL: each goes where it died last */
};

struct found {
    int64_t id, to; /* the channel that it goes to; 0: none */
    int wanted;
};

/* ---- beginning and ending ---- */

static int target_check(struct engine *e, const struct channel *c, struct slice name) {
    if (!name.size) return 0;
    int64_t id = channel_find(e, name.data, name.size);
    if (id < 0) return -1;
    if (!id) return error_set(EMBQ_NOT_FOUND, "no queue to move messages to");
    if (id != c->id) return 0;
    return error_set(EMBQ_INVALID_ARGUMENT, "queue %s: to itself", c->name);
}

static void request_bind(sqlite3_stmt *s, const struct channel *c,
                         const struct op *op) {
    sq.bind_int64(s, 1, c->id);
    bind_slice(s, 2, (struct slice){op->size ? op->bytes : NULL, op->size});
    bind_slice(s, 3, (struct slice){op->bytes + op->size, op->extra_size});
    if (op->rate > 0) sq.bind_double(s, 4, op->rate);
    else sq.bind_null(s, 4);
}

/* The token of one that is under way; 0 when none is, or a code. */
static int64_t under_way(struct engine *e, const struct channel *c,
                         const struct op *op) {
    sqlite3_stmt *s = statement(e, ST_REDRIVE_SAME, 0);
    if (s) request_bind(s, c, op);
    int found = statement_step(e, s);
    if (found <= 0) return found;
    int same = sq.column_int64(s, 0) != 0;
    sq.reset(s);
    if (same) return statement_int(e, ST_REDRIVE_READ, 0, INTS(c->id), -1);
    return error_set(EMBQ_REDRIVE_UNDER_WAY, "queue %s: another redrive is under way",
                     c->name);
}

int64_t redrive_begin(struct engine *e, struct op *op) {
    int64_t code;
    struct channel *c = channel_of_op(e, op, &code);
    if (!c) return code;
    code = target_check(e, c, (struct slice){op->bytes, op->size});
    if (code == 0) code = under_way(e, c, op);
    if (code) return code;
    sqlite3_stmt *s = statement(e, ST_REDRIVE_BEGIN, 0);
    int64_t token;
    do token = token_new() & INT64_MAX;
    while (!token);
    if (!s) return -1;
    request_bind(s, c, op);
    sq.bind_int64(s, 5, token);
    sq.bind_int64(s, 6, e->slot);
    sq.bind_int64(s, 7, c->next_sequence);
    sq.bind_int64(s, 8, message_id(c->id, 0, 0));
    sq.bind_int64(s, 9, clock_wall_ms());
    return statement_run(e, s) < 0 ? -1 : token;
}

int64_t redrive_cancel(struct engine *e, const struct op *op) {
    int64_t code;
    const struct channel *c = channel_of_op(e, op, &code);
    if (!c) return e->storage_error ? -1 : 0; /* with the queue it is over */
    return statement_int(e, ST_REDRIVE_CANCEL, 0,
                         INTS(c->id, op->delay_ms, clock_wall_ms()), 0);
}

/* ---- a step ---- */

/* 0 or -1. `target` is to be freed. */
static int task_read(struct engine *e, int64_t channel, struct task *t) {
    *t = (struct task){.c = channel_get(e, channel)};
    sqlite3_stmt *s = statement_ints(e, ST_REDRIVE_READ, 0, INTS(channel));
    if (statement_step(e, s) <= 0) return storage_corrupt(e);
    t->moved = sq.column_int64(s, 1);
    t->skipped = sq.column_int64(s, 2);
    t->below = sq.column_int64(s, 4);
    t->position = sq.column_int64(s, 5);
    t->next_ms = sq.column_double(s, 6);
    t->rate = sq.column_double(s, 7);
    int kept = text_keep(e, &t->target, column_slice(s, 8));
    sq.reset(s);
    if (kept < 0) return -1;
    if (!t->c || t->c->kind != CHANNEL_QUEUE) return storage_corrupt(e);
    /* What a damaged row says must not lead into another queue's messages. */
    int sound = message_channel(t->position) == channel && t->position > 0 &&
                is_between(t->below, 1, t->c->next_sequence) && t->rate >= 0 &&
                is_between(t->moved, 0, EMBQ_COUNTER_MAX) &&
                is_between(t->skipped, 0, EMBQ_COUNTER_MAX);
    return sound ? 0 : storage_corrupt(e);
}

static int task_write(struct engine *e, int64_t channel, const struct task *t,
                      int ends) {
    sqlite3_stmt *s = statement(e, ST_REDRIVE_WRITE, 0);
    if (!s) return -1;
    sq.bind_int64(s, 1, channel);
    sq.bind_int64(s, 2, e->slot);
    sq.bind_int64(s, 3, t->position);
    sq.bind_int64(s, 4, t->moved);
    sq.bind_int64(s, 5, t->skipped);
    sq.bind_double(s, 6, t->next_ms);
    bind_or_null(s, 7, ends ? clock_wall_ms() : 0);
    return statement_run(e, s);
}

/* How many may go now, and since when they might have. */
static int64_t allowance(const struct task *t, double now_ms, double *since_ms) {
    if (t->rate <= 0) return STEP;
    double each_ms = 1000 / t->rate,
           arrears = each_ms > ARREARS_MS ? each_ms : ARREARS_MS;
    double since = t->next_ms;
    if (since > now_ms + each_ms) since = now_ms; /* the clock was set back */
    if (since < now_ms - arrears) since = now_ms - arrears;
    *since_ms = since;
    if (since > now_ms) return 0;
    double many = (now_ms - since) / each_ms + 1;
    return many < STEP ? (int64_t)many : STEP;
}

/* Where a message is to go: 0 when there is no such queue, or one whose bodies are
 * written otherwise; -1. */
static int64_t way_of(struct engine *e, const struct task *t, struct slice home) {
    if (t->target) home = (struct slice){t->target, strlen(t->target)};
    int64_t id = home.data ? channel_find(e, home.data, home.size) : 0;
    if (id <= 0) return id;
    struct channel *to = channel_get(e, id);
    if (!to) return storage_corrupt(e);
    return id != t->c->id && !strcmp(to->options.codec, t->c->options.codec) ? id : 0;
}

/* What is found in a lane: rows up to `last`, of which `most` may move. */
struct search {
    int64_t last, most;
    int count, more; /* more: it ended before the end of the lane */
    struct found rows[STEP];
};

/* The next rows of the lane; 0 or -1. */
static int rows_find(struct engine *e, const struct task *t, struct search *f) {
    int64_t most = f->most;
    int more = 0;
    sqlite3_stmt *s = statement(e, ST_REDRIVE_LOOK, t->c->shard);
    if (!s) return -1;
    sq.bind_int64(s, 1, t->position);
    sq.bind_int64(s, 2, f->last);
    sq.bind_int64(s, 3, t->c->id);
    sq.bind_text(s, 4, t->c->name, -1, SQLITE_STATIC);
    sq.bind_int64(s, 5, STEP);
    f->count = f->more = 0;
    while (!f->more && (more = statement_step(e, s)) > 0) {
        struct found row = {sq.column_int64(s, 0), 0, sq.column_int64(s, 1) != 0};
        row.to = row.wanted ? way_of(e, t, column_slice(s, 2)) : 0;
        if (row.to < 0) break;
        f->more = row.to && most-- == 0;
        if (!f->more) f->rows[f->count++] = row;
    }
    sq.reset(s);
    f->more |= f->count == STEP;
    return e->storage_error ? -1 : 0;
}

/* Move one, unless somebody holds it: its size, 0 when it stays, -1. */
static int64_t row_move(struct engine *e, struct task *t, const struct found *row) {
    struct delivery d = {.message = row->id};
    int found = delivery_read(e, t->c, row->id, &d);
    if (found > 0 && d.owner) return 0;
    if (found == 0) found = timer_untaken(e, t->c, &d);
    if (found <= 0) return found;
    struct channel *to = channel_get(e, row->to);
    int64_t before = t->c->sub.removed_bytes;
    if (!to) return storage_corrupt(e);
    if (delivery_redrive(e, t->c, &d, to) < 0) return -1;
    t->moved++;
    return t->c->sub.removed_bytes - before + 1; /* an empty one counts as well */
}

/* Do what was found; 0 or -1. */
static int rows_move(struct engine *e, struct task *t, struct search *f) {
    int64_t bytes = 0;
    for (int i = 0; i < f->count; i++) {
        if (bytes >= STEP_BYTES) {
            f->more = 1;
            break;
        }
        t->position = f->rows[i].id;
        int64_t size = f->rows[i].to ? row_move(e, t, &f->rows[i]) : 0;
        if (size < 0) return -1;
        bytes += size;
        f->most -= size > 0;
        t->skipped += f->rows[i].wanted && !f->rows[i].to;
    }
    return 0;
}

/* Go on in the lanes: 1, 0 when nothing is left, -1. */
static int task_step(struct engine *e, struct task *t, int64_t most) {
    struct search f = {.most = most};
    for (;;) {
        int lane = message_lane(t->position);
        f.last = message_id(t->c->id, lane, t->below - 1);
        f.more = f.count = 0;
        if (t->c->sub.lanes >> lane & 1 && t->position < f.last &&
            (rows_find(e, t, &f) < 0 || rows_move(e, t, &f) < 0))
            return -1;
        if (f.more || lane == EMBQ_LANES - 1) return f.more;
        t->position = message_id(t->c->id, lane + 1, 0);
    }
}

/* 0 or -1. */
static int task_go_on(struct engine *e, int64_t channel) {
    struct task t;
    double now_ms = (double)clock_wall_ms(), since_ms = now_ms;
    int more = task_read(e, channel, &t);
    int64_t before = t.moved, most = more < 0 ? 0 : allowance(&t, now_ms, &since_ms);
    if (more == 0) more = most > 0 ? task_step(e, &t, most) : 1;
    if (t.rate > 0) t.next_ms = since_ms + (double)(t.moved - before) * 1000 / t.rate;
    else t.next_ms = now_ms;
    int code = more < 0 ? -1 : task_write(e, channel, &t, !more);
    free(t.target);
    return code;
}

int64_t redrive_step(struct engine *e) {
    if (e->redriven_in == e->transaction) return 0; /* one for the whole group */
    int64_t channel =
        statement_int(e, ST_REDRIVE_NEXT, 0, INTS(e->slot, clock_wall_ms()), 0);
    if (channel <= 0) return e->storage_error ? -1 : 0;
    e->redriven_in = e->transaction;
    return task_go_on(e, channel) < 0 ? -1 : 1;
}

void redrives_look(struct engine *e) {
    if (keeper_glance_anew(e, &e->no_redrive, ST_REDRIVE_OPEN) <= 0) return;
    int64_t due = keeper_glance(e, ST_REDRIVE_NEXT, INTS(e->slot, clock_wall_ms()));
    if (due > 0) keeper_stage(e, OP_REDRIVE_STEP, 0);
}
