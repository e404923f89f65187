/* What has a limit, and the packed numbers whose widths are such limits. */
#ifndef EMBQ_BOUNDS_H
#define EMBQ_BOUNDS_H

#include "embq.h"

#define EMBQ_SHARDS 16
#define EMBQ_LANES 16
/* The default lane is the highest: appending to the last leaf is the cheap way. */
#define EMBQ_LANE_DEFAULT 15
#define EMBQ_LANE_BITS 4
#define EMBQ_SEQUENCE_BITS 41
#define EMBQ_CHANNELS_MAX ((int64_t)1 << 18)
#define EMBQ_SEQUENCE_MAX ((int64_t)1 << EMBQ_SEQUENCE_BITS)
/* At a new boot, or in a copy of the file. */
#define EMBQ_SEQUENCE_JUMP ((int64_t)1 << 20)
/* SQLite stores no row above 1,000,000,000 bytes unless it is built so; what is left is
 * for the history of a dead letter. */
#define EMBQ_STORED_MAX ((int64_t)999000000)
/* 100 years: with them a deadline still has room for the random part of a run's id. */
#define EMBQ_DURATION_MAX_MS ((int64_t)36525 * 86400000)
/* Of a counter in the file: sums of them stay in an int64. */
#define EMBQ_COUNTER_MAX ((int64_t)1 << 61)
#define EMBQ_RUN_IDS 1024
#define EMBQ_RING_COUNT 65536
#define EMBQ_RING_BYTES ((int64_t)64 << 20)
#define EMBQ_GROUP_COUNT 4096
#define EMBQ_GROUP_BYTES ((int64_t)16 << 20)
/* A claim stops beyond this. */
#define EMBQ_BATCH_BYTES ((size_t)8 << 20)
/* Leases returned by one transaction, and runs ended by one round of a recovery. */
#define EMBQ_EXPIRE_STEP 1024
#define EMBQ_RUNS_STEP 64
/* Then one new message, if there is one. */
#define EMBQ_RETRIES_IN_A_ROW 7
#define EMBQ_WAKE_BITS 32
#define EMBQ_ABSENT_MAX 64
/* An ack_nowait waits for company so long at the most, or until there are so many. */
#define EMBQ_LINGER_US 5000
#define EMBQ_LINGER_COUNT 128

static inline int64_t message_id(int64_t channel, int lane, int64_t sequence) {
    return channel << (EMBQ_LANE_BITS + EMBQ_SEQUENCE_BITS) |
           (int64_t)lane << EMBQ_SEQUENCE_BITS | sequence;
}

static inline int64_t message_channel(int64_t id) {
    return id >> (EMBQ_LANE_BITS + EMBQ_SEQUENCE_BITS);
}

/* Whether a channel can have this number. A caller's may be any; 0 is none. */
static inline int channel_is_possible(int64_t id) {
    return id > 0 && id < EMBQ_CHANNELS_MAX;
}

static inline unsigned wake_class(int64_t channel) {
    return (uint64_t)channel % EMBQ_WAKE_BITS;
}

static inline uint32_t wake_bit(int64_t channel) {
    return (uint32_t)1 << wake_class(channel);
}

#endif
