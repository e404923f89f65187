/* Channels: reading and writing their rows, declaring and creating queues. See store.h.
 *
 * A send writes its message and nothing else. The subscription's row says how many were
 * sent, and which sequence is next, as of the last time that it was written; what was
 * sent since is told by the last message: its sequence gives the number, its
 * total_bytes the sum of sizes. So the row must be written, at the latest, in the
 * transaction that removes a message, and is, as the removal is counted there too.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>

const struct channel *channel_known(const struct engine *e, int64_t id) {
    const struct channel *c = e->channels[id & (CHANNEL_BUCKETS - 1)];
    while (c && c->id != id) c = c->next;
    return c;
}

static struct channel *channel_slot(struct engine *e, int64_t id) {
    struct channel **bucket = &e->channels[id & (CHANNEL_BUCKETS - 1)];
    struct channel *c = (struct channel *)channel_known(e, id);
    if (c) return c;
    c = calloc(1, sizeof *c);
    if (!c) {
        e->storage_error = SQLITE_NOMEM;
        return NULL;
    }
    c->id = id;
    c->used = -1;
    c->next = *bucket;
    return *bucket = c;
}

static int counters_are_sound(const struct channel *c) {
    const struct subscription *u = &c->sub;
    const int64_t counters[] = {
        c->sent,          c->sent_bytes, u->removed,    u->in_flight,
        u->waiting,       u->delivered,  u->acked,      u->nacked,
        u->redelivered,   u->rejected,   u->expired,    u->dead,
        u->removed_bytes, u->dropped,    u->duplicates, u->redriven};
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
        if (!is_between(counters[i], 0, EMBQ_COUNTER_MAX)) return 0;
    return u->in_flight + u->waiting <= c->sent - u->removed;
}

int tail_read(struct statement_cache *statements, int64_t channel, int shard,
              int64_t lanes, struct tail *t) {
    int64_t before = t->next_sequence, last = 0;
    for (int lane = 0; lane < EMBQ_LANES; lane++) {
        if (!(lanes >> lane & 1)) continue;
        int64_t from = message_id(channel, lane, t->next_sequence);
        int64_t to = message_id(channel, lane, EMBQ_SEQUENCE_MAX - 1);
        int result = SQLITE_OK;
        sqlite3_stmt *s = statement_get(statements, ST_CHANNEL_TAIL, shard, &result);
        if (!s) return result;
        sq.bind_int64(s, 1, from);
        sq.bind_int64(s, 2, to);
        result = sq.step(s);
        if (result == SQLITE_ROW) {
            last = sq.column_int64(s, 0);
            t->sent_bytes = sq.column_int64(s, 1);
        }
        sq.reset(s);
        if (result == SQLITE_DONE) continue;
        if (result != SQLITE_ROW) return result;
        if (!is_between(last, from, to)) return SQLITE_CORRUPT;
        t->next_sequence = message_sequence(last) + 1;
    }
    t->sent += t->next_sequence - before;
    return SQLITE_OK;
}

static int channel_read_tail(struct engine *e, struct channel *c) {
    struct tail t = {c->stored_sequence, c->sent, c->sent_bytes};
    int result = tail_read(e->statements, c->id, c->shard, c->sub.lanes, &t);
    if (result != SQLITE_OK) {
        if (!e->storage_error) e->storage_error = result;
        return -1;
    }
    c->next_sequence = t.next_sequence;
    c->sent = t.sent;
    c->sent_bytes = t.sent_bytes;
    return 0;
}

static int channel_row_read(struct engine *e, struct channel *c) {
    sqlite3_stmt *s = statement_ints(e, ST_CHANNEL_READ, 0, INTS(c->id));
    int found = statement_step(e, s);
    if (found <= 0) return found;
    int64_t shard = sq.column_int64(s, 1);
    int kept = text_keep(e, &c->name, column_slice(s, 0));
    c->shard = (int)(shard & (EMBQ_SHARDS - 1));
    c->paused_until_ms = sq.column_int64(s, 2);
    int64_t kind = sq.column_int64(s, 3);
    c->kind = (int)(kind & 3);
    if (sq.column_int64(s, 4) != c->generation) c->retries_in_row = 0; /* of another */
    c->generation = sq.column_int64(s, 4);
    kept += options_from_row(e, s, 5, &c->options);
    sq.reset(s);
    if (kept < 0) return -1;
    return c->kind == kind && kind <= CHANNEL_WORN &&
                   (c->name != NULL) == (kind == CHANNEL_QUEUE) &&
                   is_between(c->generation, 0, EMBQ_GENERATION_MAX) &&
                   shard == c->shard && options_are_sound(&c->options)
               ? 1
               : storage_corrupt(e);
}

/* Whether the numbers can be what this core wrote. Others must go no further: an id out
 * of the channel's range would hand out another queue's messages. */
static int channel_is_sound(const struct channel *c) {
    for (int lane = 0; lane < EMBQ_LANES; lane++) {
        int64_t cursor = c->sub.cursor[lane];
        if (cursor && cursor != message_id(c->id, lane, 0) &&
            (!channel_has_given_out(c, cursor) || message_lane(cursor) != lane))
            return 0;
    }
    return counters_are_sound(c);
}

static int subscription_read(struct engine *e, struct channel *c) {
    sqlite3_stmt *s = statement_ints(e, ST_SUBSCRIPTION_READ, 0, INTS(c->id));
    if (statement_step(e, s) <= 0) return storage_corrupt(e);
    int column = 0;
    int64_t *counters[] = {
        &c->sub.removed,    &c->sub.removed_bytes, &c->sub.in_flight, &c->sub.waiting,
        &c->sub.delivered,  &c->sub.redelivered,   &c->sub.acked,     &c->sub.nacked,
        &c->sub.rejected,   &c->sub.expired,       &c->sub.dead,      &c->sub.dropped,
        &c->sub.duplicates, &c->sub.redriven};
    c->sub.id = sq.column_int64(s, column++);
    c->next_sequence = c->stored_sequence = sq.column_int64(s, column++);
    c->sent = sq.column_int64(s, column++);
    c->sent_bytes = sq.column_int64(s, column++);
    c->sub.lanes = sq.column_int64(s, column++) | LANES_NONE;
    for (int lane = 0; lane < EMBQ_LANES; lane++)
        c->sub.cursor[lane] = sq.column_int64(s, column++); /* null reads as 0 */
    for (size_t i = 0; i < sizeof counters / sizeof *counters; i++)
        *counters[i] = sq.column_int64(s, column++);
    sq.reset(s);
    if (!is_between(c->next_sequence, 1, EMBQ_SEQUENCE_MAX - 1))
        return storage_corrupt(e);
    if (channel_read_tail(e, c) < 0) return -1;
    return channel_is_sound(c) ? 1 : storage_corrupt(e);
}

static int channel_read(struct engine *e, struct channel *c) {
    int found = channel_row_read(e, c);
    if (found > 0) found = subscription_read(e, c);
    if (found <= 0) return found;
    c->epoch = e->epoch;
    c->dirty = 0;
    return 1;
}

struct channel *channel_get(struct engine *e, int64_t id) {
    if (!channel_is_possible(id)) return NULL;
    struct channel *c = channel_slot(e, id);
    if (!c || (c->epoch != e->epoch && channel_read(e, c) <= 0)) return NULL;
    if (c->used != e->transaction) {
        c->used = e->transaction;
        c->next_used = e->used;
        e->used = c;
    }
    return c;
}

struct channel *channel_of_subscription(struct engine *e, int64_t subscription) {
    int64_t id = statement_int(e, ST_SUBSCRIPTION_CHANNEL, 0, INTS(subscription), 0);
    return channel_get(e, id);
}

struct channel *channel_of_op(struct engine *e, const struct op *op, int64_t *code) {
    struct channel *c = channel_get(e, handle_channel(op->channel));
    if (c && !channel_is(c, op->channel)) c = NULL;
    *code = c                  ? 0
            : e->storage_error ? -1
                               : error_set(EMBQ_NOT_FOUND, "the queue is gone");
    return c;
}

int64_t channel_find(struct engine *e, const char *name, size_t size) {
    sqlite3_stmt *s = statement(e, ST_CHANNEL_BY_NAME, 0);
    int64_t id = 0;
    if (s) sq.bind_text(s, 1, name, (int)size, SQLITE_STATIC);
    int found = statement_step(e, s);
    if (found > 0) {
        id = sq.column_int64(s, 0);
        sq.reset(s);
        if (!channel_is_possible(id)) return storage_corrupt(e);
    }
    return found < 0 ? -1 : id;
}

/* Make a queue of a channel that is free: its sequences go on, so that no id is given
 * out twice, and so do its cursors; all that was counted begins anew. */
static int64_t channel_reuse(struct engine *e, int64_t id, struct slice name,
                             const struct options *o) {
    struct channel *c = channel_get(e, id);
    if (!c || c->kind != CHANNEL_FREE) return storage_corrupt(e);
    sqlite3_stmt *s = statement(e, ST_CHANNEL_REUSE, 0);
    if (!s) return -1;
    sq.bind_int64(s, 1, id);
    bind_slice(s, 2, name);
    sq.bind_int64(s, 3, clock_wall_ms());
    if (statement_run(e, s) < 0 || options_write(e, c, o) < 0) return -1;
    struct subscription before = c->sub;
    c->sub = (struct subscription){.id = before.id, .lanes = LANES_NONE};
    memcpy(c->sub.cursor, before.cursor, sizeof before.cursor);
    c->sent = c->sent_bytes = 0;
    c->dirty = 1;
    return channel_row_read(e, c) <= 0 ? storage_corrupt(e) : id;
}

int64_t channel_create(struct engine *e, const char *name, size_t size,
                       const struct options *o) {
    int64_t unused = statement_int(e, ST_CHANNEL_UNUSED, 0, 0, NULL, 0);
    if (unused) return channel_reuse(e, unused, (struct slice){name, size}, o);
    int64_t id = statement_int(e, ST_CHANNEL_NEXT_ID, 0, 0, NULL, -1);
    if (id < 1) return storage_corrupt(e); /* or failed already */
    if (id >= EMBQ_CHANNELS_MAX)
        return error_set(EMBQ_LIMIT_REACHED,
                         "the file has all %lld channels that it can have",
                         (long long)EMBQ_CHANNELS_MAX - 1);
    sqlite3_stmt *s = statement(e, ST_CHANNEL_INSERT, 0);
    if (!s) return -1;
    sq.bind_int64(s, 1, id);
    sq.bind_text(s, 2, name, (int)size, SQLITE_STATIC);
    /* Round robin: until there are 16 of them, each appends to a table of its own. */
    sq.bind_int64(s, 3, (id - 1) % EMBQ_SHARDS);
    options_bind(s, 4, o);
    sq.bind_int64(s, 21, clock_wall_ms());
    if (statement_run(e, s) < 0) return -1;
    if (statement_do(e, ST_SUBSCRIPTION_INSERT, 0, INTS(id)) < 0) return -1;
    return id;
}

int64_t channel_declare(struct engine *e, struct op *op) {
    struct slice packed = {op->bytes + op->size, op->extra_size};
    int64_t id = channel_find(e, op->bytes, op->size);
    if (!id && !packed.size) return error_set(EMBQ_NOT_FOUND, "no such queue");
    if (!id) {
        struct options o = {0};
        struct slice name = {op->bytes, op->size};
        int code = options_read(packed, &o);
        if (code == 0) code = options_check_cycle(e, name, &o);
        id = code < 0 ? code : channel_create(e, op->bytes, op->size, &o);
        free(o.dead_letter);
        op->full = 1; /* see below; one that was used before is no newer number */
    }
    if (id < 0) return id;
    struct channel *c = channel_get(e, id);
    if (!c) return storage_corrupt(e); /* its name is there, and its row is not */
    /* At normal too: a power cut that forgets a channel forgets which of its numbers
     * were seen outside, and they would be given out again (test_crash_images.py). */
    if (id > ATOMIC_LOAD(&e->channels_certain)) op->full = 1;
    op->out.size = 0;
    options_pack(&c->options, &op->out);
    op->count = 1;
    return handle_of(c->id, c->generation);
}

int channel_has_room(const struct channel *c, int64_t count) {
    if (c->next_sequence + count < EMBQ_SEQUENCE_MAX) return 0;
    return error_set(EMBQ_LIMIT_REACHED,
                     "queue %s has given out all its sequence numbers", c->name);
}

int64_t channel_allocate(struct channel *c, int64_t count) {
    int code = channel_has_room(c, count);
    if (code < 0) return code;
    int64_t first = c->next_sequence;
    c->next_sequence += count;
    return first;
}

static int subscription_write(struct engine *e, struct channel *c) {
    struct subscription *u = &c->sub;
    if (c->sent == u->removed) u->lanes = LANES_NONE; /* it is empty: a plain queue */
    const int64_t log[] = {c->next_sequence, c->sent, c->sent_bytes, u->lanes};
    const int64_t counters[] = {
        u->removed,     u->removed_bytes, u->in_flight,  u->waiting,  u->delivered,
        u->redelivered, u->acked,         u->nacked,     u->rejected, u->expired,
        u->dead,        u->dropped,       u->duplicates, u->redriven, u->id};
    sqlite3_stmt *s = statement(e, ST_SUBSCRIPTION_WRITE, 0);
    int index = 1;
    c->stored_sequence = c->next_sequence;
    for (size_t i = 0; s && i < sizeof log / sizeof *log; i++)
        sq.bind_int64(s, index++, log[i]);
    for (int lane = 0; s && lane < EMBQ_LANES; lane++, index++) {
        if (u->cursor[lane]) sq.bind_int64(s, index, u->cursor[lane]);
        else sq.bind_null(s, index);
    }
    for (size_t i = 0; s && i < sizeof counters / sizeof *counters; i++)
        sq.bind_int64(s, index++, counters[i]);
    return statement_run(e, s);
}

int channels_jump(struct engine *e, int64_t by) {
    int64_t id = 0;
    while ((id = statement_int(e, ST_CHANNEL_AFTER, 0, INTS(id), 0)) > 0) {
        struct channel *c = channel_get(e, id);
        if (!c) return storage_corrupt(e);
        c->next_sequence += by;
        if (c->next_sequence >= EMBQ_SEQUENCE_MAX)
            c->next_sequence = EMBQ_SEQUENCE_MAX - 1;
        c->dirty = 1;
    }
    return channels_flush(e);
}

int channels_flush(struct engine *e) {
    if (runs_flush(e) < 0) return -1;
    for (struct channel *c = e->used; c; c = c->next_used) {
        if (c->dirty && subscription_write(e, c) < 0) return -1;
        c->dirty = 0;
    }
    return e->storage_error ? -1 : 0;
}

void channels_free(struct engine *e) {
    for (int i = 0; i < CHANNEL_BUCKETS; i++) {
        for (struct channel *c = e->channels[i], *next; c; c = next) {
            next = c->next;
            free(c->name);
            free(c->options.dead_letter);
            free(c);
        }
        e->channels[i] = NULL;
    }
    e->used = NULL;
}
