/* Reads: see reading.h. */
#include "reading.h"

#include <string.h>

sqlite3_stmt *reading_ints(struct reading *r, enum statement which, int shard,
                           int count, const int64_t *values) {
    if (r->result != SQLITE_OK) return NULL;
    sqlite3_stmt *s = statement_get(r->e->read_statements, which, shard, &r->result);
    for (int i = 0; s && i < count; i++) sq.bind_int64(s, i + 1, values[i]);
    return s;
}

int reading_step(struct reading *r, sqlite3_stmt *s) {
    if (!s) return 0;
    int result = sq.step(s);
    if (result == SQLITE_ROW) return 1;
    sq.reset(s);
    if (result != SQLITE_DONE) r->result = result;
    return 0;
}

int reading_corrupt(struct reading *r) {
    if (!r->result) r->result = SQLITE_CORRUPT;
    return 0;
}

int reading_begin(struct reading *r, struct broker *b) {
    *r = (struct reading){b, b->engine, SQLITE_OK};
    for (;;) {
        int code = engine_enter(b);
        if (code < 0) return code;
        pthread_mutex_lock(&r->e->read_mutex);
        if (ATOMIC_LOAD(&r->e->attached)) break;
        pthread_mutex_unlock(&r->e->read_mutex); /* a fork came between */
        engine_leave(r->e);
    }
    reading_step(r, reading_ints(r, ST_READ_BEGIN, 0, 0, NULL));
    return 0;
}

int64_t reading_end(struct reading *r, int64_t result) {
    int failed = r->result;
    if (failed) result = error_sqlite(r->e->read_db, failed, r->e->path);
    r->result = SQLITE_OK;
    reading_step(r, reading_ints(r, ST_COMMIT, 0, 0, NULL));
    pthread_mutex_unlock(&r->e->read_mutex);
    engine_leave(r->e);
    return result;
}

int64_t reading_int(struct reading *r, enum statement which, int shard, int count,
                    const int64_t *values, int64_t otherwise) {
    sqlite3_stmt *s = reading_ints(r, which, shard, count, values);
    if (!reading_step(r, s)) return otherwise;
    otherwise = sq.column_int64(s, 0);
    sq.reset(s);
    return otherwise;
}

int64_t reading_gone(struct reading *r) {
    return r->result ? 0
                     : error_set(EMBQ_NOT_FOUND, "%s: the queue is gone", r->e->path);
}

int64_t reading_answer(struct reading *r, int64_t result, struct packer *p,
                       embq_bytes *out) {
    result = reading_end(r, result);
    if (result >= 0 && p->failed)
        result = error_set(EMBQ_NO_MEMORY, "no memory for an answer");
    if (result < 0) pack_free(p);
    else *out = (embq_bytes){p->data, (long long)p->size, 1};
    return result;
}

int64_t keeper_glance(struct engine *e, enum statement which, int count,
                      const int64_t *values) {
    struct reading r = {NULL, e, SQLITE_OK};
    pthread_mutex_lock(&e->read_mutex);
    int64_t found = reading_int(&r, which, 0, count, values, 0);
    pthread_mutex_unlock(&e->read_mutex);
    return r.result ? -1 : found;
}

int64_t keeper_glance_anew(struct engine *e, struct wal_header *none,
                           enum statement which) {
    struct wal_header now;
    wal_index_read(&e->wal, &now); /* before the read: a commit between them counts */
    if (!memcmp(&now, none, sizeof now)) return 0;
    int64_t found = keeper_glance(e, which, 0, NULL);
    if (found == 0) *none = now;
    return found;
}
