/* Lease runs: one row for a batch of first deliveries, two bits for each message of it.
 *
 *     held --ack--> acked     the message row is deleted in the same transaction
 *     held --nack, extend, reject, give back, expiry--> left    see delivery.c
 *
 * Only contiguous stretches of *acked* ids are deleted: the row of one that left must
 * stay. Ids of the span that were no member when it was claimed count as left. See
 * store.h.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>

#define RANDOM_MASK (((uint64_t)1 << RUN_ID_BITS) - 1)
#define LEFT_EVERYWHERE 0xaa
#define RUNS_CACHED 4096 /* more are read again when they are needed */

static struct run **bucket_of(struct engine *e, int64_t id) {
    return &e->runs[(uint64_t)id * 0x9e3779b97f4a7c15u >> 56 & (RUN_BUCKETS - 1)];
}

static struct run *run_make(struct engine *e, struct channel *c, int64_t id,
                            int64_t first, int64_t last, int sizes) {
    size_t room = sizes ? (size_t)(last - first + 1) * sizeof(uint32_t) : 0;
    struct run *r = calloc(1, sizeof *r + room);
    if (!r) {
        e->storage_error = SQLITE_NOMEM;
        return NULL;
    }
    r->id = id;
    r->first = first;
    r->last = last;
    r->channel = c;
    r->epoch = e->epoch;
    r->sizes_known = sizes != 0;
    memset(r->states, LEFT_EVERYWHERE, sizeof r->states);
    memset(r->stored, LEFT_EVERYWHERE, sizeof r->stored);
    struct run **bucket = bucket_of(e, id);
    r->next = *bucket;
    *bucket = r;
    e->run_count++;
    return r;
}

int64_t token_new(void) {
    int64_t token;
    do token = (int64_t)random_u64();
    while (!token);
    return token;
}

int64_t token_of_member(int64_t token, int64_t message) {
    /* The finaliser of splitmix64: every bit of both changes half of the result. */
    uint64_t x = (uint64_t)token ^ (uint64_t)message * 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return x ? (int64_t)x : 1;
}

int64_t run_new_id(struct engine *e, int64_t deadline_ms) {
    int64_t id;
    do {
        id = (deadline_ms + 1) << RUN_ID_BITS | (int64_t)(random_u64() & RANDOM_MASK);
    } while (run_get(e, id));
    return id;
}

struct run *run_new(struct engine *e, struct channel *c, int64_t id, int64_t token,
                    int64_t first, int64_t last) {
    struct run *r = run_make(e, c, id, first, last, 1);
    if (!r) return NULL;
    r->token = token;
    r->owner = e->slot;
    r->claimed_at_ms = clock_wall_ms();
    r->unsaved = r->dirty = 1;
    leases_note(e, run_deadline_ms(id));
    return r;
}

static void state_put(struct run *r, int64_t message, enum member state) {
    int64_t i = message - r->first;
    int shift = (int)(i & 3) * 2;
    r->states[i >> 2] =
        (uint8_t)((r->states[i >> 2] & ~(3 << shift)) | (int)state << shift);
}

static enum member state_at(const uint8_t *states, int64_t i) {
    return (enum member)(states[i >> 2] >> ((int)(i & 3) * 2) & 3);
}

int run_hold(struct engine *e, struct run *r, int64_t message, uint32_t size,
             int64_t key) {
    int64_t span = r->last - r->first + 1, i = message - r->first;
    if (key && !r->keys) r->keys = calloc((size_t)span, sizeof *r->keys);
    if (key && !r->keys) {
        e->storage_error = SQLITE_NOMEM;
        return -1;
    }
    if (key) r->keys[i] = key;
    state_put(r, message, MEMBER_HELD);
    r->sizes[i] = size;
    r->held++;
    return 0;
}

int64_t run_key(struct engine *e, const struct run *r, int64_t message) {
    const struct channel *c = r->channel;
    if (c->options.ordered != ORDERED_BY_KEY) return 0;
    if (r->keys) return r->keys[message - r->first];
    sqlite3_stmt *s = statement_ints(e, ST_MESSAGE_KEY, c->shard, INTS(message));
    if (statement_step(e, s) <= 0) return storage_corrupt(e);
    int64_t key = key_hash(column_slice(s, 0));
    sq.reset(s);
    return key;
}

static void run_free(struct run *r) {
    free(r->keys);
    free(r);
}

enum member run_member(const struct run *r, int64_t message) {
    if (message < r->first || message > r->last) return MEMBER_LEFT;
    return state_at(r->states, message - r->first);
}

void run_set(struct run *r, int64_t message, enum member state) {
    state_put(r, message, state);
    r->held--;
    r->dirty = 1;
}

/* ---- in the file ---- */

/* How many members are held; -1 when one is in a state that there is not. */
static int held_count(const struct run *r) {
    int held = 0;
    for (int64_t i = 0; i <= r->last - r->first; i++) {
        enum member state = state_at(r->states, i);
        if (state > MEMBER_LEFT) return -1;
        held += state == MEMBER_HELD;
    }
    return held;
}

/* What the row says; NULL when there is none, or it is not what run_insert wrote. */
static struct run *run_read(struct engine *e, int64_t id) {
    sqlite3_stmt *s = statement_ints(e, ST_RUN_READ, 0, INTS(id));
    if (statement_step(e, s) <= 0) return NULL;
    int64_t subscription = sq.column_int64(s, 1), first = sq.column_int64(s, 2);
    int64_t last = sq.column_int64(s, 3), owner = sq.column_int64(s, 5);
    int64_t token = sq.column_int64(s, 6), claimed = sq.column_int64(s, 7);
    uint8_t states[EMBQ_RUN_IDS / 4];
    size_t size = (size_t)sq.column_bytes(s, 4);
    int fits = size > 0 && size <= sizeof states;
    if (fits) memcpy(states, sq.column_blob(s, 4), size);
    sq.reset(s);
    struct channel *c = fits ? channel_of_subscription(e, subscription) : NULL;
    /* In the channel's range first: then their difference is no overflow. */
    if (!c || id <= 0 || !channel_has_given_out(c, first) ||
        !channel_has_given_out(c, last) || last < first ||
        last - first >= EMBQ_RUN_IDS || message_lane(first) != message_lane(last) ||
        size != (size_t)(last - first) / 4 + 1) {
        storage_corrupt(e);
        return NULL;
    }
    struct run *r = run_make(e, c, id, first, last, 0);
    if (!r) return NULL;
    r->owner = owner;
    r->token = token;
    r->claimed_at_ms = claimed;
    memcpy(r->states, states, size);
    memcpy(r->stored, states, size);
    r->held = held_count(r);
    if (r->held < 0) storage_corrupt(e);
    return e->storage_error ? NULL : r;
}

struct run *run_get(struct engine *e, int64_t id) {
    for (struct run *r = *bucket_of(e, id); r; r = r->next)
        if (r->id == id && r->epoch == e->epoch) {
            channel_get(e, r->channel->id); /* it is used, and so will be written */
            return r;
        }
    return run_read(e, id);
}

static int acked_delete(struct engine *e, struct run *r, int64_t from, int64_t to) {
    struct channel *c = r->channel;
    int64_t first = r->first + from, last = r->first + to;
    int64_t size = 0;
    if (r->sizes_known)
        for (int64_t i = from; i <= to; i++)
            size += state_at(r->stored, i) == MEMBER_ACKED ? 0 : r->sizes[i];
    else size = statement_int(e, ST_MESSAGE_SIZES, c->shard, INTS(first, last), 0);
    c->sub.removed_bytes += size;
    return messages_delete(e, c, first, last);
}

/* Delete each stretch of acked members in which something is newly acked. */
static int run_delete_acked(struct engine *e, struct run *r) {
    int64_t count = r->last - r->first + 1;
    for (int64_t i = 0; i < count;) {
        int64_t start = i;
        int fresh = 0;
        while (i < count && state_at(r->states, i) == MEMBER_ACKED) {
            fresh |= state_at(r->stored, i) != MEMBER_ACKED;
            i++;
        }
        if (fresh && acked_delete(e, r, start, i - 1) < 0) return -1;
        if (i == start) i++;
    }
    memcpy(r->stored, r->states, sizeof r->stored);
    return 0;
}

static int run_insert(struct engine *e, const struct run *r) {
    sqlite3_stmt *s = statement(e, ST_RUN_INSERT, 0);
    if (!s) return -1;
    sq.bind_int64(s, 1, r->id);
    sq.bind_int64(s, 2, r->channel->sub.id);
    sq.bind_int64(s, 3, r->first);
    sq.bind_int64(s, 4, r->last);
    sq.bind_blob(s, 5, r->states, (int)((r->last - r->first) / 4 + 1), SQLITE_STATIC);
    sq.bind_int64(s, 6, r->owner);
    sq.bind_int64(s, 7, r->token);
    sq.bind_int64(s, 8, r->claimed_at_ms);
    return statement_run(e, s);
}

static int run_update(struct engine *e, const struct run *r) {
    sqlite3_stmt *s = statement(e, ST_RUN_WRITE, 0);
    if (!s) return -1;
    sq.bind_int64(s, 1, r->id);
    sq.bind_blob(s, 2, r->states, (int)((r->last - r->first) / 4 + 1), SQLITE_STATIC);
    return statement_run(e, s);
}

static int run_flush(struct engine *e, struct run *r) {
    if (run_delete_acked(e, r) < 0) return -1;
    int done = r->held > 0  ? (r->unsaved ? run_insert(e, r) : run_update(e, r))
               : r->unsaved ? 0
                            : statement_do(e, ST_RUN_DELETE, 0, INTS(r->id));
    r->dirty = r->unsaved = 0;
    return done;
}

int runs_flush(struct engine *e) {
    if (!e->run_count) return 0;
    for (int i = 0; i < RUN_BUCKETS; i++) {
        for (struct run **at = &e->runs[i]; *at;) {
            struct run *r = *at;
            if (r->epoch == e->epoch && r->dirty && run_flush(e, r) < 0) return -1;
            if (r->epoch == e->epoch && r->held > 0 && e->run_count <= RUNS_CACHED) {
                at = &r->next;
                continue;
            }
            *at = r->next;
            e->run_count--;
            run_free(r);
        }
    }
    return 0;
}

void runs_drop(struct engine *e) {
    for (int i = 0; i < RUN_BUCKETS; i++)
        while (e->runs[i]) {
            struct run *r = e->runs[i];
            e->runs[i] = r->next;
            run_free(r);
        }
    e->run_count = 0;
}

int run_expire(struct engine *e, struct run *r) {
    struct channel *c = r->channel;
    r->dirty = 1; /* also when nothing is held: then its row goes */
    for (int64_t id = r->first; id <= r->last; id++) {
        if (run_member(r, id) != MEMBER_HELD) continue;
        struct delivery d;
        if (delivery_of_run(e, r, id, &d) < 0 || delivery_expire(e, c, &d) < 0)
            return -1;
    }
    return 0;
}
