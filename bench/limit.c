/*
 * limit.c - SQLite's own speed at one setting, measured in one short run.
 *
 * ceiling.c measures every setting once, in minutes. A ratio taken against it compares
 * two moments of the machine, and on a busy one that is most of what it shows. This runs
 * one cell of ceiling.c's table for as long as it is told, so that run.py can measure
 * embq and its limit in turn, and take the ratio round by round. Table, statements, loop
 * and output are ceiling.c's.
 *
 *     limit DIR SYNC SIZE BATCH SECONDS                          as ceiling.c
 *     limit DIR SYNC SIZE BATCH SECONDS PAGE_SIZE AUTOCHECKPOINT another setting
 *     limit DIR SYNC SIZE BATCH SECONDS BACKLOG                  in a table of so many
 *
 * SECONDS may be a number of rows, "2000i": then so many are inserted; or "2000d": and
 * deleted. That is for counting instructions.
 *
 * AUTOCHECKPOINT is in pages; 0 is embq's policy, no checkpoint in a commit: then one
 * runs between inserts and deletes, outside the time that is measured. BACKLOG rows are
 * put in beforehand, a thousand to a transaction. Prints two lines "name|value|rows/s":
 * inserts, and deletes of the oldest rows, at most as many as were inserted.
 *
 * Build: cc -O2 -o limit limit.c -lsqlite3           run.py does it.
 */
#define _GNU_SOURCE
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BODY_MAX = 1 << 20, ROWS_MAX = 2000000 }; /* as in ceiling.c */
enum { FILL_BATCH = 1000, FOR_EVER = 1 << 30 };

typedef struct {
    const char *directory, *sync;
    int size, batch;
    double seconds;
    const char *page_size, *autocheckpoint; /* NULL: SQLite's defaults */
    int backlog, rows_max, deletes;
} Setting;

static char body[BODY_MAX];

static void must(int ok, const char *what) {
    if (ok) return;
    fprintf(stderr, "limit: %s\n", what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void run(sqlite3 *db, const char *text) {
    must(sqlite3_exec(db, text, NULL, NULL, NULL) == SQLITE_OK, sqlite3_errmsg(db));
}

static void pragma(sqlite3 *db, const char *name, const char *value) {
    char text[128];
    snprintf(text, sizeof text, "PRAGMA %s=%s", name, value);
    run(db, text);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *text) {
    sqlite3_stmt *statement;
    must(sqlite3_prepare_v2(db, text, -1, &statement, NULL) == SQLITE_OK,
         sqlite3_errmsg(db));
    return statement;
}

static void step(sqlite3 *db, sqlite3_stmt *statement) {
    must(sqlite3_step(statement) == SQLITE_DONE, sqlite3_errmsg(db));
    sqlite3_reset(statement);
}

static sqlite3 *open_new(const char *path, const Setting *s) {
    sqlite3 *db;
    must(sqlite3_open(path, &db) == SQLITE_OK, path);
    if (s->page_size) pragma(db, "page_size", s->page_size); /* before WAL, or never */
    pragma(db, "journal_mode", "WAL");
    pragma(db, "synchronous", s->sync);
    if (s->autocheckpoint) pragma(db, "wal_autocheckpoint", s->autocheckpoint);
    run(db, "CREATE TABLE q(id INTEGER PRIMARY KEY, body BLOB NOT NULL)");
    return db;
}

/* Rows put in, or the first `end` ones taken out; how many there was time for. */
static int phase(sqlite3 *db, const Setting *s, int deletes, int end) {
    sqlite3_stmt *begin = prepare(db, "BEGIN IMMEDIATE");
    sqlite3_stmt *commit = prepare(db, "COMMIT");
    sqlite3_stmt *row = prepare(db, deletes ? "DELETE FROM q WHERE id = ?"
                                            : "INSERT INTO q(body) VALUES(?)");
    int n = 0;
    double start = now();
    while (n < end && now() - start < s->seconds) {
        if (s->batch > 1) step(db, begin);
        for (int i = 0; i < s->batch && n < end; i++, n++) {
            if (deletes) sqlite3_bind_int64(row, 1, n + 1);
            else sqlite3_bind_blob(row, 1, body, s->size, SQLITE_STATIC);
            step(db, row);
        }
        if (s->batch > 1) step(db, commit);
    }
    printf("sqlite %s %d B %s, %d a transaction|%.0f|rows/s\n",
           deletes ? "delete" : "insert", s->size, s->sync, s->batch,
           n / (now() - start));
    sqlite3_finalize(begin);
    sqlite3_finalize(commit);
    sqlite3_finalize(row);
    return n;
}

/* The rows that are there before anything is measured, checkpointed. */
static void fill(sqlite3 *db, const Setting *s) {
    sqlite3_stmt *row = prepare(db, "INSERT INTO q(body) VALUES(?)");
    for (int n = 0; n < s->backlog; n += FILL_BATCH) {
        run(db, "BEGIN IMMEDIATE");
        for (int i = 0; i < FILL_BATCH && n + i < s->backlog; i++) {
            sqlite3_bind_blob(row, 1, body, s->size, SQLITE_STATIC);
            step(db, row);
        }
        run(db, "COMMIT");
    }
    sqlite3_finalize(row);
    run(db, "PRAGMA wal_checkpoint(PASSIVE)");
}

static void measure(const Setting *s) {
    char path[4096];
    snprintf(path, sizeof path, "%s/limit-%ld.db", s->directory, (long)getpid());
    sqlite3 *db = open_new(path, s);
    if (s->backlog) fill(db, s);
    int rows = phase(db, s, 0, s->rows_max);
    if (s->autocheckpoint && atoi(s->autocheckpoint) == 0)
        run(db, "PRAGMA wal_checkpoint(PASSIVE)");
    if (s->deletes) phase(db, s, 1, rows);
    sqlite3_close(db);
    unlink(path);
}

int main(int argc, char **argv) {
    if (argc == 2 && strcmp(argv[1], "version") == 0) {
        puts(sqlite3_libversion());
        return 0;
    }
    must(argc >= 6 && argc <= 8,
         "usage: limit DIR SYNC SIZE BATCH SECONDS [BACKLOG|PAGE_SIZE AUTOCHECKPOINT]");
    Setting s = {.directory = argv[1], .sync = argv[2], .size = atoi(argv[3]),
                 .batch = atoi(argv[4]), .rows_max = ROWS_MAX, .deletes = 1};
    char *unit;
    s.seconds = strtod(argv[5], &unit);
    if (*unit) {
        s.rows_max = (int)s.seconds;
        s.seconds = FOR_EVER;
        s.deletes = *unit == 'd';
    }
    if (argc == 7) s.backlog = atoi(argv[6]);
    if (argc == 8) s.page_size = argv[6], s.autocheckpoint = argv[7];
    must(s.size > 0 && s.size <= BODY_MAX, "SIZE is out of range");
    must(s.batch > 0, "BATCH is out of range");
    for (unsigned i = 0, x = 1; i < sizeof body; i++) {
        x = x * 1664525 + 1013904223;
        body[i] = (char)(x >> 24);
    }
    measure(&s);
    return 0;
}
