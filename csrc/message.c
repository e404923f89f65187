/* Messages: handing over, removing, burying. See store.h, and send.c for storing. */
#include "checksum.h"
#include "store.h"

#include <stdlib.h>
#include <string.h>

enum {
    COL_ID,
    COL_SENT_AT,
    COL_TYPE,
    COL_SOURCE,
    COL_KEY,
    COL_PUBLIC_ID,
    COL_ATTRIBUTES,
    COL_HISTORY,
    COL_BODY,
    COL_FLAGS,
    COL_EXPIRES_AT
};

void public_id_write(const struct engine *e, int64_t row,
                     char made[PUBLIC_ID_SIZE + 1]) {
    snprintf(made, PUBLIC_ID_SIZE + 1, "%016llx%016llx", (unsigned long long)e->file_id,
             (unsigned long long)row);
}

struct slice public_id_of(const struct engine *e, sqlite3_stmt *row, int64_t message,
                          char made[PUBLIC_ID_SIZE + 1]) {
    struct slice id = column_slice(row, COL_PUBLIC_ID);
    if (id.data) return id;
    public_id_write(e, message, made);
    return (struct slice){made, PUBLIC_ID_SIZE};
}

int64_t public_id_place(const struct engine *e, struct slice id) {
    char text[PUBLIC_ID_SIZE + 1], made[PUBLIC_ID_SIZE + 1];
    memcpy(text, id.data, PUBLIC_ID_SIZE);
    text[PUBLIC_ID_SIZE] = 0;
    int64_t row = (int64_t)strtoull(text + PUBLIC_ID_SIZE / 2, NULL, 16);
    public_id_write(e, row, made);
    return strcmp(text, made) ? 0 : row;
}

int message_pack_row(const struct engine *e, sqlite3_stmt *row, int64_t message,
                     int64_t receive_count, struct slice receipt, struct packer *out) {
    char made[PUBLIC_ID_SIZE + 1];
    struct slice id = public_id_of(e, row, message, made);
    pack_array(out, 12);
    pack_text(out, id.data, id.size);
    pack_int(out, sq.column_int64(row, COL_SENT_AT));
    for (int column = COL_TYPE; column <= COL_HISTORY; column++) {
        if (column == COL_PUBLIC_ID) continue;
        struct slice text = column_slice(row, column);
        pack_text(out, text.data, text.size);
    }
    int64_t priority = sq.column_int64(row, COL_FLAGS) & MESSAGE_PRIORITY;
    pack_int(out, priority);
    if (sq.column_type(row, COL_EXPIRES_AT) == SQLITE_NULL) pack_nil(out);
    else pack_int(out, sq.column_int64(row, COL_EXPIRES_AT));
    pack_int(out, receive_count);
    pack_blob(out, receipt.data, receipt.size);
    /* The blob first: asking for it may convert, and the size is of what it converted
     * to. */
    int is_sound =
        sq.column_type(row, COL_BODY) == SQLITE_BLOB && priority <= EMBQ_PRIORITY_MAX;
    const void *body = sq.column_blob(row, COL_BODY);
    pack_blob(out, body, (size_t)sq.column_bytes(row, COL_BODY));
    return is_sound ? 0 : -1;
}

void message_pack(struct engine *e, sqlite3_stmt *row, const struct delivered *d,
                  struct op *claim) {
    const int64_t receipt[] = {d->run, d->token, d->message};
    const struct slice text = {(const char *)receipt, sizeof receipt};
    if (message_pack_row(e, row, d->message, d->receive_count, text, &claim->out) < 0)
        storage_corrupt(e);
    pack_raw(&claim->receipts, receipt, sizeof receipt);
}

int message_is_damaged(sqlite3_stmt *row) {
    int64_t flags = sq.column_int64(row, COL_FLAGS);
    /* What is no blob is told by who packs it. */
    if (sq.column_type(row, COL_BODY) != SQLITE_BLOB) return 0;
    const void *body = sq.column_blob(row, COL_BODY);
    return flags_deny(flags, body, (size_t)sq.column_bytes(row, COL_BODY));
}

int64_t message_remove(struct engine *e, struct channel *c, int64_t id) {
    int64_t size = statement_int(e, ST_MESSAGE_SIZE, c->shard, INTS(id), -1);
    if (size < 0) return storage_corrupt(e); /* a delivery of nothing */
    return messages_delete(e, c, id, id) < 0 ? -1 : size;
}

int messages_delete(struct engine *e, struct channel *c, int64_t first, int64_t last) {
    c->dirty = 1;
    if (c->sub.lanes & LANES_EXPIRY &&
        statement_do(e, ST_EXPIRY_DELETE_RANGE, c->shard, INTS(first, last)) < 0)
        return -1;
    return first == last
               ? statement_do(e, ST_MESSAGE_DELETE, c->shard, INTS(first))
               : statement_do(e, ST_MESSAGE_DELETE_RANGE, c->shard, INTS(first, last));
}

/* The queue that a dead letter of `c` goes to; made with the codec of `c` when it is
 * not there. It has no dead-letter queue of its own, so nothing goes round in circles.
 */
struct channel *message_grave(struct engine *e, const struct channel *c) {
    const char *name = c->options.dead_letter;
    int64_t id = channel_find(e, name, strlen(name));
    if (id == 0) {
        struct options o = c->options;
        o.dead_letter = NULL;
        o.ordered = ORDERED_NOT;
        o.delay_ms = o.ttl_ms = 0;
        o.max_messages = o.max_bytes = 0;
        o.overflow = OVERFLOW_BLOCK;
        id = channel_create(e, name, strlen(name), &o);
    }
    if (id < 0) {
        /* A limit is no storage error by itself, but the message has nowhere to go. */
        if (!e->storage_error) e->storage_error = SQLITE_FULL;
        return NULL;
    }
    struct channel *to = channel_get(e, id);
    if (!to) storage_corrupt(e);
    return to;
}

/* Read what moves, with what a burial adds to its history; or -1. */
static int move_read(struct engine *e, const struct channel *c, int64_t id,
                     const struct burial *b, const char *made, sqlite3_stmt *from) {
    sq.bind_int64(from, 1, id);
    sq.bind_text(from, 2, b ? c->name : NULL, -1, SQLITE_STATIC);
    if (b) {
        sq.bind_text(from, 3, b->reason, -1, SQLITE_STATIC);
        bind_slice(from, 4, b->error);
        sq.bind_int64(from, 5, b->receive_count);
        bind_or_null(from, 6, b->first_at_ms);
        sq.bind_int64(from, 7, clock_wall_ms());
    }
    sq.bind_text(from, 8, made, -1, SQLITE_STATIC);
    if (statement_step(e, from) <= 0) return storage_corrupt(e);
    if (sq.column_type(from, 8) == SQLITE_BLOB) return 0;
    sq.reset(from);
    return storage_corrupt(e);
}

int64_t message_move(struct engine *e, struct channel *c, int64_t id,
                     struct channel *to, const struct burial *b) {
    int64_t sequence = channel_allocate(to, 1);
    sqlite3_stmt *from = statement(e, ST_MESSAGE_MOVE, c->shard);
    sqlite3_stmt *into = statement(e, ST_MESSAGE_ARRIVE, to->shard);
    if (sequence < 0 || !from || !into) {
        if (!e->storage_error) e->storage_error = SQLITE_FULL;
        return -1;
    }
    char made[PUBLIC_ID_SIZE + 1];
    public_id_write(e, id, made);
    if (move_read(e, c, id, b, made, from) < 0) return -1;
    int64_t flags = sq.column_int64(from, 0);
    if (to->options.ordered) /* which knows no other, as the lane tells the priority */
        flags = (flags & ~(int64_t)MESSAGE_PRIORITY) | EMBQ_PRIORITY_DEFAULT;
    int lane = lane_of_priority(flags & MESSAGE_PRIORITY);
    int64_t moved = message_id(to->id, lane, sequence);
    int64_t expires_ms =
        b || !to->options.ttl_ms ? 0 : clock_wall_ms() + to->options.ttl_ms;
    channel_use(to, (int64_t)1 << lane);
    sq.bind_int64(into, 1, moved);
    sq.bind_int64(into, 2, flags);
    sq.bind_int64(into, 3, sq.column_int64(from, 1));
    for (int column = 2; column < 8; column++)
        bind_slice(into, column + 2, column_slice(from, column));
    const void *body = sq.column_blob(from, 8);
    int64_t size = sq.column_bytes(from, 8);
    sq.bind_blob(into, 10, body ? body : "", (int)size, SQLITE_STATIC);
    to->sent++;
    to->sent_bytes += size;
    sq.bind_int64(into, 11, to->sent_bytes);
    bind_or_null(into, 12, expires_ms);
    int done = statement_step(e, into);
    sq.reset(from);
    if (done < 0 || messages_delete(e, c, id, id) < 0) return -1;
    if (expires_ms && timer_expire_at(e, to, expires_ms, moved) < 0) return -1;
    channel_offer(e, to);
    return size;
}
