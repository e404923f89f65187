/* Operations: one call each, from its arrival to its outcome; the words that its thread
 * is told; and the lists on which it stands meanwhile.
 */
#ifndef EMBQ_OP_H
#define EMBQ_OP_H

#include "embq.h"
#include "pack.h"

struct broker;
struct consumer;
struct line;

enum op_kind {
    OP_SEND,
    OP_SEND_MANY,
    OP_CLAIM,
    OP_SETTLE,
    OP_DECLARE,
    OP_CONFIGURE,
    OP_PAUSE,
    OP_PURGE,
    OP_CANCEL,
    OP_DELETE,
    OP_REDRIVE,
    OP_REDRIVE_CANCEL,
    OP_RESULT_BEGIN,
    OP_RESULT_END,
    OP_RESULT_SET,
    OP_RESULT_DELETE,
    OP_RESULT_FREE,
    OP_BARRIER, /* callers' */
    OP_REGISTER,
    OP_RECOVER,
    OP_CHECKPOINT,
    OP_EXTEND,
    OP_VACUUM,
    OP_REDRIVE_STEP,
    OP_HITS,
    OP_FORGET /* the engine's own */
};

/* What a thread that waits on `word` is told. */
enum op_word { WORD_WAIT, WORD_LEAD, WORD_SYNC, WORD_WATCH, WORD_DONE };

enum op_place {
    PLACE_NONE,
    PLACE_RING,
    PLACE_GROUP,
    PLACE_UNSYNCED,
    PLACE_PARKED,
    PLACE_LINE
};

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
    /* CLAIM: how long to stay parked; 0 not at all, -1 for ever. SEND with a turn: its
     * deadline, also while it must see its group through. */
    int64_t wait_until_us;
    int64_t channel; /* a handle; RECOVER: the owner's slot */
    int64_t result;
    char *error; /* of a code; NULL when there was no memory for it */

    int verb, flags, limit, count; /* CLAIM, SETTLE */
    int64_t delay_ms;              /* or the time of a PAUSE */
    double rate;                   /* REDRIVE: messages a second; 0: no limit */
    /* PURGE: of the sequences; removed so far. DELETE: of the runs; messages. */
    int64_t below, total;
    uint8_t no_room; /* SEND: there was no room for it, or others wait for it */
    uint8_t flushes; /* BARRIER: waits for what its broker staged, also in lines */
    uint64_t turn;   /* of a send in its line, a flush behind them; 0: in none yet */
    int64_t token;   /* RESULT_..: of the one in flight */
    int64_t removed; /* SEND that had no room: what its queue had removed by then */
    struct line *line;
    uint8_t again;          /* CLAIM, PURGE, DELETE: in the next group, after a step */
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

/* Whether it parks when there is nothing for it. */
static inline int op_parks(const struct op *op) {
    return op->kind == OP_CLAIM || op->kind == OP_RESULT_BEGIN;
}

/* A flag of OP_CLAIM beside the public ones: a prefetch never takes a suspect. */
#define CLAIM_NO_SUSPECT 0x100

#ifdef EMBQ_COUNT_OPS
extern int64_t ops_alive; /* for programs that look for one that nobody freed */
#endif

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

/* What it takes of a bound in bytes, of the ring, of a group. */
static inline int64_t op_bytes(const struct op *op) {
    return (int64_t)(sizeof *op + op->size + op->extra_size);
}

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

#endif
