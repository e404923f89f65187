/* Deliveries: the states of a message after its first hand-out. See store.h.
 *
 *     held --nack--> waiting (due by the retry policy) --claim--> held
 *     held --expiry, death--> waiting, suspect: due at once, the token kept --claim-->
 * held held --give back--> waiting: due before all others, uncounted held, or suspect
 * and not claimed again --ack--> gone   --reject--> dead letter
 */
#include "store.h"

#include <string.h>

int delivery_of_run(struct engine *e, struct run *r, int64_t message,
                    struct delivery *d) {
    *d = (struct delivery){.message = message,
                           .lane = message_lane(message),
                           .run = r,
                           .receive_count = 1,
                           .token = token_of_member(r->token, message),
                           .owner = r->owner,
                           .deadline_ms = run_deadline_ms(r->id),
                           .first_at_ms = r->claimed_at_ms,
                           .key = run_key(e, r, message)};
    return e->storage_error ? -1 : 0;
}

int delivery_read(struct engine *e, struct channel *c, int64_t message,
                  struct delivery *d) {
    sqlite3_stmt *s = statement_ints(e, ST_DELIVERY_READ, 0, INTS(c->sub.id, message));
    int found = statement_step(e, s);
    if (found <= 0) return found;
    *d = (struct delivery){.message = message, .stored = 1};
    d->kind = (int)sq.column_int64(s, 0);
    d->due_at_ms = sq.column_int64(s, 1);
    d->receive_count = sq.column_int64(s, 2);
    d->token = sq.column_int64(s, 3);
    d->owner = sq.column_int64(s, 4);
    d->deadline_ms = sq.column_int64(s, 5);
    d->first_at_ms = sq.column_int64(s, 6);
    d->lane = (int)(sq.column_int64(s, 7) & (EMBQ_LANES - 1));
    d->key = sq.column_int64(s, 8);
    int nobody = sq.column_type(s, 4) != SQLITE_NULL && !d->owner;
    sq.reset(s);
    if (nobody || !channel_has_given_out(c, message) || d->receive_count < 0 ||
        d->receive_count > EMBQ_COUNTER_MAX)
        return storage_corrupt(e);
    return 1;
}

/* Count it out of the state that it is in; one that is new to the file is in none. */
static void delivery_leave(struct engine *e, struct channel *c, struct delivery *d,
                           enum member how) {
    if (d->run) run_set(d->run, d->message, how);
    d->run = NULL;
    if (d->owner) c->sub.in_flight--;
    else if (d->stored) c->sub.waiting--;
    c->dirty = 1;
    if (c->options.ordered) channel_offer(e, c); /* others may have waited behind it */
}

int delivery_store(struct engine *e, struct channel *c, struct delivery *d,
                   int64_t owner) {
    delivery_leave(e, c, d, MEMBER_LEFT);
    d->owner = owner;
    if (owner) c->sub.in_flight++;
    else c->sub.waiting++;
    sqlite3_stmt *s =
        statement(e, d->stored ? ST_DELIVERY_WRITE : ST_DELIVERY_INSERT, 0);
    if (!s) return -1;
    sq.bind_int64(s, 1, c->sub.id);
    sq.bind_int64(s, 2, d->message);
    sq.bind_int64(s, 3, d->lane);
    sq.bind_int64(s, 4, d->kind);
    sq.bind_int64(s, 5, d->due_at_ms);
    sq.bind_int64(s, 6, d->receive_count);
    bind_or_null(s, 7, d->token);
    bind_or_null(s, 8, owner);
    if (owner) sq.bind_int64(s, 9, d->deadline_ms);
    else sq.bind_null(s, 9);
    bind_or_null(s, 10, d->first_at_ms);
    bind_slice(s, 11, d->error);
    if (!d->stored) bind_or_null(s, 12, d->key);
    if (statement_run(e, s) < 0) return -1;
    d->stored = 1;
    if (owner) {
        leases_note(e, d->deadline_ms);
        return 0;
    }
    channel_offer(e, c); /* also when it is due later: a sleeper must look again */
    return timer_rearm(e, c, d->message);
}

/* Its row goes, and what waited behind it goes on. */
static int delivery_delete(struct engine *e, struct channel *c,
                           const struct delivery *d) {
    int waited_behind = !d->owner && d->due_at_ms < 0;
    if (d->stored &&
        statement_do(e, ST_DELIVERY_DELETE, 0, INTS(c->sub.id, d->message)) < 0)
        return -1;
    return d->key && !waited_behind ? key_release(e, c, d->key) : 0;
}

int delivery_remove(struct engine *e, struct channel *c, struct delivery *d) {
    int of_run = d->run != NULL;
    delivery_leave(e, c, d, MEMBER_ACKED);
    c->sub.removed++;
    if (of_run) /* runs_flush() deletes the message, in stretches */
        return delivery_delete(e, c, d);
    int64_t size = message_remove(e, c, d->message);
    if (size < 0) return -1;
    c->sub.removed_bytes += size;
    return delivery_delete(e, c, d);
}

int delivery_drop(struct engine *e, struct channel *c, struct delivery *d) {
    c->sub.dropped++;
    return delivery_remove(e, c, d);
}

static int delivery_move(struct engine *e, struct channel *c, struct delivery *d,
                         struct channel *to, const struct burial *b) {
    delivery_leave(e, c, d, MEMBER_LEFT);
    int64_t size = message_move(e, c, d->message, to, b);
    if (size < 0) return -1;
    c->sub.removed++;
    c->sub.removed_bytes += size;
    return delivery_delete(e, c, d);
}

int delivery_bury(struct engine *e, struct channel *c, struct delivery *d,
                  const char *reason, struct slice error) {
    struct burial b = {reason, error, d->receive_count, d->first_at_ms};
    struct channel *to = message_grave(e, c);
    if (!to || delivery_move(e, c, d, to, &b) < 0) return -1;
    c->sub.dead++;
    return 0;
}

int delivery_redrive(struct engine *e, struct channel *c, struct delivery *d,
                     struct channel *to) {
    if (delivery_move(e, c, d, to, NULL) < 0) return -1;
    c->sub.redriven++;
    return 0;
}

int delivery_is_last(const struct channel *c, const struct delivery *d) {
    return c->options.dead_letter && d->receive_count >= c->options.max_receives;
}

int delivery_expire(struct engine *e, struct channel *c, struct delivery *d) {
    const struct slice none = {NULL, 0};
    c->sub.expired++;
    if (delivery_is_last(c, d)) return delivery_bury(e, c, d, "max_receives", none);
    d->kind = DELIVERY_SUSPECT;
    /* Due at once, whatever the wall clock does; among suspects the least often handed
     * out goes first, so that one that always kills does not hide the innocent behind
     * it. */
    d->due_at_ms = d->receive_count;
    return delivery_store(e, c, d, 0);
}
