/* How often results were found, by scope. A read writes nothing, so they are counted in
 * memory, and the keeper adds them to embq_scope once a second and at the close: a
 * killed process takes the last ones with it.
 *
 * `hits_mutex` is taken beside `read_mutex` or by who leads, and nothing is taken under
 * it. While `hits_writing` the counts are on their way into the file: who adds them to
 * what the file says waits for the end of that group.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>

#define EVERY_US 1000000

struct hits {
    struct hits *next;
    int64_t pending, written; /* of those pending, by the group under way */
    size_t size;
    char scope[];
};

static struct hits **hits_bucket(struct engine *e, struct slice scope) {
    return &e->hits[(uint64_t)key_hash(scope) % HIT_BUCKETS];
}

static struct hits *hits_find(struct engine *e, struct slice scope) {
    struct hits *h = *hits_bucket(e, scope);
    while (h && (h->size != scope.size || memcmp(h->scope, scope.data, scope.size)))
        h = h->next;
    return h;
}

void hits_note(struct engine *e, struct slice scope) {
    pthread_mutex_lock(&e->hits_mutex);
    struct hits *h = hits_find(e, scope);
    if (!h && (h = calloc(1, sizeof *h + scope.size))) { /* no memory: not counted */
        h->size = scope.size;
        memcpy(h->scope, scope.data, scope.size);
        h->next = *hits_bucket(e, scope);
        *hits_bucket(e, scope) = h;
    }
    if (h) h->pending++;
    ATOMIC_STORE(&e->hits_wait, 1);
    pthread_mutex_unlock(&e->hits_mutex);
}

int64_t hits_pending(struct engine *e, struct slice scope) {
    const struct hits *h = hits_find(e, scope);
    return h ? h->pending : 0;
}

static int hits_add(struct engine *e, const struct hits *h) {
    sqlite3_stmt *s = statement(e, ST_SCOPE_HITS, 0);
    if (!s) return -1;
    bind_slice(s, 1, (struct slice){h->scope, h->size});
    sq.bind_int64(s, 2, h->written);
    return statement_run(e, s);
}

int64_t hits_write(struct engine *e) {
    struct hits *first[HIT_BUCKETS];
    pthread_mutex_lock(&e->hits_mutex);
    memcpy(first, e->hits, sizeof first);
    e->hits_writing = 1;
    ATOMIC_STORE(&e->hits_wait, 0);
    for (int i = 0; i < HIT_BUCKETS; i++)
        for (struct hits *h = first[i]; h; h = h->next) h->written = h->pending;
    pthread_mutex_unlock(&e->hits_mutex);
    /* Others only put new ones in front of these. */
    for (int i = 0; i < HIT_BUCKETS; i++)
        for (struct hits *h = first[i]; h; h = h->next)
            if (h->written && hits_add(e, h) < 0) return -1;
    return 0;
}

void hits_end(struct engine *e, int committed) {
    if (!e->hits_writing) return;
    pthread_mutex_lock(&e->hits_mutex);
    for (int i = 0; i < HIT_BUCKETS; i++) {
        for (struct hits **at = &e->hits[i]; *at;) {
            struct hits *h = *at;
            if (committed) h->pending -= h->written;
            h->written = 0;
            if (h->pending) {
                at = &h->next;
                continue;
            }
            *at = h->next;
            free(h);
        }
    }
    e->hits_writing = 0;
    if (!committed) ATOMIC_STORE(&e->hits_wait, 1);
    pthread_mutex_unlock(&e->hits_mutex);
}

void hits_forget(struct engine *e) {
    for (int i = 0; i < HIT_BUCKETS; i++) {
        while (e->hits[i]) {
            struct hits *h = e->hits[i];
            e->hits[i] = h->next;
            free(h);
        }
    }
    e->hits_writing = e->hits_wait = 0;
}

void hits_stage(struct engine *e, int now) {
    int64_t at = clock_real_us();
    if (!ATOMIC_LOAD(&e->hits_wait) || (!now && at < ATOMIC_LOAD(&e->hits_after_us)))
        return;
    ATOMIC_STORE(&e->hits_after_us, at + EVERY_US);
    keeper_stage(e, OP_HITS, 0);
}
