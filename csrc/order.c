/* Queues that are ordered by key: of each key one message is in flight, and the others
 * wait behind it, in the order of sending.
 *
 * A claim goes through the new messages in order. One whose key is free becomes a
 * delivery at once, so that its row says that the key is taken; one whose key is taken
 * becomes a delivery that waits, with a time below 0 (-sent_at_ms - 1) that no search
 * for what is due reaches. When the row of the first is gone, however, the next one of
 * its key gets its time. Keys stand there as hashes: should two be equal, their
 * messages wait for each other, and nothing worse.
 */
#include "store.h"

int64_t key_hash(struct slice key) {
    if (!key.data) return 0;
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < key.size; i++)
        hash = (hash ^ (uint8_t)key.data[i]) * 0x100000001b3u;
    return hash ? (int64_t)hash : 1;
}

int key_is_taken(struct engine *e, const struct channel *c, int64_t key) {
    if (!c->sub.waiting && !c->sub.in_flight) return 0;
    int64_t taken = statement_int(e, ST_KEY_TAKEN, 0, INTS(c->sub.id, key), 0);
    return e->storage_error ? -1 : taken != 0;
}

int key_block(struct engine *e, struct channel *c, struct delivery *d) {
    d->kind = DELIVERY_NEW;
    d->due_at_ms = -1;
    return delivery_store(e, c, d, 0);
}

int key_release(struct engine *e, struct channel *c, const struct delivery *d) {
    int waited_behind = !d->owner && d->due_at_ms < 0;
    if (!d->key || waited_behind || !c->sub.waiting) return 0;
    return statement_do(e, ST_KEY_RELEASE, 0, INTS(c->sub.id, d->key));
}
