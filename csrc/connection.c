/* The engine's connections: opened with the same pragmas, closed without a checkpoint
 * when a fork is coming. See connection.h. */
#include "connection.h"

#include "statement.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Every pragma of a connection of ours, with its reason. */
static const char *const pragmas[] = {
    /* Commits need no fsync of their own: lead_sync() does one for all that need it. */
    "pragma synchronous = normal",
    /* Debian's default of ON makes deletes of large rows 18 times slower; FAST still
     * clears what lies in pages that are written anyway. */
    "pragma secure_delete = fast",
    /* A page written early cannot be taken back; a large group must not hit the file
     * before its commit. */
    "pragma cache_spill = off",
    /* A truncated or failing file must be an error, not a SIGBUS. */
    "pragma mmap_size = 0",
    /* Indexes, defaults and checks in a file that we did not make must not run
     * functions that could do harm. */
    "pragma trusted_schema = off",
    /* 16 MiB: the tail of a few queues, and the inner pages of their backlogs. */
    "pragma cache_size = -16384",
};

/* And with secure_delete. */
static const char *const secure_pragmas[] = {
    /* Zeros over what is removed, in pages that need not be written else too. */
    "pragma secure_delete = on",
    /* A -wal that starts over is cut: beyond its new end are pages of old commits. */
    "pragma journal_size_limit = 0",
};

static int pragma_run(sqlite3 *db, const char *text, const char *path) {
    int result = sq.exec(db, text, NULL, NULL, NULL);
    return result == SQLITE_OK ? 0 : error_sqlite(db, result, path);
}

static int connection_open(const struct engine *e, sqlite3 **db) {
    const char *path = e->path;
    int result =
        sq.open_v2(path, db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (result != SQLITE_OK) return error_sqlite(*db, result, path);
    sq.extended_result_codes(*db, 1);
    sq.busy_timeout(*db, e->busy_timeout_ms); /* somebody may be recovering the WAL */
    /* We made none on our tables: a trigger could undo what we write, a view in the
     * place of a table could have no end. */
    sq.db_config(*db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, (int *)NULL);
    sq.db_config(*db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, (int *)NULL);
    sq.wal_autocheckpoint(*db, 0); /* checkpoint.c does it, where nobody waits for it */
    for (size_t i = 0; i < sizeof pragmas / sizeof *pragmas; i++) {
        int code = pragma_run(*db, pragmas[i], path);
        if (code < 0) return code;
    }
    for (size_t i = 0; e->secure && i < sizeof secure_pragmas / sizeof *pragmas; i++) {
        int code = pragma_run(*db, secure_pragmas[i], path);
        if (code < 0) return code;
    }
    return 0;
}

int locks_check(sqlite3 *db, const struct guard *guard, const char *path) {
    if (!process_is_forked()) return 0;
    static const char begin[] = "begin;\nselect count(*)\nfrom sqlite_master";
    int result = sq.exec(db, begin, NULL, NULL, NULL);
    int code = result == SQLITE_OK ? locks_are_ours(guard, path)
                                   : error_sqlite(db, result, path);
    if (!sq.get_autocommit(db)) sq.exec(db, "rollback", NULL, NULL, NULL);
    if (code < 0) sq.db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
    return code;
}

int connections_open(struct engine *e) {
    int code = process_is_forked() ? mutexes_are_free(e->path) : 0;
    if (code < 0) return code;
    if ((code = connection_open(e, &e->db)) < 0) return code;
    if ((code = schema_wait(e)) < 0) return code;
    if ((code = connection_open(e, &e->read_db)) < 0) return code;
    if ((code = connection_open(e, &e->checkpoint_db)) < 0) return code;
    if ((code = connection_open(e, &e->hold_db)) < 0) return code;
    sq.busy_timeout(e->db, 0); /* lead_begin() waits, where it can be withdrawn */
    e->statements = statements_new(e->db);
    e->read_statements = statements_new(e->read_db);
    if (!e->statements || !e->read_statements)
        return error_set(EMBQ_NO_MEMORY, "%s: no memory", e->path);
    return wal_index_map(e->db, &e->wal);
}

void connections_close(struct engine *e, int checkpoint) {
    sqlite3 **all[] = {&e->hold_db, &e->checkpoint_db, &e->read_db, &e->db};
    pthread_mutex_lock(&e->read_mutex); /* a reader may be in the middle of it */
    ATOMIC_STORE(&e->wal.words, NULL);
    ATOMIC_STORE(&e->attached, 0);
    statements_free(e->statements);
    statements_free(e->read_statements);
    e->statements = e->read_statements = NULL;
    for (int i = 0; i < 4; i++) {
        if (!checkpoint && *all[i])
            sq.db_config(*all[i], SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, (int *)NULL);
        if (*all[i]) sq.close(*all[i]);
        *all[i] = NULL;
    }
    pthread_mutex_unlock(&e->read_mutex);
}
