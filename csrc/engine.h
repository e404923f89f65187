/* One file, open in this process: the engine, and what it remembers of the file.
 * Everything remembered is a cache, valid while the WAL-index header read under the
 * write lock is the one that our own last commit left (`epoch` counts the times it was
 * not).
 */
#ifndef EMBQ_ENGINE_H
#define EMBQ_ENGINE_H

#include "bounds.h"
#include "embq.h"
#include "files.h"
#include "op.h"
#include "wal.h"

#include <pthread.h>

/* The one suspect that this process has in flight. */
struct suspect {
    int64_t message, token, deadline_ms;
    int64_t
        generation; /* of its channel: of a queue that was deleted it is done with */
};

/* What was free on the disk at the last look; see space.c. */
struct space {
    int64_t left, size, looked_us;
    int owed; /* of it, the next checkpoint will take some for the database */
    uint32_t frames, salt; /* of the -wal, then */
};

/* Of damaged messages, each [queue, id, whether it became a dead letter]; damage.c. */
struct notes {
    struct packer packed;
    int64_t count, kept;
};

struct absence {
    int64_t slot, since_us;
};

struct statement_cache;
struct line;
struct run;
struct consumer;
struct hits;

#define RUN_BUCKETS 256
#define CHANNEL_BUCKETS 256
#define HIT_BUCKETS 64

struct engine {
    struct engine *next; /* registry */
    char *path;
    struct guard *guard;
    int refs;    /* open brokers */
    int handles; /* brokers not yet freed */
    int attached, forking, guarded;
    int opening; /* embq_open attaches it, which a signal may end ... */
    int hurried; /* ... and did: the time left was made short */
    int busy_timeout_ms;
    int secure;             /* what was removed leaves no trace; see trace.c */
    uint32_t traced_salt;   /* of the -wal when it was to start over ... */
    int64_t trace_again_us; /* ... which is tried again then */
    int64_t fingerprint;    /* of the tables, as the file says it; 0: not yet */
    uint64_t file_id;
    int64_t slot;             /* our row in embq_owner; 0 when not attached */
    int64_t channels_certain; /* no power cut forgets the channels up to this one */

    /* Connections: the leader's, the readers', the keeper's for checkpoints, and the
     * one that holds a read transaction meanwhile. */
    sqlite3 *db, *read_db, *checkpoint_db, *hold_db;
    struct statement_cache *statements, *read_statements;
    pthread_mutex_t read_mutex;
    int wal_fd, gate_fd, life_fd;
    uint64_t names_since; /* the fence looked, and they are watched; see names.h */
    struct wal_index wal;

    /* The ring of waiting calls and the roles. Under `mutex`. */
    pthread_mutex_t mutex;
    struct link ring, unsynced, parked, flushing; /* heads of circular lists */
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

    /* Sends that wait for room, see line.c. Under `mutex`. */
    struct line *lines;
    int64_t line_count, line_bytes; /* of the sends in them */
    uint64_t turns;                 /* counts those that ever waited */
    int64_t lines_moved_us, lines_looked_us;
    int lines_due; /* some may go on, and no group has looked since */

    /* Under leadership. */
    struct channel *channels[CHANNEL_BUCKETS];
    struct channel *used; /* in this group */
    struct run *runs[RUN_BUCKETS];
    int run_count;
    uint64_t epoch;
    int64_t transaction;      /* counts them */
    int64_t looks;            /* ... and the looks at the sends that found no room */
    struct wal_header left;   /* the header that our last commit left */
    int64_t next_deadline_ms; /* no lease ends before this; valid in this epoch */
    uint64_t next_deadline_epoch;
    int64_t next_expiry_ms; /* the same for messages */
    uint64_t next_expiry_epoch;
    int64_t perished_in; /* the transaction that did a step of it */
    int64_t redriven_in; /* the same of a redrive */
    int64_t expired_in;  /* the transaction that returned ended leases last */
    struct suspect suspect;
    struct space space;
    uint32_t wake_bits;        /* of this group */
    int storage_error;         /* SQLite's code that broke this group */
    struct notes damage_found; /* of this group */
    struct notes damage_told;  /* not asked for yet; under mutex, as is ... */
    int damage_waits;          /* ... whether there are any */
    uint32_t looked;         /* change counter at which all parked claims had nothing */
    int failed;              /* an embq code: every call is refused with it */
    int completing;          /* OP_CHECKPOINT is on its way */
    int stepping;            /* this group did a step of something long */
    int64_t deleting_us;     /* when a step of an OP_DELETE was done or staged last */
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
    int keeper_waits; /* it leads, and is no further than the gate: it may be ended */
    int keeper_busy; /* at a checkpoint or other chores: it will not lead for a while */
    int64_t checkpoint_after_us; /* the last one got nowhere: not before then */
    int64_t held_since_us;       /* a reader keeps a WAL that is too long; 0: none */
    uint32_t held_salt;          /* the WAL that this was said of */
    struct wal_header no_delete, no_redrive; /* when it found none to go on with */
    pthread_mutex_t checkpoint_mutex;

    struct absence
        absent[EMBQ_ABSENT_MAX]; /* owners seen without their lock, and since when */
    struct consumer *consumers;  /* under mutex */

    /* Of results, see hits.c and recall.c. */
    pthread_mutex_t hits_mutex;
    struct hits *hits[HIT_BUCKETS];
    int hits_wait, hits_writing;
    int64_t hits_after_us;
    struct wal_header no_forget; /* until a commit changes it, nothing is over ... */
    int64_t forget_at_ms;        /* ... before this */

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
/* 1 when this thread is in the middle of a fork: it is freed once that is over. */
int fork_defers(void (*free_it)(embq_ref), embq_ref ref);

/* A verb begins: the engine is attached (again, after a fork) and stays so until
 * engine_leave. Returns a code when the broker is closed or the file cannot be opened.
 */
int engine_enter(struct broker *b);
void engine_leave(struct engine *e);

/* ---- attach.c: for engine.c alone, under its registry's mutex ---- */

/* Between two looks whether all threads are out. */
#define NAP_US 200

/* Open all that belongs to the file and take a slot; failing, nothing is left open. */
int engine_attach(struct engine *e);
void engine_detach(struct engine *e);
/* Everything that a fork must not copy: threads, connections, the gate. Guard, life
 * lock and slot stay: to other processes we never went away. */
void engine_rest(struct engine *e, int checkpoint);
/* OP_REGISTER, or OP_RECOVER of the own slot, which ends what this process still holds
 * as its death would, but at once. */
int engine_register(struct engine *e, enum op_kind kind);
/* Give roles no more and wait until nobody has one: 1 when it came so far. */
int engine_quiesce(struct engine *e, int64_t limit_us);
/* From now on it leaves no trace of what was removed. */
int engine_secure(struct engine *e, int64_t limit_us);
/* Roles are given again. */
void engine_resume(struct engine *e);

/* ---- calls.c ---- */

/* A new operation that owns copies of its bytes and of what comes with them, inside an
 * entered engine; NULL with the code noted in `*code`. */
struct op *call_begin(struct broker *b, enum op_kind kind, int64_t channel,
                      struct slice bytes, struct slice extra, int timeout_ms,
                      int64_t *code);
/* See it through, and leave the engine. */
int64_t call_run(struct broker *b, struct op *op);

/* The first failure of a staged operation that nobody awaited, once; else 0. */
int unawaited_take(struct broker *b);

/* ---- lead.c ---- */

/* Run one group. `wait`: block for the gate and the write lock (the keeper does).
 * Without it, when they are not free at once, the keeper is asked. */
void lead_group(struct engine *e, int wait);
/* fdatasync what was committed, and confirm it. */
void lead_sync(struct engine *e);
/* Run one operation in the group's transaction and keep its outcome; -1 when storage
 * failed: then the group is broken, and runs again with it. */
int op_run(struct engine *e, struct op *op);

/* ---- damage.c: bodies that are not what was sent ---- */

/* The group is over: what it noted counts, or does not. */
void damage_end(struct engine *e, int committed);
void damage_forget(struct engine *e);
/* What a claim returns: with EMBQ_DAMAGED when there is something to tell. */
int damage_tell(const struct broker *b, int64_t result);

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
/* For how long a reader has kept a WAL that is too long from starting over; 0: none. */
int64_t checkpoint_held_ms(const struct engine *e);
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

/* In a group: a write that changes nothing, so that the -wal starts over if it can. */
int wal_start_over(struct engine *e);

/* ---- trace.c ---- */

/* Whether the -wal may have something that was removed. */
int trace_due(const struct engine *e);
/* In a group, when the database has all that is in the -wal. */
int trace_remove(struct engine *e);

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

/* ---- delete.c ---- */

/* Stage the rest of a delete that somebody left unfinished. */
void deletes_look(struct engine *e);

/* ---- redrive.c ---- */

/* Stage a step when some redrive may go on here and now. */
void redrives_look(struct engine *e);

/* ---- hits.c ---- */

/* Stage OP_HITS, when there is something to write, now or when it is time. */
void hits_stage(struct engine *e, int now);
/* The group is over: what it wrote counts, or does not. */
void hits_end(struct engine *e, int committed);
void hits_forget(struct engine *e);

/* ---- recall.c ---- */

/* Stage OP_FORGET when something is over. */
void results_look(struct engine *e);

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
