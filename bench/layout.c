/*
 * layout.c - measures storage layouts for a message queue in one SQLite file.
 *
 * Layouts:  packed    one table, id = channel << 45 | lane << 41 | seq
 *           table     one table per channel, id = seq
 *           shards16  16 tables, channel n in table n % 16, packed ids
 *
 * Every commit also updates the channel's row in a small state table. Each run
 * starts with a new file and prints one line of JSON:
 *
 *   layout send DB LAYOUT PAGE CHANNELS BODY TARGET   TARGET: first, last, robin
 *   layout view DB LAYOUT CHANNELS                    reads through a UNION ALL
 *   layout create DB LAYOUT CHANNELS                  one commit per channel
 *   layout open DB LAYOUT CHANNELS                    on the file create left
 *
 * Build: cc -O2 -o layout layout.c -lsqlite3      layout.py runs all of it.
 */
#define _GNU_SOURCE
#include <sqlite3.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PACKED, TABLE, SHARDS16 };
enum { PRELOAD = 200, SENDS = 2000, BATCHES = 40, BATCH = 100, SHARDS = 16 };
enum { CHECKPOINT_BYTES = 10000 * 4096, CACHE_KIB = 16384 };

typedef struct {
    sqlite3_stmt *insert, *claim, *erase;
} Statements;

typedef struct {
    sqlite3 *db;
    const char *path;
    int layout, page, channels, body;
    int last_frame, checkpoints;
    int64_t frames;
    int64_t *seq, *head;
    Statements *tables;
    sqlite3_stmt *begin, *commit, *state;
    char *payload;
} Bench;

static const char *COLUMNS =
    "id INTEGER PRIMARY KEY, flags INTEGER, sent_at_ms INTEGER, type TEXT, "
    "source TEXT, key TEXT, public_id TEXT, attributes TEXT, history TEXT, body BLOB";

static void check(sqlite3 *db, int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, sqlite3_errmsg(db));
        exit(1);
    }
}

static double now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e6 + t.tv_nsec / 1e3;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n) {
    qsort(v, n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static long rss_kib(void) {
    long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%ld %ld", &total, &resident) != 2) exit(1);
    fclose(f);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

static int64_t file_size(const char *path, const char *suffix) {
    char name[4096];
    struct stat st;
    snprintf(name, sizeof name, "%s%s", path, suffix);
    return stat(name, &st) ? 0 : st.st_size;
}

__attribute__((format(printf, 2, 3)))
static void run(sqlite3 *db, const char *format, ...) {
    va_list args;
    va_start(args, format);
    char *sql = sqlite3_vmprintf(format, args);
    va_end(args);
    check(db, sqlite3_exec(db, sql, 0, 0, 0) == SQLITE_OK, sql);
    sqlite3_free(sql);
}

__attribute__((format(printf, 2, 3)))
static sqlite3_stmt *prepare(sqlite3 *db, const char *format, ...) {
    sqlite3_stmt *stmt;
    va_list args;
    va_start(args, format);
    char *sql = sqlite3_vmprintf(format, args);
    va_end(args);
    int rc = sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, 0);
    check(db, rc == SQLITE_OK, sql);
    sqlite3_free(sql);
    return stmt;
}

static void finish(sqlite3 *db, sqlite3_stmt *stmt) {
    check(db, sqlite3_step(stmt) == SQLITE_DONE, sqlite3_sql(stmt));
    sqlite3_reset(stmt);
}

/* Counts the frames of each commit, and checkpoints as wal_autocheckpoint does. */
static int on_commit(void *arg, sqlite3 *db, const char *name, int frame) {
    Bench *b = arg;
    b->frames += frame > b->last_frame ? frame - b->last_frame : frame;
    b->last_frame = frame;
    if ((int64_t)frame * b->page < CHECKPOINT_BYTES) return SQLITE_OK;
    b->checkpoints++;
    sqlite3_wal_checkpoint_v2(db, name, SQLITE_CHECKPOINT_PASSIVE, 0, 0);
    return SQLITE_OK;
}

static void truncate_wal(Bench *b) {
    run(b->db, "PRAGMA wal_checkpoint(TRUNCATE)");
    b->last_frame = b->checkpoints = 0;
    b->frames = 0;
}

/* The -wal must be as long as the counted frames, unless it was checkpointed. */
static void verify_wal(Bench *b) {
    int64_t expected = b->frames ? 32 + b->frames * (b->page + 24) : 0;
    if (b->checkpoints || file_size(b->path, "-wal") == expected) return;
    fprintf(stderr, "the -wal does not have the counted frames\n");
    exit(1);
}

static sqlite3 *open_db(const char *path, int page) {
    sqlite3 *db;
    check(db, sqlite3_open(path, &db) == SQLITE_OK, path);
    if (page) run(db, "PRAGMA page_size=%d; PRAGMA auto_vacuum=INCREMENTAL", page);
    run(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
        "PRAGMA secure_delete=FAST; PRAGMA cache_spill=OFF; PRAGMA mmap_size=0;"
        "PRAGMA cache_size=-%d", CACHE_KIB);
    return db;
}

static int table_of(const Bench *b, int channel) {
    if (b->layout == PACKED) return 0;
    return b->layout == TABLE ? channel : channel % SHARDS;
}

static int table_count(const Bench *b) {
    if (b->layout == PACKED) return 1;
    return b->layout == TABLE ? b->channels + 1 : SHARDS;
}

static int64_t id_of(const Bench *b, int channel, int64_t seq) {
    return b->layout == TABLE ? seq : (int64_t)channel << 45 | seq;
}

static void create_channel(Bench *b, int channel) {
    run(b->db, "BEGIN IMMEDIATE");
    if (b->layout == TABLE) run(b->db, "CREATE TABLE m%d(%s)", channel, COLUMNS);
    run(b->db, "INSERT INTO s VALUES(%d,1,0,0,0,0,0,0,0,0)", channel);
    run(b->db, "COMMIT");
}

static void create_schema(Bench *b) {
    unlink(b->path);
    b->db = open_db(b->path, b->page);
    sqlite3_wal_hook(b->db, on_commit, b);
    run(b->db, "CREATE TABLE s(id INTEGER PRIMARY KEY, next_seq INTEGER,"
        "sent_messages INTEGER, sent_bytes INTEGER, a INTEGER, b INTEGER,"
        "c INTEGER, d INTEGER, e INTEGER, f INTEGER)");
    for (int i = 0; b->layout != TABLE && i < table_count(b); i++)
        run(b->db, "CREATE TABLE m%d(%s)", i, COLUMNS);
}

static void prepare_all(Bench *b) {
    sqlite3 *db = b->db;
    b->seq = calloc(b->channels + 1, sizeof *b->seq);
    b->head = calloc(b->channels + 1, sizeof *b->head);
    b->tables = calloc(table_count(b), sizeof *b->tables);
    b->payload = malloc(b->body);
    memset(b->payload, 'x', b->body);
    b->begin = prepare(db, "BEGIN IMMEDIATE");
    b->commit = prepare(db, "COMMIT");
    b->state = prepare(db, "UPDATE s SET next_seq=?2, sent_messages=sent_messages+?3,"
        "sent_bytes=sent_bytes+?4 WHERE id=?1");
    for (int i = b->layout == TABLE; i < table_count(b); i++) {
        b->tables[i] = (Statements){
            prepare(db, "INSERT INTO m%d(id,flags,sent_at_ms,body)"
                "VALUES(?1,0,?2,?3)", i),
            prepare(db, "SELECT id,flags,sent_at_ms,type,source,key,public_id,"
                "attributes,history,body FROM m%d WHERE id>=?1 AND id<=?2 "
                "ORDER BY id LIMIT %d", i, BATCH),
            prepare(db, "DELETE FROM m%d WHERE id>=?1 AND id<=?2", i)};
    }
}

static void insert(Bench *b, int channel) {
    sqlite3_stmt *stmt = b->tables[table_of(b, channel)].insert;
    sqlite3_bind_int64(stmt, 1, id_of(b, channel, ++b->seq[channel]));
    sqlite3_bind_int64(stmt, 2, 1700000000000 + b->seq[channel]);
    sqlite3_bind_blob(stmt, 3, b->payload, b->body, SQLITE_STATIC);
    finish(b->db, stmt);
}

static void update_state(Bench *b, int channel, int rows) {
    sqlite3_bind_int(b->state, 1, channel);
    sqlite3_bind_int64(b->state, 2, b->seq[channel] + 1);
    sqlite3_bind_int(b->state, 3, rows);
    sqlite3_bind_int(b->state, 4, rows * b->body);
    finish(b->db, b->state);
}

/* Sends rows in one commit; returns the time it took. */
static double send(Bench *b, int channel, int rows) {
    double start = now_us();
    finish(b->db, b->begin);
    for (int i = 0; i < rows; i++) insert(b, channel);
    update_state(b, channel, rows);
    finish(b->db, b->commit);
    return now_us() - start;
}

/* Reads the oldest rows in one commit, deletes them in a second one. */
static double claim(Bench *b, int channel) {
    Statements *t = &b->tables[table_of(b, channel)];
    int64_t first = 0, last = 0, bytes = 0;
    int rc, rows = 0;
    double start = now_us();
    finish(b->db, b->begin);
    sqlite3_bind_int64(t->claim, 1, id_of(b, channel, b->head[channel]));
    sqlite3_bind_int64(t->claim, 2, id_of(b, channel, ((int64_t)1 << 41) - 1));
    while ((rc = sqlite3_step(t->claim)) == SQLITE_ROW) {
        last = sqlite3_column_int64(t->claim, 0);
        if (!rows++) first = last;
        memcpy(b->payload, sqlite3_column_blob(t->claim, 9), b->body);
        bytes += sqlite3_column_bytes(t->claim, 9);
    }
    sqlite3_reset(t->claim);
    check(b->db, rows == BATCH && bytes == (int64_t)BATCH * b->body, "claim");
    update_state(b, channel, 0);
    finish(b->db, b->commit);
    finish(b->db, b->begin);
    sqlite3_bind_int64(t->erase, 1, first);
    sqlite3_bind_int64(t->erase, 2, last);
    finish(b->db, t->erase);
    check(b->db, sqlite3_changes(b->db) == BATCH, "delete");
    update_state(b, channel, 0);
    finish(b->db, b->commit);
    b->head[channel] += BATCH;
    return now_us() - start;
}

/* Rows arrive in turn, so that neighbours in the file are of different channels. */
static void preload(Bench *b) {
    for (int i = 1; i <= b->channels; i++) create_channel(b, i);
    prepare_all(b);
    finish(b->db, b->begin);
    for (int i = 0; i < PRELOAD; i++)
        for (int channel = 1; channel <= b->channels; channel++) insert(b, channel);
    for (int channel = 1; channel <= b->channels; channel++)
        update_state(b, channel, PRELOAD);
    finish(b->db, b->commit);
    truncate_wal(b);
}

static int pick(const Bench *b, const char *target, int turn) {
    if (!strcmp(target, "first")) return 1;
    if (!strcmp(target, "last")) return b->channels;
    return 1 + turn % b->channels;
}

static void measure_send(Bench *b, const char *target) {
    static double v[SENDS];
    double total = 0, single, batch, take, frames, batch_frames, take_frames;
    create_schema(b);
    preload(b);
    for (int i = 0; i < SENDS; i++) total += v[i] = send(b, pick(b, target, i), 1);
    verify_wal(b);
    single = median(v, SENDS);
    frames = (double)b->frames / SENDS;
    truncate_wal(b);
    for (int i = 0; i < BATCHES; i++) v[i] = send(b, pick(b, target, i), BATCH);
    verify_wal(b);
    batch = median(v, BATCHES) / BATCH;
    batch_frames = (double)b->frames / BATCHES;
    truncate_wal(b);
    for (int i = 0; i < BATCHES; i++) v[i] = claim(b, pick(b, target, i));
    verify_wal(b);
    take = median(v, BATCHES) / BATCH;
    take_frames = (double)b->frames / BATCHES;
    printf("{\"send_us\":%.3f,\"send_mean_us\":%.3f,\"frames\":%.4f,"
        "\"wal_bytes\":%.1f,\"batch_row_us\":%.4f,\"batch_frames\":%.3f,"
        "\"batch_wal_bytes_row\":%.1f,\"claim_row_us\":%.4f,"
        "\"claim_frames\":%.3f,\"claim_wal_bytes_row\":%.1f}\n",
        single, total / SENDS, frames, frames * (b->page + 24), batch, batch_frames,
        batch_frames * (b->page + 24) / BATCH, take, take_frames,
        take_frames * (b->page + 24) / BATCH);
}

/* The view of all messages; fails beyond SQLite's limit of SELECTs in one query. */
static int create_view(Bench *b) {
    sqlite3_str *sql = sqlite3_str_new(b->db);
    const char *channel = "id>>45";
    char constant[16];
    sqlite3_str_appendall(sql, "CREATE VIEW v AS ");
    int start = b->layout == TABLE;
    for (int i = start; i < table_count(b); i++) {
        if (b->layout == TABLE) {
            snprintf(constant, sizeof constant, "%d", i);
            channel = constant;
        }
        sqlite3_str_appendf(sql, "%s SELECT %s AS channel, id, sent_at_ms, type, body "
            "FROM m%d", i > start ? " UNION ALL" : "", channel, i);
    }
    char *text = sqlite3_str_finish(sql);
    int rc = sqlite3_exec(b->db, text, 0, 0, 0);
    sqlite3_free(text);
    return rc;
}

static double query(Bench *b, sqlite3_stmt *stmt, int times, int expected) {
    double *v = malloc(times * sizeof *v);
    for (int i = 0; i < times; i++) {
        int rows = 0;
        double start = now_us();
        while (sqlite3_step(stmt) == SQLITE_ROW) rows++;
        sqlite3_reset(stmt);
        v[i] = now_us() - start;
        check(b->db, rows == expected, sqlite3_sql(stmt));
    }
    double result = median(v, times);
    free(v);
    return result;
}

static void measure_view(Bench *b) {
    sqlite3_stmt *one, *all, *newest, *channel;
    int middle = (b->channels + 1) / 2;
    create_schema(b);
    preload(b);
    if (create_view(b)) {
        printf("{\"error\":\"%s\"}\n", sqlite3_errmsg(b->db));
        return;
    }
    double start = now_us();
    one = prepare(b->db, "SELECT * FROM v WHERE id=?1%s",
        b->layout == TABLE ? " AND channel=?2" : "");
    double prepared = now_us() - start;
    all = prepare(b->db, "SELECT count(*), sum(length(body)) FROM v");
    newest = prepare(b->db, "SELECT * FROM v ORDER BY sent_at_ms DESC LIMIT 100");
    channel = prepare(b->db, "SELECT count(*), sum(length(body)) FROM v "
        "WHERE channel=%d", middle);
    sqlite3_bind_int64(one, 1, id_of(b, middle, 100));
    if (b->layout == TABLE) sqlite3_bind_int(one, 2, middle);
    double lookup = query(b, one, 1000, 1);
    printf("{\"prepare_us\":%.1f,\"lookup_us\":%.2f,\"scan_us\":%.1f,"
        "\"newest_us\":%.1f,\"channel_us\":%.1f}\n", prepared, lookup,
        query(b, all, 20, 1), query(b, newest, 20, 100), query(b, channel, 20, 1));
}

static void measure_create(Bench *b) {
    create_schema(b);
    truncate_wal(b);
    double start = now_us();
    for (int i = 1; i <= b->channels; i++) create_channel(b, i);
    double total = now_us() - start;
    double frames = (double)b->frames;
    truncate_wal(b);
    printf("{\"create_s\":%.4f,\"create_us\":%.2f,\"frames\":%.3f,"
        "\"file_mib\":%.2f}\n", total / 1e6, total / b->channels,
        frames / b->channels, file_size(b->path, "") / 1048576.0);
}

static double first_statement(sqlite3 *db, const char *verb) {
    double start = now_us();
    run(db, "%s; SELECT * FROM s WHERE id=1", verb);
    return now_us() - start;
}

/* Also: what a connection pays after another one has created a channel. */
static void measure_open(Bench *b) {
    sqlite3 *other;
    sqlite3_initialize();
    long before = rss_kib();
    double start = now_us();
    b->db = open_db(b->path, 0);
    run(b->db, "SELECT * FROM s WHERE id=1");
    double opened = now_us() - start;
    long after = rss_kib();
    check(b->db, sqlite3_open(b->path, &other) == SQLITE_OK, "open");
    first_statement(other, "SELECT 1");
    create_channel(b, b->channels + 1);
    double reload = first_statement(other, "SELECT 1");
    double warm = first_statement(other, "SELECT 1");
    printf("{\"open_us\":%.1f,\"rss_kib\":%ld,\"after_create_us\":%.1f,"
        "\"warm_us\":%.1f}\n", opened, after - before, reload, warm);
    sqlite3_close(other);
    sqlite3_close(b->db);
}

static int layout_named(const char *name) {
    const char *names[] = {"packed", "table", "shards16"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(names[i], name)) return i;
    fprintf(stderr, "unknown layout %s\n", name);
    exit(2);
}

int main(int argc, char **argv) {
    if (argc == 2 && !strcmp(argv[1], "version")) return puts(sqlite3_libversion()) < 0;
    if (argc < 5) return fprintf(stderr, "usage: see the head of layout.c\n"), 2;
    Bench b = {.path = argv[2], .layout = layout_named(argv[3]), .page = 4096,
        .body = 100};
    if (!strcmp(argv[1], "send") && argc == 8) {
        b.page = atoi(argv[4]);
        b.channels = atoi(argv[5]);
        b.body = atoi(argv[6]);
        measure_send(&b, argv[7]);
        return 0;
    }
    b.channels = atoi(argv[4]);
    if (!strcmp(argv[1], "view")) measure_view(&b);
    else if (!strcmp(argv[1], "create")) measure_create(&b);
    else if (!strcmp(argv[1], "open")) measure_open(&b);
    else return fprintf(stderr, "unknown mode %s\n", argv[1]), 2;
    return 0;
}
