/* Damage to a file: bytes of its pages and of its -wal, and, as those mostly end at
 * SQLite's own checks, values of our tables, written with SQL.
 */
#include "fuzz.h"

#include <stdarg.h>

enum damage {
    DAMAGE_PAGE,    /* 8 bytes anywhere in the file */
    DAMAGE_HEADER,  /* one byte of the head of a page */
    DAMAGE_CUT,     /* the file ends early */
    DAMAGE_WAL,     /* bytes of the -wal, its checksums made right again */
    DAMAGE_WAL_RAW, /* ... or left wrong */
    DAMAGE_NULL,    /* a value of a row: nothing ... */
    DAMAGE_NUMBER,  /* ... a number ... */
    DAMAGE_STEP,    /* ... a little more or less than it was ... */
    DAMAGE_REAL,    /* ... any double ... */
    DAMAGE_TEXT,    /* ... bytes of the pool, as text ... */
    DAMAGE_BLOB,    /* ... and as a blob */
    DAMAGE_DELETE,  /* a row is gone */
    DAMAGE_COPY,    /* a row is there again, under another key */
    DAMAGE_SCHEMA   /* tables, indexes, triggers, views are not what they were */
};

_Static_assert(DAMAGE_SCHEMA == DAMAGES - 1, "DAMAGES counts them");

#define IS_SQL(kind) ((kind) >= DAMAGE_NULL)
#define COLUMNS_MAX 64

/* ---- our tables ---- */

struct table {
    char name[32], key[32];
    char columns[COLUMNS_MAX][32];
    int count;
};

static const char *const table_names[] = {
    "embq_meta",      "embq_owner",     "embq_channel",   "embq_state",
    "embq_state",     "embq_delivery",  "embq_message_0", "embq_message_1",
    "embq_message_2", "embq_channel",   "embq_state",     "embq_delivery",
    "embq_message_0", "embq_message_1",
};

#define TABLES LENGTH(table_names)
static struct table tables[TABLES];

/* The corpus names them by number: more go to the end. */
static const char *const schema_damages[] = {
    /* Triggers that undo or repeat what the core does. */
    "create trigger t before delete on embq_state begin select raise(ignore); end",
    "create trigger t before update on embq_state begin select raise(ignore); end",
    "create trigger t before delete on embq_delivery begin select raise(ignore); end",
    "create trigger t before update on embq_delivery begin select raise(ignore); end",
    "create trigger t before insert on embq_state begin select raise(ignore); "
    "end",
    "create trigger t before insert on embq_message_0 begin select raise(ignore); end",
    "create trigger t after insert on embq_message_0 begin delete from embq_message_0; "
    "end",
    "create trigger t before insert on embq_owner begin select raise(ignore); end",
    "create trigger t before delete on embq_message_0 begin select raise(abort, 'no'); "
    "end",
    /* Indexes that are not there, or forbid too much. */
    "drop index embq_delivery_waiting",
    "drop index embq_delivery_leased",
    "drop index embq_delivery_owned",
    "create unique index u on embq_delivery(lane)",
    "create unique index u on embq_message_0(sent_at_ms)",
    /* Tables that are not there, or are views; some of these have no end. */
    "drop table embq_state",
    "drop table embq_delivery",
    "drop table embq_message_0",
    "drop table embq_owner",
    "alter table embq_channel rename column shard to splinter",
    "drop table embq_meta; create view embq_meta as with recursive n(i) as (select 1 "
    "union all select i + 1 from n) select i as id, 1 as schema_version, 1 as file_id, "
    "'' as boot_id, 0 as device, 0 as inode from n where i < 0",
    "drop table embq_message_0; create view embq_message_0 as with recursive n(i) as "
    "(select 1 union all select i + 1 from n) select i as id, 0 as sent_at_ms, null as "
    "type, null as source, null as key, null as public_id, null as attributes, null as "
    "history, x'' as body, 0 as total_bytes from n where i < 0",
    "alter table embq_state rename to r; create view embq_state as select * from r",
    "pragma user_version = 77",
    "update embq_meta set schema_version = 99",
    "delete from embq_meta; insert into embq_meta values (2, 1, 1, '', 0, 0, 0)",
    /* Indexes that hold what they say they do not. */
    "drop index embq_delivery_leased; create index embq_delivery_leased on "
    "embq_delivery(deadline_ms) where owner is not null or 1; pragma writable_schema = "
    "on; update sqlite_schema set sql = replace(sql, ' or 1', '') where name = "
    "'embq_delivery_leased'",
    "drop index embq_delivery_owned; create index embq_delivery_owned on "
    "embq_delivery(coalesce(owner, 1)) where owner is not null or 1; pragma "
    "writable_schema = on; update sqlite_schema set sql = 'create index "
    "embq_delivery_owned on embq_delivery(owner) where owner is not null' where name = "
    "'embq_delivery_owned'",
    "drop index embq_delivery_waiting; create index embq_delivery_waiting on "
    "embq_delivery(subscription, lane, suspect, due_at_ms, message) where owner is "
    "null "
    "or 1; pragma writable_schema = on; update sqlite_schema set sql = replace(sql, ' "
    "or "
    "1', '') where name = 'embq_delivery_waiting'",
};

static sqlite3_stmt *prepare(sqlite3 *db, const char *format, ...) {
    char text[1024];
    sqlite3_stmt *s = NULL;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sq.prepare_v3(db, text, -1, 0, &s, NULL);
    return s;
}

static void columns_read(sqlite3 *db, struct table *t) {
    sqlite3_stmt *s = prepare(db, "pragma table_info(%s)", t->name);
    while (sq.step(s) == SQLITE_ROW && t->count < COLUMNS_MAX)
        snprintf(t->columns[t->count++], sizeof *t->columns, "%s",
                 (const char *)sq.column_text(s, 1));
    sq.finalize(s);
    CHECK(t->count > 0 && t->count < COLUMNS_MAX);
    int has_rowid = strcmp(t->name, "embq_delivery") != 0;
    snprintf(t->key, sizeof t->key, "%s",
             has_rowid ? "rowid" : "subscription, message");
}

static void tables_read(sqlite3 *db) {
    for (size_t i = 0; i < TABLES; i++) {
        snprintf(tables[i].name, sizeof tables[i].name, "%s", table_names[i]);
        columns_read(db, &tables[i]);
    }
}

/* ---- with SQL ---- */

/* The row `b` of the table, for a WHERE. */
static void row_of(char *text, size_t size, const struct table *t, unsigned b) {
    snprintf(text, size,
             "(%s) = (select %s from %s limit 1 offset %u %% max(1, (select count(*) "
             "from %s)))",
             t->key, t->key, t->name, b, t->name);
}

static void value_bind(sqlite3_stmt *s, const struct record *r, struct slice bytes) {
    double real;
    switch (r->kind) {
    case DAMAGE_NUMBER: sq.bind_int64(s, 1, input_number(r->c, r->v)); break;
    case DAMAGE_STEP: sq.bind_int64(s, 1, (int8_t)r->v); break;
    case DAMAGE_REAL:
        memcpy(&real, &r->v, sizeof real);
        sq.bind_double(s, 1, real);
        break;
    case DAMAGE_TEXT:
        sq.bind_text(s, 1, bytes.data, (int)bytes.size, SQLITE_STATIC);
        break;
    case DAMAGE_BLOB:
        sq.bind_blob(s, 1, bytes.data, (int)bytes.size, SQLITE_STATIC);
        break;
    default: sq.bind_null(s, 1); break;
    }
}

static void row_damage(sqlite3 *db, const struct input *in, const struct record *r) {
    const struct table *t = &tables[r->a % TABLES];
    const char *column = t->columns[(r->n & 0xff) % (unsigned)t->count];
    char where[512];
    sqlite3_stmt *s;
    struct slice bytes = input_bytes(in, r->n);
    row_of(where, sizeof where, t, r->b);
    if (r->kind == DAMAGE_DELETE)
        s = prepare(db, "delete from %s where ?1 is null and %s", t->name, where);
    else if (r->kind == DAMAGE_STEP)
        s = prepare(db, "update or ignore %s set %s = %s + ?1 where %s", t->name,
                    column, column, where);
    else
        s = prepare(db, "update or ignore %s set %s = ?1 where %s", t->name, column,
                    where);
    if (s) value_bind(s, r, bytes), sq.step(s);
    sq.finalize(s);
    free((char *)bytes.data);
}

/* The same row again, but for the column that the record names. */
static void row_copy(sqlite3 *db, const struct record *r) {
    const struct table *t = &tables[r->a % TABLES];
    int other = (int)((r->n & 0xff) % (unsigned)t->count);
    char values[COLUMNS_MAX * 32] = "", where[512];
    size_t size = 0;
    for (int i = 0; i < t->count; i++)
        size += (size_t)snprintf(values + size, sizeof values - size, "%s%s",
                                 i ? ", " : "", i == other ? "?1" : t->columns[i]);
    row_of(where, sizeof where, t, r->b);
    sqlite3_stmt *s = prepare(db, "insert or ignore into %s select %s from %s where %s",
                              t->name, values, t->name, where);
    if (s) sq.bind_int64(s, 1, input_number(r->c, r->v)), sq.step(s);
    sq.finalize(s);
}

static void sql_damage(const struct input *in, const char *path) {
    sqlite3 *db = NULL;
    if (sq.open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) goto done;
    /* What lies in the -wal stays there: as a killed process leaves it. */
    sq.wal_autocheckpoint(db, 0);
    sq.db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, in->head.a & 4, (int *)NULL);
    sq.exec(db, "pragma synchronous = off; pragma ignore_check_constraints = on", NULL,
            NULL, NULL);
    if (!tables[0].count) tables_read(db);
    sq.exec(db, "begin", NULL, NULL, NULL);
    for (int i = 0; i < in->count; i++) {
        struct record r = input_record(in, i);
        if (r.kind >= DAMAGES || !IS_SQL(r.kind)) continue;
        if (r.kind == DAMAGE_SCHEMA)
            sq.exec(db, schema_damages[r.a % LENGTH(schema_damages)], NULL, NULL, NULL);
        else if (r.kind == DAMAGE_COPY) row_copy(db, &r);
        else row_damage(db, in, &r);
    }
    sq.exec(db, "commit", NULL, NULL, NULL);
done:
    sq.close(db);
}

/* ---- without ---- */

static void put(struct image *image, size_t at, const struct record *r) {
    for (size_t i = 0; i < sizeof r->v && at + i < image->size; i++)
        image->data[at + i] = (char)((uint64_t)r->v >> 8 * i);
}

static void database_damage(const struct record *r, struct image *image) {
    size_t page = 4096, pages = image->size / page;
    if (!image->size) return;
    switch (r->kind) {
    case DAMAGE_PAGE: put(image, r->n % image->size, r); break;
    case DAMAGE_HEADER:
        if (pages) image->data[r->n % pages * page + r->a % 112] = (char)r->c;
        break;
    case DAMAGE_CUT: image->size = r->n % (image->size + 1); break;
    default: break;
    }
}

/* The checksum of a -wal: sqlite.org/fileformat2.html, 4.2. Little-endian machines. */
static void checksum_add(uint32_t sum[2], const char *data, size_t size) {
    uint32_t words[2];
    for (size_t i = 0; i + 8 <= size; i += 8) {
        memcpy(words, data + i, sizeof words);
        sum[0] += words[0] + sum[1];
        sum[1] += words[1] + sum[0];
    }
}

static void checksum_put(char *at, const uint32_t sum[2]) {
    for (int i = 0; i < 8; i++) at[i] = (char)(sum[i / 4] >> (24 - i % 4 * 8));
}

static void wal_make_right(struct image *wal) {
    size_t page = 4096;
    uint32_t sum[2] = {0, 0};
    if (wal->size < 32) return;
    checksum_add(sum, wal->data, 24);
    checksum_put(wal->data + 24, sum);
    for (size_t at = 32; at + 24 + page <= wal->size; at += 24 + page) {
        checksum_add(sum, wal->data + at, 8);
        checksum_add(sum, wal->data + at + 24, page);
        checksum_put(wal->data + at + 16, sum);
    }
}

static void wal_damage(const struct record *r, struct image *wal) {
    if (!wal->size) return;
    put(wal, r->n % wal->size, r);
    if (r->kind == DAMAGE_WAL) wal_make_right(wal);
}

int damage_apply(const struct input *in, const char *path) {
    char wal_path[4096 + 8];
    int count = 0, sql = 0, bytes = 0;
    for (int i = 0; i < in->count; i++) {
        uint8_t kind = input_record(in, i).kind;
        count += kind < DAMAGES;
        sql += kind < DAMAGES && IS_SQL(kind);
        bytes += kind < DAMAGES && !IS_SQL(kind);
    }
    if (sql) sql_damage(in, path);
    snprintf(wal_path, sizeof wal_path, "%s-wal", path);
    struct image database = file_read(path), wal = file_read(wal_path);
    schema_tighten(&database);
    for (int i = 0; bytes && i < in->count; i++) {
        struct record r = input_record(in, i);
        if (r.kind <= DAMAGE_CUT) database_damage(&r, &database);
        else if (r.kind <= DAMAGE_WAL_RAW) wal_damage(&r, &wal);
    }
    file_write(path, database);
    if (bytes && wal.size) file_write(wal_path, wal);
    free(database.data);
    free(wal.data);
    return count;
}
