/* What of our tables is damaged. The corpus names rows, columns and changes of the
 * schema by their place in these lists: what is new goes to the end, and the place of
 * what is gone is kept by its nearest kin.
 */
#include "fuzz.h"

#define MESSAGE_COLUMNS                                                  \
    13, {"id",     "flags",     "total_bytes",  "sent_at_ms", "type",    \
         "source", "key",       "public_id",    "attributes", "history", \
         "body",   "due_at_ms", "expires_at_ms"}

/* clang-format off */
const struct rows rows[ROWS] = {
    {"embq_meta", "rowid", "1", 8,
     {"id", "schema_version", "file_id", "boot_id", "device", "inode",
      "created_at_ms", "fingerprint"}},
    {"embq_owner", "rowid", "1", 3, {"slot", "pid", "opened_at_ms"}},
    {"embq_channel", "rowid", "1", 24,
     {"id", "kind", "name", "shard", "codec", "visibility_timeout_ms", "max_receives",
      "dead_letter", "retry_first_ms", "retry_factor", "retry_cap_ms", "retry_jitter",
      "max_body", "created_at_ms", "delay_ms", "ttl_ms", "expiry_drops", "ordered",
      "dedup_window_ms", "max_messages", "max_bytes", "overflow", "paused_until_ms",
      "generation"}},
    /* A subscription, ... */
    {"embq_state", "rowid", "channel is not null", 24,
     {"id", "channel", "name", "next_sequence", "sent", "sent_bytes", "cursor_15",
      "removed", "removed_bytes", "in_flight", "waiting", "delivered", "redelivered",
      "acked", "nacked", "rejected", "expired", "dead", "cursor_0", "subscription",
      "lanes", "dropped", "duplicates", "redriven"}},
    /* ... and a run. */
    {"embq_state", "rowid", "subscription is not null", 9,
     {"id", "subscription", "first", "last", "states", "owner", "token",
      "claimed_at_ms", "channel"}},
    {"embq_delivery", "subscription, message", "1", 12,
     {"subscription", "message", "lane", "kind", "due_at_ms", "receive_count",
      "token", "owner", "deadline_ms", "first_at_ms", "error", "key_hash"}},
    {"embq_key", "subscription, key_hash", "1", 3,
     {"subscription", "key_hash", "message"}},
    {"embq_message_0", "rowid", "1", MESSAGE_COLUMNS},
    {"embq_message_1", "rowid", "1", MESSAGE_COLUMNS},
    {"embq_message_2", "rowid", "1", MESSAGE_COLUMNS},
    {"embq_due", "subscription, lane, due_at_ms, message", "1", 4,
     {"subscription", "lane", "due_at_ms", "message"}},
    {"embq_idempotency", "scope, key", "1", 6,
     {"scope", "key", "result", "expires_at_ms", "owner", "token"}},
    {"embq_expiry", "expires_at_ms, message", "1", 2, {"expires_at_ms", "message"}},
    {"embq_scope", "name", "1", 3, {"name", "size", "hits"}},
};
/* clang-format on */

const char *const schema_damages[SCHEMA_DAMAGES] = {
    /* Triggers that undo or repeat what the core does. */
    "create trigger t before delete on embq_state begin select raise(ignore); end",
    "create trigger t before update on embq_state begin select raise(ignore); end",
    "create trigger t before delete on embq_delivery begin select raise(ignore); end",
    "create trigger t before update on embq_delivery begin select raise(ignore); end",
    "create trigger t before insert on embq_state begin select raise(ignore); end",
    "create trigger t before insert on embq_message_0 begin select raise(ignore); end",
    "create trigger t after insert on embq_message_0 begin delete from embq_message_0; "
    "end",
    "create trigger t before insert on embq_owner begin select raise(ignore); end",
    "create trigger t before delete on embq_message_0 begin select raise(abort, 'no'); "
    "end",
    "create trigger t before insert on embq_key begin select raise(ignore); end",
    /* Indexes that are not there, or forbid too much. */
    "drop index embq_delivery_waiting",
    "drop index embq_delivery_leased",
    "drop index embq_delivery_key",
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
    "history, x'' as body, 0 as total_bytes, 4 as flags, null as due_at_ms, null as "
    "expires_at_ms from n where i < 0",
    "alter table embq_state rename to r; create view embq_state as select * from r",
    "pragma user_version = 77",
    "update embq_meta set schema_version = 99",
    "delete from embq_meta; insert into embq_meta values (2, 1, 1, '', 0, 0, 0, 0)",
    /* Indexes that hold what they say they do not. */
    "drop index embq_delivery_leased; create index embq_delivery_leased on "
    "embq_delivery(deadline_ms, owner) where owner is not null or 1; pragma "
    "writable_schema = on; update sqlite_schema set sql = replace(sql, ' or 1', '') "
    "where name = 'embq_delivery_leased'",
    "drop index embq_delivery_leased; create index embq_delivery_leased on "
    "embq_delivery(deadline_ms, coalesce(owner, 1)) where owner is not null or 1; "
    "pragma writable_schema = on; update sqlite_schema set sql = 'create index "
    "embq_delivery_leased on embq_delivery(deadline_ms, owner) where owner is not "
    "null' where name = 'embq_delivery_leased'",
    "drop index embq_delivery_waiting; create index embq_delivery_waiting on "
    "embq_delivery(subscription, lane, kind, due_at_ms, message) where owner is "
    "null "
    "or 1; pragma writable_schema = on; update sqlite_schema set sql = replace(sql, ' "
    "or "
    "1', '') where name = 'embq_delivery_waiting'",
};

static int is_named(const char *table, const char *column) {
    if (!strncmp(column, "cursor_", 7)) return 1; /* one of an unused lane will do */
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; !strcmp(rows[i].table, table) && j < rows[i].count; j++)
            if (!strcmp(rows[i].columns[j], column)) return 1;
    return 0;
}

void tables_check(const char *path) {
    sqlite3 *db = NULL;
    sqlite3_stmt *s = NULL;
    char text[128];
    CHECK(sq.open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK);
    for (int i = 0; i < ROWS; i++) {
        int count = 0;
        snprintf(text, sizeof text, "pragma table_info(%s)", rows[i].table);
        CHECK(sq.prepare_v3(db, text, -1, 0, &s, NULL) == SQLITE_OK);
        for (; sq.step(s) == SQLITE_ROW; count++)
            CHECK(is_named(rows[i].table, (const char *)sq.column_text(s, 1)));
        CHECK(count > 0);
        sq.finalize(s);
        for (int j = 0; j < rows[i].count; j++) {
            snprintf(text, sizeof text, "select %s from %s", rows[i].columns[j],
                     rows[i].table);
            CHECK(sq.prepare_v3(db, text, -1, 0, &s, NULL) == SQLITE_OK);
            sq.finalize(s);
        }
    }
    sq.close(db);
}
