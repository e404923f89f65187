/* Errors: one text per thread, and the translation of SQLite's codes into ours. And
 * what no caller's error is, but is to be told: a notice, for the log. */
#include "embq.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <string.h>

static _Thread_local char text[EMBQ_TEXT_SIZE];

int error_set(int code, const char *format, ...) {
    char made[sizeof text]; /* an argument may be the text before */
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(made, sizeof made, format, arguments);
    va_end(arguments);
    memcpy(text, made, strlen(made) + 1);
    return code;
}

const char *error_text(void) {
    return text;
}

const char *embq_errmsg(void) {
    return text;
}

/* Never held across a fork: by then the keepers have ended, and Python's threads hold
 * the GIL as well. */
static pthread_mutex_t notice_mutex = PTHREAD_MUTEX_INITIALIZER;
static char notice[EMBQ_TEXT_SIZE], notice_waits;

int notice_leave(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    pthread_mutex_lock(&notice_mutex);
    int taken = !notice_waits;
    if (taken) vsnprintf(notice, sizeof notice, format, arguments);
    ATOMIC_STORE(&notice_waits, 1);
    pthread_mutex_unlock(&notice_mutex);
    va_end(arguments);
    return taken;
}

const char *embq_notice_waits(void) {
    return &notice_waits;
}

const char *embq_notice(void) {
    pthread_mutex_lock(&notice_mutex);
    int there = notice_waits;
    if (there) memcpy(text, notice, sizeof text);
    ATOMIC_STORE(&notice_waits, 0);
    pthread_mutex_unlock(&notice_mutex);
    return there ? text : NULL;
}

/* Which failure of the system it was, where that is known: 0. SQLite forgets to say so
 * when a commit could not write, which goes to the -wal alone. */
static int cause_of(sqlite3 *db, int extended) {
    if (!db) return 0;
    if (extended != SQLITE_IOERR_WRITE) return sq.system_errno(db);
    sqlite3_file *wal = NULL;
    int cause = 0;
    sq.file_control(db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);
    if (wal && wal->methods)
        wal->methods->file_control(wal, SQLITE_FCNTL_LAST_ERRNO, &cause);
    return cause;
}

static int code_of(int result, int extended, int cause) {
    switch (result & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL: return EMBQ_BUSY; /* the last: locks, again and again */
    case SQLITE_NOMEM: return EMBQ_NO_MEMORY;
    case SQLITE_READONLY: return EMBQ_STORAGE_READ_ONLY;
    case SQLITE_FULL: return EMBQ_STORAGE_FULL;
    case SQLITE_NOTADB: return EMBQ_NOT_AN_EMBQ_FILE;
    case SQLITE_IOERR:
        /* A quota or RLIMIT_FSIZE is to us what a full disk is: nothing was written. */
        return extended == SQLITE_IOERR_WRITE && (cause == EDQUOT || cause == EFBIG)
                   ? EMBQ_STORAGE_FULL
                   : EMBQ_STORAGE_IO_ERROR;
    case SQLITE_CANTOPEN:
        return cause == EMFILE || cause == ENFILE ? EMBQ_LIMIT_REACHED
                                                  : EMBQ_STORAGE_IO_ERROR;
    default:
        return EMBQ_CORRUPT; /* CORRUPT, and SQL errors: our tables are not as we made
                                them */
    }
}

int error_sqlite(sqlite3 *db, int result, const char *what) {
    int extended = db ? sq.extended_errcode(db) : result;
    if ((extended & 0xff) != (result & 0xff)) extended = result; /* found by us */
    int cause = cause_of(db, extended), code = code_of(result, extended, cause);
    /* sqlite3_errmsg() may quote a value of a constraint; sqlite3_errstr() never does.
     */
    const char *said = code == EMBQ_CORRUPT && (result & 0xff) == SQLITE_ERROR && db
                           ? sq.errmsg(db)
                           : sq.errstr(result & 0xff);
    if (cause)
        return error_set(code, "%s: %s (SQLite code %d, %s)", what, said, extended,
                         strerror(cause));
    return error_set(code, "%s: %s (SQLite code %d)", what, said, extended);
}
