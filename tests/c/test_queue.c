/* The core without Python: its whole boundary, several threads, on a real file.
 *
 *     test_queue FILE      an empty embq file, made by the caller
 */
#include "batch.h"
#include "store.h"

#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#define THREADS 8
#define EACH 300

static embq_ref broker;
static long long channel;

static int claim(int limit, int wait_ms, int flags, char *receipts) {
    embq_bytes batch = {0};
    int count =
        (int)outcome_of(embq_claim(broker, channel, limit, wait_ms, flags, &batch));
    CHECK(count >= 0);
    if (count) CHECK(receipts_of(&batch, receipts) == count);
    embq_bytes_free(&batch);
    return count;
}

static int settle(int verb, const char *receipts, int count) {
    return embq_settle(broker, channel, verb, receipts, count, 0, "why", 3, -1);
}

static void declare(void) {
    struct packer options = options_of(3, 0);
    embq_bytes stored = {0};
    CHECK(embq_declare(broker, "q", 1, "", 0, &stored) == EMBQ_NOT_FOUND);
    channel = embq_declare(broker, "q", 1, options.data, options.size, &stored);
    CHECK(channel > 0 && (size_t)stored.size >= options.size);
    embq_bytes_free(&stored);
    CHECK(embq_declare(broker, "q", 1, options.data, 3, &stored) == channel);
    embq_bytes_free(&stored);
    CHECK(embq_declare(broker, "r", 1, options.data, 3, &stored) ==
          EMBQ_INVALID_ARGUMENT);
    pack_free(&options);
}

static void refusals(void) {
    char big[1001] = {0};
    CHECK(embq_send(broker, channel, big, 1001, "", 0, -1) == EMBQ_MESSAGE_TOO_LARGE);
    CHECK(embq_send(broker, channel, "x", 1, "\x94\xc0", 2, -1) ==
          EMBQ_INVALID_ARGUMENT);
    CHECK(embq_send(broker, 77, "x", 1, "", 0, -1) == EMBQ_NOT_FOUND);
    CHECK(embq_send_many(broker, channel, "\x92\xc4\x01x", 4, -1, NULL) ==
          EMBQ_INVALID_ARGUMENT);
    /* More than SQLite stores, whatever the queue allows; its bytes are not looked at.
     */
    struct op huge = {.kind = OP_SEND, .size = 1000000000};
    CHECK(message_validate(&huge, INT32_MAX) == EMBQ_MESSAGE_TOO_LARGE);
    CHECK(embq_depth(broker, channel) == 0);
    memset(big, 0x5a, EMBQ_RECEIPT_SIZE);
    CHECK(settle(EMBQ_ACK, big, 1) == EMBQ_INVALID_RECEIPT);
}

static void verbs(void) {
    char r[8 * EMBQ_RECEIPT_SIZE];
    CHECK(embq_send(broker, channel, "", 0, "", 0, -1) > 0);
    CHECK(embq_send_many(broker, channel,
                         "\x93\xc4\x01x\x92\xc4\x01y\xc4\x06\x94\xa1t\xc0\xc0"
                         "\xc0\xc4\x01z",
                         19, -1, NULL) > 0);
    CHECK(embq_depth(broker, channel) == 4);
    CHECK(claim(8, 0, 0, r) == 4);
    CHECK(settle(EMBQ_ACK, r, 1) == 1);
    CHECK(settle(EMBQ_ACK, r, 1) == EMBQ_LEASE_LOST);
    CHECK(settle(EMBQ_NACK, r + EMBQ_RECEIPT_SIZE, 1) == 1);
    CHECK(settle(EMBQ_REJECT, r + 2 * EMBQ_RECEIPT_SIZE, 1) == 1);
    CHECK(settle(EMBQ_GIVE_BACK, r + 3 * EMBQ_RECEIPT_SIZE, 1) == 1);
    CHECK(embq_depth(broker, channel) == 2);
    CHECK(embq_send(broker, channel, "w", 1, "", 0, -1) > 0);
    CHECK(claim(1, 0, 0, r) == 1 && claim(1, 0, 0, r + EMBQ_RECEIPT_SIZE) == 1);
    CHECK(settle(EMBQ_REFUSE, r + EMBQ_RECEIPT_SIZE, 1) == 1);
    CHECK(settle(EMBQ_REFUSE, r + EMBQ_RECEIPT_SIZE, 1) == EMBQ_LEASE_LOST);
    CHECK(settle(EMBQ_GIVE_BACK, r, 1) == 1);
    CHECK(settle(EMBQ_REFUSE + 1, r, 1) == EMBQ_INVALID_ARGUMENT);
    CHECK(claim(8, 0, EMBQ_CLAIM_AUTO_ACK, r) == 2);
    CHECK(embq_depth(broker, channel) == 0);
    CHECK(claim(8, 10, 0, r) == 0);
}

static void *produce(void *unused) {
    for (int i = 0; i < EACH; i++) {
        if (i % 3) {
            CHECK(embq_send(broker, channel, "body", 4, "", 0, -1) > 0);
            continue;
        }
        embq_ref ticket = embq_send_nowait(broker, channel, "body", 4, "", 0);
        CHECK(ticket > 0);
        if (i % 2) CHECK(embq_ticket_wait(ticket, 10000) > 0);
        embq_ticket_free(ticket);
    }
    return unused;
}

static int handled;

static void *consume(void *unused) {
    char r[16 * EMBQ_RECEIPT_SIZE];
    while (ATOMIC_LOAD(&handled) < THREADS * EACH) {
        int count = claim(16, 50, 0, r);
        for (int i = 0; i < count; i++) {
            if (i % 2) CHECK(settle(EMBQ_ACK, r + i * EMBQ_RECEIPT_SIZE, 1) == 1);
            else
                CHECK(embq_ack_nowait(broker, channel, r + i * EMBQ_RECEIPT_SIZE) == 0);
        }
        ATOMIC_ADD(&handled, count);
    }
    return unused;
}

static void threads(void) {
    pthread_t all[2 * THREADS];
    for (int i = 0; i < THREADS; i++) {
        CHECK(!pthread_create(&all[i], NULL, produce, NULL));
        CHECK(!pthread_create(&all[THREADS + i], NULL, consume, NULL));
    }
    for (int i = 0; i < 2 * THREADS; i++) CHECK(!pthread_join(all[i], NULL));
    CHECK(embq_flush(broker, 10000) == 0);
    CHECK(handled == THREADS * EACH);
    CHECK(embq_depth(broker, channel) == 0);
}

static void prefetch(void) {
    embq_bytes batch = {0};
    for (int i = 0; i < 10; i++)
        CHECK(embq_send(broker, channel, "b", 1, "", 0, -1) > 0);
    embq_ref consumer = embq_consumer_open(broker, channel, 6, 0);
    CHECK(outcome_of(embq_consumer_next(consumer, 1000, &batch)) == 3);
    embq_bytes_free(&batch);
    CHECK(embq_consumer_take(consumer) == 1);
    CHECK(embq_consumer_close(consumer) == 0);
    CHECK(embq_consumer_take(consumer) == 0);
    embq_consumer_free(consumer);
    embq_bytes stats = {0};
    CHECK(embq_stats(broker, channel, &stats) == 0 && stats.size > 0);
    embq_bytes_free(&stats);
    CHECK(embq_stats(broker, 0, &stats) == 0);
    embq_bytes_free(&stats);
    CHECK(embq_queues(broker, &stats) == 0);
    embq_bytes_free(&stats);
}

static int open_with(const char *path, int flags) {
    return embq_open(path, flags, 5000, -1, &broker);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    bind_sqlite();
    CHECK(open_with("/nowhere/at/all", 0) == EMBQ_NOT_FOUND);
    CHECK(open_with("/", 0) == EMBQ_INVALID_ARGUMENT);
    for (int full = 0; full < 2; full++) {
        CHECK(open_with(argv[1], full ? EMBQ_OPEN_FULL : 0) == 0);
        if (!full) declare(), refusals(), verbs();
        handled = 0;
        threads();
        prefetch();
        char r[16 * EMBQ_RECEIPT_SIZE];
        while (claim(16, 0, 0, r) > 0) {
        } /* what close() leaves is given back at its end */
        CHECK(embq_close(broker) == 0);
        CHECK(embq_send(broker, channel, "x", 1, "", 0, -1) == EMBQ_CLOSED);
        embq_broker_free(broker);
        if (full) break;
        CHECK(open_with(argv[1], 0) == 0);
        int wait_ms = 5000, count = 0;
        while (count < 10) {
            int more = claim(16, wait_ms, EMBQ_CLAIM_AUTO_ACK, r);
            CHECK(more > 0);
            count += more;
        }
        embq_broker_free(broker); /* closes */
    }
    return 0;
}
