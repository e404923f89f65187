/* The options of a queue: from a caller, in a row, to a caller; in one order
 * everywhere, that of embq/_options.py. See store.h.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>

#define DEAD_LETTER_HOPS 64
#define OPTIONS_COUNT 17

static char *slice_copy(struct slice s) {
    char *copy = s.data ? malloc(s.size + 1) : NULL;
    if (copy) {
        memcpy(copy, s.data, s.size);
        copy[s.size] = 0;
    }
    return copy;
}

/* One that does not fit is kept as none, and so refused. */
static void codec_keep(struct options *o, struct slice codec) {
    int fits = codec.data && codec.size < sizeof o->codec;
    snprintf(o->codec, sizeof o->codec, "%.*s", fits ? (int)codec.size : 0,
             fits ? codec.data : "");
}

int text_keep(struct engine *e, char **text, struct slice s) {
    free(*text);
    *text = slice_copy(s);
    if (s.data && !*text && !e->storage_error) e->storage_error = SQLITE_NOMEM;
    return s.data && !*text ? -1 : 0;
}

int options_are_sound(const struct options *o) {
    return o->codec[0] &&
           is_between(o->visibility_timeout_ms, 1, EMBQ_DURATION_MAX_MS) &&
           is_between(o->max_receives, 1, INT32_MAX) &&
           (!o->dead_letter || o->dead_letter[0]) &&
           is_between(o->retry_first_ms, 0, EMBQ_DURATION_MAX_MS) &&
           o->retry_factor >= 1 && o->retry_factor <= INT32_MAX &&
           is_between(o->retry_cap_ms, 0, EMBQ_DURATION_MAX_MS) &&
           is_between(o->max_body, 1, INT32_MAX) &&
           is_between(o->delay_ms, 0, EMBQ_DURATION_MAX_MS) &&
           is_between(o->ttl_ms, 0, EMBQ_DURATION_MAX_MS) &&
           is_between(o->ordered, ORDERED_NOT, ORDERED_WHOLLY) &&
           is_between(o->dedup_window_ms, 0, EMBQ_DURATION_MAX_MS) &&
           is_between(o->max_messages, 0, EMBQ_COUNTER_MAX) &&
           is_between(o->max_bytes, 0, EMBQ_COUNTER_MAX) &&
           is_between(o->overflow, OVERFLOW_BLOCK, OVERFLOW_DEAD_LETTER) &&
           (!options_are_bounded(o) || o->overflow != OVERFLOW_DEAD_LETTER ||
            o->dead_letter) &&
           (!o->ordered || !o->delay_ms);
}

int options_from_row(struct engine *e, sqlite3_stmt *s, int column, struct options *o) {
    codec_keep(o, column_slice(s, column));
    o->visibility_timeout_ms = sq.column_int64(s, column + 1);
    o->max_receives = sq.column_int64(s, column + 2);
    int kept = text_keep(e, &o->dead_letter, column_slice(s, column + 3));
    o->retry_first_ms = sq.column_int64(s, column + 4);
    o->retry_factor = sq.column_double(s, column + 5);
    o->retry_cap_ms = sq.column_int64(s, column + 6);
    o->retry_jitter = (int)sq.column_int64(s, column + 7);
    o->max_body = sq.column_int64(s, column + 8);
    o->delay_ms = sq.column_int64(s, column + 9);
    o->ttl_ms = sq.column_int64(s, column + 10);
    o->expiry_drops = (int)sq.column_int64(s, column + 11);
    o->ordered = (int)sq.column_int64(s, column + 12);
    o->dedup_window_ms = sq.column_int64(s, column + 13);
    o->max_messages = sq.column_int64(s, column + 14);
    o->max_bytes = sq.column_int64(s, column + 15);
    o->overflow = (int)sq.column_int64(s, column + 16);
    return kept;
}

void options_bind(sqlite3_stmt *s, int index, const struct options *o) {
    struct slice dead = {o->dead_letter, o->dead_letter ? strlen(o->dead_letter) : 0};
    sq.bind_text(s, index, o->codec, -1, SQLITE_STATIC);
    sq.bind_int64(s, index + 1, o->visibility_timeout_ms);
    sq.bind_int64(s, index + 2, o->max_receives);
    bind_slice(s, index + 3, dead);
    sq.bind_int64(s, index + 4, o->retry_first_ms);
    sq.bind_double(s, index + 5, o->retry_factor);
    sq.bind_int64(s, index + 6, o->retry_cap_ms);
    sq.bind_int64(s, index + 7, o->retry_jitter);
    sq.bind_int64(s, index + 8, o->max_body);
    sq.bind_int64(s, index + 9, o->delay_ms);
    sq.bind_int64(s, index + 10, o->ttl_ms);
    sq.bind_int64(s, index + 11, o->expiry_drops);
    sq.bind_int64(s, index + 12, o->ordered);
    sq.bind_int64(s, index + 13, o->dedup_window_ms);
    sq.bind_int64(s, index + 14, o->max_messages);
    sq.bind_int64(s, index + 15, o->max_bytes);
    sq.bind_int64(s, index + 16, o->overflow);
}

int options_read(struct slice packed, struct options *o) {
    struct unpacker u = unpack_from(packed.data, packed.size);
    if (unpack_array(&u) != OPTIONS_COUNT) u.failed = 1;
    struct slice codec = unpack_slice(&u);
    codec_keep(o, codec);
    o->visibility_timeout_ms = unpack_int(&u);
    o->max_receives = unpack_int(&u);
    struct slice dead = unpack_slice(&u);
    o->dead_letter = slice_copy(dead);
    o->retry_first_ms = unpack_int(&u);
    o->retry_factor = unpack_double(&u);
    o->retry_cap_ms = unpack_int(&u);
    o->retry_jitter = unpack_int(&u) != 0;
    o->max_body = unpack_int(&u);
    o->delay_ms = unpack_int(&u);
    o->ttl_ms = unpack_int(&u);
    o->expiry_drops = unpack_int(&u) != 0;
    o->ordered = (int)unpack_int(&u);
    o->dedup_window_ms = unpack_int(&u);
    o->max_messages = unpack_int(&u);
    o->max_bytes = unpack_int(&u);
    o->overflow = (int)unpack_int(&u);
    if (u.failed)
        return error_set(EMBQ_INVALID_ARGUMENT, "options of a queue: malformed");
    if (dead.data && !o->dead_letter)
        return error_set(EMBQ_NO_MEMORY, "no memory for the options of a queue");
    if (!options_are_sound(o))
        return error_set(EMBQ_INVALID_ARGUMENT, "options of a queue: out of range");
    return 0;
}

void options_pack(const struct options *o, struct packer *p) {
    pack_array(p, OPTIONS_COUNT);
    pack_text(p, o->codec, strlen(o->codec));
    pack_int(p, o->visibility_timeout_ms);
    pack_int(p, o->max_receives);
    pack_text(p, o->dead_letter, o->dead_letter ? strlen(o->dead_letter) : 0);
    pack_int(p, o->retry_first_ms);
    pack_double(p, o->retry_factor);
    pack_int(p, o->retry_cap_ms);
    pack_bool(p, o->retry_jitter);
    pack_int(p, o->max_body);
    pack_int(p, o->delay_ms);
    pack_int(p, o->ttl_ms);
    pack_bool(p, o->expiry_drops);
    pack_int(p, o->ordered);
    pack_int(p, o->dedup_window_ms);
    pack_int(p, o->max_messages);
    pack_int(p, o->max_bytes);
    pack_int(p, o->overflow);
}

int options_write(struct engine *e, const struct channel *c, const struct options *o) {
    sqlite3_stmt *s = statement(e, ST_CHANNEL_CONFIGURE, 0);
    if (!s) return -1;
    sq.bind_int64(s, 1, c->id);
    options_bind(s, 2, o);
    return statement_run(e, s);
}

/* Whether dead letters sent to `target` could come back to the queue `name`. */
static int dead_letters_cycle(struct engine *e, struct slice name, const char *target) {
    for (int hops = 0; target && hops < DEAD_LETTER_HOPS; hops++) {
        if (strlen(target) == name.size && !memcmp(target, name.data, name.size))
            return 1;
        int64_t id = channel_find(e, target, strlen(target));
        struct channel *c = id > 0 ? channel_get(e, id) : NULL;
        if (!c) return 0;
        target = c->options.dead_letter;
    }
    return target != NULL;
}

int options_check_cycle(struct engine *e, struct slice name, const struct options *o) {
    if (!dead_letters_cycle(e, name, o->dead_letter)) return 0;
    return error_set(EMBQ_INVALID_ARGUMENT,
                     "dead letters of this queue would come back to it, by way of %s",
                     o->dead_letter);
}
