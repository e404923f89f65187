/* Any bytes, and any numbers, across the C boundary.
 *
 * The records are calls of embq_api.h, in any order, on three brokers (two of one file,
 * one of another), two consumers, four tickets. What Python guarantees is kept (the
 * contract):
 *
 *  - handles are those that a call gave, used until they are freed, and freed before
 *    their broker; strings end with NUL, sizes are those of the buffers;
 *  - `count` receipts lie in their buffer, so `count` is not negative;
 *  - a call that was interrupted is resumed or abandoned before what it works on is
 *    closed;
 *  - what binds SQLite or maps the clocks is called at the start only, and
 *    embq_after_fork_child in a child only;
 *  - a wait for ever is not asked for: nobody would end it.
 *
 * All else is free: channels, limits, flags, verbs, delays, timeouts, prefetch, names,
 * options, fields, bodies, batches, receipts, paths.
 */
#include "boundary.h"

struct boundary boundary;

/* So long a send waits for room, and a flush or a close for staged ones that do: nobody
 * makes any meanwhile. */
#define BUSY_MS 30

static const char *paths[2];

static void boundary_prepare(void) {
    paths[0] = folder_path("one.db");
    paths[1] = folder_path("two.db");
}

int64_t checked(int64_t code) {
    code = resumed(code);
    CHECK(code_is_typed(code));
    CHECK(code != EMBQ_CORRUPT && code != EMBQ_NOT_AN_EMBQ_FILE);
    return code;
}

void pending_end(void) {
    /* Abandon: at most so many can be interrupted in one case. */
    for (int i = 0; i < 64; i++) embq_abandon();
}

/* ---- opening and closing ---- */

void broker_open(int which, int64_t disk_reserve) {
    const char *path = paths[which == BROKERS - 1];
    if (boundary.brokers[which]) return;
    checked(embq_open(path, which == 1 ? EMBQ_OPEN_FULL : 0, BUSY_MS, disk_reserve,
                      &boundary.brokers[which]));
}

void broker_free(int which) {
    pending_end();
    for (int i = 0; i < CONSUMERS; i++) {
        struct consumer_slot *c = &boundary.consumers[i];
        if (c->ref && c->broker == which) embq_consumer_free(c->ref), c->ref = 0;
    }
    for (int i = 0; i < TICKETS; i++) {
        struct ticket_slot *t = &boundary.tickets[i];
        if (t->ref && t->broker == which) embq_ticket_free(t->ref), t->ref = 0;
    }
    if (boundary.brokers[which]) embq_broker_free(boundary.brokers[which]);
    boundary.brokers[which] = 0;
}

/* ---- what must hold ---- */

int64_t total_of(int broker) {
    embq_ref b = boundary.brokers[broker];
    embq_bytes names = {0};
    int64_t total = 0;
    if (resumed(embq_ping(b, 5000)) < 0) return -1;
    /* A staged send that waits for room is stored whenever there is some. */
    if (ATOMIC_LOAD(&broker_of(b)->engine->line_count)) return -1;
    if (embq_queues(b, &names) < 0) return -1;
    struct unpacker u = unpack_from(names.data, (size_t)names.size);
    for (uint32_t left = unpack_array(&u); left; left--) {
        CHECK(unpack_array(&u) == 2);
        int64_t channel = unpack_int(&u), depth = embq_depth(b, channel);
        embq_bytes stats = {0};
        CHECK(depth >= 0 && unpack_slice(&u).data);
        CHECK(embq_stats(b, channel, &stats) == 0);
        /* A claim that waits lets perish what is to, whenever it looks. */
        total += depth + stat_of(&stats, "dropped");
        embq_bytes_free(&stats);
    }
    CHECK(!u.failed && u.next == u.end);
    embq_bytes_free(&names);
    return total;
}

void batch_note(const embq_bytes *batch, int64_t count, int64_t channel) {
    if (count <= 0) return;
    boundary.given_count +=
        batch_read(batch, (int)count, channel, boundary.given + boundary.given_count,
                   GIVEN_MAX - boundary.given_count);
}

int receipt_was_given(const char *receipt) {
    for (int i = 0; i < boundary.given_count; i++)
        if (!memcmp(boundary.given[i].bytes + 8, receipt + 8, EMBQ_RECEIPT_SIZE - 8))
            return 1;
    /* What was not noted cannot be told from what was forged. */
    return boundary.given_count == GIVEN_MAX;
}

/* ---- the target ---- */

static void boundary_run(const struct input *in) {
    boundary = (struct boundary){0};
    clocks_set(0, 0);
    for (int i = 0; i < 2; i++) {
        file_clear(paths[i]);
        file_write(paths[i], file_empty());
    }
    broker_open(0, -1);
    for (int i = 0; i < in->count; i++) {
        struct record r = input_record(in, i);
        calls_run(in, &r);
    }
    for (int i = 0; i < BROKERS; i++) broker_free(i);
    operations_check();
}

static const uint8_t kinds[] = {
    CALL_OPEN,          CALL_OPEN_ANY,      CALL_CLOSE,         CALL_DECLARE,
    CALL_DECLARE,       CALL_SEND,          CALL_SEND,          CALL_SEND_MANY,
    CALL_SEND_MANY,     CALL_SEND_NOWAIT,   CALL_TICKET,        CALL_CLAIM,
    CALL_CLAIM,         CALL_SETTLE,        CALL_SETTLE,        CALL_SETTLE_MANY,
    CALL_FORGE,         CALL_ACK_NOWAIT,    CALL_READ,          CALL_CONSUMER_OPEN,
    CALL_CONSUMER_NEXT, CALL_CONSUMER_NEXT, CALL_CONSUMER_TAKE, CALL_CONSUMER_CLOSE,
    CALL_FLUSH,         CALL_INTERRUPT,     CALL_RESUME,        CALL_FORK,
    CALL_MOVE_CLOCKS,   CALL_ADMIN,
};

const struct target boundary_target = {"boundary", boundary_prepare, boundary_run,
                                       kinds, LENGTH(kinds)};
