/* The bounds of a queue: whether what is sent has room. It is asked under the write
 * lock, of counters that no other process can change meanwhile, so the bounds are
 * exact. See store.h.
 */
#include "store.h"

static int fits(int64_t stored, int64_t more, int64_t most) {
    return !more || !most || (more <= most && stored <= most - more);
}

int overflow_check(const struct channel *c, int64_t count, int64_t bytes) {
    const struct options *o = &c->options;
    int64_t messages = c->sent - c->sub.removed;
    int64_t stored = c->sent_bytes - c->sub.removed_bytes;
    if (!fits(messages, count, o->max_messages))
        return error_set(EMBQ_QUEUE_FULL,
                         "queue %s holds %lld messages of at most %lld; %lld more do "
                         "not fit",
                         c->name, (long long)messages, (long long)o->max_messages,
                         (long long)count);
    if (!fits(stored, bytes, o->max_bytes))
        return error_set(EMBQ_QUEUE_FULL,
                         "queue %s holds %lld bytes of at most %lld; %lld more do not "
                         "fit",
                         c->name, (long long)stored, (long long)o->max_bytes,
                         (long long)bytes);
    return 0;
}
