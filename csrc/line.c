/* Lines: sends that wait for room in a queue that blocks, and flushes behind them.
 *
 * A send that finds no room joins the line of its queue, and one that comes while there
 * is a line joins it untried: in a process, room is given in the order of the calls. A
 * group looks at the lines of queues from which something was removed, after all that
 * removes and before the claims. Room that another process makes wakes nobody: while
 * there are lines the keeper looks at the WAL-index, the oftener the shorter ago the
 * last of them went on.
 */
#include "line.h"
#include "engine.h"
#include "ring.h"
#include "store.h"

#include <stdlib.h>

#define PACE_LEAST_US 250 /* between two looks of the keeper at the WAL-index */
#define PACE_MOST_US 10000
#define PACE_SHARE 8          /* of the time that nothing moved */
#define LOOK_AGAIN_US 1000000 /* what perishes and whose lease ends makes room too */

/* ---- joining and leaving ---- */

static struct line *line_find(const struct engine *e, int64_t channel) {
    struct line *l = e->lines;
    while (l && l->channel != channel) l = l->next;
    return l;
}

static struct line *line_make(struct engine *e, int64_t channel) {
    struct line *l = malloc(sizeof *l);
    if (!l) return NULL; /* then no room is the outcome */
    *l = (struct line){.next = e->lines, .channel = channel};
    list_init(&l->ops);
    e->lines = l;
    e->lines_looked_us = clock_real_us();
    ATOMIC_STORE(&e->lines_moved_us, e->lines_looked_us);
    keeper_wake(e); /* it slept for longer */
    return l;
}

void line_join(struct engine *e, struct op *send) {
    if (send->broker->closed)
        op_outcome(send, error_set(EMBQ_CLOSED, "%s: this broker was closed", e->path));
    int came_back = send->turn != 0;
    if (!came_back) {
        send->turn = ++e->turns;
        send->wait_until_us = send->deadline_us;
    }
    int over = send->wait_until_us >= 0 && send->wait_until_us <= clock_real_us();
    struct line *l = NULL;
    if (!over && !send->abandoned && !send->broker->closed) {
        l = line_find(e, send->channel);
        if (!l) l = line_make(e, send->channel);
    }
    if (!l) {
        ring_finish(e, send);
        return;
    }
    struct link *at = &l->ops;
    if (came_back) /* it was the first, or nearly */
        for (at = l->ops.next; at != &l->ops; at = at->next)
            if (((struct op *)at)->turn > send->turn) break;
    op_move(send, at, PLACE_LINE);
    send->line = l;
    ATOMIC_ADD(&e->line_count, 1);
    e->line_bytes += op_bytes(send);
    ATOMIC_STORE(&send->deadline_us, send->wait_until_us);
    l->tried = e->transaction;
    if (list_first(&l->ops) == send) l->removed = send->removed;
}

void line_left(const struct op *op) {
    struct engine *e = op->broker->engine;
    if (!op->line) return; /* a flush */
    ATOMIC_ADD(&e->line_count, -1);
    e->line_bytes -= op_bytes(op);
}

void line_give_up(struct engine *e, const struct op *op) {
    if (!op->line || list_first(&op->line->ops) != op) return;
    op->line->removed = -1;
    e->lines_due = 1;
    keeper_wake(e);
}

int line_is_before(struct engine *e, const struct op *send) {
    if (!ATOMIC_LOAD(&e->line_count)) return 0;
    pthread_mutex_lock(&e->mutex);
    const struct line *l = line_find(e, send->channel);
    int before = l && !list_is_empty(&l->ops) &&
                 (!send->turn || list_first(&l->ops)->turn < send->turn);
    pthread_mutex_unlock(&e->mutex);
    return before;
}

/* ---- going on ---- */

/* Whether its first may find room, or find out that its queue is gone. */
static int line_may_move(const struct engine *e, const struct line *l) {
    const struct channel *c = channel_known(e, handle_channel(l->channel));
    return l->removed < 0 || !c || !channel_is(c, l->channel) ||
           c->sub.removed != l->removed;
}

void lines_look_again(struct engine *e) {
    pthread_mutex_lock(&e->mutex);
    for (struct line *l = e->lines; l; l = l->next) l->removed = -1;
    pthread_mutex_unlock(&e->mutex);
}

/* The first of a line that was not tried in this transaction; it joins the group. */
static struct op *line_take(struct engine *e, struct link *group, int all) {
    struct op *taken = NULL;
    pthread_mutex_lock(&e->mutex);
    for (struct line *l = e->lines; l && !taken; l = l->next) {
        if (list_is_empty(&l->ops) || l->tried == e->transaction) continue;
        if (!all && !line_may_move(e, l)) continue;
        l->removed = -1; /* so that the next one is looked at too */
        taken = list_first(&l->ops);
        op_move(taken, group, PLACE_GROUP);
    }
    pthread_mutex_unlock(&e->mutex);
    return taken;
}

/* As many as a group may have: the others go in the next one. */
static int lines_move(struct engine *e, struct link *group, int all) {
    struct op *op;
    int64_t count = 0, bytes = 0;
    while ((op = line_take(e, group, all))) {
        bytes += op_bytes(op);
        if (op_run(e, op) < 0) return -1;
        if (!op->no_room) {
            ATOMIC_STORE(&e->lines_moved_us, clock_real_us());
            if (++count < EMBQ_GROUP_COUNT && bytes < EMBQ_GROUP_BYTES) continue;
            lines_look_again(e);
            return 0;
        }
        pthread_mutex_lock(&e->mutex);
        line_join(e, op);
        ring_unlock(e);
    }
    return 0;
}

int lines_serve(struct engine *e, struct link *group, int foreign) {
    int64_t now_us = clock_real_us();
    int all = foreign || now_us - e->lines_looked_us >= LOOK_AGAIN_US;
    e->looks++;
    pthread_mutex_lock(&e->mutex);
    int none = !e->lines;
    e->lines_due = 0;
    if (all) e->lines_looked_us = now_us;
    pthread_mutex_unlock(&e->mutex);
    if (!none && lines_move(e, group, all) < 0) return -1;
    LIST_EACH (op, group) {
        if (op->no_room && op_run(e, op) < 0) return -1;
    }
    return 0;
}

/* ---- flushing ---- */

static int flush_waits(const struct engine *e, const struct op *flush) {
    for (const struct line *l = e->lines; l; l = l->next)
        LIST_EACH (op, &l->ops) {
            if (op->turn > flush->turn) break;
            if (op->nowait && op->broker == flush->broker) return 1;
        }
    return 0;
}

int line_join_flush(struct engine *e, struct op *flush) {
    flush->turn = e->turns;
    if (flush->broker->closed || flush->abandoned || !flush_waits(e, flush)) return 0;
    op_move(flush, &e->flushing, PLACE_LINE);
    return 1;
}

void lines_clear(struct engine *e) {
    for (struct line **at = &e->lines, *l; (l = *at);) {
        if (list_is_empty(&l->ops)) {
            *at = l->next;
            free(l);
        } else {
            at = &l->next;
        }
    }
}

void lines_end(struct engine *e) {
    lines_clear(e);
    for (struct line *l = e->lines; l; l = l->next) e->lines_due |= line_may_move(e, l);
    LIST_EACH (op, &e->flushing) {
        if (flush_waits(e, op)) continue;
        if (op->full) op_move(op, &e->unsynced, PLACE_UNSYNCED);
        else ring_finish(e, op);
    }
    if (e->lines_due) keeper_wake(e);
}

/* ---- for the keeper ---- */

int lines_are_due(const struct engine *e, int64_t now_us) {
    if (!e->lines || e->leading || e->stopping) return 0;
    return e->lines_due || wal_change(&e->wal) != ATOMIC_LOAD(&e->looked) ||
           now_us - e->lines_looked_us >= LOOK_AGAIN_US;
}

int64_t lines_pace_us(const struct engine *e, int64_t now_us) {
    int64_t pace_us = (now_us - ATOMIC_LOAD(&e->lines_moved_us)) / PACE_SHARE;
    return !e->lines                 ? INT64_MAX
           : pace_us < PACE_LEAST_US ? PACE_LEAST_US
           : pace_us > PACE_MOST_US  ? PACE_MOST_US
                                     : pace_us;
}
