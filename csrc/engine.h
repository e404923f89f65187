/* One file, open in this process: the engine, the operations that callers hand to it,
 * and what it remembers of the file. Everything remembered is a cache, valid while the
 * WAL-index header read under the write lock is the one that our own last commit left
 * (`epoch` counts the times it was not).
 */
#ifndef EMBQ_ENGINE_H
#define EMBQ_ENGINE_H

#include "embq.h"
#include "files.h"
#include "pack.h"
#include "wal.h"

#include <pthread.h>

/* ---- limits ---- */

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

/* ---- the file's state, remembered ---- */

struct options {
    char codec[8];
    int64_t visibility_timeout_ms;
    int64_t max_receives;
    char *dead_letter; /* NULL: none */
    int64_t retry_first_ms;
    double retry_factor;
    int64_t retry_cap_ms;
    int retry_jitter;
    int64_t max_body;
};

/* A queue's one subscription; columns of embq_state in this order after the cursors. */
struct subscription {
    int64_t id;
    int64_t cursor[EMBQ_LANES]; /* 0: nothing handed out yet */
    int64_t removed, removed_bytes, in_flight, waiting;
    int64_t delivered, redelivered, acked, nacked, rejected, expired, dead;
};

struct channel {
    struct channel *next, *next_used;
    int64_t id;
    int64_t used; /* the transaction that used it last: it stands in the `used` list */
    char *name;
    int shard;
    struct options options;
    int64_t next_sequence, sent, sent_bytes;
    int64_t stored_sequence; /* what its row says: a send does not write it */
    struct subscription sub;
    uint64_t epoch;     /* when it was read */
    int dirty;          /* the subscription's row must be written in this group */
    int retries_in_row; /* ours, not the file's: the fairness of this process */
};

/* ---- operations ---- */

enum op_kind {
    OP_SEND,
    OP_SEND_MANY,
    OP_CLAIM,
    OP_SETTLE,
    OP_DECLARE,
    OP_BARRIER, /* callers' */
    OP_REGISTER,
    OP_RECOVER,
    OP_CHECKPOINT,
    OP_EXTEND,
    OP_VACUUM /* the engine's own */
};

/* What a thread that waits on `word` is told. */
enum op_word { WORD_WAIT, WORD_LEAD, WORD_SYNC, WORD_WATCH, WORD_DONE };

enum op_place { PLACE_NONE, PLACE_RING, PLACE_GROUP, PLACE_UNSYNCED, PLACE_PARKED };

struct link {
    struct link *prev, *next;
};

/* One call, from its arrival to its outcome. It owns its bytes. Lists, `place` and
 * `waiting` are under the engine's mutex; the rest belongs to whoever leads while place
 * is GROUP. */
struct op {
    struct link link; /* first, so that a link is its operation */
    uint32_t word;    /* enum op_word, a futex */
    int refs;         /* the engine's and the caller's or ticket's */
    uint8_t kind, place;
    uint8_t waiting;      /* a thread is there to take a role */
    uint8_t asleep;       /* ... and must be woken for it */
    uint8_t nowait;       /* staged: nobody may ever ask */
    uint8_t full;         /* confirmed only once synced */
    uint8_t timed;        /* has a time limit, so it takes no sync upon itself */
    uint8_t handlers_ran; /* Python had its turn since it was parked, or looked */
    uint8_t abandoned;    /* its caller left: what it claims goes back */
    uint8_t lingers;      /* an ack that may wait for company */
    uint8_t seen;         /* the outcome of a staged one was looked at */
    int generation;       /* of the process that made it: forks count up */
    uint8_t ticket_waits; /* threads sleep on a ticket; they take no role */
    struct broker *broker;
    struct op *pending;        /* the next older interrupted call of this thread */
    struct consumer *consumer; /* whose next batch it is; NULL for a plain call */
    embq_bytes *answer;        /* where the caller wants `out` */
    int64_t deadline_us;       /* of the call, or once parked of its wait; -1 none */
    int64_t
        wait_until_us; /* CLAIM: how long to stay parked; 0 not at all, -1 for ever */
    int64_t channel;   /* RECOVER: the owner's slot */
    int64_t result;
    char *error; /* of a code; NULL when there was no memory for it */

    int verb, flags, limit, count; /* CLAIM, SETTLE */
    int64_t delay_ms;
    uint8_t suspect_due;    /* CLAIM: a suspect waits to be taken alone */
    uint8_t was_parked;     /* CLAIM: it found nothing at least once */
    int64_t next_due_us;    /* CLAIM with nothing found: when something may be due, real
                               time */
    struct packer out;      /* CLAIM, DECLARE: the answer */
    struct packer receipts; /* CLAIM: of the messages in `out`, one after another */
    int64_t taken_deadline_ms; /* CLAIM: when its leases end */
    size_t size, extra_size;
    char bytes[]; /* `size` bytes of body, receipts or name, then `extra_size` of
                     fields, note */
};

/* The one suspect that this process has in flight. */
struct suspect {
    int64_t message, token, deadline_ms;
};

/* What was free on the disk at the last look; see space.c. */
struct space {
    int64_t left, size, looked_us;
    int owed; /* of it, the next checkpoint will take some for the database */
    uint32_t frames, salt; /* of the -wal, then */
};

struct absence {
    int64_t slot, since_us;
};

struct statement_cache;
struct run;
struct consumer;

#define RUN_BUCKETS 256
#define CHANNEL_BUCKETS 256

struct engine {
    struct engine *next; /* registry */
    char *path;
    struct guard *guard;
    int refs;    /* open brokers */
    int handles; /* brokers not yet freed */
    int attached, forking, guarded;
    int busy_timeout_ms;
    uint64_t file_id;
    int64_t slot;             /* our row in embq_owner; 0 when not attached */
    int64_t channels_certain; /* no power cut forgets the channels up to this one */

    /* Connections: the leader's, the readers', the keeper's for checkpoints, and the
     * one that holds a read transaction meanwhile. */
    sqlite3 *db, *read_db, *checkpoint_db, *hold_db;
    struct statement_cache *statements, *read_statements;
    pthread_mutex_t read_mutex;
    int wal_fd, gate_fd, life_fd;
    struct wal_index wal;

    /* The ring of waiting calls and the roles. Under `mutex`. */
    pthread_mutex_t mutex;
    struct link ring, unsynced, parked; /* heads of circular lists */
    int64_t ring_count, ring_bytes;
    int64_t lingering; /* acks on the ring that may wait for company ... */
    int64_t linger_since_us;
    int64_t patient; /* full sends on the ring: during a sync they collect */
    uint32_t room;   /* futex: bumped when a full ring has room again */
    int room_waiters;
    int leading;                    /* somebody leads, or is told to */
    int syncing;                    /* somebody syncs, or is told to */
    int keeper_leads, keeper_syncs; /* ... and it is the keeper */
    int in_calls; /* threads inside a verb: the last close waits for them */
    int stopping; /* no role is given any more: closing or forking */
    struct op
        *watchers[EMBQ_WAKE_BITS]; /* who sleeps on the WAL-index for these channels */
    int watching;                  /* threads that may be touching the mapping */

    /* Under leadership. */
    struct channel *channels[CHANNEL_BUCKETS];
    struct channel *used; /* in this group */
    struct run *runs[RUN_BUCKETS];
    int run_count;
    uint64_t epoch;
    int64_t transaction;      /* counts them */
    struct wal_header left;   /* the header that our last commit left */
    int64_t next_deadline_ms; /* no lease ends before this; valid in this epoch */
    uint64_t next_deadline_epoch;
    int64_t expired_in; /* the transaction that returned ended leases last */
    struct suspect suspect;
    struct space space;
    uint32_t wake_bits;      /* of this group */
    int storage_error;       /* SQLite's code that broke this group */
    uint32_t looked;         /* change counter at which all parked claims had nothing */
    int failed;              /* an embq code: every call is refused with it */
    int completing;          /* OP_CHECKPOINT is on its way */
    int extended;            /* OP_EXTEND was staged: once per attaching */
    int sync_failed;         /* full sends are refused until the WAL started over ... */
    uint32_t failed_salt[2]; /* ... that is, has other salts than these */
    int64_t last_group_us;

    /* The keeper, and the broker in whose name it stages. */
    struct broker *keeper_broker;
    pthread_t keeper;
    int keeper_runs;
    uint32_t keeper_word; /* futex: bumped to wake it */
    int keeper_sleeps, keeper_stops;
    int keeper_busy; /* at a checkpoint or other chores: it will not lead for a while */
    int64_t checkpoint_after_us; /* the last one got nowhere: not before then */
    pthread_mutex_t checkpoint_mutex;

    struct absence
        absent[EMBQ_ABSENT_MAX]; /* owners seen without their lock, and since when */
    struct consumer *consumers;  /* under mutex */

    int64_t groups, operations, syncs, checkpoints;
};

/* A handle that embq.open() gave: a face of the engine with its own durability and end.
 */
struct broker {
    struct engine *engine;
    int full;
    int ending; /* being closed: nothing more is staged */
    int closed;
    int busy_timeout_ms;
    int64_t disk_reserve; /* bytes; -1: the rule */
    int64_t unawaited;    /* staged operations that failed with nobody waiting */
    int64_t reported;     /* of those, by flush */
    int first_failure;
    char first_error[EMBQ_TEXT_SIZE];
};

static inline struct broker *broker_of(embq_ref ref) {
    return (struct broker *)ref;
}

/* ---- engine.c ---- */

/* How many forks lie between the first process and this one. */
extern int fork_generation;

/* A verb begins: the engine is attached (again, after a fork) and stays so until
 * engine_leave. Returns a code when the broker is closed or the file cannot be opened.
 */
int engine_enter(struct broker *b);
void engine_leave(struct engine *e);

/* ---- calls.c ---- */

/* The first failure of a staged operation that nobody awaited, once; else 0. */
int unawaited_take(struct broker *b);

/* A flag of OP_CLAIM beside the public ones: a prefetch never takes a suspect. */
#define CLAIM_NO_SUSPECT 0x100

/* ---- op.c ---- */

struct op *op_new(struct broker *b, enum op_kind kind, int64_t channel, size_t size,
                  size_t extra_size);
void op_release(struct op *op);
/* Keep the outcome; of a code also this thread's error text. */
void op_outcome(struct op *op, int64_t result);
/* Its text; never NULL. */
const char *op_error(const struct op *op);
/* Leave a list, go to another. Under the mutex. */
void op_move(struct op *op, struct link *head, enum op_place place);
void op_unlink(struct op *op);

static inline void list_init(struct link *head) {
    head->prev = head->next = head;
}

static inline int list_is_empty(const struct link *head) {
    return head->next == head;
}

static inline struct op *list_first(const struct link *head) {
    return (struct op *)head->next;
}

/* Every operation of the list; the body may take the current one off it. */
#define LIST_EACH(item, head)                                   \
    for (struct op *item = (struct op *)(head)->next,           \
                   *item##_next = (struct op *)item->link.next; \
         &item->link != (head);                                 \
         item = item##_next, item##_next = (struct op *)item->link.next)

/* ---- ring.c ---- */

void ring_init(struct engine *e);
/* Put the call on the ring and see it through: lead, sync, watch or sleep, as it comes.
 * Consumes the caller's reference, except when it returns EMBQ_INTERRUPTED. */
int64_t ring_call(struct engine *e, struct op *op);
/* A signal came: keep the call, so that this thread can find it again. */
void ring_push_pending(struct op *op);
/* This thread's latest interrupted call, kept no more; NULL when there is none. */
struct op *ring_pop_pending(void);
/* ring_call from where it stood. */
int64_t ring_resume(struct engine *e, struct op *op);
/* The first half of ring_call: 0, or EMBQ_BUSY when there was no room in time. */
int ring_submit(struct engine *e, struct op *op);
/* Wait for an operation that is on its way; the reference stays the caller's. */
int64_t ring_wait(struct engine *e, struct op *op);
/* Put a staged operation on the ring; 0 or EMBQ_FULL. Never blocks. */
int ring_stage(struct engine *e, struct op *op);
/* Nobody waits for it any more: take it back when it has not begun, else let it end
 * alone. Consumes the caller's reference. */
void ring_abandon(struct engine *e, struct op *op);
/* Under the mutex: whose turn is it? Wakes that thread, or the keeper. */
void ring_pass_on(struct engine *e);
/* Under the mutex: the operation is over; its engine reference goes. Its threads are
 * woken by ring_unlock, which must follow: woken under the mutex they would queue up at
 * it. */
void ring_finish(struct engine *e, struct op *op);
void ring_unlock(struct engine *e);
/* Under the mutex: it did a part of its work and goes on the ring again. */
void ring_again(struct engine *e, struct op *op);
/* Under the mutex: nothing was found for this claim; it waits on, if it may. */
void ring_park(struct engine *e, struct op *op);
/* Under the mutex: everything on the ring and all parked claims of this broker (NULL:
 * of all) end with this code; staged operations too when `staged`. The text is this
 * thread's. */
void ring_fail(struct engine *e, const struct broker *b, int code, int staged);
/* Under the mutex: take operations for a group; returns how many. */
int ring_take(struct engine *e, struct link *group);

/* ---- lead.c ---- */

/* Run one group. `wait`: block for the gate and the write lock (the keeper does).
 * Without it, when they are not free at once, the keeper is asked. */
void lead_group(struct engine *e, int wait);
/* fdatasync what was committed, and confirm it. */
void lead_sync(struct engine *e);

/* ---- keeper.c ---- */

int keeper_start(struct engine *e);
void keeper_stop(struct engine *e);
void keeper_wake(struct engine *e);
/* Stage one of the engine's own operations; failing, the next tick tries again. */
int keeper_stage(struct engine *e, enum op_kind kind, int64_t slot);

/* ---- watch.c ---- */

/* Sleep until something may be there for this parked claim; as futex_wait. The one that
 * `watches` its class of channels sleeps on the WAL-index, the others on their own
 * word. */
int watch_sleep(struct engine *e, struct op *op, int watches, int64_t timeout_us);
/* Under the mutex: it watches no more; another parked claim of its channels takes over.
 */
void watch_leave(struct engine *e, struct op *op);
/* Wake every watcher of this process (and, harmlessly, of others). */
void watch_kick(struct engine *e);

/* ---- checkpoint.c ---- */

/* Whether the keeper has checkpointing to do now; `idle`: nothing was written just now.
 */
int checkpoint_due(const struct engine *e, int idle);
/* One PASSIVE checkpoint beside the writers; then, maybe, OP_CHECKPOINT. */
void checkpoint_step(struct engine *e);
/* Whether the WAL is so long that writers must wait for it, though the keeper is at it:
 * the disk is slower than they are. */
int checkpoint_overdue(const struct engine *e);
/* Stage OP_CHECKPOINT. */
void checkpoint_stage(struct engine *e);
/* OP_CHECKPOINT, alone in its group: bring the whole WAL into the database under the
 * write lock, so that the next write starts it over. */
int64_t checkpoint_complete(struct engine *e);
/* Whether there are so many full sends that the -wal should be long beforehand. */
int wal_extension_due(const struct engine *e);
void wal_extension_stage(struct engine *e);
/* OP_EXTEND: 1 when another round is needed. */
int64_t wal_extend(struct engine *e);

/* ---- space.c ---- */

/* Ask the file system; bytes that are left beside what the next checkpoint needs. */
int64_t space_look(struct engine *e);
/* How long a -wal may get: `most`, less on a small file system. */
int64_t space_for_wal(const struct engine *e, int64_t most);
/* Before a send: 0, or EMBQ_STORAGE_FULL when it would go into the reserve. */
int space_check(struct engine *e, const struct op *send);

/* ---- vacuum.c ---- */

int vacuum_due(struct engine *e);
/* OP_VACUUM */
int64_t vacuum_step(struct engine *e);

/* ---- owner.c ---- */

/* OP_REGISTER: take a slot; void what another boot or a copy left behind. */
int64_t owner_register(struct engine *e);
/* Stage the recovery of owners whose death is sure: absent on two looks, 500 ms apart.
 */
void owners_look(struct engine *e);
/* OP_RECOVER: 1 when some leases of that slot are left for another round. */
int64_t owner_recover(struct engine *e, int64_t slot);

/* ---- consumer.c ---- */

/* The next batch, whose wait a signal interrupted. */
int64_t consumer_resume(struct consumer *c);
/* Give back what this broker's consumers hold and nobody took. */
void consumers_return(struct engine *e, const struct broker *b);
/* In the child of a fork: what was prefetched is the parent's. */
void consumers_forget(struct engine *e);
/* Give back prefetched messages whose deadline comes near. */
void consumers_tend(struct engine *e);

#endif
