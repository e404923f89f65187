/* Every SQL statement of the core, in one table: statement.c. Prepared at first use,
 * kept. */
#ifndef EMBQ_STATEMENT_H
#define EMBQ_STATEMENT_H

#include "engine.h"

enum statement {
    ST_BEGIN,
    ST_COMMIT,
    ST_ROLLBACK,
    ST_READ_BEGIN,
    ST_FREE_PAGES,
    ST_META_READ,
    ST_META_BOOT,
    ST_META_FINGERPRINT,
    ST_META_SHIFT,
    ST_OWNER_ALL,
    ST_OWNER_INSERT,
    ST_OWNER_DELETE,
    ST_OWNER_CLEAR,
    ST_CHANNEL_READ,
    ST_CHANNEL_BY_NAME,
    ST_CHANNEL_NEXT_ID,
    ST_CHANNEL_INSERT,
    ST_CHANNEL_CONFIGURE,
    ST_CHANNEL_PAUSE,
    ST_CHANNEL_ALL,
    ST_CHANNEL_GONE,
    ST_CHANNEL_DELETE,
    ST_CHANNEL_FREE,
    ST_CHANNEL_UNUSED,
    ST_CHANNEL_REUSE,
    ST_CHANNEL_AFTER,
    ST_CHANNEL_TAIL,
    ST_SUBSCRIPTION_READ,
    ST_SUBSCRIPTION_INSERT,
    ST_SUBSCRIPTION_WRITE,
    ST_SUBSCRIPTION_CHANNEL,
    ST_MESSAGE_INSERT,
    ST_MESSAGE_INSERT_MANY,
    ST_MESSAGE_INSERT_PLACED,
    ST_MESSAGE_READ,
    ST_MESSAGE_RANGE,
    ST_MESSAGE_COUNT,
    ST_MESSAGE_SIZE,
    ST_MESSAGE_KEY,
    ST_MESSAGE_SIZES,
    ST_MESSAGE_DELETE,
    ST_MESSAGE_DELETE_RANGE,
    ST_MESSAGE_MOVE,
    ST_MESSAGE_ARRIVE,
    ST_MESSAGE_OLDEST,
    ST_MESSAGE_NEXT,
    ST_MESSAGE_FREE,
    ST_MESSAGE_TIMES,
    ST_MESSAGE_SPAN,
    ST_MESSAGE_BY_PUBLIC_ID,
    ST_MESSAGE_UNMOVED,
    ST_LOOK,
    ST_LOOK_WAITING,
    ST_LOOK_RUN,
    ST_LOOK_OWNER,
    ST_RUN_INSERT,
    ST_RUN_READ,
    ST_RUN_WRITE,
    ST_RUN_DELETE,
    ST_RUN_FIRST,
    ST_RUN_OF_OWNER,
    ST_RUN_ALL,
    ST_RUN_AFTER,
    ST_DELIVERY_INSERT,
    ST_DELIVERY_READ,
    ST_DELIVERY_WRITE,
    ST_DELIVERY_DELETE,
    ST_DELIVERY_RETRIES,
    ST_DELIVERY_NEXT_DUE,
    ST_DELIVERY_FIRST_LEASED,
    ST_DELIVERY_OF_OWNER,
    ST_DELIVERY_DELAYED,
    ST_DELIVERY_ALL_LEASED,
    ST_DELIVERY_FORGET,
    ST_DELIVERY_BLOCKED,
    ST_DELIVERY_WAITING,
    ST_DELIVERY_OF_QUEUE,
    ST_DELIVERY_FREE,
    ST_KEY_HOLDER,
    ST_KEY_TAKE,
    ST_KEY_NEXT,
    ST_KEY_BEFORE,
    ST_KEY_PASS_ON,
    ST_KEY_FREE,
    ST_DELIVERY_UNBLOCK,
    ST_DEDUP_FIND,
    ST_DEDUP_NOTE,
    ST_DEDUP_DELETE,
    ST_RESULT_FIND,
    ST_RESULT_WRITE,
    ST_RESULT_DELETE,
    ST_RESULT_OF_OWNER,
    ST_RESULT_VOID,
    ST_RESULT_FORGET,
    ST_RESULT_NEXT,
    ST_RESULT_GET,
    ST_SCOPE_READ,
    ST_SCOPE_NUMBER,
    ST_SCOPE_EMPTY,
    ST_SCOPE_INSERT,
    ST_SCOPE_COUNT,
    ST_SCOPE_HITS,
    ST_SCOPE_ALL,
    ST_DUE_INSERT,
    ST_DUE_DELETE,
    ST_DUE_NEXT,
    ST_DUE_COUNT,
    ST_DUE_ALL,
    ST_EXPIRY_INSERT,
    ST_EXPIRY_DELETE,
    ST_EXPIRY_DELETE_RANGE,
    ST_EXPIRY_PASSED,
    ST_EXPIRY_NEXT,
    ST_REDRIVE_OPEN,
    ST_REDRIVE_NEXT,
    ST_REDRIVE_READ,
    ST_REDRIVE_SAME,
    ST_REDRIVE_BEGIN,
    ST_REDRIVE_WRITE,
    ST_REDRIVE_CANCEL,
    ST_REDRIVE_FORGET,
    ST_REDRIVE_LOOK,
    STATEMENTS
};

/* Rows of ST_MESSAGE_INSERT_MANY, and parameters of each. */
#define MESSAGE_ROWS 16
#define MESSAGE_PARAMETERS 9

struct statement_cache {
    sqlite3 *db;
    sqlite3_stmt *prepared[STATEMENTS][EMBQ_SHARDS];
};

struct statement_cache *statements_new(sqlite3 *db);
void statements_free(struct statement_cache *c);
/* The statement, reset, or NULL with the error set in `result`. `shard`: of the message
 * tables; 0 where the statement names none. */
sqlite3_stmt *statement_get(struct statement_cache *c, enum statement which, int shard,
                            int *result);

/* ---- on the leader's connection: a failure is noted in e->storage_error ---- */

sqlite3_stmt *statement(struct engine *e, enum statement which, int shard);
/* Bind `values` to ?1.. of a statement without text or blobs. */
sqlite3_stmt *statement_ints(struct engine *e, enum statement which, int shard,
                             int count, const int64_t *values);
/* 1 row, 0 done, -1 failed. At 0 and -1 the statement is reset. */
int statement_step(struct engine *e, sqlite3_stmt *s);
/* Step to the end; 0 or -1. */
int statement_run(struct engine *e, sqlite3_stmt *s);
/* Bind integers and run; 0 or -1. */
int statement_do(struct engine *e, enum statement which, int shard, int count,
                 const int64_t *values);
/* The first columns of all rows, as many as the statement's limit allows; how many, -1.
 */
int statement_ids(struct engine *e, sqlite3_stmt *s, int64_t *ids);
/* What was read contradicts itself: the group fails with CORRUPT. Returns -1. */
int storage_corrupt(struct engine *e);
/* The first column of the first row, `otherwise` when there is none. */
int64_t statement_int(struct engine *e, enum statement which, int shard, int count,
                      const int64_t *values, int64_t otherwise);

#define INTS(...)                                                                  \
    (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), (const int64_t[]) { \
        __VA_ARGS__                                                                \
    }

/* NULL-able text of a row, not copied. */
struct slice column_slice(sqlite3_stmt *s, int column);
void bind_slice(sqlite3_stmt *s, int index, struct slice text);
void bind_or_null(sqlite3_stmt *s, int index, int64_t value); /* 0: null */

#endif
