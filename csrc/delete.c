/* Deleting a queue: all that it has goes, also what somebody holds.
 *
 *     queue --the first step--> gone: no name --steps--> free --declared--> queue
 *
 * The first step takes the name away: from then on no call finds the queue, who waits
 * for its messages is told, and another queue may have the name. What is left is a
 * queue like any other, without a name or a dead-letter queue, so that the ends of
 * leases and lives may meet its rows. It is removed in bounded steps, each a
 * transaction after which all counters are right. Who is killed meanwhile leaves the
 * rest to the keeper of any process that has the file open.
 *
 * The channel is used again, by queues of the next generation: a handle says of which
 * generation it is, so that one of the old queue never means the new one. Sequences go
 * on, so no message gets the id of another.
 */
#include "reading.h"
#include "store.h"

#include <stdlib.h>

#define DELETE_STEP 256  /* messages */
#define RUNS_LOOK 4096   /* runs of all queues looked at in one step */
#define QUIET_US 1000000 /* a delete that does no step for so long was left */

/* ---- the first step ---- */

static int64_t name_free(struct engine *e, struct op *op, struct channel *c) {
    op->channel = handle_of(c->id, c->generation);
    op->total = c->sent - c->sub.removed;
    /* Who waits for its messages is told; and a suspect of it that is in flight keeps
     * those of other queues back no longer. */
    e->wake_bits = UINT32_MAX;
    free(c->name);
    free(c->options.dead_letter);
    c->name = c->options.dead_letter = NULL;
    c->kind = CHANNEL_GONE;
    if (statement_do(e, ST_REDRIVE_FORGET, 0, INTS(c->id)) < 0) return -1;
    return statement_do(e, ST_CHANNEL_DELETE, 0, INTS(c->id));
}

/* The channel to go on with, NULL when there is nothing to do, with the outcome. */
static struct channel *delete_begin(struct engine *e, struct op *op, int64_t *code) {
    int64_t id = handle_channel(op->channel);
    int by_name = op->size && !op->channel;
    *code = op->total;
    if (by_name) id = channel_find(e, op->bytes, op->size);
    if (by_name && id == 0) *code = error_set(EMBQ_NOT_FOUND, "no such queue");
    if (id <= 0) return NULL;
    struct channel *c = channel_get(e, id);
    if (!c) {
        storage_corrupt(e); /* or failed already */
        return NULL;
    }
    if (by_name) op->channel = handle_of(id, c->generation);
    /* Somebody else may have finished it, and made another queue of the channel. A step
     * that was rolled back finds its queue as it was. */
    if (c->generation != handle_generation(op->channel)) return NULL;
    if (c->kind == CHANNEL_QUEUE && op->size && name_free(e, op, c) < 0) return NULL;
    *code = op->total;
    return c->kind == CHANNEL_GONE ? c : NULL;
}

/* ---- the others: how many messages went, -1 ---- */

static int leased_delete(struct engine *e, struct channel *c) {
    int64_t ids[DELETE_STEP];
    int count = statement_ids(
        e, statement_ints(e, ST_DELIVERY_OF_QUEUE, 0, INTS(c->sub.id, DELETE_STEP)),
        ids);
    for (int i = 0; i < count; i++) {
        struct delivery d;
        if (delivery_read(e, c, ids[i], &d) <= 0) return storage_corrupt(e);
        if (delivery_drop(e, c, &d) < 0) return -1;
    }
    return count;
}

static int run_drop(struct engine *e, struct channel *c, int64_t id) {
    struct run *r = run_get(e, id);
    int count = r ? r->held : 0;
    if (!r || r->channel != c) return storage_corrupt(e);
    r->dirty = 1;
    for (int64_t message = r->first; message <= r->last; message++) {
        struct delivery d;
        if (run_member(r, message) != MEMBER_HELD) continue;
        if (delivery_of_run(e, r, message, &d) < 0 || delivery_drop(e, c, &d) < 0)
            return -1;
    }
    return count;
}

/* The next of its runs, by going through those of all queues: in the order of their
 * ids, from op->below on. 0 when there is none up to RUNS_LOOK or the end; -1. */
static int64_t run_next(struct engine *e, struct op *op, const struct channel *c,
                        int *looked) {
    int64_t found = 0;
    int more = 0;
    sqlite3_stmt *s =
        statement_ints(e, ST_RUN_AFTER, 0, INTS(op->below, RUNS_LOOK - *looked));
    while (!found && (more = statement_step(e, s)) > 0) {
        op->below = sq.column_int64(s, 0);
        if (sq.column_int64(s, 1) == c->sub.id) found = op->below;
        ++*looked;
    }
    if (found) sq.reset(s);
    return more < 0 ? -1 : found;
}

/* With `*more` there may be others of its runs. */
static int runs_delete(struct engine *e, struct op *op, struct channel *c, int *more) {
    int count = 0, looked = 0;
    int64_t run = 1, from = op->below;
    if (!c->sub.in_flight) return 0; /* then it has none */
    if (runs_flush(e) < 0) return -1;
    while (run && count < DELETE_STEP && looked < RUNS_LOOK) {
        run = run_next(e, op, c, &looked);
        int dropped = run > 0 ? run_drop(e, c, run) : (int)run;
        if (dropped < 0) return -1;
        count += dropped;
    }
    /* At the end of all runs; what began in the middle, perhaps because a step was
     * rolled back, goes through the others once more. */
    if (!run && looked < RUNS_LOOK) op->below = 0;
    *more = c->sub.in_flight && (op->below || from);
    return count;
}

static int dedup_delete(struct engine *e, const struct channel *c) {
    if (statement_do(e, ST_DEDUP_DELETE, 0, INTS(c->id, DELETE_STEP)) < 0) return -1;
    return sq.changes(e->db);
}

static int delete_step(struct engine *e, struct op *op, struct channel *c) {
    int more = 0;
    int count = leased_delete(e, c);
    if (count == 0) count = runs_delete(e, op, c, &more);
    if (count == 0 && !more) count = messages_purge(e, c, c->next_sequence);
    if (count == 0 && !more) count = dedup_delete(e, c);
    return count < 0 ? -1 : count || more;
}

static int channel_free(struct engine *e, struct channel *c) {
    int worn = c->next_sequence > EMBQ_SEQUENCE_MAX / 2 ||
               c->generation == EMBQ_GENERATION_MAX;
    c->kind = worn ? CHANNEL_WORN : CHANNEL_FREE;
    return statement_do(e, ST_CHANNEL_FREE, 0, INTS(c->id, c->kind));
}

int64_t delete_run(struct engine *e, struct op *op) {
    int64_t code;
    op->again = 0;
    struct channel *c = delete_begin(e, op, &code);
    if (e->storage_error) return -1;
    int more = c ? delete_step(e, op, c) : 0;
    if (more < 0 || (c && !more && channel_free(e, c) < 0)) return -1;
    op_stepped(e, op, more);
    ATOMIC_STORE(&e->deleting_us, clock_real_us());
    return code;
}

/* ---- what was left ---- */

void deletes_look(struct engine *e) {
    if (clock_real_us() - ATOMIC_LOAD(&e->deleting_us) < QUIET_US) return;
    int64_t handle = keeper_glance_anew(e, &e->no_delete, ST_CHANNEL_GONE);
    if (handle <= 0) return;
    ATOMIC_STORE(&e->deleting_us, clock_real_us());
    keeper_stage(e, OP_DELETE, handle);
}
