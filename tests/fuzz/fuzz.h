/* What the fuzz targets share.
 *
 * An input is any bytes, read as records of 16 bytes and a pool:
 *
 *     head | head.b records | the rest: the pool
 *
 * A record is one damage to a file or one call. Where a call takes bytes, they are a
 * slice of the pool, copied to memory of exactly that size. Whatever the bytes are,
 * they mean something; what they lack reads as 0.
 */
#ifndef EMBQ_FUZZ_H
#define EMBQ_FUZZ_H

#include "embq.h"
#include "engine.h"
#include "pack.h"

#include <stdlib.h>
#include <string.h>

/* What must hold; if not, the fuzzer keeps the input. */
#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            fprintf(stderr, "%s:%d: %s\n  last error: %s\n", __FILE__, __LINE__, \
                    #condition, embq_errmsg());                                  \
            abort();                                                             \
        }                                                                        \
    } while (0)

#define LENGTH(array) (sizeof(array) / sizeof *(array))
#define RECORD_SIZE 16

/* ---- targets: database.c, boundary.c ---- */

struct input;

struct target {
    const char *name;
    void (*prepare)(void); /* once */
    void (*run)(const struct input *in);
    const uint8_t *kinds; /* of records: what the mutator makes */
    size_t kind_count;
};

extern const struct target database_target, boundary_target;
/* The one that runs: main.c. */
extern const struct target *target;

/* ---- input.c ---- */

struct record {
    uint8_t kind, a, b, c;
    uint32_t n;
    int64_t v;
};

struct input {
    struct record head;
    const uint8_t *records;
    int count;
    struct slice pool;
};

struct input input_read(const uint8_t *data, size_t size);
struct record input_record(const struct input *in, int i);
/* A slice of the pool, chosen by `n`, in memory of its own; free() it. */
struct slice input_bytes(const struct input *in, uint32_t n);
/* `v`, or one of the numbers where things break, chosen by `pick`. */
int64_t input_number(uint8_t pick, int64_t v);

/* ---- files.c: the files that a case works on ---- */

struct image {
    char *data;
    size_t size;
};

/* The folder of this process, in memory when the machine has that. */
const char *folder_path(const char *name);
struct image file_read(const char *path);
void file_write(const char *path, struct image image);
/* Remove what may stand beside the database at `path`. */
void file_clear(const char *path);
/* An embq file without queues: the runner made it. */
struct image file_empty(void);
/* The clocks of this process, in ms; 0: where every case begins. */
#define CLOCK_START ((int64_t)1700000000000)
void clocks_set(int64_t boot_ms, int64_t wall_ms);
void clocks_move(int64_t by_ms);

/* ---- answers.c: what every call of any target is held to ---- */

/* The outcome of a call after signals: libFuzzer's own clock sends some. */
int64_t resumed(int64_t code);
/* Once nothing is open: every operation that was ever made was freed. */
void operations_check(void);
/* One of the codes that embq_api.h allows to reach a user: none of those that only
 * _native understands, and nothing undefined. */
int code_is_typed(int64_t code);
/* How many a claim has brought; what it found to be damaged is asked for and read. */
int claimed(embq_ref broker, int64_t code);
struct receipt_of {
    char bytes[EMBQ_RECEIPT_SIZE];
    int64_t channel;
};
/* Read a claimed batch to its last byte: `count` messages of that channel. Their
 * receipts go to `receipts` (room for `most`); how many. */
int batch_read(const embq_bytes *batch, int count, int64_t channel,
               struct receipt_of *receipts, int most);
/* One number of an answer of embq_stats. */
int64_t stat_of(const embq_bytes *stats, const char *name);
struct queue_options {
    const char *codec, *dead_letter;
    int64_t visibility_ms, max_receives, first_ms, cap_ms, max_body;
    double factor;
    int64_t delay_ms, ttl_ms, ordered;
    struct bounds {
        int64_t messages, bytes, overflow;
    } bounds;
};
/* Half of all queues have bounds, each policy as often as another. */
struct bounds bounds_of(int64_t v);
/* Packed as embq_declare wants it; pack_free() it. */
struct packer options_packed(const struct queue_options *o);

/* ---- seeds.c: files that were in use ---- */

#define SEEDS 7
struct seed {
    struct image database, wal; /* the -wal is empty where the file was closed */
};
/* Make them at `path`, each closed and (`open`) as a killed process leaves it. */
void seeds_make(const char *path);
const struct seed *seed_get(int which, int open);
/* The names of the queues in them. */
extern const char *const seed_queues[];
#define SEED_QUEUES 6

/* ---- schema.c: the tables of a file, with and without what they forbid ---- */

/* From here on wrong types and nulls can be written with SQL ... */
void schema_loosen(struct image *database);
/* ... and from here on the file claims again that it holds none. */
void schema_tighten(struct image *database);

/* ---- tables.c ---- */

/* Rows of one kind: `which` of a table's, its key, and its columns. */
struct rows {
    const char *table, *key, *which;
    int count;
    const char *columns[24];
};

#define ROWS 14
extern const struct rows rows[ROWS];
/* SQL that makes tables, indexes, triggers and views what they were not. */
#define SCHEMA_DAMAGES 29
extern const char *const schema_damages[SCHEMA_DAMAGES];
/* Every column of the file at `path` is named, and every one that is named is there. */
void tables_check(const char *path);

/* ---- damage.c ---- */

#define DAMAGES 15
/* Apply the records that are damages to the file at `path`; how many there were. */
int damage_apply(const struct input *in, const char *path);

/* ---- verbs.c: any calls on a file that may be damaged ---- */

#define VERB_FIRST 128
#define VERBS 16
/* `sound`: the file was not damaged, so nothing may say that it is. */
void verbs_run(const struct input *in, const char *path, int sound);

#endif
