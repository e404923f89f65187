/* Watching the WAL-index: how a blocked receiver learns of another process's commit.
 *
 * For each of the 32 classes of channels one parked claim at the most sleeps on the
 * change counter; a committer wakes the classes that it touched. Before it sleeps and
 * when it wakes it compares the counter with e->looked, at which all parked claims were
 * known to find nothing; when it moved, a group is led, which looks again. A commit
 * that goes by between the look and the sleep changes the word that we sleep on, so no
 * wake-up is lost. A writer that is not embq wakes nobody: for it the sleep is at most
 * 250 ms.
 */
#include "engine.h"
#include "ring.h"

#include <errno.h>

#define LOOK_US 250000
#define LOOK_AGAIN_US 50000 /* the group of whoever leads ends this sleep earlier */

/* Lead a group, so that parked claims look again. When somebody else leads, that group
 * looks: it cannot have begun before the commit that we saw, as both need the write
 * lock. */
static void look(struct engine *e, struct op *op) {
    pthread_mutex_lock(&e->mutex);
    int lead = !e->leading && !e->stopping;
    if (lead) e->leading = 1;
    pthread_mutex_unlock(&e->mutex);
    if (lead) lead_group(e, 0);
    else futex_wait(&op->word, WORD_WAIT, LOOK_AGAIN_US);
}

int watch_sleep(struct engine *e, struct op *op, int watches, int64_t timeout_us) {
    int64_t start = clock_real_us(), most = ATOMIC_LOAD(&op->next_due_us) - start;
    if (most > (watches ? LOOK_US : HANDLERS_US))
        most = watches ? LOOK_US : HANDLERS_US;
    if (timeout_us >= 0 && timeout_us < most) most = timeout_us;
    int why = ETIMEDOUT;
    uint32_t seen = ATOMIC_LOAD(&e->looked);
    if (most > 0 && !watches) why = futex_wait(&op->word, WORD_WAIT, most);
    else if (most > 0 && wal_change(&e->wal) == seen &&
             ATOMIC_LOAD(&op->word) == WORD_WAIT)
        why = futex_wait_shared(wal_change_word(&e->wal), seen, wake_bit(op->channel),
                                most);
    if (ATOMIC_LOAD(&op->word) != WORD_WAIT || why == EINTR) return why;
    op->handlers_ran = 0;
    int64_t now = clock_real_us();
    int changed = watches && wal_change(&e->wal) != ATOMIC_LOAD(&e->looked);
    if (changed || ATOMIC_LOAD(&op->next_due_us) <= now) look(e, op);
    return timeout_us >= 0 && now - start >= timeout_us ? ETIMEDOUT : 0;
}

void watch_leave(struct engine *e, struct op *op) {
    struct op **watcher = &e->watchers[wake_class(op->channel)];
    if (*watcher && *watcher != op)
        return; /* empty: the role was on its way to this one */
    *watcher = NULL;
    LIST_EACH (other, &e->parked) {
        if (other == op || wake_bit(other->channel) != wake_bit(op->channel)) continue;
        if (!other->waiting || other->word != WORD_WAIT) continue;
        ATOMIC_STORE(&other->word, (uint32_t)WORD_WATCH);
        futex_wake(&other->word, 1);
        return;
    }
}

void watch_kick(struct engine *e) {
    wal_wake(&e->wal, UINT32_MAX);
}
