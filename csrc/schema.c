/* Whether a file's tables, indexes and views are those that embq made. What they were
 * when the migrations were done is kept in embq_meta as a fingerprint: an index that is
 * gone would make no answer wrong, but slow ones of all of them. */
#include "connection.h"

#include <string.h>
#include <unistd.h>

/* embq_* is ours, whatever it is; of other objects a trigger on our tables is told, as
 * somebody counts on it and it never runs. */
static const char objects[] =
    "select type, name, sql\n"
    "from sqlite_master\n"
    "where name like 'embq\\_%' escape '\\'\n"
    "  or (type = 'trigger' and tbl_name like 'embq\\_%' escape '\\')\n"
    "order by type, name";

int schema_fingerprint(sqlite3 *db, int64_t *fingerprint) {
    sqlite3_stmt *s = NULL;
    uint64_t hash = 0xcbf29ce484222325u; /* FNV-1a */
    int result = sq.prepare_v3(db, objects, -1, 0, &s, NULL);
    while (result == SQLITE_OK && (result = sq.step(s)) == SQLITE_ROW) {
        for (int column = 0; column < 3; column++) {
            const char *text = (const char *)sq.column_text(s, column);
            do hash = (hash ^ (uint8_t)(text ? *text : 0)) * 0x100000001b3u;
            while (text && *text++);
        }
        result = SQLITE_OK;
    }
    sq.finalize(s);
    *fingerprint = hash ? (int64_t)hash : 1;
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

/* Of the version that the file says, and, once there is one, its fingerprint. */
static int schema_read(sqlite3 *db, int64_t *version, int64_t *fingerprint) {
    sqlite3_stmt *s = NULL;
    int result = sq.prepare_v3(db, "select schema_version, fingerprint\nfrom embq_meta",
                               -1, 0, &s, NULL);
    if (result == SQLITE_OK) result = sq.step(s);
    if (result == SQLITE_ROW) {
        *version = sq.column_int64(s, 0);
        *fingerprint = sq.column_int64(s, 1);
    }
    sq.finalize(s);
    return result == SQLITE_ROW || result == SQLITE_DONE ? SQLITE_OK : result;
}

static int schema_check(struct engine *e) {
    sqlite3 *db = e->db;
    const char *path = e->path;
    int64_t version = 0, known = 0, found = 0;
    /* One read transaction, as another process may be upgrading it. */
    int result = sq.exec(db, "begin", NULL, NULL, NULL);
    if (result == SQLITE_OK) result = schema_read(db, &version, &known);
    /* A process that has it open goes on, whatever was done meanwhile: over a fork it
     * keeps its slot. */
    int compares = version == EMBQ_SCHEMA_VERSION && known && !e->slot;
    if (result == SQLITE_OK && compares) result = schema_fingerprint(db, &found);
    int code = result == SQLITE_OK || result == SQLITE_ERROR
                   ? 0
                   : error_sqlite(db, result, path);
    if (!sq.get_autocommit(db)) sq.exec(db, "rollback", NULL, NULL, NULL);
    if (code < 0) return code;
    if (result == SQLITE_ERROR) return EMBQ_NO_SCHEMA; /* no such table */
    if (version > EMBQ_SCHEMA_VERSION)
        return error_set(EMBQ_SCHEMA_TOO_NEW,
                         "%s: its schema is version %lld, this embq knows %d", path,
                         (long long)version, EMBQ_SCHEMA_VERSION);
    if (version < EMBQ_SCHEMA_VERSION) return EMBQ_NO_SCHEMA;
    if (compares && found != known)
        return error_set(EMBQ_CORRUPT,
                         "%s: of its tables, indexes and views embq_* some are gone, "
                         "new or changed, or have triggers",
                         path);
    e->fingerprint = known;
    return 0;
}

static int is_wal(sqlite3 *db) {
    sqlite3_stmt *s = NULL;
    int yes = 0;
    if (sq.prepare_v3(db, "pragma journal_mode = wal", -1, 0, &s, NULL) == SQLITE_OK &&
        sq.step(s) == SQLITE_ROW)
        yes = !strcmp((const char *)sq.column_text(s, 0), "wal");
    sq.finalize(s);
    return yes;
}

int schema_wait(struct engine *e) {
    int64_t end = clock_real_us() + e->busy_timeout_ms * 1000LL;
    for (;;) {
        int code = locks_check(e->db, e->guard, e->path);
        if (code == 0) code = schema_check(e);
        if (code == 0 && !is_wal(e->db))
            code = error_set(EMBQ_BUSY, "%s: it could not be set to WAL mode", e->path);
        if (code != EMBQ_BUSY || clock_real_us() >= end) return code;
        usleep(1000);
    }
}
