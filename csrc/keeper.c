/* The keeper: one thread per engine, in C, which never takes the GIL. It does what no
 * caller's thread is there for: it leads when only staged operations wait, syncs for
 * them, blocks in the gate while callers wait interruptibly, gives lingering acks their
 * 5 ms, notices dead owners, tends prefetched messages and checkpoints. It ends before
 * a fork and before the engine is detached.
 */
#include "engine.h"
#include "line.h"
#include "ring.h"

#include <signal.h>
#include <string.h>

#define TICK_US 250000

void keeper_wake(struct engine *e) {
    if (!e->keeper_sleeps) return;
    e->keeper_sleeps = 0;
    e->keeper_word++;
    futex_wake(&e->keeper_word, 1);
}

enum chore { CHORE_STOP, CHORE_LEAD, CHORE_SYNC, CHORE_TICK };

static int linger_is_over(const struct engine *e, int64_t now) {
    return e->lingering && !e->leading && !e->stopping &&
           (e->lingering >= EMBQ_LINGER_COUNT ||
            now - e->linger_since_us >= EMBQ_LINGER_US);
}

/* Under the mutex: sleep until there is something to do, which is returned. */
static enum chore next_chore(struct engine *e, int64_t tick_us) {
    for (;;) {
        int64_t now = clock_real_us(), sleep_us = tick_us - now;
        if (e->keeper_stops) return CHORE_STOP;
        if (e->keeper_syncs) return CHORE_SYNC;
        if (e->keeper_leads) return CHORE_LEAD;
        if (linger_is_over(e, now) || lines_are_due(e, now)) {
            e->leading = 1;
            return CHORE_LEAD;
        }
        if (sleep_us <= 0 || checkpoint_due(e, 0) || wal_extension_due(e))
            return CHORE_TICK;
        int64_t pace_us = lines_pace_us(e, now);
        if (pace_us < sleep_us) sleep_us = pace_us;
        if (e->lingering && !e->leading) {
            int64_t rest = e->linger_since_us + EMBQ_LINGER_US - now;
            if (rest < sleep_us) sleep_us = rest;
        }
        uint32_t word = e->keeper_word;
        e->keeper_sleeps = 1;
        pthread_mutex_unlock(&e->mutex);
        futex_wait(&e->keeper_word, word, sleep_us > 0 ? sleep_us : 0);
        pthread_mutex_lock(&e->mutex);
        e->keeper_sleeps = 0;
    }
}

static void tick(struct engine *e) {
    int idle = clock_real_us() - ATOMIC_LOAD(&e->last_group_us) > TICK_US / 4;
    consumers_tend(e);
    owners_look(e);
    deletes_look(e);
    redrives_look(e);
    results_look(e);
    hits_stage(e, 0);
    if (checkpoint_due(e, idle)) checkpoint_step(e);
    else if (idle && vacuum_due(e)) keeper_stage(e, OP_VACUUM, 0);
}

static void *keeper_main(void *argument) {
    struct engine *e = argument;
    int ignored;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &ignored); /* but in the gate */
    int64_t tick_us = clock_real_us() + TICK_US;
    for (;;) {
        pthread_mutex_lock(&e->mutex);
        enum chore chore = next_chore(e, tick_us);
        if (chore == CHORE_LEAD) e->keeper_leads = 0;
        if (chore == CHORE_SYNC) e->keeper_syncs = 0;
        pthread_mutex_unlock(&e->mutex);
        ATOMIC_STORE(&e->keeper_busy, chore == CHORE_TICK);
        switch (chore) {
        case CHORE_STOP: return NULL;
        case CHORE_LEAD: lead_group(e, 1); break;
        case CHORE_SYNC: lead_sync(e); break;
        case CHORE_TICK: break;
        }
        /* Under load the ticks must come all the same, and checkpoints oftener than
         * they. */
        if (clock_real_us() >= tick_us) {
            tick(e);
            tick_us = clock_real_us() + TICK_US;
        } else if (wal_extension_due(e)) {
            wal_extension_stage(e);
        } else if (checkpoint_due(e, 0)) {
            ATOMIC_STORE(&e->keeper_busy, 1);
            checkpoint_step(e);
        }
        ATOMIC_STORE(&e->keeper_busy, 0);
    }
}

int keeper_stage(struct engine *e, enum op_kind kind, int64_t slot) {
    struct op *op = op_new(e->keeper_broker, kind, slot, 0, 0);
    if (!op) return EMBQ_NO_MEMORY;
    op->nowait = op->seen = 1;
    int code = ring_stage(e, op);
    op_release(op);
    return code;
}

int keeper_start(struct engine *e) {
    sigset_t all, before;
    sigfillset(&all);
    e->keeper_stops = 0;
    pthread_sigmask(SIG_SETMASK, &all,
                    &before); /* signals are for the application's threads */
    int failed = pthread_create(&e->keeper, NULL, keeper_main, e);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed)
        return error_set(EMBQ_LIMIT_REACHED, "%s: no thread: %s", e->path,
                         strerror(failed));
    e->keeper_runs = 1;
    return 0;
}

void keeper_stop(struct engine *e) {
    if (!e->keeper_runs) return;
    pthread_mutex_lock(&e->mutex);
    e->keeper_stops = 1;
    keeper_wake(e);
    pthread_mutex_unlock(&e->mutex);
    /* It may be blocked in the gate behind another process; see gate_enter. */
    pthread_cancel(e->keeper);
    pthread_join(e->keeper, NULL);
    e->keeper_runs = 0;
}
