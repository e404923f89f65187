/* Dedup ids: what was sent before, so that it is not sent again. embq_idempotency has a
 * key in a scope with what came of it, for a time; see result.c for its others. The
 * scope of a queue's sends is its number, the key a dedup id, the result a row: that
 * stays even when the message is gone.
 */
#include "store.h"

#define FORGET_STEP 2 /* so many old ones go for one that comes: they never pile up */

static sqlite3_stmt *dedup_statement(struct engine *e, enum statement which,
                                     const struct channel *c, struct slice id) {
    sqlite3_stmt *s = statement(e, which, 0);
    if (!s) return NULL;
    sq.bind_int64(s, 1, c->id);
    bind_slice(s, 2, id);
    return s;
}

int64_t dedup_find(struct engine *e, const struct channel *c, struct slice id,
                   int64_t now_ms) {
    sqlite3_stmt *s = dedup_statement(e, ST_DEDUP_FIND, c, id);
    if (!s) return -1;
    sq.bind_int64(s, 3, now_ms);
    int found = statement_step(e, s);
    if (found <= 0) return found;
    int64_t row = sq.column_int64(s, 0);
    sq.reset(s);
    return channel_has_given_out(c, row) ? row : storage_corrupt(e);
}

int dedup_note(struct engine *e, const struct channel *c, struct slice id, int64_t row,
               int64_t now_ms) {
    sqlite3_stmt *s = dedup_statement(e, ST_DEDUP_NOTE, c, id);
    if (!s) return -1;
    sq.bind_int64(s, 3, row);
    sq.bind_int64(s, 4, now_ms + c->options.dedup_window_ms);
    if (statement_run(e, s) < 0) return -1;
    return results_forget(e, now_ms, FORGET_STEP) < 0 ? -1 : 0;
}
