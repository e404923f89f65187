/* The engine: one file, open in this process. Opening, closing, forking.
 *
 * Engines are found by the file's device and inode, so two spellings of one path give
 * one engine. `attached` means: connections, descriptors, slot and keeper are there,
 * see attach.c. A fork detaches before and attaches after, so does the last close;
 * everything else that an engine holds survives that.
 */
#include "ring.h"
#include "store.h"

#include "names.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORK_WAIT_US 1000000
#define ROLE_WAIT_US 10000000

/* Under registry_mutex, which also serialises attaching. */
static struct engine *engines;
static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;

/* ---- making ---- */

static struct engine *engine_new(const char *path, struct guard *guard,
                                 int busy_timeout_ms) {
    struct engine *e = calloc(1, sizeof *e);
    if (!e) return NULL;
    e->path = strdup(path);
    e->keeper_broker = calloc(1, sizeof *e->keeper_broker);
    if (!e->path || !e->keeper_broker) {
        free(e->path);
        free(e->keeper_broker);
        free(e);
        return NULL;
    }
    e->keeper_broker->engine = e;
    e->guard = guard;
    e->busy_timeout_ms = busy_timeout_ms;
    e->wal_fd = e->gate_fd = e->life_fd = -1;
    e->epoch = 1;
    pthread_mutex_init(&e->mutex, NULL);
    pthread_mutex_init(&e->read_mutex, NULL);
    pthread_mutex_init(&e->checkpoint_mutex, NULL);
    pthread_mutex_init(&e->hits_mutex, NULL);
    ring_init(e);
    e->next = engines;
    engines = e;
    return e;
}

static void engine_free(struct engine *e) {
    for (struct engine **at = &engines; *at; at = &(*at)->next)
        if (*at == e) {
            *at = e->next;
            break;
        }
    /* What the keeper staged while the engine could not be attached. */
    pthread_mutex_lock(&e->mutex);
    ring_fail(e, NULL, EMBQ_CLOSED, 1);
    ring_unlock(e);
    runs_drop(e);
    channels_free(e);
    damage_forget(e);
    hits_forget(e);
    pthread_mutex_destroy(&e->mutex);
    pthread_mutex_destroy(&e->read_mutex);
    pthread_mutex_destroy(&e->hits_mutex);
    pthread_mutex_destroy(&e->checkpoint_mutex);
    free(e->keeper_broker);
    free(e->path);
    free(e);
}

static struct engine *engine_find(const struct guard *guard) {
    for (struct engine *e = engines; e; e = e->next)
        if (e->guard == guard && !e->failed) return e;
    return NULL;
}

/* One that failed for good is left for a new one. What an fsync that failed left in
 * doubt stays in doubt: the next fsync says nothing about it. */
static void doubts_take(struct engine *e) {
    for (const struct engine *old = engines; old; old = old->next) {
        if (old == e || old->guard != e->guard || !ATOMIC_LOAD(&old->sync_failed))
            continue;
        memcpy(e->failed_salt, old->failed_salt, sizeof e->failed_salt);
        ATOMIC_STORE(&e->sync_failed, 1);
    }
}

static int broker_make(struct engine *e, int flags, int busy_timeout_ms,
                       int64_t disk_reserve, embq_ref *out) {
    struct broker *b = calloc(1, sizeof *b);
    if (!b) return error_set(EMBQ_NO_MEMORY, "%s: no memory", e->path);
    b->engine = e;
    b->full = (flags & EMBQ_OPEN_FULL) != 0;
    b->busy_timeout_ms = busy_timeout_ms;
    b->disk_reserve = disk_reserve;
    e->refs++;
    e->handles++;
    *out = (embq_ref)b;
    return 0;
}

/* In a child: connections were open when it was forked, and a thread of the parent may
 * have been in SQLite, so that one of its mutexes is taken for ever. Nothing may call
 * it any more. */
static int forked_in_use;

static int in_use_error(const char *path) {
    return error_set(EMBQ_FORKED,
                     "%s: this process was forked while its parent's connections were "
                     "in use, and must not use them or open others",
                     path);
}

static int open_locked(const char *path, int flags, int busy_timeout_ms,
                       int64_t disk_reserve, embq_ref *broker) {
    struct guard *guard;
    int code = guard_open(path, flags, &guard);
    if (code < 0) return code;
    /* SQLite follows symbolic links before it names the -wal; so must we. */
    char real[PATH_MAX];
    if (!realpath(path, real))
        return error_set(EMBQ_NOT_FOUND, "%s: %s", path, strerror(errno));
    struct engine *e = engine_find(guard);
    if (!e) e = engine_new(real, guard, busy_timeout_ms);
    if (!e) return error_set(EMBQ_NO_MEMORY, "%s: no memory", path);
    if (flags & EMBQ_OPEN_SECURE) code = engine_secure(e, ROLE_WAIT_US);
    e->opening = 1;
    e->hurried = 0;
    if (code == 0 && !e->attached && (code = engine_attach(e)) == 0) doubts_take(e);
    e->opening = 0;
    if (e->hurried && (code == EMBQ_BUSY || code == EMBQ_COMMIT_UNCERTAIN))
        code = EMBQ_INTERRUPTED; /* what it registered, if so, is of a dead process */
    if (code == 0) code = broker_make(e, flags, busy_timeout_ms, disk_reserve, broker);
    if (code < 0 && !e->handles) engine_free(e);
    return code;
}

static pthread_once_t forks_watched_once = PTHREAD_ONCE_INIT;
static void forks_watch(void);

int embq_open(const char *path, int flags, int busy_timeout_ms, long long disk_reserve,
              embq_ref *broker) {
    pthread_once(&forks_watched_once, forks_watch);
    if (forked_in_use) return in_use_error(path);
    pthread_mutex_lock(&registry_mutex);
    guard_collect();
    int code = open_locked(path, flags, busy_timeout_ms, disk_reserve, broker);
    pthread_mutex_unlock(&registry_mutex);
    return code;
}

/* ---- in use ---- */

static int engine_attach_again(struct engine *e) {
    if (forked_in_use) return in_use_error(e->path);
    pthread_mutex_lock(&registry_mutex);
    int code = e->attached ? 0 : engine_attach(e);
    pthread_mutex_unlock(&registry_mutex);
    return code;
}

int engine_enter(struct broker *b) {
    struct engine *e = b->engine;
    int code = 0;
    pthread_mutex_lock(&e->mutex);
    while (!ATOMIC_LOAD(&e->attached) && !b->closed && !e->failed && code == 0) {
        pthread_mutex_unlock(&e->mutex);
        code = engine_attach_again(e);
        pthread_mutex_lock(&e->mutex);
    }
    if (b->closed) code = error_set(EMBQ_CLOSED, "%s: this broker is closed", e->path);
    else if (e->failed == EMBQ_FORKED) code = in_use_error(e->path);
    else if (e->failed)
        code = error_set(e->failed,
                         "%s: an earlier write failed, and this handle goes no further",
                         e->path);
    if (code == 0) e->in_calls++;
    pthread_mutex_unlock(&e->mutex);
    return code;
}

void engine_leave(struct engine *e) {
    pthread_mutex_lock(&e->mutex);
    e->in_calls--;
    pthread_mutex_unlock(&e->mutex);
}

/* ---- closing ---- */

/* All that this broker staged, stored; then nothing of it waits any more. The text of a
 * code is left in `text`. */
static int broker_end(struct broker *b, char text[EMBQ_TEXT_SIZE]) {
    struct engine *e = b->engine;
    int code = 0;
    /* In the middle of another thread's fork it only looks detached. */
    pthread_mutex_lock(&registry_mutex);
    int attached = e->attached;
    pthread_mutex_unlock(&registry_mutex);
    /* What is staged from here on would come after the flush, and be lost. Test:
     * test_interleavings.py, "close". */
    pthread_mutex_lock(&e->mutex);
    b->ending = 1;
    pthread_mutex_unlock(&e->mutex);
    if (attached && !ATOMIC_LOAD(&e->failed)) {
        consumers_return(e, b);
        hits_stage(e, 1);
        code = embq_flush((embq_ref)b, -1);
        while (code == EMBQ_INTERRUPTED)
            code = (int)embq_resume(); /* its handler runs later */
    }
    if (code < 0) snprintf(text, EMBQ_TEXT_SIZE, "%s", error_text());
    pthread_mutex_lock(&e->mutex);
    ATOMIC_STORE(&b->closed, 1);
    error_set(EMBQ_CLOSED, "%s: this broker was closed", e->path);
    ring_fail(e, b, EMBQ_CLOSED, 1);
    ring_unlock(e);
    if (code == 0 && (code = unawaited_take(b)) < 0) /* of a flush that was not made */
        snprintf(text, EMBQ_TEXT_SIZE, "%s", error_text());
    return code;
}

static void engine_wait_for_calls(struct engine *e) {
    int64_t end = clock_real_us() + ROLE_WAIT_US;
    pthread_mutex_lock(&e->mutex);
    while (e->in_calls > 0 && clock_real_us() < end) {
        pthread_mutex_unlock(&e->mutex);
        watch_kick(e);
        usleep(NAP_US);
        pthread_mutex_lock(&e->mutex);
    }
    pthread_mutex_unlock(&e->mutex);
}

int embq_close(embq_ref broker) {
    struct broker *b = broker_of(broker);
    struct engine *e = b->engine;
    char text[EMBQ_TEXT_SIZE] = "";
    if (b->closed) return 0;
    int code = broker_end(b, text);
    pthread_mutex_lock(&registry_mutex);
    if (--e->refs == 0 && e->attached) {
        engine_wait_for_calls(e);
        if (!e->failed)
            engine_register(e, OP_RECOVER); /* failing, it is noticed as a death */
        engine_quiesce(e, ROLE_WAIT_US);
        engine_detach(e);
        pthread_mutex_lock(&e->mutex);
        error_set(EMBQ_CLOSED, "%s: this broker was closed", e->path);
        ring_fail(e, NULL, EMBQ_CLOSED, 1); /* what came in between */
        ring_unlock(e);
        e->stopping = 0;
    }
    pthread_mutex_unlock(&registry_mutex);
    return code < 0 ? error_set(code, "%s", text) : 0;
}

void embq_broker_free(embq_ref broker) {
    struct broker *b = broker_of(broker);
    struct engine *e = b->engine;
    if (fork_defers(embq_broker_free, broker)) return;
    embq_close(broker);
    pthread_mutex_lock(&registry_mutex);
    if (--e->handles == 0) engine_free(e);
    pthread_mutex_unlock(&registry_mutex);
    free(b);
}

/* ---- forking: the parent's connections are closed while the child is made ---- */

/* While a thread forks, other handlers of the fork, and the garbage collector with
 * them, may free what is ours: it holds the registry's lock, and in the child the
 * engines' locks may be those of threads that are no more. So that is done once it is
 * over. */
struct deferred {
    struct deferred *next;
    void (*free)(embq_ref);
    embq_ref ref;
};

static _Thread_local int forking;
static _Thread_local struct deferred *deferred, **deferred_end;

int fork_defers(void (*free_it)(embq_ref), embq_ref ref) {
    if (!forking) return 0;
    struct deferred *d = malloc(sizeof *d);
    if (!d) return 1; /* no memory: it stays */
    *d = (struct deferred){NULL, free_it, ref};
    *deferred_end = d;
    deferred_end = &d->next;
    return 1;
}

static void fork_is_over(void) {
    forking = 0;
    while (deferred) { /* in order: a broker is freed after what uses it */
        struct deferred *d = deferred;
        deferred = d->next;
        d->free(d->ref);
        free(d);
    }
}

void embq_before_fork(void) {
    pthread_mutex_lock(&registry_mutex);
    forking = 1;
    deferred_end = &deferred;
    for (struct engine *e = engines; e; e = e->next) {
        ATOMIC_STORE(&e->forking, e->attached);
        if (e->attached && engine_quiesce(e, FORK_WAIT_US)) engine_rest(e, 0);
    }
}

void embq_after_fork_parent(void) {
    for (struct engine *e = engines; e; e = e->next) {
        if (!e->forking) continue;
        if (!e->attached) engine_attach(e); /* a failure shows at the next call */
        ATOMIC_STORE(&e->forking, 0);
        engine_resume(e);
    }
    pthread_mutex_unlock(&registry_mutex);
    fork_is_over();
}

static void engine_forget_parent(struct engine *e) {
    consumers_forget(e);
    /* Copies: the locks are the parent's as long as that lives, but not longer. */
    e->names_since = 0;
    file_close(&e->life_fd);
    file_close(&e->gate_fd);
    file_close(&e->wal_fd);
    /* Still attached: the parent could not come to rest in time. Its connections must
     * be neither used nor closed here. */
    if (e->attached) {
        forked_in_use = 1;
        e->failed = EMBQ_FORKED;
    }
    e->guard = NULL;
    e->attached = e->keeper_runs = e->stopping = e->forking = e->in_calls = 0;
    e->guarded = e->keeper_busy = 0;
    e->watching = e->room_waiters = e->keeper_sleeps = 0;
    e->slot = 0;
    memset(e->watchers, 0, sizeof e->watchers);
    pthread_mutex_init(&e->mutex, NULL);
    pthread_mutex_init(&e->read_mutex, NULL);
    pthread_mutex_init(&e->checkpoint_mutex, NULL);
    pthread_mutex_init(&e->hits_mutex, NULL);
    hits_forget(e);
    ring_init(e); /* and so is what was staged */
    damage_forget(e);
}

int fork_generation;

void embq_after_fork_child(void) {
    fork_generation++;
    pthread_mutex_init(&registry_mutex, NULL);
    guard_forget_all();
    names_forget();
    for (struct engine *e = engines; e; e = e->next) engine_forget_parent(e);
    fork_is_over();
}

/* A server written in C may fork without Python's handlers before it, or without any:
 * then nothing came to rest. */
static void forked_unannounced(void) {
    if (forking) return;
    if (pthread_mutex_trylock(&registry_mutex)) forked_in_use = 1; /* attaching */
    embq_after_fork_child();
}

static void forks_watch(void) {
    pthread_atfork(NULL, NULL, forked_unannounced);
}
