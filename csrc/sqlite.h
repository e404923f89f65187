/* The SQLite that this process already uses, reached through pointers.
 *
 * embq links no libsqlite3 and needs none of its headers: two copies of SQLite on one
 * file in one process lose data silently, because POSIX locks do not conflict inside a
 * process. The pointers are filled once, from the very library behind Python's
 * `sqlite3` module, either by dlsym() or, when that library hides its symbols, from the
 * sqlite3_api_routines that it hands to a run-time extension.
 *
 * X(member, index, return, arguments): `index` is the place of the function in
 * sqlite3_api_routines, whose order SQLite promises never to change (only to append).
 * To use one more function, add a line.
 */
#ifndef EMBQ_SQLITE_H
#define EMBQ_SQLITE_H

#include <stdint.h>

typedef struct sqlite3 sqlite3;
typedef struct sqlite3_stmt sqlite3_stmt;
typedef struct sqlite3_vfs sqlite3_vfs;
typedef struct sqlite3_file sqlite3_file;
typedef struct sqlite3_mutex sqlite3_mutex;
typedef int64_t sqlite3_int64;
typedef void (*sqlite_destructor)(void *);

#define SQLITE_STATIC ((sqlite_destructor)0)

/* clang-format off: tables */
/* Result codes; the extended ones keep the primary code in their low byte. */
enum {
    SQLITE_OK = 0,
    SQLITE_ERROR = 1,
    SQLITE_BUSY = 5,
    SQLITE_LOCKED = 6,
    SQLITE_NOMEM = 7,
    SQLITE_READONLY = 8,
    SQLITE_IOERR = 10,
    SQLITE_CORRUPT = 11,
    SQLITE_FULL = 13,
    SQLITE_CANTOPEN = 14,
    SQLITE_PROTOCOL = 15,
    SQLITE_NOTADB = 26,
    SQLITE_IOERR_WRITE = 778,
    SQLITE_ROW = 100,
    SQLITE_DONE = 101,
    SQLITE_OPEN_READWRITE = 0x2,
    SQLITE_OPEN_NOMUTEX = 0x8000,
    SQLITE_PREPARE_PERSISTENT = 1,
    SQLITE_TEXT = 3,
    SQLITE_BLOB = 4,
    SQLITE_NULL = 5,
    SQLITE_FCNTL_LAST_ERRNO = 4,
    SQLITE_FCNTL_FILE_POINTER = 7,
    SQLITE_FCNTL_HAS_MOVED = 20,
    SQLITE_FCNTL_JOURNAL_POINTER = 28,
    SQLITE_DBCONFIG_ENABLE_TRIGGER = 1003,
    SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE = 1006,
    SQLITE_DBCONFIG_ENABLE_VIEW = 1015,
    SQLITE_CHECKPOINT_PASSIVE = 0,
    SQLITE_MUTEX_STATIC_MAIN = 2,  /* the first of the static ones */
    SQLITE_MUTEX_STATIC_VFS3 = 13, /* and the last */
    SQLITE_FLOOR_VERSION = 3037000
};

/* The parts of sqlite3_file and its methods that we call: what went wrong, and the
 * WAL-index mapping. */
struct sqlite3_file {
    const struct sqlite_io_methods *methods;
};
struct sqlite_io_methods {
    int version;
    void (*before_control[9])(void);
    int (*file_control)(sqlite3_file *, int operation, void *);
    void (*before_shm[2])(void);
    int (*shm_map)(sqlite3_file *, int region, int size, int extend, void volatile **);
};

#define EMBQ_SQLITE_FUNCTIONS(X)                                                       \
    X(bind_blob, 2, int, (sqlite3_stmt *, int, const void *, int, sqlite_destructor))  \
    X(bind_double, 3, int, (sqlite3_stmt *, int, double))                              \
    X(bind_int64, 5, int, (sqlite3_stmt *, int, sqlite3_int64))                        \
    X(bind_null, 6, int, (sqlite3_stmt *, int))                                        \
    X(bind_text, 10, int, (sqlite3_stmt *, int, const char *, int, sqlite_destructor)) \
    X(busy_timeout, 14, int, (sqlite3 *, int))                                         \
    X(changes, 15, int, (sqlite3 *))                                                   \
    X(close, 16, int, (sqlite3 *))                                                     \
    X(column_blob, 19, const void *, (sqlite3_stmt *, int))                            \
    X(column_bytes, 20, int, (sqlite3_stmt *, int))                                    \
    X(column_double, 27, double, (sqlite3_stmt *, int))                                \
    X(column_int64, 29, sqlite3_int64, (sqlite3_stmt *, int))                          \
    X(column_text, 36, const unsigned char *, (sqlite3_stmt *, int))                   \
    X(column_type, 38, int, (sqlite3_stmt *, int))                                     \
    X(errmsg, 53, const char *, (sqlite3 *))                                           \
    X(exec, 55, int,                                                                   \
      (sqlite3 *, const char *, int (*)(void *, int, char **, char **), void *,        \
       char **))                                                                       \
    X(finalize, 57, int, (sqlite3_stmt *))                                             \
    X(get_autocommit, 60, int, (sqlite3 *))                                            \
    X(libversion, 66, const char *, (void))                                            \
    X(libversion_number, 67, int, (void))                                              \
    X(reset, 77, int, (sqlite3_stmt *))                                                \
    X(step, 94, int, (sqlite3_stmt *))                                                 \
    X(file_control, 127, int, (sqlite3 *, const char *, int, void *))                  \
    X(mutex_alloc, 130, sqlite3_mutex *, (int))                                        \
    X(mutex_leave, 133, void, (sqlite3_mutex *))                                       \
    X(mutex_try, 134, int, (sqlite3_mutex *))                                          \
    X(open_v2, 135, int, (const char *, sqlite3 **, int, const char *))                \
    X(vfs_find, 141, sqlite3_vfs *, (const char *))                                    \
    X(vfs_register, 142, int, (sqlite3_vfs *, int))                                    \
    X(vfs_unregister, 143, int, (sqlite3_vfs *))                                       \
    X(extended_result_codes, 150, int, (sqlite3 *, int))                               \
    X(compileoption_used, 161, int, (const char *))                                    \
    X(db_config, 163, int, (sqlite3 *, int, ...))                                      \
    X(extended_errcode, 166, int, (sqlite3 *))                                         \
    X(wal_autocheckpoint, 173, int, (sqlite3 *, int))                                  \
    X(errstr, 183, const char *, (int))                                                \
    X(wal_checkpoint_v2, 191, int, (sqlite3 *, const char *, int, int *, int *))       \
    X(system_errno, 213, int, (sqlite3 *))                                             \
    X(prepare_v3, 217, int,                                                            \
      (sqlite3 *, const char *, int, unsigned, sqlite3_stmt **, const char **))

/* clang-format on */

struct sqlite_functions {
#define X(member, index, result, arguments) result(*member) arguments;
    EMBQ_SQLITE_FUNCTIONS(X)
#undef X
};

/* All calls go through this: sq.step(statement). Filled by embq_bind_*, constant after.
 */
extern struct sqlite_functions sq;

#endif
