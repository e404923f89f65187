/* Reads: depth, counters, names. On the readers' connection, so they wait for no
 * writer; each is one short read transaction, as a long one keeps the WAL from starting
 * over. */
#include "reading.h"
#include "store.h"

#include <string.h>

static const char *const total_names[TOTALS] = {
    "delivered", "redelivered", "acked",   "nacked",     "rejected",
    "expired",   "dead",        "dropped", "duplicates", "redriven"};

/* What can be added up, and makes no depth below 0, which would pass for a code. */
static int counts_are_sound(const struct counts *n) {
    const int64_t parts[] = {n->sent,          n->sent_bytes, n->removed,
                             n->removed_bytes, n->in_flight,  n->waiting};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i] < 0 || parts[i] > EMBQ_COUNTER_MAX) return 0;
    return n->in_flight + n->waiting <= n->sent - n->removed;
}

int counts_read(struct reading *r, int64_t handle, struct counts *n) {
    int64_t channel = handle_channel(handle);
    if (!channel_is_possible(channel)) return 0;
    sqlite3_stmt *s = reading_ints(r, ST_CHANNEL_READ, 0, INTS(channel));
    if (!reading_step(r, s)) return 0;
    n->shard = sq.column_int64(s, 1);
    n->paused_until_ms = sq.column_int64(s, 2);
    n->ordered = sq.column_int64(s, CHANNEL_ORDERED);
    int there = sq.column_type(s, 0) != SQLITE_NULL; /* a name: see channel_is() */
    there &= sq.column_int64(s, 4) == handle_generation(handle);
    sq.reset(s);
    if (!there) return 0;
    s = reading_ints(r, ST_SUBSCRIPTION_READ, 0, INTS(channel));
    if (!reading_step(r, s)) return reading_corrupt(r);
    int column = 0;
    n->subscription = sq.column_int64(s, column++);
    n->next_sequence = sq.column_int64(s, column++);
    n->sent = sq.column_int64(s, column++);
    n->sent_bytes = sq.column_int64(s, column++);
    n->lanes = sq.column_int64(s, column++) | LANES_NONE;
    for (int lane = 0; lane < EMBQ_LANES; lane++)
        n->cursor[lane] = sq.column_int64(s, column++);
    int64_t *after[] = {&n->removed, &n->removed_bytes, &n->in_flight, &n->waiting};
    for (int i = 0; i < 4; i++) *after[i] = sq.column_int64(s, column++);
    for (int i = 0; i < TOTALS; i++) n->totals[i] = sq.column_int64(s, column++);
    sq.reset(s);
    if (n->shard < 0 || n->shard >= EMBQ_SHARDS || n->next_sequence < 1 ||
        n->next_sequence >= EMBQ_SEQUENCE_MAX)
        return reading_corrupt(r);
    struct tail tail = {n->next_sequence, n->sent, n->sent_bytes};
    r->result =
        tail_read(r->e->read_statements, channel, (int)n->shard, n->lanes, &tail);
    n->next_sequence = tail.next_sequence;
    n->sent = tail.sent;
    n->sent_bytes = tail.sent_bytes;
    if (r->result != SQLITE_OK) return 0;
    return counts_are_sound(n) ? 1 : reading_corrupt(r);
}

long long embq_depth(embq_ref broker, long long channel) {
    struct reading r;
    struct counts n;
    int code = reading_begin(&r, broker_of(broker));
    if (code < 0) return code;
    return reading_end(&r, counts_read(&r, channel, &n) ? n.sent - n.removed
                                                        : reading_gone(&r));
}

/* Rows that wait for a time to come. Their number is what this costs. */
static int64_t delayed_count(struct reading *r, const struct counts *n) {
    int64_t count = 0, now = clock_wall_ms(), id = n->subscription;
    for (int lane = 0; lane < EMBQ_LANES; lane++) {
        if (!(n->lanes >> lane & 1)) continue;
        if (n->waiting)
            count += reading_int(r, ST_DELIVERY_DELAYED, 0, INTS(id, lane, 0, now), 0);
        if (n->lanes & LANES_DEFERRED)
            count += reading_int(r, ST_DUE_COUNT, 0, INTS(id, lane, now), 0);
    }
    return count;
}

/* Known to wait behind others of their keys: so much is what this costs. */
static int64_t blocked_count(struct reading *r, const struct counts *n) {
    if (!n->waiting) return 0;
    return reading_int(r, ST_DELIVERY_BLOCKED, 0,
                       INTS(n->subscription, EMBQ_LANE_DEFAULT), 0);
}

/* When the oldest message was sent, -1 when there is none. */
static int64_t oldest_ms(struct reading *r, int64_t channel, const struct counts *n) {
    int64_t oldest = -1;
    for (int lane = 0; lane < EMBQ_LANES; lane++) {
        if (!(n->lanes >> lane & 1)) continue;
        int64_t first = message_id(channel, lane, 0);
        int64_t last = message_id(channel, lane, n->next_sequence - 1);
        int64_t sent_at =
            reading_int(r, ST_MESSAGE_OLDEST, (int)n->shard, INTS(first, last), -1);
        if (oldest < 0 || (sent_at >= 0 && sent_at < oldest)) oldest = sent_at;
    }
    return oldest;
}

static void pack_named(struct packer *p, const char *name, int64_t value) {
    pack_text(p, name, strlen(name));
    pack_int(p, value);
}

static void channel_stats(struct reading *r, int64_t channel, const struct counts *n,
                          struct packer *p) {
    int64_t messages = n->sent - n->removed, delayed = delayed_count(r, n);
    int64_t blocked = blocked_count(r, n);
    int64_t sent_at = oldest_ms(r, handle_channel(channel), n);
    pack_map(p, 9 + TOTALS);
    pack_named(p, "messages", messages);
    pack_named(p, "ready", messages - n->in_flight - delayed - blocked);
    pack_named(p, "delayed", delayed);
    pack_named(p, "blocked", blocked);
    pack_named(p, "in_flight", n->in_flight);
    pack_named(p, "bytes", n->sent_bytes - n->removed_bytes);
    pack_named(p, "sent", n->sent);
    pack_named(p, "sent_bytes", n->sent_bytes);
    for (int i = 0; i < TOTALS; i++) pack_named(p, total_names[i], n->totals[i]);
    pack_text(p, "oldest_ms", 9);
    if (sent_at < 0) pack_nil(p);
    else pack_int(p, clock_wall_ms() - sent_at);
}

static void engine_stats(const struct broker *b, struct packer *p) {
    const struct engine *e = b->engine;
    pack_map(p, 8);
    pack_named(p, "groups", ATOMIC_LOAD(&e->groups));
    pack_named(p, "operations", ATOMIC_LOAD(&e->operations));
    pack_named(p, "syncs", ATOMIC_LOAD(&e->syncs));
    pack_named(p, "checkpoints", ATOMIC_LOAD(&e->checkpoints));
    pack_named(p, "wal_bytes",
               (int64_t)wal_frames(&e->wal) * (wal_page_size(&e->wal) + 24));
    pack_named(p, "wal_held_ms", checkpoint_held_ms(e));
    pack_named(p, "unawaited_failures", ATOMIC_LOAD(&b->unawaited));
    pack_text(p, "sqlite_version", 14);
    pack_text(p, sq.libversion(), strlen(sq.libversion()));
}

int embq_stats(embq_ref broker, long long channel, embq_bytes *out) {
    struct reading r;
    struct counts n;
    struct packer p = {0};
    int64_t code = reading_begin(&r, broker_of(broker));
    if (code < 0) return (int)code;
    if (!channel) engine_stats(r.broker, &p);
    else if (counts_read(&r, channel, &n)) channel_stats(&r, channel, &n, &p);
    else code = reading_gone(&r);
    return (int)reading_answer(&r, code, &p, out);
}

static void redrive_pack(struct reading *r, int64_t channel, struct packer *p) {
    sqlite3_stmt *s = reading_ints(r, ST_REDRIVE_READ, 0, INTS(channel));
    int found = reading_step(r, s);
    pack_array(p, found ? 4 : 0);
    for (int column = 0; found && column < 4; column++)
        pack_int(p, sq.column_int64(s, column));
    if (found) sq.reset(s);
}

int embq_redrive_look(embq_ref broker, long long channel, embq_bytes *out) {
    struct reading r;
    struct packer p = {0};
    int64_t code = reading_begin(&r, broker_of(broker));
    if (code < 0) return (int)code;
    redrive_pack(&r, handle_channel(channel), &p);
    return (int)reading_answer(&r, 0, &p, out);
}

int embq_queues(embq_ref broker, embq_bytes *out) {
    struct reading r;
    struct packer p = {0};
    uint32_t count = 0;
    int64_t code = reading_begin(&r, broker_of(broker));
    if (code < 0) return (int)code;
    pack_array(&p, 0);
    sqlite3_stmt *s = reading_ints(&r, ST_CHANNEL_ALL, 0, 0, NULL);
    while (reading_step(&r, s)) {
        struct slice name = column_slice(s, 1);
        pack_array(&p, 2);
        pack_int(&p, sq.column_int64(s, 0));
        pack_text(&p, name.data, name.size);
        count++;
    }
    pack_array_count(&p, 0, count);
    return (int)reading_answer(&r, 0, &p, out);
}
