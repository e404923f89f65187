/* The nouns of the file, as the leader works on them inside a group: channels,
 * messages, runs, deliveries. All of these need the write lock. A function that touches
 * the file returns -1 when storage failed (e->storage_error says how): then the whole
 * group is rolled back.
 */
#ifndef EMBQ_STORE_H
#define EMBQ_STORE_H

#include "engine.h"
#include "statement.h"

/* ---- channel.c ---- */

enum ordered { ORDERED_NOT, ORDERED_BY_KEY, ORDERED_WHOLLY };

/* What a send does that finds no room. */
enum overflow {
    OVERFLOW_BLOCK,
    OVERFLOW_REJECT,
    OVERFLOW_DROP_OLDEST,
    OVERFLOW_DEAD_LETTER
};

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
    int64_t delay_ms, ttl_ms; /* of messages that say nothing else; ttl 0: none */
    int expiry_drops;         /* what perished is no dead letter */
    int ordered;              /* enum ordered */
    int64_t dedup_window_ms;  /* 0: none */
    int64_t max_messages, max_bytes; /* of what is not settled; 0: any */
    int overflow;                    /* enum overflow */
};

/* A queue's one subscription; columns of embq_state in this order after the cursors. */
struct subscription {
    int64_t id;
    int64_t lanes;              /* LANES_.. : what is not in use costs nothing */
    int64_t cursor[EMBQ_LANES]; /* 0: nothing handed out yet */
    int64_t removed, removed_bytes, in_flight, waiting;
    int64_t delivered, redelivered, acked, nacked, rejected, expired, dead, dropped,
        duplicates, redriven;
};

/* As in embq_channel.kind. */
enum channel_kind { CHANNEL_GONE, CHANNEL_QUEUE, CHANNEL_FREE, CHANNEL_WORN };

struct channel {
    struct channel *next, *next_used;
    int64_t id;
    int kind;           /* enum channel_kind */
    int64_t generation; /* how many queues it was before */
    int64_t used; /* the transaction that used it last: it stands in the `used` list */
    char *name;   /* NULL unless it is a queue */
    int shard;
    struct options options;
    int64_t paused_until_ms; /* wall clock; 0: it is not */
    int64_t next_sequence, sent, sent_bytes;
    int64_t stored_sequence; /* what its row says: a send does not write it */
    struct subscription sub;
    uint64_t epoch;     /* when it was read */
    int dirty;          /* the subscription's row must be written in this group */
    int retries_in_row; /* ours, not the file's: the fairness of this process */
    int64_t no_room_at; /* the look at which a send of this process found no room */
};

static inline int is_between(int64_t value, int64_t least, int64_t most) {
    return value >= least && value <= most;
}

/* ---- overflow.c ---- */

static inline int options_are_bounded(const struct options *o) {
    return (o->max_messages | o->max_bytes) != 0;
}
/* Whether this send is to be asked about: its queue has bounds, or others wait before
 * it. */
int overflow_matters(struct engine *e, const struct op *send, const struct channel *c);
/* Room for so many more, of so many bytes of bodies, which the queue's policy may make:
 * 0, or a code, and then nothing was removed for it. */
int overflow_check(struct engine *e, struct op *send, struct channel *c, int64_t count,
                   int64_t bytes);

/* ---- unique.c ---- */

/* A set of texts that stay where they are. All 0: empty. */
struct unique {
    struct slice *slots;
    size_t size, count;
};
/* 1 when it is new, 0 when it was there, -1 without memory. */
int unique_add(struct unique *u, struct slice id);
void unique_free(struct unique *u);

/* ---- options.c ---- */

/* Whether they can be obeyed: what Python refuses, a damaged file may hold. */
int options_are_sound(const struct options *o);
/* Of a row of embq_channel, whose first option is at `column`: 0 or -1. */
int options_from_row(struct engine *e, sqlite3_stmt *s, int column, struct options *o);
void options_bind(sqlite3_stmt *s, int index, const struct options *o);
int options_write(struct engine *e, const struct channel *c, const struct options *o);
/* The caller's, checked; `o->dead_letter` is malloced. 0 or a code. */
int options_read(struct slice packed, struct options *o);
void options_pack(const struct options *o, struct packer *p);
/* 0, or a code when dead letters of the queue `name` could come back to it. */
int options_check_cycle(struct engine *e, struct slice name, const struct options *o);
/* Keep a text of a row; 0 or -1. */
int text_keep(struct engine *e, char **text, struct slice s);

/* ---- channel.c ---- */

/* What was sent to a channel; first as its subscription's row says. */
struct tail {
    int64_t next_sequence, sent, sent_bytes;
};
/* Add what was sent since that row was written: the newest message tells, in whichever
 * lane it is. On any connection; SQLITE_OK, or SQLite's code. */
int tail_read(struct statement_cache *statements, int64_t channel, int shard,
              int64_t lanes, struct tail *t);
/* The channel as the file has it now; NULL when there is none (or storage failed). */
struct channel *channel_get(struct engine *e, int64_t id);
/* As it was when it was last read, which may be long ago; NULL when it never was. */
const struct channel *channel_known(const struct engine *e, int64_t id);
struct channel *channel_of_subscription(struct engine *e, int64_t subscription);
/* Whether it is the queue that this handle means. */
static inline int channel_is(const struct channel *c, int64_t handle) {
    return c->kind == CHANNEL_QUEUE && c->generation == handle_generation(handle);
}
/* That of an operation; NULL with the operation's outcome in `*code`. */
struct channel *channel_of_op(struct engine *e, const struct op *op, int64_t *code);
/* Whether this id can be one of its messages, as far as numbers tell. */
static inline int channel_has_given_out(const struct channel *c, int64_t message) {
    int64_t sequence = message_sequence(message);
    return message_channel(message) == c->id && sequence > 0 &&
           sequence < c->next_sequence;
}
/* How far first deliveries have gone in a lane. */
static inline int64_t channel_cursor(const struct channel *c, int lane) {
    return c->sub.cursor[lane] ? c->sub.cursor[lane] : message_id(c->id, lane, 0);
}
/* From now on it has messages of this kind: LANES_.. or a lane's bit. */
static inline void channel_use(struct channel *c, int64_t lanes) {
    if ((c->sub.lanes | lanes) == c->sub.lanes) return;
    c->sub.lanes |= lanes;
    c->dirty = 1;
}
/* By name: its id, 0 when there is none, -1. */
int64_t channel_find(struct engine *e, const char *name, size_t size);
/* Make a queue; its id or a code. */
int64_t channel_create(struct engine *e, const char *name, size_t size,
                       const struct options *o);
/* OP_DECLARE. */
int64_t channel_declare(struct engine *e, struct op *op);
/* 0 when that many sequences are left, else LIMIT_REACHED. */
int channel_has_room(const struct channel *c, int64_t count);
/* Allocate `count` sequences: the first, or LIMIT_REACHED. */
int64_t channel_allocate(struct channel *c, int64_t count);
/* Jump over sequences in every channel: numbers that may have been seen outside. */
int channels_jump(struct engine *e, int64_t by);
/* Write what changed; the runs first. */
int channels_flush(struct engine *e);
void channels_free(struct engine *e);

/* ---- send.c ---- */

/* OP_SEND, OP_SEND_MANY: the first row, or a code. */
int64_t message_send(struct engine *e, struct op *op);
/* Check the shape and size of a send before it is staged: 0 or a code. */
int message_validate(const struct op *op, int64_t max_body);

/* ---- message.c ---- */

#define PUBLIC_ID_SIZE 32
/* The public id of a message that never moved. */
void public_id_write(const struct engine *e, int64_t row,
                     char made[PUBLIC_ID_SIZE + 1]);
/* That of a stepped row that begins with the columns of a message; `made` is room. */
struct slice public_id_of(const struct engine *e, sqlite3_stmt *row, int64_t message,
                          char made[PUBLIC_ID_SIZE + 1]);
/* The row that stands in an id of PUBLIC_ID_SIZE, where its message is unless it moved;
 * 0: none does. */
int64_t public_id_place(const struct engine *e, struct slice id);

struct delivered {
    int64_t run, token, message, receive_count;
};
/* Append a stepped row that begins with the columns of a message, as the array that is
 * an embq.Message: 0, or -1 when it is damaged. */
int message_pack_row(const struct engine *e, sqlite3_stmt *row, int64_t message,
                     int64_t receive_count, struct slice receipt, struct packer *out);
/* Append the row of a stepped MESSAGE_READ or MESSAGE_RANGE statement, and its receipt,
 * to the answer of a claim; a row without a body is noted as damage. */
void message_pack(struct engine *e, sqlite3_stmt *row, const struct delivered *d,
                  struct op *claim);
/* Whether the body of such a row is not what was sent. */
int message_is_damaged(sqlite3_stmt *row);
/* Delete one; its size, or -1. */
int64_t message_remove(struct engine *e, struct channel *c, int64_t id);
/* Delete all from the first to the last id, with what waits for their times. */
int messages_delete(struct engine *e, struct channel *c, int64_t first, int64_t last);

struct burial {
    const char *reason; /* "rejected", "max_receives", "ttl", "schema", "overflow",
                           "damaged" */
    struct slice error;
    int64_t receive_count, first_at_ms;
};
/* The channel's dead-letter queue, which is made when it is not there; NULL: storage
 * failed. */
struct channel *message_grave(struct engine *e, const struct channel *c);
/* Move it to another channel, ready at once: buried (`b`), which lengthens its history,
 * or as it is, with the ttl of where it goes. An ordered one gives it the default
 * priority. Returns its size, or -1. Deliveries and runs are the caller's to clean. */
int64_t message_move(struct engine *e, struct channel *c, int64_t id,
                     struct channel *to, const struct burial *b);

/* ---- run.c: batches of first deliveries ---- */

enum member { MEMBER_HELD = 0, MEMBER_ACKED = 1, MEMBER_LEFT = 2 };

struct run {
    struct run *next;
    int64_t id; /* deadline_ms << 21 | random: runs are in order of deadline */
    int64_t first, last, owner, token, claimed_at_ms;
    struct channel *channel;
    uint64_t epoch;
    int held;
    int dirty;   /* some member was acked or left since it was written */
    int unsaved; /* not in the file yet */
    uint32_t sizes_known;
    uint8_t states[EMBQ_RUN_IDS / 4]; /* two bits a member: enum member */
    uint8_t
        stored[EMBQ_RUN_IDS / 4]; /* as in the file: what is acked here is deleted */
    int64_t *keys;    /* their hashes, when the queue is ordered by key and this process
                         claimed them */
    uint32_t sizes[]; /* of the bodies, when this process claimed them (sizes_known) */
};

/* Ids of subscriptions are below, those of runs above: they share a table. */
#define RUN_ID_BITS 21

static inline int64_t run_deadline_ms(int64_t id) {
    return (id >> RUN_ID_BITS) - 1;
}

/* Proof of one lease: random, never 0. */
int64_t token_new(void);
/* A member's own token, so that one message's receipt cannot pass for its neighbour's.
 */
int64_t token_of_member(int64_t token, int64_t message);
/* An id that no run has. */
int64_t run_new_id(struct engine *e, int64_t deadline_ms);
/* A new run over first..last, every member MEMBER_LEFT until run_hold(). NULL: no
 * memory. */
struct run *run_new(struct engine *e, struct channel *c, int64_t id, int64_t token,
                    int64_t first, int64_t last);
int run_hold(struct engine *e, struct run *r, int64_t message, uint32_t size,
             int64_t key);
/* The hash of a member's key, 0 for none. */
int64_t run_key(struct engine *e, const struct run *r, int64_t message);
/* NULL when there is no such run (or storage failed). */
struct run *run_get(struct engine *e, int64_t id);
enum member run_member(const struct run *r, int64_t message);
void run_set(struct run *r, int64_t message, enum member state);
/* Delete the messages that were acked, write or delete the runs that changed. */
int runs_flush(struct engine *e);
/* Forget what an older epoch knew. */
void runs_drop(struct engine *e);
/* Turn every held member into a suspect that is due now: its lease ended. */
int run_expire(struct engine *e, struct run *r);

/* ---- damage.c ---- */

/* Note one of this channel for people, by its public id. */
void damage_note(struct engine *e, const struct channel *c, struct slice id);

/* ---- delivery.c: where a message is that was handed out at least once ---- */

/* As in embq_delivery.kind. */
enum delivery_kind { DELIVERY_AGAIN, DELIVERY_SUSPECT, DELIVERY_NEW };

/* A member of a run (`run` set), or a row of embq_delivery (`stored`). Moving it keeps
 * the counters of the channel right. */
struct delivery {
    int64_t message;
    int lane; /* of its priority */
    struct run *run;
    int stored;
    int kind;          /* enum delivery_kind: what it waits as */
    int64_t key;       /* in a queue ordered by key: its hash; 0 otherwise */
    int64_t due_at_ms; /* wall clock; below 0: it waits behind another of its key; small
                          numbers are an order among what is due at once */
    int64_t receive_count;
    int64_t token;       /* 0: nobody may settle it */
    int64_t owner;       /* 0: waiting */
    int64_t deadline_ms; /* when leased */
    int64_t first_at_ms;
    struct slice error; /* of the nack that put it here; not read back */
};

int delivery_of_run(struct engine *e, struct run *r, int64_t message,
                    struct delivery *d);
/* The row of a message: 1 found, 0 not, -1. */
int delivery_read(struct engine *e, struct channel *c, int64_t message,
                  struct delivery *d);
/* Write it with this owner: leased, or (0) waiting. */
int delivery_store(struct engine *e, struct channel *c, struct delivery *d,
                   int64_t owner);
/* It and its message are done with. */
int delivery_remove(struct engine *e, struct channel *c, struct delivery *d);
/* The same, counted as dropped: nobody settled it. */
int delivery_drop(struct engine *e, struct channel *c, struct delivery *d);
int delivery_bury(struct engine *e, struct channel *c, struct delivery *d,
                  const char *reason, struct slice error);
/* Nobody can do anything with it, and it is not removed: it becomes a dead letter where
 * there are any, and waits elsewhere, by the retry policy and `least_ms` at least. */
int delivery_refuse(struct engine *e, struct channel *c, struct delivery *d,
                    int64_t least_ms, const char *reason, struct slice why);
/* Nobody holds it: it moves to that channel, and keeps its history. */
int delivery_redrive(struct engine *e, struct channel *c, struct delivery *d,
                     struct channel *to);
/* Its lease ended by death or expiry: a suspect, or a dead letter when it was its last.
 */
int delivery_expire(struct engine *e, struct channel *c, struct delivery *d);
/* Whether its next return is a burial. */
int delivery_is_last(const struct channel *c, const struct delivery *d);

/* ---- lease.c: leases that ended, of all queues ---- */

/* Return leases whose deadline has passed, EMBQ_EXPIRE_STEP at the most. */
int leases_expire(struct engine *e);
/* Return the leases of one owner; 1 when some are left, 0 when none, -1. */
int leases_of_owner(struct engine *e, int64_t owner);
/* Void every lease: no owner of another boot or of the original of a copy is alive. */
int leases_void(struct engine *e);
/* A lease with this deadline was given. */
void leases_note(struct engine *e, int64_t deadline_ms);

/* ---- timer.c: what the wall clock does to messages ---- */

/* It becomes ready at that time, in this lane. */
int timer_defer(struct engine *e, struct channel *c, int lane, int64_t at_ms,
                int64_t message);
/* It is ready: a delivery that is new to the file. */
int timer_take(struct engine *e, struct channel *c, int64_t at_ms, struct delivery *d);
/* It perishes at that time, unless it is in flight then. */
int timer_expire_at(struct engine *e, struct channel *c, int64_t at_ms,
                    int64_t message);
/* One that was never handed out, as a delivery that is new to the file: 1; 0 when a run
 * holds it; -1. */
int timer_untaken(struct engine *e, struct channel *c, struct delivery *d);
/* It is no longer in flight: should it have an expiry, that counts again. */
int timer_rearm(struct engine *e, struct channel *c, int64_t message);
/* Let perish what is to, in all channels, EMBQ_EXPIRE_STEP at the most: 1 when some is
 * left, 0, -1. */
int timers_expire(struct engine *e);

/* ---- idempotency.c: what was done before ---- */

/* The row that this dedup id was sent as: 0 when it was not, -1. */
int64_t dedup_find(struct engine *e, const struct channel *c, struct slice id,
                   int64_t now_ms);
int dedup_note(struct engine *e, const struct channel *c, struct slice id, int64_t row,
               int64_t now_ms);

/* ---- result.c: what is to be done once ---- */

struct names {
    struct slice scope, key, both;
};
/* Take apart what has a NUL between a scope and a key; 0, or INVALID_ARGUMENT. */
int names_split(const char *data, size_t size, struct names *n);
/* OP_RESULT_BEGIN: EMBQ_RESULT_STORED, .._BEGUN, or 0: it is in flight. */
int64_t result_begin(struct engine *e, struct op *op);
/* OP_RESULT_END: 1, or 0 when another one was set meanwhile, which is the answer. */
int64_t result_end(struct engine *e, struct op *op);
int64_t result_set(struct engine *e, struct op *op);
/* OP_RESULT_DELETE: 1, or 0 when none was stored. */
int64_t result_delete(struct engine *e, struct op *op);
/* OP_RESULT_FREE: it ended without a result. */
int64_t result_free(struct engine *e, struct op *op);
/* What this owner had in flight is free; all that is in flight is. */
int results_of_owner(struct engine *e, int64_t owner);
int results_void(struct engine *e);
/* Remove what is over, dedup ids too, `most` at the most: how many, or -1. */
int results_forget(struct engine *e, int64_t now_ms, int64_t most);
/* OP_FORGET: a step; 1 when there may be more. */
int64_t results_step(struct engine *e);

/* ---- hits.c: how often results were found ---- */

void hits_note(struct engine *e, struct slice scope);
/* Not in the file yet; under hits_mutex. */
int64_t hits_pending(struct engine *e, struct slice scope);
/* OP_HITS. */
int64_t hits_write(struct engine *e);

/* ---- order.c: one message of a key at a time ---- */

/* Never 0, but for no key. */
int64_t key_hash(struct slice key);
/* Whether a message has this key: 1, 0, -1. */
int key_is_taken(struct engine *e, const struct channel *c, int64_t key);
/* Now this one has it: 1; 0 when another has, -1. */
int key_take(struct engine *e, const struct channel *c, int64_t key, int64_t message);
/* A new message waits behind the others of its key. */
int key_block(struct engine *e, struct channel *c, struct delivery *d);
/* The one that had it is gone: the next of this key has it, and waits no longer. */
int key_release(struct engine *e, struct channel *c, int64_t key);

/* ---- admin.c: what is done to a queue as a whole ---- */

/* OP_CONFIGURE: 1, or 0 when the options are not those that the caller expects. */
int64_t admin_configure(struct engine *e, struct op *op);
int64_t admin_pause(struct engine *e, struct op *op);
/* A step of something long was made, so that nobody waits long; there is more to do, or
 * at full it is confirmed once it is synced. */
void op_stepped(struct engine *e, struct op *op, int more);
/* OP_PURGE: a step; how many were removed so far. */
int64_t admin_purge(struct engine *e, struct op *op);
/* Remove what nobody holds, of what was sent before: a step; how many, or -1. */
int messages_purge(struct engine *e, struct channel *c, int64_t below);
/* OP_CANCEL: 1, or 0 when it is in flight. */
int64_t admin_cancel(struct engine *e, struct op *op);

/* ---- delete.c ---- */

/* OP_DELETE, by name, or (of the keeper) by handle: a step; how many messages there
 * were. */
int64_t delete_run(struct engine *e, struct op *op);

/* ---- redrive.c: from a dead-letter queue back ---- */

/* OP_REDRIVE: the token of the task, which is begun or gone on with. */
int64_t redrive_begin(struct engine *e, struct op *op);
/* OP_REDRIVE_CANCEL: 1, or 0 when the task is over. */
int64_t redrive_cancel(struct engine *e, const struct op *op);
/* OP_REDRIVE_STEP: 1 when it did one, else 0. */
int64_t redrive_step(struct engine *e);

/* ---- claim.c, settle.c ---- */

/* OP_CLAIM: how many were claimed. With 0, op->next_due_ms says when to look again. */
int64_t claim_run(struct engine *e, struct op *op);
/* OP_SETTLE: how many, or a code when none. */
int64_t settle_run(struct engine *e, struct op *op);

/* Something became ready in the channel: parked claims are served, other processes
 * woken. */
static inline void channel_offer(struct engine *e, const struct channel *c) {
    e->wake_bits |= wake_bit(c->id);
}

#endif
