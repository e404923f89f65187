/* Queues that are ordered by key: of each key one message is in flight, and the others
 * wait behind it, in the order of sending.
 *
 * A claim goes through the new messages in order. One whose key is free takes it: a row
 * of embq_key says so until the message is gone. One whose key is taken becomes a
 * delivery that waits, with a time below 0 that no search for what is due reaches. When
 * the one that has the key is gone, the next one has it, and gets its time. Keys stand
 * there as hashes: should two be equal, their messages wait for each other, and nothing
 * worse.
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
    int64_t taken = statement_int(e, ST_KEY_HOLDER, 0, INTS(c->sub.id, key), 0);
    return e->storage_error ? -1 : taken != 0;
}

int key_take(struct engine *e, const struct channel *c, int64_t key, int64_t message) {
    if (statement_do(e, ST_KEY_TAKE, 0, INTS(c->sub.id, key, message)) < 0) return -1;
    return sq.changes(e->db);
}

int key_block(struct engine *e, struct channel *c, struct delivery *d) {
    d->kind = DELIVERY_NEW;
    d->due_at_ms = -1;
    return delivery_store(e, c, d, 0);
}

int key_release(struct engine *e, struct channel *c, int64_t key) {
    int64_t next = 0;
    if (c->sub.waiting)
        next = statement_int(e, ST_KEY_NEXT, 0, INTS(c->sub.id, key), 0);
    if (!next) return statement_do(e, ST_KEY_FREE, 0, INTS(c->sub.id, key));
    if (statement_do(e, ST_KEY_PASS_ON, 0, INTS(c->sub.id, key, next)) < 0) return -1;
    return statement_do(e, ST_DELIVERY_UNBLOCK, 0, INTS(c->sub.id, next));
}
