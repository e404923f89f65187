/* Handing out what was never handed out: in a plain queue as a run, a row for many; in
 * one that is ordered by key as deliveries, see order.c.
 */
#include "claim.h"

#include <string.h>

static int64_t new_last(const struct claim *k) {
    return message_id(k->c->id, k->lane, k->c->next_sequence - 1);
}

/* ---- a plain queue: a run ---- */

/* Read rows beyond the cursor into the answer; their ids and sizes, how many, or -1.
 * Run and token stand in each receipt, so they are known before the run's span is. */
static int64_t new_read(struct claim *k, int64_t most, int64_t run, int64_t token,
                        int64_t *ids, uint32_t *sizes) {
    struct engine *e = k->e;
    int64_t count = 0, previous = channel_cursor(k->c, k->lane), last = new_last(k);
    sqlite3_stmt *s =
        statement_ints(e, ST_MESSAGE_RANGE, k->c->shard, INTS(previous, last, most));
    int more;
    while ((more = statement_step(e, s)) > 0) {
        int64_t id = sq.column_int64(s, 0);
        /* A damaged page can hold ids out of order, which are no places in a run. */
        if (id <= previous || id > last) storage_corrupt(e);
        if (e->storage_error) break;
        previous = id;
        if (count && id - ids[0] >= EMBQ_RUN_IDS) break;
        const struct delivered given = {run, token_of_member(token, id), id, 1};
        message_pack(e, s, &given, k->op);
        ids[count] = id;
        sizes[count++] = (uint32_t)sq.column_bytes(s, 8);
        if (k->op->out.size > EMBQ_BATCH_BYTES || k->op->out.failed) break;
    }
    if (more > 0) sq.reset(s);
    return more < 0 || e->storage_error ? -1 : count;
}

static int new_auto_ack(struct claim *k, const int64_t *ids, const uint32_t *sizes,
                        int64_t count) {
    for (int64_t i = 0; i < count; i++) k->c->sub.removed_bytes += sizes[i];
    k->c->sub.removed += count;
    k->c->sub.acked += count;
    return messages_delete(k->e, k->c, ids[0], ids[count - 1]);
}

static int new_claim(struct claim *k, int64_t most) {
    struct engine *e = k->e;
    struct channel *c = k->c;
    int64_t ids[EMBQ_RUN_IDS];
    uint32_t sizes[EMBQ_RUN_IDS];
    if (most <= 0 || channel_cursor(k->c, k->lane) >= new_last(k)) return 0;
    int auto_ack = k->op->flags & EMBQ_CLAIM_AUTO_ACK;
    int64_t run = run_new_id(e, k->deadline_ms), token = token_new();
    int64_t count = new_read(k, most, run, token, ids, sizes);
    if (count <= 0) {
        if (count == 0)
            c->sub.cursor[k->lane] = new_last(k); /* nothing is there any more */
        c->dirty = 1;
        return (int)count;
    }
    c->sub.cursor[k->lane] = ids[count - 1];
    c->retries_in_row = 0;
    for (int64_t i = 0; i < count; i++) count_delivered(k, 1);
    if (auto_ack) return new_auto_ack(k, ids, sizes, count);
    struct run *r = run_new(e, c, run, token, ids[0], ids[count - 1]);
    if (!r) return -1;
    for (int64_t i = 0; i < count; i++) run_hold(r, ids[i], sizes[i]);
    c->sub.in_flight += count;
    return 0;
}

/* ---- one that is ordered by key: deliveries ---- */

static int keyed_give(struct claim *k, sqlite3_stmt *row, struct delivery *d) {
    d->kind = DELIVERY_NEW; /* should nobody see it, it is still that */
    d->receive_count = 1;
    d->token = token_new();
    d->deadline_ms = k->deadline_ms;
    d->first_at_ms = k->wall_ms;
    const struct delivered given = {0, d->token, d->message, 1};
    message_pack(k->e, row, &given, k->op);
    count_delivered(k, 1);
    return delivery_store(k->e, k->c, d, k->e->slot);
}

static int keyed_look(struct claim *k, sqlite3_stmt *row, int64_t id) {
    struct delivery d = {.message = id, .lane = k->lane};
    d.key = key_hash(column_slice(row, 4));
    int taken = d.key ? key_is_taken(k->e, k->c, d.key) : 0;
    if (taken < 0) return -1;
    return taken ? key_block(k->e, k->c, &d) : keyed_give(k, row, &d);
}

/* Those that are handed over without a lease are gone, and their keys free. */
static int keyed_auto_ack(struct claim *k, const char *receipts, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        struct delivery d;
        int64_t receipt[3];
        memcpy(receipt, receipts + i * EMBQ_RECEIPT_SIZE, sizeof receipt);
        if (delivery_read(k->e, k->c, receipt[2], &d) <= 0)
            return storage_corrupt(k->e);
        k->c->sub.acked++;
        if (delivery_remove(k->e, k->c, &d) < 0) return -1;
    }
    return 0;
}

/* Those that waited behind others of their keys, and do not any more. */
static int freed_claim(struct claim *k, int64_t most) {
    struct waiter freed[EMBQ_RUN_IDS];
    int64_t count = waiters_find(k, DELIVERY_NEW, most, freed);
    for (int64_t i = 0; i < count && !claim_is_full(k); i++)
        if (waiter_take(k, &freed[i]) < 0) return -1;
    return count < 0 ? -1 : 0;
}

/* Go through those that no claim has seen yet. */
static int keyed_claim(struct claim *k, int64_t most) {
    struct channel *c = k->c;
    int64_t before = k->count, last = new_last(k), id = channel_cursor(k->c, k->lane),
            looked = 0;
    size_t receipts = k->op->receipts.size;
    if (most <= 0 || id >= last) return 0;
    sqlite3_stmt *s = statement_ints(k->e, ST_MESSAGE_RANGE, c->shard,
                                     INTS(id, last, most + EMBQ_LOOK_STEP));
    int more;
    while ((more = statement_step(k->e, s)) > 0) {
        int64_t next = sq.column_int64(s, 0);
        if (next <= id || next > last) storage_corrupt(k->e);
        id = next;
        looked++;
        if (k->e->storage_error || keyed_look(k, s, id) < 0) break;
        if (k->count - before == most || claim_is_full(k)) break;
    }
    if (more > 0) sq.reset(s);
    if (k->e->storage_error) return -1;
    k->op->again = more == 0 && looked == most + EMBQ_LOOK_STEP;
    c->sub.cursor[k->lane] = more == 0 && !k->op->again ? last : id;
    c->dirty = 1;
    if (!(k->op->flags & EMBQ_CLAIM_AUTO_ACK)) return 0;
    return keyed_auto_ack(k, k->op->receipts.data + receipts, k->count - before);
}

/* ---- either ---- */

int64_t fresh_count(struct claim *k, int64_t most) {
    struct waiter freed[EMBQ_RUN_IDS];
    int64_t from = channel_cursor(k->c, k->lane), to = new_last(k), count = 0;
    if (k->c->options.ordered == ORDERED_BY_KEY)
        count = waiters_find(k, DELIVERY_NEW, most, freed);
    if (count < 0 || count >= most || from >= to) return count;
    return count + statement_int(k->e, ST_MESSAGE_COUNT, k->c->shard,
                                 INTS(from, to, most - count), 0);
}

int fresh_claim(struct claim *k, int64_t most) {
    if (most <= 0) return 0;
    if (k->c->options.ordered != ORDERED_BY_KEY) return new_claim(k, most);
    int64_t before = k->count;
    if (freed_claim(k, most) < 0) return -1;
    most -= k->count - before;
    if (!claim_is_full(k) && keyed_claim(k, most) < 0) return -1;
    if (k->count > before) k->c->retries_in_row = 0;
    return 0;
}
