/* Errors: one text per thread, and the translation of SQLite's codes into ours. */
#include "embq.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

static _Thread_local char text[512];

int error_set(int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return code;
}

const char *error_text(void) {
    return text;
}

const char *embq_errmsg(void) {
    return text;
}

static int code_of(int result) {
    switch (result & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return EMBQ_BUSY;
    case SQLITE_NOMEM: return EMBQ_NO_MEMORY;
    case SQLITE_READONLY: return EMBQ_STORAGE_READ_ONLY;
    case SQLITE_FULL: return EMBQ_STORAGE_FULL;
    case SQLITE_NOTADB: return EMBQ_NOT_AN_EMBQ_FILE;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN: return EMBQ_STORAGE_IO_ERROR;
    default:
        return EMBQ_CORRUPT; /* CORRUPT, and SQL errors: our tables are not as we made
                                them */
    }
}

int error_sqlite(sqlite3 *db, int result, const char *what) {
    int extended = db ? sq.extended_errcode(db) : result;
    if ((extended & 0xff) != (result & 0xff)) extended = result; /* found by us */
    int cause = db ? sq.system_errno(db) : 0;
    /* sqlite3_errmsg() may quote a value of a constraint; sqlite3_errstr() never does.
     */
    const char *said =
        code_of(result) == EMBQ_CORRUPT && (result & 0xff) == SQLITE_ERROR && db
            ? sq.errmsg(db)
            : sq.errstr(result & 0xff);
    if (cause)
        return error_set(code_of(result), "%s: %s (SQLite code %d, %s)", what, said,
                         extended, strerror(cause));
    return error_set(code_of(result), "%s: %s (SQLite code %d)", what, said, extended);
}
