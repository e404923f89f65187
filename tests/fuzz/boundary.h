/* A case of the boundary: what is open, and what was handed out. See boundary.c. */
#ifndef EMBQ_FUZZ_BOUNDARY_H
#define EMBQ_FUZZ_BOUNDARY_H

#include "fuzz.h"

enum call {
    CALL_OPEN,
    CALL_OPEN_ANY,
    CALL_CLOSE,
    CALL_DECLARE,
    CALL_SEND,
    CALL_SEND_MANY,
    CALL_SEND_NOWAIT,
    CALL_TICKET,
    CALL_CLAIM,
    CALL_SETTLE,
    CALL_SETTLE_MANY,
    CALL_FORGE,
    CALL_ACK_NOWAIT,
    CALL_READ,
    CALL_CONSUMER_OPEN,
    CALL_CONSUMER_NEXT,
    CALL_CONSUMER_TAKE,
    CALL_CONSUMER_CLOSE,
    CALL_FLUSH,
    CALL_INTERRUPT,
    CALL_RESUME,
    CALL_FORK,
    CALL_MOVE_CLOCKS,
    CALL_ADMIN,
    CALLS
};

#define BROKERS 3 /* the last of another file than the others */
#define CONSUMERS 2
#define TICKETS 4
#define CHANNELS 6
#define GIVEN_MAX 512

struct consumer_slot {
    embq_ref ref;
    int broker;
    int64_t channel;
};

struct ticket_slot {
    embq_ref ref;
    int broker;
};

struct boundary {
    embq_ref brokers[BROKERS];
    int64_t channels[CHANNELS];
    int channel_count;
    struct consumer_slot consumers[CONSUMERS];
    struct ticket_slot tickets[TICKETS];
    struct receipt_of given[GIVEN_MAX]; /* every receipt that was handed out */
    int given_count;
};

extern struct boundary boundary;

/* ---- boundary.c ---- */

/* `code`, which must be one that may come here. */
int64_t checked(int64_t code);
void broker_open(int which, int64_t disk_reserve);
/* Free it, and before it what must not outlive it. */
void broker_free(int which);
/* No interrupted call is left of this thread. */
void pending_end(void);
/* The messages that all queues of the file have or dropped, once nothing of the broker
 * is staged; -1 when that cannot be told, or sends wait for room. */
int64_t total_of(int broker);
void batch_note(const embq_bytes *batch, int64_t count, int64_t channel);
/* Whether anybody was ever given this receipt. A run that does not exist is passed
 * over, so its number does not count. */
int receipt_was_given(const char *receipt);

/* ---- calls.c ---- */

/* In results.c. */
void results_call(embq_ref b, struct slice bytes, const struct record *r);
void calls_run(const struct input *in, const struct record *r);

#endif
