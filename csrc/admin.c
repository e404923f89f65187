/* What is done to a queue as a whole, or to one of its messages from outside: other
 * options, a pause, a purge, a cancelled message. A purge is made in steps, so that
 * nobody waits long for the write lock; what is in flight stays with its holder.
 */
#include "line.h"
#include "store.h"

#include <stdlib.h>
#include <string.h>

#define PURGE_STEP 1024 /* as one range */
#define PURGE_ROWS 256  /* one by one */

/* What was asked for stays done after a power cut, at "full": it is confirmed once it
 * is synced. */
static void op_sync(struct op *op) {
    op->full = op->broker->full != 0;
}

void op_stepped(struct engine *e, struct op *op, int more) {
    op->again = more != 0;
    e->stepping |= more != 0;
    op->full = op->broker->full && !more;
    /* The time limit is one for the write lock, which this step had. */
    ATOMIC_STORE(&op->deadline_us,
                 clock_real_us() + (int64_t)op->broker->busy_timeout_ms * 1000);
}

/* ---- options ---- */

static int is_expected(const struct channel *c, struct slice expected) {
    struct packer p = {0};
    options_pack(&c->options, &p);
    int same =
        !p.failed && p.size == expected.size && !memcmp(p.data, expected.data, p.size);
    pack_free(&p);
    return same;
}

int64_t admin_configure(struct engine *e, struct op *op) {
    int64_t code;
    struct options o = {0};
    struct channel *c = channel_of_op(e, op, &code);
    struct slice packed = {op->bytes + op->size, op->extra_size};
    if (!c) return code;
    if (!is_expected(c, (struct slice){op->bytes, op->size})) return 0;
    struct slice name = {c->name, strlen(c->name)};
    code = options_read(packed, &o);
    if (code == 0) code = options_check_cycle(e, name, &o);
    if (code == 0 &&
        (o.ordered != c->options.ordered || strcmp(o.codec, c->options.codec) != 0))
        code =
            error_set(EMBQ_INVALID_ARGUMENT,
                      "queue %s: its codec and its order stay what they are", c->name);
    if (code == 0) code = options_write(e, c, &o);
    if (code < 0) {
        free(o.dead_letter);
        return code;
    }
    free(c->options.dead_letter);
    c->options = o;
    channel_offer(e, c);
    lines_look_again(e);
    op_sync(op);
    return 1;
}

int64_t admin_pause(struct engine *e, struct op *op) {
    int64_t code;
    struct channel *c = channel_of_op(e, op, &code);
    if (!c) return code;
    c->paused_until_ms = op->delay_ms;
    channel_offer(e, c);
    op_sync(op);
    return statement_do(e, ST_CHANNEL_PAUSE, 0, INTS(c->id, op->delay_ms));
}

/* ---- messages ---- */

static int purge_waiting(struct engine *e, struct channel *c, int64_t below) {
    int64_t ids[PURGE_ROWS];
    int count = statement_ids(
        e,
        statement_ints(e, ST_DELIVERY_WAITING, 0, INTS(c->sub.id, below, PURGE_ROWS)),
        ids);
    for (int i = 0; i < count; i++) {
        struct delivery d;
        int found = delivery_read(e, c, ids[i], &d);
        if (found <= 0 || d.owner) return storage_corrupt(e);
        if (delivery_drop(e, c, &d) < 0) return -1;
    }
    return count;
}

static int purge_deferred(struct engine *e, struct channel *c, int64_t below) {
    int64_t ids[PURGE_ROWS];
    if (!(c->sub.lanes & LANES_DEFERRED)) return 0;
    int count = statement_ids(
        e, statement_ints(e, ST_DUE_ALL, 0, INTS(c->sub.id, below, PURGE_ROWS)), ids);
    for (int i = 0; i < count; i++) {
        struct delivery d = {.message = ids[i]};
        if (!channel_has_given_out(c, ids[i])) return storage_corrupt(e);
        if (timer_untaken(e, c, &d) <= 0 || delivery_drop(e, c, &d) < 0) return -1;
    }
    return count;
}

/* New messages of a lane, as one range. */
static int purge_new(struct engine *e, struct channel *c, int lane, int64_t below) {
    int64_t from = channel_cursor(c, lane), to = message_id(c->id, lane, below - 1);
    if (from >= to || !(c->sub.lanes >> lane & 1) || lane == EMBQ_LANE_DEFERRED)
        return 0;
    sqlite3_stmt *s =
        statement_ints(e, ST_MESSAGE_SPAN, c->shard, INTS(from, to, PURGE_STEP));
    if (statement_step(e, s) <= 0) return storage_corrupt(e);
    int64_t count = sq.column_int64(s, 0), last = sq.column_int64(s, 1);
    int64_t bytes = sq.column_int64(s, 2);
    sq.reset(s);
    if (!count) return 0;
    c->sub.removed += count;
    c->sub.removed_bytes += bytes;
    c->sub.dropped += count;
    return messages_delete(e, c, from + 1, last) < 0 ? -1 : (int)count;
}

int messages_purge(struct engine *e, struct channel *c, int64_t below) {
    int count = purge_waiting(e, c, below);
    if (count == 0) count = purge_deferred(e, c, below);
    for (int lane = 0; count == 0 && lane < EMBQ_LANES; lane++)
        count = purge_new(e, c, lane, below);
    return count;
}

int64_t admin_purge(struct engine *e, struct op *op) {
    int64_t code;
    struct channel *c = channel_of_op(e, op, &code);
    if (!c) return code;
    if (!op->below) op->below = c->next_sequence; /* what was sent before the call */
    int count = messages_purge(e, c, op->below);
    if (count < 0) return storage_corrupt(e);
    op->total += count;
    op_stepped(e, op, count > 0);
    return op->total;
}

/* The row of a message by its public id: 0 when the queue has none, -1. Unless it moved
 * here, its row stands in its id. */
static int64_t row_of_id(struct engine *e, const struct channel *c, struct slice id) {
    if (id.size != PUBLIC_ID_SIZE) return 0;
    int64_t row = public_id_place(e, id);
    if (channel_has_given_out(c, row)) {
        if (statement_int(e, ST_MESSAGE_UNMOVED, c->shard, INTS(row), 0)) return row;
        if (e->storage_error) return -1;
    } /* else it may have left, and come back as another row; what moved to this row has
       * an id of its own */
    sqlite3_stmt *s =
        statement_ints(e, ST_MESSAGE_BY_PUBLIC_ID, c->shard,
                       INTS(message_id(c->id, 0, 0), message_id(c->id + 1, 0, 0) - 1));
    if (!s) return -1;
    bind_slice(s, 3, id);
    int found = statement_step(e, s);
    if (found <= 0) return found;
    row = sq.column_int64(s, 0);
    sq.reset(s);
    return channel_has_given_out(c, row) ? row : storage_corrupt(e);
}

int64_t admin_cancel(struct engine *e, struct op *op) {
    int64_t code;
    struct channel *c = channel_of_op(e, op, &code);
    if (!c) return code;
    struct delivery d = {.message =
                             row_of_id(e, c, (struct slice){op->bytes, op->size})};
    int64_t size =
        d.message > 0 ? statement_int(e, ST_MESSAGE_SIZE, c->shard, INTS(d.message), -1)
                      : -1;
    if (e->storage_error) return -1;
    if (size < 0)
        return error_set(EMBQ_NOT_FOUND, "queue %s has no such message", c->name);
    int found = delivery_read(e, c, d.message, &d);
    if (found == 0) found = timer_untaken(e, c, &d);
    if (found < 0) return -1;
    if (found == 0 || d.owner) return 0;
    op_sync(op);
    return delivery_drop(e, c, &d) < 0 ? -1 : 1;
}
