/* Any calls on a file that may be damaged, and then the ones that must come to an end
 * on every file: look at each queue, take all that it gives, close.
 */
#include "fuzz.h"

enum verb {
    VERB_DECLARE,
    VERB_SEND,
    VERB_SEND_MANY,
    VERB_SEND_NOWAIT,
    VERB_CLAIM,
    VERB_SETTLE,
    VERB_FORGE,
    VERB_STATS,
    VERB_MOVE_CLOCKS,
    VERB_OWN, /* an operation of the engine's own */
    VERB_CONSUME,
    VERB_TAKE,
    VERB_ACK_NOWAIT,
    VERB_REOPEN,
    VERB_DRAIN,
    VERB_FLUSH
};

_Static_assert(VERB_FLUSH == VERBS - 1, "VERBS counts them");

#define BUSY_MS 200 /* a close waits for so long for staged sends without room ... */
#define SEND_MS 20  /* ... and a send, a flush */
#define HELD_MAX 256
#define LOOKED_MOST 64
#define DRAIN_ROUNDS 512
#define EMPTY_ROUNDS 3 /* in a row, days apart */
#define DAY_MS ((int64_t)86400000)

static struct driver {
    const char *path;
    embq_ref broker, consumer;
    int64_t consumer_channel;
    int64_t channels[SEED_QUEUES];
    struct receipt_of held[HELD_MAX];
    int count;
    int sound;  /* the file was not damaged */
    int failed; /* some call said that something is wrong with the file */
} d;

/* What may be said of a file that was not damaged. */
static int code_is_harmless(int64_t code) {
    return code >= 0 || code == EMBQ_NOT_FOUND || code == EMBQ_LEASE_LOST ||
           code == EMBQ_INVALID_RECEIPT || code == EMBQ_INVALID_ARGUMENT ||
           code == EMBQ_MESSAGE_TOO_LARGE || code == EMBQ_QUEUE_FULL ||
           code == EMBQ_BUSY ||
           code == EMBQ_COMMIT_UNCERTAIN; /* the last two: a machine under load */
}

static int64_t checked(int64_t code) {
    code = resumed(code);
    CHECK(code_is_typed(code));
    if (d.sound) CHECK(code_is_harmless(code));
    d.failed |= !code_is_harmless(code);
    return code;
}

static void opened(int full) {
    embq_ref broker = 0;
    int code = embq_open(d.path, full ? EMBQ_OPEN_FULL : 0, BUSY_MS, -1, &broker);
    if (code == EMBQ_NO_SCHEMA && !d.sound) d.failed = 1;
    else checked(code);
    CHECK((code == 0) == (broker != 0));
    d.broker = broker;
}

static void look_up(int which) {
    embq_bytes stored = {0};
    const char *name = seed_queues[which];
    int64_t id = checked(embq_declare(d.broker, name, strlen(name), NULL, 0, &stored));
    d.channels[which] = id > 0 ? id : 0;
    embq_bytes_free(&stored);
}

static int64_t channel_at(uint8_t a) {
    return d.channels[a % SEED_QUEUES];
}

static int claim(int64_t channel, int limit, int flags) {
    embq_bytes batch = {0};
    int room = HELD_MAX - d.count;
    int64_t code = checked(embq_claim(d.broker, channel, limit, 0, flags, &batch));
    int count = claimed(d.broker, code);
    if (count > 0) {
        int kept = batch_read(&batch, count, channel, d.held + d.count, room);
        if (!flags) d.count += kept;
    }
    embq_bytes_free(&batch);
    return count;
}

static void settle(const struct receipt_of *r, int verb, int64_t delay_ms) {
    checked(
        embq_settle(d.broker, r->channel, verb, r->bytes, 1, delay_ms, "why", 3, -1));
}

/* ---- one record ---- */

static void declare(const struct input *in, const struct record *r) {
    static const char *const names[] = {"a.dead", "b.dead", "a", "b", NULL};
    struct slice name = input_bytes(in, r->n);
    const struct queue_options options = {"json",
                                          names[r->a % LENGTH(names)],
                                          1 + (r->v & 0xffff),
                                          1 + r->b % 4,
                                          1000,
                                          300000,
                                          1 << 20,
                                          2.0,
                                          0,
                                          r->b & 8 ? 1000 : 0,
                                          (r->b >> 4) % 3,
                                          bounds_of(r->v)};
    struct packer p = options_packed(&options);
    embq_bytes stored = {0};
    int64_t id = name.size ? checked(embq_declare(d.broker, name.data, name.size,
                                                  p.data, p.size, &stored))
                           : 0;
    if (id > 0) d.channels[SEED_QUEUES - 1] = id;
    embq_bytes_free(&stored);
    pack_free(&p);
    free((char *)name.data);
}

static void send(const struct input *in, const struct record *r) {
    struct slice body = input_bytes(in, r->n);
    int64_t channel = channel_at(r->a);
    if (r->kind == VERB_FIRST + VERB_SEND) {
        checked(embq_send(d.broker, channel, body.data, body.size, "", 0, SEND_MS));
    } else if (r->kind == VERB_SEND_MANY + VERB_FIRST) {
        struct packer p = {0};
        pack_array(&p, r->b % 8);
        for (int i = 0; i < r->b % 8; i++) pack_blob(&p, body.data, body.size);
        checked(embq_send_many(d.broker, channel, p.data, p.size, SEND_MS, NULL));
        pack_free(&p);
    } else {
        embq_ref ticket =
            embq_send_nowait(d.broker, channel, body.data, body.size, "", 0);
        checked(ticket);
        if (ticket > 0) {
            int64_t row = r->b % 2 ? EMBQ_INTERRUPTED : 0;
            while (row == EMBQ_INTERRUPTED) row = embq_ticket_wait(ticket, SEND_MS);
            if (row != EMBQ_NOT_YET) checked(row); /* else it waits for room */
            embq_ticket_free(ticket);
        }
    }
    free((char *)body.data);
}

/* A receipt of our own, or one with other numbers: that one may settle nothing. */
static void settle_any(const struct record *r) {
    if (!d.count) return;
    struct receipt_of it = d.held[r->a % d.count];
    int64_t words[3], delay_ms = r->n % 4 ? (int64_t)(r->n % 100000) : -1;
    if (r->kind == VERB_FIRST + VERB_FORGE) {
        memcpy(words, it.bytes, sizeof words);
        words[r->c % 3] = input_number(r->b, r->v);
        memcpy(it.bytes, words, sizeof words);
    }
    if (r->kind == VERB_FIRST + VERB_ACK_NOWAIT)
        checked(embq_ack_nowait(d.broker, it.channel, it.bytes));
    else settle(&it, 1 + r->b % 5, delay_ms);
}

/* Of the first message that a browse shows. */
static void explain(int64_t channel, const embq_bytes *browsed) {
    embq_bytes answer = {0};
    struct unpacker u = unpack_from(browsed->data, (size_t)browsed->size);
    CHECK(unpack_array(&u) && unpack_array(&u) == 7);
    unpack_int(&u); /* row */
    CHECK(unpack_array(&u) == 12);
    struct slice id = unpack_slice(&u);
    CHECK(id.data);
    checked(embq_get(d.broker, channel, id.data, id.size, &answer));
    embq_bytes_free(&answer);
    answer = (embq_bytes){0};
    checked(embq_explain(d.broker, channel, id.data, id.size, &answer));
    embq_bytes_free(&answer);
}

static void stats(int64_t channel) {
    embq_bytes answer = {0}, peeked = {0}, browsed = {0};
    checked(embq_depth(d.broker, channel));
    checked(embq_stats(d.broker, channel, &answer));
    checked(embq_peek(d.broker, channel, LOOKED_MOST, &peeked));
    if (checked(embq_browse(d.broker, channel, 0, LOOKED_MOST, &browsed)) > 0)
        explain(channel, &browsed);
    embq_bytes_free(&answer);
    embq_bytes_free(&peeked);
    embq_bytes_free(&browsed);
}

/* As the keeper does it, but now: its ticks are further apart than a case is long. */
static void own(const struct record *r) {
    static const enum op_kind kinds[] = {OP_RECOVER, OP_CHECKPOINT, OP_VACUUM,
                                         OP_EXTEND};
    struct engine *e = broker_of(d.broker)->engine;
    int64_t slot = r->b % 2 ? r->b : input_number(r->c, r->v);
    keeper_stage(e, kinds[r->a % LENGTH(kinds)], slot);
    checked(embq_ping(d.broker, -1));
}

static void consumer_end(void) {
    if (!d.consumer) return;
    checked(embq_consumer_close(d.consumer));
    embq_consumer_free(d.consumer);
    d.consumer = 0;
}

static void consume(const struct record *r) {
    embq_bytes batch = {0};
    if (!d.consumer) {
        d.consumer_channel = channel_at(r->a);
        d.consumer =
            embq_consumer_open(d.broker, d.consumer_channel, r->b % 20, r->c & 1);
        CHECK(d.consumer);
    }
    int64_t code = embq_consumer_ready(d.consumer, &batch);
    if (!code) code = checked(embq_consumer_next(d.consumer, 0, &batch));
    int count = claimed(d.broker, code);
    struct receipt_of unused[1];
    if (count > 0) batch_read(&batch, count, d.consumer_channel, unused, 0);
    embq_bytes_free(&batch);
}

static void take(const struct record *r) {
    for (int i = 0; d.consumer && i < r->a; i++)
        if (embq_consumer_take(d.consumer) != 1) break;
    if (r->b % 2) consumer_end();
}

static void closed(void) {
    consumer_end();
    if (!d.broker) return;
    checked(embq_close(d.broker));
    embq_broker_free(d.broker);
    d.broker = 0;
}

/* Take all that there is, over the ends of all leases and delays; 1 when nothing was
 * left at the end. */
static int drain(int64_t channel, int flags) {
    int empty = 0;
    for (int round = 0; round < DRAIN_ROUNDS && channel; round++) {
        int first = d.count;
        int count = claim(channel, round % 2 ? 1 : 100, flags);
        if (count < 0) return 0;
        for (int i = first; i < d.count; i++) settle(&d.held[i], EMBQ_ACK, -1);
        d.count = first;
        empty = count ? 0 : empty + 1;
        if (empty == EMPTY_ROUNDS) return 1;
        if (empty) clocks_move(DAY_MS);
    }
    return 0;
}

static void record_run(const struct input *in, const struct record *r) {
    int64_t channel = channel_at(r->a);
    switch (r->kind - VERB_FIRST) {
    case VERB_DECLARE: declare(in, r); break;
    case VERB_SEND:
    case VERB_SEND_MANY:
    case VERB_SEND_NOWAIT: send(in, r); break;
    case VERB_CLAIM: claim(channel, 1 + r->b % 64, r->c & 1); break;
    case VERB_SETTLE:
    case VERB_ACK_NOWAIT:
    case VERB_FORGE: settle_any(r); break;
    case VERB_STATS: stats(channel); break;
    case VERB_MOVE_CLOCKS: clocks_move(r->v & 0x3ffffff); break;
    case VERB_OWN: own(r); break;
    case VERB_CONSUME: consume(r); break;
    case VERB_TAKE: take(r); break;
    case VERB_REOPEN:
        closed();
        opened(r->a & 1);
        break;
    case VERB_DRAIN: drain(channel, r->c & 1); break;
    case VERB_FLUSH: checked(embq_flush(d.broker, SEND_MS)); break;
    default: break;
    }
}

/* ---- the end of every case ---- */

/* What is ready must come, or something must say why not: a damaged file is never just
 * empty. */
static void judge(int64_t channel) {
    embq_bytes answer = {0};
    int drained = drain(channel, 0);
    if (drained && checked(embq_stats(d.broker, channel, &answer)) == 0)
        CHECK(d.failed || stat_of(&answer, "ready") == 0);
    embq_bytes_free(&answer);
}

void verbs_run(const struct input *in, const char *path, int sound) {
    d = (struct driver){.path = path, .sound = sound};
    opened(in->head.c & 1);
    for (int i = 0; d.broker && i < SEED_QUEUES; i++) look_up(i);
    for (int i = 0; i < in->count && d.broker; i++) {
        struct record r = input_record(in, i);
        record_run(in, &r);
    }
    if (d.broker) {
        embq_bytes names = {0};
        consumer_end();
        checked(embq_flush(d.broker, SEND_MS));
        checked(embq_queues(d.broker, &names));
        embq_bytes_free(&names);
        clocks_move(100 * DAY_MS);
        for (int i = 0; i < SEED_QUEUES; i++)
            if (d.channels[i]) judge(d.channels[i]);
    }
    closed();
    operations_check();
}
