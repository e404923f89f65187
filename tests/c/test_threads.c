/* Every verb from many threads at once, for ThreadSanitizer to judge: the two
 * durabilities on one engine, waits that signals interrupt, prefetch, reads, a second
 * broker that comes and goes, a bound that comes and goes, rests as before a fork, and
 * a close under load.
 *
 *     test_threads FILE      an empty embq file, made by the caller
 *
 * At the end the books are balanced: what was confirmed as sent was handled, or is
 * there.
 */
#include "batch.h"
#include "once.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define EACH 300 /* messages of each sender */
#define BATCH 8
#define RESTS 6   /* as many as forks */
#define CLOSES 50 /* under load ... */
#define CALLERS 3 /* of so many senders and receivers */
#define BOUND 20  /* now and then: senders wait for room */

static const char *path;
static embq_ref normal, full;
static long long channel;
static int stop;         /* for those that work until the senders are done */
static int sent, maybe;  /* confirmed; taken back in the middle */
static int handled;      /* acks and rejections that were confirmed, or must hold */
static int interrupting; /* threads that SIGUSR1 may hit */
static pthread_t targets[4];

static embq_ref either(int number) {
    return number % 2 ? full : normal;
}

/* ---- staging: refused while a fork is under way, and then as _native.py does it ----
 */

static embq_ref stage(embq_ref b) {
    embq_ref ticket;
    while ((ticket = embq_send_nowait(b, channel, "body", 4, "", 0)) == EMBQ_DETACHED)
        if (embq_ping(b, -1) == EMBQ_CLOSED) return EMBQ_CLOSED;
    return ticket;
}

static void stage_ack(embq_ref b, const char *receipt) {
    int code;
    while ((code = embq_ack_nowait(b, channel, receipt)) == EMBQ_DETACHED)
        CHECK(embq_ping(b, -1) == 0);
    CHECK(code == 0);
    ATOMIC_ADD(&handled, 1); /* flush, at the latest, would tell that it was not */
}

/* ---- senders ---- */

static void *send_each(void *which) {
    for (int i = 0; i < EACH; i++) {
        CHECK(outcome_of(embq_send(*(embq_ref *)which, channel, "body", 4, "", 0, -1)) >
              0);
        ATOMIC_ADD(&sent, 1);
    }
    return NULL;
}

static void *send_batches(void *which) {
    for (int i = 0; i < EACH / 3; i++) {
        CHECK(outcome_of(embq_send_many(*(embq_ref *)which, channel,
                                        "\x93\xc4\x01x\xc4\x01y\xc4\x01z", 10, -1,
                                        NULL)) > 0);
        ATOMIC_ADD(&sent, 3);
    }
    return NULL;
}

static void *send_staged(void *which) {
    for (int i = 0; i < EACH; i++) {
        embq_ref ticket = stage(*(embq_ref *)which);
        CHECK(ticket > 0);
        if (i % 3 == 0) CHECK(embq_ticket_wait(ticket, 30000) > 0);
        if (i % 3 == 1) {
            long long row = embq_ticket_result(ticket);
            CHECK(row > 0 || row == EMBQ_NOT_YET);
        }
        embq_ticket_free(ticket);
        ATOMIC_ADD(&sent, 1);
    }
    return NULL;
}

/* ---- calls that signals interrupt: each is resumed, or taken back ---- */

static long long see_through(long long result, int abandons) {
    if (result != EMBQ_INTERRUPTED || !abandons) return outcome_of(result);
    embq_abandon();
    return EMBQ_INTERRUPTED;
}

static void *send_interrupted(void *which) {
    for (int i = 0; i < EACH; i++) {
        long long row = embq_send(*(embq_ref *)which, channel, "body", 4, "", 0, -1);
        row = see_through(row, i % 2);
        CHECK(row > 0 || row == EMBQ_INTERRUPTED);
        ATOMIC_ADD(row > 0 ? &sent : &maybe, 1);
    }
    ATOMIC_ADD(&interrupting, -1);
    while (!ATOMIC_LOAD(&stop))
        usleep(1000); /* a signal needs a thread that is there */
    return NULL;
}

static void ignore(int number) {
    (void)number;
}

static void *interrupt(void *unused) {
    for (int i = 0; ATOMIC_LOAD(&interrupting) > 0; i++) {
        pthread_kill(targets[i % 4], SIGUSR1);
        usleep(300);
    }
    return unused;
}

/* ---- receivers ---- */

static void settle(embq_ref b, int verb, const char *receipt, long long delay_ms) {
    int done = (int)see_through(
        embq_settle(b, channel, verb, receipt, 1, delay_ms, "why", 3, -1), 0);
    CHECK(done == 1);
    if (verb == EMBQ_ACK || verb == EMBQ_REJECT) ATOMIC_ADD(&handled, 1);
}

static void settle_somehow(embq_ref b, int number, const char *receipt) {
    switch (number % 8) {
    case 0: settle(b, EMBQ_NACK, receipt, 0); return;
    case 1: settle(b, EMBQ_REJECT, receipt, 0); return;
    case 2: settle(b, EMBQ_GIVE_BACK, receipt, 0); return;
    case 3: settle(b, EMBQ_EXTEND, receipt, 60000); break;
    case 4:
    case 5: stage_ack(b, receipt); return;
    default: break;
    }
    settle(b, EMBQ_ACK, receipt, 0);
}

static int claim(embq_ref b, int limit, int wait_ms, int flags, char *receipts) {
    embq_bytes batch = {0};
    int count =
        (int)see_through(embq_claim(b, channel, limit, wait_ms, flags, &batch), 0);
    CHECK(count >= 0);
    if (count) CHECK(receipts_of(&batch, receipts) == count);
    embq_bytes_free(&batch);
    return count;
}

static void *receive(void *which) {
    char r[BATCH * EMBQ_RECEIPT_SIZE];
    for (int number = 0; !ATOMIC_LOAD(&stop);) {
        int alone = number % 5 == 4;
        embq_ref b = *(embq_ref *)which;
        int flags = alone ? EMBQ_CLAIM_AUTO_ACK : 0;
        int count = claim(b, alone ? 1 : BATCH, number % 3 * 10, flags, r);
        if (alone) ATOMIC_ADD(&handled, count);
        for (int i = 0; i < count && !alone; i++)
            settle_somehow(b, number + i, r + i * EMBQ_RECEIPT_SIZE);
        number += count + 1;
    }
    return NULL;
}

/* Waits that a signal ends, with what they had claimed given back. */
static void *receive_interrupted(void *which) {
    char r[EMBQ_RECEIPT_SIZE];
    for (int i = 0; i < EACH; i++) {
        embq_bytes batch = {0};
        int count = (int)see_through(
            embq_claim(*(embq_ref *)which, channel, 1, 5, 0, &batch), i % 2);
        CHECK(count >= 0 || count == EMBQ_INTERRUPTED);
        if (count > 0) {
            CHECK(receipts_of(&batch, r) == 1);
            settle(*(embq_ref *)which, EMBQ_ACK, r, 0);
        }
        embq_bytes_free(&batch);
    }
    ATOMIC_ADD(&interrupting, -1);
    while (!ATOMIC_LOAD(&stop)) usleep(1000);
    return NULL;
}

static void *prefetch(void *which) {
    embq_ref b = *(embq_ref *)which;
    char r[64 * EMBQ_RECEIPT_SIZE];
    while (!ATOMIC_LOAD(&stop)) {
        embq_ref consumer = embq_consumer_open(b, channel, 32, 0);
        for (int turn = 0; turn < 6; turn++) {
            embq_bytes batch = {0};
            int count = embq_consumer_ready(consumer, &batch);
            if (!count)
                count = (int)outcome_of(embq_consumer_next(consumer, 20, &batch));
            count = (int)see_through(count, 0);
            CHECK(count >= 0);
            if (count) CHECK(receipts_of(&batch, r) == count);
            for (int i = 0; i < count && turn < 5; i++) { /* the last is given back */
                if (!embq_consumer_take(consumer)) continue;
                stage_ack(b, r + i * EMBQ_RECEIPT_SIZE);
            }
            embq_bytes_free(&batch);
        }
        CHECK(embq_consumer_close(consumer) == 0);
        embq_consumer_free(consumer);
    }
    return NULL;
}

/* ---- the others ---- */

static void *look(void *unused) {
    for (int i = 0; !ATOMIC_LOAD(&stop); i++) {
        embq_bytes answer = {0};
        CHECK(embq_depth(either(i), channel) >= 0);
        CHECK(embq_stats(either(i), i % 3 ? channel : 0, &answer) == 0);
        embq_bytes_free(&answer);
        CHECK(embq_queues(either(i), &answer) == 0);
        embq_bytes_free(&answer);
        CHECK(embq_file_id(either(i)) != 0);
        CHECK(embq_unawaited_failures(either(i)) == 0);
        usleep(500);
    }
    return unused;
}

static void *flush(void *unused) {
    for (int i = 0; !ATOMIC_LOAD(&stop); i++) {
        CHECK(outcome_of(embq_flush(either(i), 30000)) == 0);
        CHECK(embq_ping(either(i), 30000) == 0);
        usleep(2000);
    }
    return unused;
}

static void *open_and_close(void *unused) {
    for (int i = 0; !ATOMIC_LOAD(&stop); i++) {
        embq_ref second;
        CHECK(embq_open(path, i % 2 ? EMBQ_OPEN_FULL : 0, 30000, -1, &second) == 0);
        CHECK(outcome_of(embq_send(second, channel, "body", 4, "", 0, -1)) > 0);
        ATOMIC_ADD(&sent, 1);
        CHECK(embq_close(second) == 0);
        embq_broker_free(second);
        usleep(2000);
    }
    return unused;
}

static int bound; /* of the queue, as it is */

static void bound_set(int wanted) {
    struct packer before = options_of(1 << 20, bound),
                  after = options_of(1 << 20, wanted);
    CHECK(outcome_of(embq_configure(normal, channel, before.data, before.size,
                                    after.data, after.size)) == 1);
    bound = wanted;
    pack_free(&before);
    pack_free(&after);
}

static void *bound_and_free(void *unused) {
    while (!ATOMIC_LOAD(&stop)) {
        bound_set(bound ? 0 : BOUND);
        usleep(5000);
    }
    return unused;
}

/* What os.fork() does around the fork; the fork itself is no affair of threads. */
static void *rest(void *unused) {
    for (int i = 0; i < RESTS; i++) {
        embq_before_fork();
        embq_after_fork_parent();
        usleep(20000);
    }
    return unused;
}

/* Until the broker is closed under it. */
static void *send_until_closed(void *which) {
    long long row = 1;
    for (int i = 0; row > 0; i++) {
        if (i % 4 == 3) {
            embq_ref ticket = stage(*(embq_ref *)which);
            row = ticket > 0 ? embq_ticket_wait(ticket, 30000) : ticket;
            if (ticket > 0) embq_ticket_free(ticket);
        } else {
            row = outcome_of(
                embq_send(*(embq_ref *)which, channel, "body", 4, "", 0, -1));
        }
        if (row > 0) ATOMIC_ADD(&sent, 1);
    }
    CHECK(row == EMBQ_CLOSED);
    return NULL;
}

static void *wait_until_closed(void *which) {
    char r[EMBQ_RECEIPT_SIZE];
    embq_bytes batch = {0};
    int count;
    while ((count = (int)outcome_of(
                embq_claim(*(embq_ref *)which, channel, 1, -1, 0, &batch))) > 0) {
        CHECK(receipts_of(&batch, r) == 1);
        embq_bytes_free(&batch);
        settle(normal, EMBQ_ACK, r, 0); /* the broker that claimed it may be closed */
    }
    CHECK(count == EMBQ_CLOSED);
    return NULL;
}

/* ---- together ---- */

static pthread_t start(void *(*work)(void *), embq_ref *which) {
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, work, which));
    return thread;
}

static void join(const pthread_t *threads, int count) {
    for (int i = 0; i < count; i++) CHECK(!pthread_join(threads[i], NULL));
}

static void everything_at_once(void) {
    interrupting = 4;
    targets[0] = start(send_interrupted, &normal);
    targets[1] = start(send_interrupted, &full);
    targets[2] = start(receive_interrupted, &normal);
    targets[3] = start(receive_interrupted, &full);
    pthread_t senders[] = {
        start(send_each, &normal),   start(send_each, &full),
        start(send_batches, &full),  start(send_batches, &normal),
        start(send_staged, &normal), start(send_staged, &full),
        start(once, &normal),        start(once, &full),
        start(once, &normal),        start(rest, NULL),
        start(interrupt, NULL),
    };
    pthread_t others[] = {
        start(receive, &normal),     start(receive, &full),
        start(prefetch, &normal),    start(prefetch, &full),
        start(look, NULL),           start(flush, NULL),
        start(open_and_close, NULL), start(bound_and_free, NULL),
    };
    join(senders, sizeof senders / sizeof *senders);
    ATOMIC_STORE(&stop, 1);
    join(targets, 4);
    join(others, sizeof others / sizeof *others);
}

static void close_under_load(void) {
    embq_ref closing;
    CHECK(embq_open(path, EMBQ_OPEN_FULL, 30000, -1, &closing) == 0);
    pthread_t threads[2 * CALLERS];
    for (int i = 0; i < 2 * CALLERS; i++)
        threads[i] = start(i % 2 ? send_until_closed : wait_until_closed, &closing);
    usleep(4000);
    CHECK(embq_close(closing) == 0);
    join(threads, 2 * CALLERS);
    embq_broker_free(closing);
}

/* Everything that is left, the messages of the dead-letter queue apart. */
static int drain(void) {
    char r[BATCH * EMBQ_RECEIPT_SIZE];
    int count = 0, more;
    while ((more = claim(normal, BATCH, 200, EMBQ_CLAIM_AUTO_ACK, r)) > 0)
        count += more;
    CHECK(embq_depth(normal, channel) == 0);
    return count;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    path = argv[1];
    bind_sqlite();
    struct sigaction action = {.sa_handler = ignore}; /* no SA_RESTART: EINTR */
    CHECK(!sigaction(SIGUSR1, &action, NULL));
    CHECK(embq_open(path, 0, 30000, -1, &normal) == 0);
    CHECK(embq_open(path, EMBQ_OPEN_FULL, 30000, -1, &full) == 0);
    /* Nacks never bury, so that the books have but one way out of the queue. */
    struct packer options = options_of(1 << 20, 0);
    embq_bytes stored = {0};
    channel = embq_declare(normal, "q", 1, options.data, options.size, &stored);
    CHECK(channel > 0);
    embq_bytes_free(&stored);
    pack_free(&options);
    everything_at_once();
    bound_set(BOUND);
    for (int i = 0; i < CLOSES; i++) close_under_load();
    bound_set(0);
    CHECK(outcome_of(embq_flush(normal, 30000)) == 0 &&
          outcome_of(embq_flush(full, 30000)) == 0);
    int left = drain(), gone = handled + left;
    if (gone < sent || gone > sent + maybe)
        fprintf(stderr, "%d handled, %d left; %d sent, %d perhaps\n", handled, left,
                sent, maybe);
    CHECK(gone >= sent && gone <= sent + maybe);
    CHECK(embq_close(full) == 0 && embq_close(normal) == 0);
    embq_broker_free(full);
    embq_broker_free(normal);
    return 0;
}
