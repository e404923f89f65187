/* Leases that ended: by deadline, by the death of their owner, or all at once. A claim
 * looks here first, so no janitor is needed for correctness. See store.h. */
#include "store.h"

void leases_note(struct engine *e, int64_t deadline_ms) {
    if (e->next_deadline_epoch == e->epoch && deadline_ms < e->next_deadline_ms)
        e->next_deadline_ms = deadline_ms;
}

struct leased {
    int64_t subscription, message;
};

/* Deliveries that the statement names, `most` at the most; how many, or -1. */
static int leased_find(struct engine *e, sqlite3_stmt *s, struct leased *found,
                       int most) {
    int count = 0, more;
    while ((more = statement_step(e, s)) > 0) {
        found[count++] = (struct leased){sq.column_int64(s, 0), sq.column_int64(s, 1)};
        if (count == most) break;
    }
    if (more > 0) sq.reset(s);
    return more < 0 ? -1 : count;
}

/* Its row. An index can name what is not there, or is not leased: that would never end.
 */
static int leased_read(struct engine *e, const struct leased *l, struct channel **c,
                       struct delivery *d) {
    *c = channel_of_subscription(e, l->subscription);
    int found = *c ? delivery_read(e, *c, l->message, d) : 0;
    return found <= 0 || !d->owner ? storage_corrupt(e) : 0;
}

/* The run whose lease ends first, flushed ones only through the cache: NULL when none.
 */
static struct run *run_earliest(struct engine *e) {
    if (runs_flush(e) < 0) return NULL;
    sqlite3_stmt *s = statement(e, ST_RUN_FIRST, 0);
    if (statement_step(e, s) <= 0) return NULL;
    int64_t id = sq.column_int64(s, 0);
    sq.reset(s);
    struct run *r = run_get(e, id);
    if (!r) storage_corrupt(e); /* found by the search, but not by its id */
    return r;
}

int leases_expire(struct engine *e) {
    int64_t now = clock_boot_ms();
    if (e->next_deadline_epoch == e->epoch && now < e->next_deadline_ms) return 0;
    if (e->expired_in == e->transaction) return 0; /* one step for the whole group */
    e->expired_in = e->transaction;
    int64_t next = INT64_MAX;
    for (int left = EMBQ_EXPIRE_STEP; left > 0;) {
        struct run *r = run_earliest(e);
        if (e->storage_error) return -1;
        if (!r) break;
        next = run_deadline_ms(r->id);
        if (next > now) break;
        left -= r->held;
        if (run_expire(e, r) < 0) return -1;
        next = now; /* look again, should the budget be used up */
    }
    for (int left = EMBQ_EXPIRE_STEP; left > 0; left--) {
        struct channel *c;
        struct delivery d;
        struct leased first;
        int found =
            leased_find(e, statement(e, ST_DELIVERY_FIRST_LEASED, 0), &first, 1);
        if (found < 0) return -1;
        if (found == 0) break;
        if (leased_read(e, &first, &c, &d) < 0) return -1;
        if (d.deadline_ms > now) {
            if (d.deadline_ms < next) next = d.deadline_ms;
            break;
        }
        if (delivery_expire(e, c, &d) < 0) return -1;
        if (left == 1) next = now;
    }
    e->next_deadline_ms = next;
    e->next_deadline_epoch = e->epoch;
    return e->storage_error ? -1 : 0;
}

/* Runs that the statement names, of an owner or (0) of all. Found first and ended then:
 * the search may walk over many that are not this owner's, so it must not begin anew
 * for each. */
static int runs_end(struct engine *e, enum statement which, int64_t owner) {
    int64_t ids[EMBQ_RUNS_STEP];
    if (runs_flush(e) < 0) return -1;
    int count =
        statement_ids(e, statement_ints(e, which, 0, INTS(EMBQ_RUNS_STEP, owner)), ids);
    for (int i = 0; i < count; i++) {
        struct run *r = run_get(e, ids[i]);
        if (!r) return storage_corrupt(e); /* found by the search, but not by its id */
        if (run_expire(e, r) < 0) return -1;
    }
    return count;
}

/* The same for rows. */
static int rows_end(struct engine *e, enum statement which, int64_t owner) {
    struct leased found[EMBQ_EXPIRE_STEP];
    int count =
        leased_find(e, statement_ints(e, which, 0, INTS(EMBQ_EXPIRE_STEP, owner)),
                    found, EMBQ_EXPIRE_STEP);
    for (int i = 0; i < count; i++) {
        struct channel *c;
        struct delivery d;
        if (leased_read(e, &found[i], &c, &d) < 0 || delivery_expire(e, c, &d) < 0)
            return -1;
    }
    return count;
}

/* 1 when some may be left, 0 when none, -1. */
static int leases_end(struct engine *e, enum statement runs, enum statement rows,
                      int64_t owner) {
    int count = runs_end(e, runs, owner);
    if (count == 0) count = rows_end(e, rows, owner);
    return count < 0 ? -1 : count > 0;
}

int leases_of_owner(struct engine *e, int64_t owner) {
    return leases_end(e, ST_RUN_OF_OWNER, ST_DELIVERY_OF_OWNER, owner);
}

int leases_void(struct engine *e) {
    int more;
    while ((more = leases_end(e, ST_RUN_ALL, ST_DELIVERY_ALL_LEASED, 0)) > 0) {}
    if (more < 0) return -1;
    /* Receipts of the other incarnation are good for nothing here. */
    return statement_do(e, ST_DELIVERY_FORGET, 0, 0, NULL);
}
