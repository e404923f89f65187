/* Handing out what was never handed out: as a run, a row for many. In a queue that is
 * ordered by key those whose key is taken are passed over, see order.c.
 */
#include "claim.h"

static int64_t new_last(const struct claim *k) {
    return message_id(k->c->id, k->lane, k->c->next_sequence - 1);
}

/* What a claim reads beyond the cursor. Run and token stand in each receipt, so they
 * are known before the run's span is. */
struct batch {
    int64_t run, token;
    int64_t count, looked;
    int64_t seen; /* the last that was looked at */
    int64_t ids[EMBQ_RUN_IDS], keys[EMBQ_RUN_IDS];
    uint32_t sizes[EMBQ_RUN_IDS];
    int64_t damaged;
    int64_t damaged_ids[EMBQ_RUN_IDS], damaged_keys[EMBQ_RUN_IDS];
};

/* Whether this one goes: 1; 0 when it waits behind another of its key, -1. */
static int key_pass(struct claim *k, sqlite3_stmt *row, int64_t id, int64_t *key) {
    *key = k->c->options.ordered == ORDERED_BY_KEY ? key_hash(column_slice(row, 4)) : 0;
    if (!*key) return 1;
    int free = k->op->flags & EMBQ_CLAIM_AUTO_ACK ? !key_is_taken(k->e, k->c, *key)
                                                  : key_take(k->e, k->c, *key, id);
    if (k->e->storage_error) return -1;
    struct delivery d = {.message = id, .lane = k->lane, .key = *key};
    return free || key_block(k->e, k->c, &d) < 0 ? free : 0;
}

/* It goes nowhere, and what is behind it goes on; but until it is settled it has its
 * key, which under auto_ack it did not take. */
static int damaged_add(struct claim *k, struct batch *b, int64_t id, int64_t key) {
    int takes = key && k->op->flags & EMBQ_CLAIM_AUTO_ACK;
    if (takes && key_take(k->e, k->c, key, id) < 0) return -1;
    b->damaged_ids[b->damaged] = id;
    b->damaged_keys[b->damaged++] = key;
    return b->damaged == EMBQ_RUN_IDS;
}

static int batch_add(struct claim *k, sqlite3_stmt *row, struct batch *b) {
    int64_t key, id = sq.column_int64(row, 0);
    /* A damaged page can hold ids out of order, which are no places in a run. */
    if (id <= b->seen || id > new_last(k)) return storage_corrupt(k->e);
    if (b->count && id - b->ids[0] >= EMBQ_RUN_IDS) return 1;
    b->seen = id;
    b->looked++;
    int goes = key_pass(k, row, id, &key);
    if (goes <= 0) return goes;
    if (message_is_damaged(row)) return damaged_add(k, b, id, key);
    const struct delivered given = {b->run, token_of_member(b->token, id), id, 1};
    message_pack(k->e, row, &given, k->op);
    b->ids[b->count] = id;
    b->keys[b->count] = key;
    b->sizes[b->count++] = (uint32_t)sq.column_bytes(row, 8);
    return 0;
}

/* Read up to `most` that go, looking at `limit`. */
static int batch_read(struct claim *k, int64_t most, int64_t limit, struct batch *b) {
    int more, full = 0;
    sqlite3_stmt *s = statement_ints(k->e, ST_MESSAGE_RANGE, k->c->shard,
                                     INTS(b->seen, new_last(k), limit));
    while (!full && (more = statement_step(k->e, s)) > 0) {
        full = batch_add(k, s, b);
        if (b->count == most || k->op->out.size > EMBQ_BATCH_BYTES ||
            k->op->out.failed || k->e->storage_error)
            full = 1;
    }
    if (full) sq.reset(s);
    return k->e->storage_error ? -1 : 0;
}

/* Those that were passed over: no search is under way any more. */
static int damaged_settle(struct claim *k, const struct batch *b) {
    for (int64_t i = 0; i < b->damaged; i++) {
        int64_t id = b->damaged_ids[i];
        struct delivery d = {.message = id,
                             .lane = k->lane,
                             .key = b->damaged_keys[i],
                             .receive_count = 1,
                             .first_at_ms = k->wall_ms};
        sqlite3_stmt *row =
            statement_ints(k->e, ST_MESSAGE_READ, k->c->shard, INTS(id));
        if (statement_step(k->e, row) <= 0) return storage_corrupt(k->e);
        if (damaged_refuse(k, row, &d) < 0) return -1;
    }
    return 0;
}

/* Under auto_ack: they are gone, in stretches of what follows each other. */
static int batch_delete(struct claim *k, const struct batch *b) {
    k->c->sub.removed += b->count;
    k->c->sub.acked += b->count;
    for (int64_t i = 0, from = 0; i < b->count; i++) {
        k->c->sub.removed_bytes += b->sizes[i];
        if (i + 1 < b->count && b->ids[i + 1] == b->ids[i] + 1) continue;
        if (messages_delete(k->e, k->c, b->ids[from], b->ids[i]) < 0) return -1;
        from = i + 1;
    }
    return 0;
}

static int batch_hold(struct claim *k, const struct batch *b) {
    struct run *r =
        run_new(k->e, k->c, b->run, b->token, b->ids[0], b->ids[b->count - 1]);
    if (!r) return -1;
    for (int64_t i = 0; i < b->count; i++)
        if (run_hold(k->e, r, b->ids[i], b->sizes[i], b->keys[i]) < 0) return -1;
    k->c->sub.in_flight += b->count;
    return 0;
}

static int new_claim(struct claim *k, int64_t most) {
    struct channel *c = k->c;
    struct batch b;
    int by_key = c->options.ordered == ORDERED_BY_KEY;
    int64_t limit = most + (by_key ? EMBQ_LOOK_STEP : 0);
    b.count = b.looked = b.damaged = 0;
    b.seen = channel_cursor(c, k->lane);
    if (most <= 0 || b.seen >= new_last(k)) return 0;
    b.run = run_new_id(k->e, k->deadline_ms);
    b.token = token_new();
    if (batch_read(k, most, limit, &b) < 0) return -1;
    k->op->again = by_key && b.looked == limit;
    c->sub.cursor[k->lane] = b.looked ? b.seen : new_last(k); /* nothing is there */
    c->dirty = 1;
    if (damaged_settle(k, &b) < 0) return -1;
    if (!b.count) return 0;
    for (int64_t i = 0; i < b.count; i++) count_delivered(k, 1);
    return k->op->flags & EMBQ_CLAIM_AUTO_ACK ? batch_delete(k, &b) : batch_hold(k, &b);
}

/* Those that waited behind others of their keys, and do not any more. */
static int freed_claim(struct claim *k, int64_t most) {
    struct waiter freed[EMBQ_RUN_IDS];
    int64_t count = waiters_find(k, DELIVERY_NEW, most, freed);
    for (int64_t i = 0; i < count && !claim_is_full(k); i++)
        if (waiter_take(k, &freed[i]) < 0) return -1;
    return count < 0 ? -1 : 0;
}

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
    int64_t before = k->count;
    if (k->c->options.ordered == ORDERED_BY_KEY && freed_claim(k, most) < 0) return -1;
    if (!claim_is_full(k) && new_claim(k, most - (k->count - before)) < 0) return -1;
    if (k->count > before) k->c->retries_in_row = 0;
    return 0;
}
