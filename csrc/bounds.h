/* What has a limit, and the packed numbers whose widths are such limits. */
#ifndef EMBQ_BOUNDS_H
#define EMBQ_BOUNDS_H

#include "embq.h"

#define EMBQ_SHARDS 16
#define EMBQ_LANES 16
/* The default lane is the highest: appending to the last leaf is the cheap way. */
#define EMBQ_LANE_DEFAULT 15
/* Of messages sent with a delay: they become ready by a timer, whatever their order. */
#define EMBQ_LANE_DEFERRED 14
#define EMBQ_PRIORITY_DEFAULT 4
#define EMBQ_PRIORITY_MAX 9
/* A message's flags: these bits of its priority; that there is a checksum of its body,
 * and that, 32 bits from there on. */
#define MESSAGE_PRIORITY 15
#define MESSAGE_CHECKED 16
#define MESSAGE_CHECKSUM_BIT 8
#define EMBQ_LANE_BITS 4
#define EMBQ_SEQUENCE_BITS 41
/* With them a message's id has 62 bits, and EMBQ_DUPLICATE is none of these. */
#define EMBQ_CHANNEL_BITS 17
#define EMBQ_CHANNELS_MAX ((int64_t)1 << EMBQ_CHANNEL_BITS)
#define EMBQ_GENERATION_MAX ((int64_t)1 << 40)
#define EMBQ_SEQUENCE_MAX ((int64_t)1 << EMBQ_SEQUENCE_BITS)
/* At a new boot, or in a copy of the file. */
#define EMBQ_SEQUENCE_JUMP ((int64_t)1 << 20)
/* SQLite stores no row above 1,000,000,000 bytes unless it is built so; what is left is
 * for the history of a dead letter. */
#define EMBQ_STORED_MAX ((int64_t)999000000)
/* 100 years: with them a deadline still has room for the random part of a run's id. */
#define EMBQ_DURATION_MAX_MS ((int64_t)36525 * 86400000)
/* A time of the wall clock: the end of the year 9999, as Python's datetime. */
#define EMBQ_TIME_MAX_MS ((int64_t)253402300799999)
/* Of a counter in the file: sums of them stay in an int64. */
#define EMBQ_COUNTER_MAX ((int64_t)1 << 61)
#define EMBQ_RUN_IDS 1024
#define EMBQ_NAME_MAX 255 /* bytes: of a scope, of a key in it */
#define EMBQ_RING_COUNT 65536
#define EMBQ_RING_BYTES ((int64_t)64 << 20)
#define EMBQ_GROUP_COUNT 4096
#define EMBQ_GROUP_BYTES ((int64_t)16 << 20)
/* A claim stops beyond this. */
#define EMBQ_BATCH_BYTES ((size_t)8 << 20)
/* Leases returned by one transaction, and runs ended by one round of a recovery. */
#define EMBQ_EXPIRE_STEP 1024
#define EMBQ_RUNS_STEP 64
/* So many more new messages than are wanted are looked at for one whose key is free. */
#define EMBQ_LOOK_STEP 256
/* Then one new message, if there is one. */
#define EMBQ_RETRIES_IN_A_ROW 7
#define EMBQ_WAKE_BITS 32
#define EMBQ_ABSENT_MAX 64
/* An ack_nowait waits for company so long at the most, or until there are so many. */
#define EMBQ_LINGER_US 5000
#define EMBQ_LINGER_COUNT 128

/* Bits of subscription.lanes: one for each lane in use, and ... */
#define LANES_DEFERRED ((int64_t)1 << EMBQ_LANE_DEFERRED)
#define LANES_NONE ((int64_t)1 << EMBQ_LANE_DEFAULT)
#define LANES_EXPIRY ((int64_t)1 << EMBQ_LANES) /* some message has an expiry */

static inline int64_t message_id(int64_t channel, int lane, int64_t sequence) {
    return channel << (EMBQ_LANE_BITS + EMBQ_SEQUENCE_BITS) |
           (int64_t)lane << EMBQ_SEQUENCE_BITS | sequence;
}

/* The lanes 0..8 are those of the other priorities. */
static inline int lane_of_priority(int64_t priority) {
    return priority == EMBQ_PRIORITY_DEFAULT  ? EMBQ_LANE_DEFAULT
           : priority < EMBQ_PRIORITY_DEFAULT ? (int)priority
                                              : (int)priority - 1;
}

static inline int64_t message_channel(int64_t id) {
    return id >> (EMBQ_LANE_BITS + EMBQ_SEQUENCE_BITS);
}

static inline int message_lane(int64_t id) {
    return (int)(id >> EMBQ_SEQUENCE_BITS) & (EMBQ_LANES - 1);
}

static inline int64_t message_sequence(int64_t id) {
    return id & (EMBQ_SEQUENCE_MAX - 1);
}

/* What a caller calls a queue by: a channel that was deleted is used again, so beside
 * its number stands how many queues it was before. It is of the channel's wake class.
 */
static inline int64_t handle_of(int64_t channel, int64_t generation) {
    return generation * EMBQ_CHANNELS_MAX | channel;
}

static inline int64_t handle_channel(int64_t handle) {
    return handle & (EMBQ_CHANNELS_MAX - 1);
}

static inline int64_t handle_generation(int64_t handle) {
    return handle >> EMBQ_CHANNEL_BITS;
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
