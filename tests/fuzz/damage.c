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
    DAMAGE_SCHEMA,  /* tables, indexes, triggers, views are not what they were */
    DAMAGE_ORDER    /* a message's id in its page is another: they are out of order */
};

_Static_assert(DAMAGE_ORDER == DAMAGES - 1, "DAMAGES counts them");

#define IS_SQL(kind) ((kind) >= DAMAGE_NULL && (kind) <= DAMAGE_SCHEMA)

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

/* ---- with SQL ---- */

/* The row `b` of its kind, for a WHERE. */
static void row_of(char *text, size_t size, const struct rows *k, unsigned b) {
    snprintf(text, size,
             "(%s) = (select %s from %s where %s limit 1 offset %u %% max(1, (select "
             "count(*) from %s where %s)))",
             k->key, k->key, k->table, k->which, b, k->table, k->which);
}

static const char *column_of(const struct rows *k, const struct record *r) {
    return k->columns[(r->n & 0xff) % (unsigned)k->count];
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
    const struct rows *k = &rows[r->a % ROWS];
    const char *column = column_of(k, r);
    char where[512];
    sqlite3_stmt *s;
    struct slice bytes = input_bytes(in, r->n);
    row_of(where, sizeof where, k, r->b);
    if (r->kind == DAMAGE_DELETE)
        s = prepare(db, "delete from %s where ?1 is null and %s", k->table, where);
    else if (r->kind == DAMAGE_STEP)
        s = prepare(db, "update or ignore %s set %s = %s + ?1 where %s", k->table,
                    column, column, where);
    else
        s = prepare(db, "update or ignore %s set %s = ?1 where %s", k->table, column,
                    where);
    if (s) value_bind(s, r, bytes), sq.step(s);
    sq.finalize(s);
    free((char *)bytes.data);
}

static void run(sqlite3 *db, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    sq.exec(db, text, NULL, NULL, NULL);
}

/* The same row again, but for the column that the record names. */
static void row_copy(sqlite3 *db, const struct record *r) {
    const struct rows *k = &rows[r->a % ROWS];
    char where[512];
    row_of(where, sizeof where, k, r->b);
    run(db, "create temp table copied as select * from main.%s where %s", k->table,
        where);
    run(db, "update temp.copied set %s = %lld", column_of(k, r),
        (long long)input_number(r->c, r->v));
    run(db, "insert or ignore into main.%s select * from temp.copied", k->table);
    run(db, "drop table temp.copied");
}

static void sql_damage(const struct input *in, const char *path) {
    sqlite3 *db = NULL;
    if (sq.open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK) goto done;
    /* What lies in the -wal stays there: as a killed process leaves it. */
    sq.wal_autocheckpoint(db, 0);
    sq.db_config(db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, in->head.a & 4, (int *)NULL);
    sq.exec(db, "pragma synchronous = off; pragma ignore_check_constraints = on", NULL,
            NULL, NULL);
    sq.exec(db, "begin", NULL, NULL, NULL);
    if (in->head.c & 2)
        sq.exec(db, "update embq_meta set fingerprint = 0", NULL, NULL, NULL);
    for (int i = 0; i < in->count; i++) {
        struct record r = input_record(in, i);
        if (r.kind >= DAMAGES || !IS_SQL(r.kind)) continue;
        if (r.kind == DAMAGE_SCHEMA)
            sq.exec(db, schema_damages[r.a % SCHEMA_DAMAGES], NULL, NULL, NULL);
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

/* The last byte of the id of message `b` in channel `a`, as its cell begins (varints:
 * sqlite.org/fileformat2.html, 1.6): what is a place beside it becomes `c`. */
static void order_damage(const struct record *r, struct image *image) {
    char id[9];
    int64_t value = message_id(r->a % 8, EMBQ_LANE_DEFAULT, r->b & 0x7f);
    size_t size = 0;
    for (int64_t rest = value; rest; rest >>= 7) size++;
    for (size_t i = 0; i < size; i++)
        id[i] = (char)((value >> 7 * (size - 1 - i) & 0x7f) | (i < size - 1) << 7);
    char *at = size ? memmem(image->data, image->size, id, size) : NULL;
    if (at) at[size - 1] = (char)(r->c & 0x7f);
}

static void database_damage(const struct record *r, struct image *image) {
    size_t page = 4096, pages = image->size / page;
    if (!image->size) return;
    switch (r->kind) {
    case DAMAGE_PAGE: put(image, r->n % image->size, r); break;
    case DAMAGE_HEADER:
        if (pages) image->data[r->n % pages * page + r->a % 112] = (char)r->c;
        break;
    case DAMAGE_ORDER: order_damage(r, image); break;
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
    if (sql || (bytes && in->head.c & 2)) sql_damage(in, path);
    snprintf(wal_path, sizeof wal_path, "%s-wal", path);
    struct image database = file_read(path), wal = file_read(wal_path);
    schema_tighten(&database);
    for (int i = 0; bytes && i < in->count; i++) {
        struct record r = input_record(in, i);
        if (r.kind <= DAMAGE_CUT || r.kind == DAMAGE_ORDER)
            database_damage(&r, &database);
        else if (r.kind <= DAMAGE_WAL_RAW) wal_damage(&r, &wal);
    }
    file_write(path, database);
    if (bytes && wal.size) file_write(wal_path, wal);
    free(database.data);
    free(wal.data);
    return count;
}
