/* The SQL of the core. One clause a line; %d is the shard of the message tables. */
#include "statement.h"

#include <stdlib.h>
#include <string.h>

/* clang-format off: SQL is laid out by clause */
#define MESSAGE_COLUMNS                                                         \
    "id, sent_at_ms, type, source, key, public_id, attributes, history, body, " \
    "flags,\n"                                                                  \
    "       expires_at_ms"
#define MESSAGE_INSERT                                                        \
    "insert into embq_message_%d(id, flags, sent_at_ms, type, source, key,\n" \
    "  attributes, body, total_bytes)\n"                                      \
    "values "
#define MESSAGE_ROW "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
#define MESSAGE_ROW_4 MESSAGE_ROW ", " MESSAGE_ROW ", " MESSAGE_ROW ", " MESSAGE_ROW
#define RUN_COLUMNS "id, subscription, first, last, states, owner, token, claimed_at_ms"
#define CURSORS(F)                                                                \
    F(0)                                                                          \
    ", " F(1) ", " F(2) ", " F(3) ", " F(4) ", " F(5) ", " F(6) ", " F(7) ", " F( \
        8) ", " F(9) ", " F(10) ", " F(11) ", " F(12) ", " F(13) ", " F(14) ", " F(15)
#define RUNS "2097152" /* embq_state: ids from here on are runs */
#define CURSOR(n) "cursor_" #n
#define CURSOR_SET(n) "cursor_" #n " = ?"

static const char *const texts[STATEMENTS] = {
    [ST_BEGIN] = "begin immediate",
    [ST_COMMIT] = "commit",
    [ST_ROLLBACK] = "rollback",
    [ST_READ_BEGIN] = "begin",
    [ST_FREE_PAGES] = "pragma freelist_count",

    [ST_META_READ] = "select file_id, boot_id, device, inode, schema_version\n"
                     "from embq_meta\n"
                     "where id = 1",
    [ST_META_BOOT] = "update embq_meta\n"
                     "set boot_id = ?1, device = ?2, inode = ?3\n"
                     "where id = 1",

    [ST_META_FINGERPRINT] = "update embq_meta\n"
                            "set fingerprint = ?1\n"
                            "where id = 1",
    [ST_META_SHIFT] = "update embq_meta\n"
                      "set created_at_ms = created_at_ms + ?1",

    [ST_OWNER_ALL] = "select slot\n"
                     "from embq_owner\n"
                     "order by slot",
    [ST_OWNER_INSERT] = "insert into embq_owner(slot, pid, opened_at_ms)\n"
                        "values (?1, ?2, ?3)",
    [ST_OWNER_DELETE] = "delete from embq_owner\n"
                        "where slot = ?1",

    [ST_OWNER_CLEAR] = "delete from embq_owner",

    [ST_CHANNEL_READ] =
        "select name, shard, paused_until_ms, kind, generation, codec,\n"
        "       visibility_timeout_ms,\n"
        "       max_receives,\n"
        "       dead_letter, retry_first_ms, retry_factor,\n"
        "       retry_cap_ms,\n"
        "       retry_jitter, max_body, delay_ms, ttl_ms, expiry_drops, ordered,\n"
        "       dedup_window_ms, max_messages, max_bytes, overflow\n"
        "from embq_channel\n"
        "where id = ?1",
    [ST_CHANNEL_BY_NAME] = "select id\n"
                           "from embq_channel\n"
                           "where name = ?1",
    [ST_CHANNEL_NEXT_ID] = "select coalesce(max(id), 0) + 1\n"
                           "from embq_channel",
    [ST_CHANNEL_INSERT] =
        "insert into embq_channel(id, kind, name, shard, codec,\n"
        "  visibility_timeout_ms,\n"
        "  max_receives, dead_letter, retry_first_ms, retry_factor, retry_cap_ms,\n"
        "  retry_jitter, max_body, delay_ms, ttl_ms, expiry_drops, ordered,\n"
        "  dedup_window_ms, max_messages, max_bytes, overflow, created_at_ms)\n"
        "values (?1, 1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15,\n"
        "  ?16, ?17, ?18, ?19, ?20, ?21)",
    [ST_CHANNEL_CONFIGURE] =
        "update embq_channel\n"
        "set codec = ?2, visibility_timeout_ms = ?3, max_receives = ?4,\n"
        "    dead_letter = ?5, retry_first_ms = ?6, retry_factor = ?7,\n"
        "    retry_cap_ms = ?8, retry_jitter = ?9, max_body = ?10, delay_ms = ?11,\n"
        "    ttl_ms = ?12, expiry_drops = ?13, ordered = ?14, dedup_window_ms = ?15,\n"
        "    max_messages = ?16, max_bytes = ?17, overflow = ?18\n"
        "where id = ?1",
    [ST_CHANNEL_PAUSE] = "update embq_channel\n"
                         "set paused_until_ms = ?2\n"
                         "where id = ?1",
    /* A handle: see bounds.h. */
    [ST_CHANNEL_ALL] = "select generation << 17 | id, name\n"
                       "from embq_channel\n"
                       "where kind = 1\n"
                       "order by name",
    [ST_CHANNEL_GONE] = "select generation << 17 | id\n"
                        "from embq_channel\n"
                        "where kind <> 1 and kind = 0\n"
                        "limit 1",
    [ST_CHANNEL_DELETE] = "update embq_channel\n"
                          "set kind = 0, name = null, dead_letter = null\n"
                          "where id = ?1",
    [ST_CHANNEL_FREE] = "update embq_channel\n"
                        "set kind = ?2\n"
                        "where id = ?1",
    [ST_CHANNEL_UNUSED] = "select id\n"
                          "from embq_channel\n"
                          "where kind <> 1 and kind = 2\n"
                          "limit 1",
    [ST_CHANNEL_REUSE] = "update embq_channel\n"
                         "set kind = 1, name = ?2, generation = generation + 1,\n"
                         "    paused_until_ms = 0, created_at_ms = ?3\n"
                         "where id = ?1",
    [ST_CHANNEL_AFTER] = "select id\n"
                         "from embq_channel\n"
                         "where id > ?1\n"
                         "order by id\n"
                         "limit 1",
    [ST_CHANNEL_TAIL] = "select id, total_bytes\n"
                        "from embq_message_%d\n"
                        "where id between ?1 and ?2\n"
                        "order by id desc\n"
                        "limit 1",

    [ST_SUBSCRIPTION_READ] =
        "select id, next_sequence, sent, sent_bytes, lanes,\n"
        "       " CURSORS(CURSOR) ",\n"
                                  "       removed, removed_bytes, in_flight, waiting, "
                                  "delivered, redelivered,\n"
                                  "       acked, nacked, rejected, expired, dead, "
                                  "dropped, duplicates, redriven\n"
                                  "from embq_state\n"
                                  "where channel = ?1",
    [ST_SUBSCRIPTION_INSERT] =
        "insert into embq_state(id, channel, name, next_sequence, sent, sent_bytes,\n"
        "  lanes, removed, removed_bytes, in_flight, waiting, delivered, redelivered,\n"
        "  acked, nacked, rejected, expired, dead, dropped,\n"
        "  duplicates, redriven)\n"
        "select coalesce(max(id), 0) + 1, ?1, '', 1, 0, 0,\n"
        "  1 << 15, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0\n"
        "from embq_state\n"
        "where id < " RUNS,
    [ST_SUBSCRIPTION_WRITE] =
        "update embq_state\n"
        "set next_sequence = ?, sent = ?, sent_bytes = ?, lanes = ?,\n"
        "    " CURSORS(CURSOR_SET) ",\n"
                                   "    removed = ?, removed_bytes = ?, in_flight = ?, "
                                   "waiting = ?, delivered = ?,\n"
                                   "    redelivered = ?, acked = ?, nacked = ?, "
                                   "rejected = ?, expired = ?, dead = ?, dropped = ?,\n"
                                   "    duplicates = ?, redriven = ?\n"
                                   "where id = ?",
    [ST_SUBSCRIPTION_CHANNEL] = "select channel\n"
                                "from embq_state\n"
                                "where id = ?1",

    [ST_MESSAGE_INSERT] = MESSAGE_INSERT MESSAGE_ROW,
    [ST_MESSAGE_INSERT_MANY] = MESSAGE_INSERT MESSAGE_ROW_4
    ", " MESSAGE_ROW_4 ", " MESSAGE_ROW_4 ", " MESSAGE_ROW_4,
    /* Of another priority, with a delay or an expiry. */
    [ST_MESSAGE_INSERT_PLACED] =
        "insert into embq_message_%d(id, flags, sent_at_ms, type, source, key,\n"
        "  attributes, body, total_bytes, due_at_ms, expires_at_ms)\n"
        "values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    [ST_MESSAGE_READ] = "select " MESSAGE_COLUMNS "\n"
                        "from embq_message_%d\n"
                        "where id = ?1",
    [ST_MESSAGE_RANGE] = "select " MESSAGE_COLUMNS "\n"
                         "from embq_message_%d\n"
                         "where id > ?1 and id <= ?2\n"
                         "order by id\n"
                         "limit ?3",
    [ST_MESSAGE_COUNT] = "select count(*)\n"
                         "from (select 1 from embq_message_%d\n"
                         "      where id > ?1 and id <= ?2\n"
                         "      limit ?3)",
    [ST_MESSAGE_SIZE] = "select length(body)\n"
                        "from embq_message_%d\n"
                        "where id = ?1",
    [ST_MESSAGE_KEY] = "select key\n"
                       "from embq_message_%d\n"
                       "where id = ?1",
    [ST_MESSAGE_SIZES] = "select coalesce(sum(length(body)), 0)\n"
                         "from embq_message_%d\n"
                         "where id between ?1 and ?2",
    [ST_MESSAGE_DELETE] = "delete from embq_message_%d\n"
                          "where id = ?1",
    [ST_MESSAGE_DELETE_RANGE] = "delete from embq_message_%d\n"
                                "where id between ?1 and ?2",
    /* ?1 row, ?2 queue (null: it is not buried), ?3 reason, ?4 error, ?5 receive_count,
     * ?6 first_at, ?7 last_at, ?8 its public id. In a damaged file the history may be
     * no list: JSON's null would swallow the new entry, what is no JSON end the move.
     */
    [ST_MESSAGE_MOVE] =
        "select flags, sent_at_ms, type, source, key, coalesce(public_id, ?8),\n"
        "       attributes,\n"
        "       case when ?2 is null then history else\n"
        "         json_insert(past, '$[#]', json_object(\n"
        "           'queue', ?2, 'reason', ?3, 'error', ?4, 'receive_count', ?5,\n"
        "           'first_at', ?6, 'last_at', ?7,\n"
        "           'hops', json_array_length(past) + 1)) end,\n"
        "       body\n"
        "from (\n"
        "  select *, coalesce(case when json_valid(history) then\n"
        "    case json_type(history) when 'array' then history end end, '[]') as past\n"
        "  from embq_message_%d\n"
        "  where id = ?1)",
    [ST_MESSAGE_ARRIVE] =
        "insert into embq_message_%d(id, flags, sent_at_ms, type, source, key,\n"
        "  public_id,\n"
        "  attributes, history, body, total_bytes, expires_at_ms)\n"
        "values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    [ST_MESSAGE_OLDEST] = "select sent_at_ms\n"
                          "from embq_message_%d\n"
                          "where id >= ?1 and id <= ?2\n"
                          "order by id\n"
                          "limit 1",

    [ST_MESSAGE_NEXT] = "select id\n"
                        "from embq_message_%d\n"
                        "where id > ?1 and id <= ?2\n"
                        "order by id\n"
                        "limit 1",
    /* That nobody holds, in the lane of those that were sent with a delay. */
    [ST_MESSAGE_FREE] = "select id\n"
                        "from embq_message_%d m\n"
                        "where id > ?1 and id <= ?2 and not exists (\n"
                        "  select 1\n"
                        "  from embq_delivery\n"
                        "  where subscription = ?3 and message = m.id\n"
                        "    and owner is not null)\n"
                        "order by id\n"
                        "limit 1",

    [ST_MESSAGE_TIMES] = "select due_at_ms, expires_at_ms, flags\n"
                         "from embq_message_%d\n"
                         "where id = ?1",

    [ST_MESSAGE_SPAN] = "select count(*), coalesce(max(id), 0),\n"
                        "       coalesce(sum(length(body)), 0)\n"
                        "from (select id, body\n"
                        "      from embq_message_%d\n"
                        "      where id > ?1 and id <= ?2\n"
                        "      order by id\n"
                        "      limit ?3)",

    [ST_MESSAGE_BY_PUBLIC_ID] = "select id\n"
                                "from embq_message_%d\n"
                                "where id between ?1 and ?2 and public_id = ?3\n"
                                "limit 1",
    [ST_MESSAGE_UNMOVED] = "select 1\n"
                           "from embq_message_%d\n"
                           "where id = ?1 and public_id is null",

    /* From ?1 on, with what is known of each by its delivery. */
    [ST_LOOK] =
        "select " MESSAGE_COLUMNS ",\n"
        "  m.due_at_ms, d.due_at_ms, d.kind, d.receive_count, d.owner,\n"
        "  d.deadline_ms, d.error\n"
        "from embq_message_%d m\n"
        "left join embq_delivery d on d.subscription = ?4 and d.message = m.id\n"
        "where m.id > ?1 and m.id <= ?2\n"
        "order by m.id\n"
        "limit ?3",
    /* What ST_DELIVERY_RETRIES finds, suspects among the others. */
    [ST_LOOK_WAITING] = "select message, due_at_ms\n"
                        "from embq_delivery\n"
                        "where subscription = ?1 and lane = ?2 and kind = 0\n"
                        "  and due_at_ms between 0 and ?3 and owner is null\n"
                        "union all\n"
                        "select message, due_at_ms\n"
                        "from embq_delivery\n"
                        "where subscription = ?1 and lane = ?2 and kind = 1\n"
                        "  and due_at_ms between 0 and ?3 and owner is null\n"
                        "union all\n"
                        "select message, due_at_ms\n"
                        "from embq_due\n"
                        "where subscription = ?1 and lane = ?2 and due_at_ms <= ?3\n"
                        "order by 2, 1",
    /* By going through all runs. */
    [ST_LOOK_RUN] = "select id, first, states, owner, claimed_at_ms\n"
                    "from embq_state\n"
                    "where id >= " RUNS " and subscription = ?1 and first <= ?2\n"
                    "  and last >= ?2",
    [ST_LOOK_OWNER] = "select pid\n"
                      "from embq_owner\n"
                      "where slot = ?1",
    [ST_RUN_INSERT] = "insert into embq_state(" RUN_COLUMNS ")\n"
                      "values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    /* A receipt names it, and a forged one can name a subscription. */
    [ST_RUN_READ] = "select " RUN_COLUMNS "\n"
                    "from embq_state\n"
                    "where id = ?1 and id >= " RUNS,
    [ST_RUN_WRITE] = "update embq_state\n"
                     "set states = ?2\n"
                     "where id = ?1",
    [ST_RUN_DELETE] = "delete from embq_state\n"
                      "where id = ?1",
    [ST_RUN_FIRST] = "select id\n"
                     "from embq_state\n"
                     "where id >= " RUNS "\n"
                     "order by id\n"
                     "limit 1",
    [ST_RUN_OF_OWNER] = "select id\n"
                        "from embq_state\n"
                        "where id >= " RUNS " and owner = ?2\n"
                        "limit ?1",
    [ST_RUN_ALL] = "select id\n"
                   "from embq_state\n"
                   "where id >= " RUNS " and ?2 = 0\n"
                   "limit ?1",

    [ST_RUN_AFTER] = "select id, subscription\n"
                     "from embq_state\n"
                     "where id >= " RUNS " and id > ?1\n"
                     "order by id\n"
                     "limit ?2",

    [ST_DELIVERY_INSERT] =
        "insert into embq_delivery(subscription, message, lane, kind, due_at_ms,\n"
        "  receive_count, token, owner, deadline_ms, first_at_ms, error, key_hash)\n"
        "values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    [ST_DELIVERY_READ] =
        "select kind, due_at_ms, receive_count, token, owner, deadline_ms,\n"
        "       first_at_ms, lane, key_hash\n"
        "from embq_delivery\n"
        "where subscription = ?1 and message = ?2",
    /* Columns as in the insert above; an error stays until there is a newer one. */
    [ST_DELIVERY_WRITE] =
        "update embq_delivery\n"
        "set lane = ?3, kind = ?4, due_at_ms = ?5, receive_count = ?6, token = ?7,\n"
        "    owner = ?8, deadline_ms = ?9, first_at_ms = ?10, error = coalesce(?11,\n"
        "    error)\n"
        "where subscription = ?1 and message = ?2",
    [ST_DELIVERY_DELETE] = "delete from embq_delivery\n"
                           "where subscription = ?1 and message = ?2",
    /* And of those that were sent with a delay and never handed out. */
    [ST_DELIVERY_RETRIES] =
        "select message, due_at_ms, 0 as deferred, receive_count\n"
        "from embq_delivery\n"
        "where subscription = ?1 and lane = ?2 and kind = ?3\n"
        "  and due_at_ms between 0 and ?4 and owner is null\n"
        "union all\n"
        "select message, due_at_ms, 1, 0\n"
        "from embq_due\n"
        "where subscription = ?1 and lane = ?2 and due_at_ms <= ?4 and ?3 = 0\n"
        "order by 2, 1\n"
        "limit ?5",
    [ST_DELIVERY_NEXT_DUE] =
        "select due_at_ms\n"
        "from embq_delivery\n"
        "where subscription = ?1 and lane = ?2 and kind = ?3 and due_at_ms > ?4\n"
        "  and owner is null\n"
        "order by due_at_ms\n"
        "limit 1",
    [ST_DELIVERY_FIRST_LEASED] = "select subscription, message, deadline_ms\n"
                                 "from embq_delivery\n"
                                 "where owner is not null\n"
                                 "order by deadline_ms\n"
                                 "limit 1",
    /* By going through all that are leased. */
    [ST_DELIVERY_OF_OWNER] = "select subscription, message\n"
                             "from embq_delivery\n"
                             "where owner = ?2\n"
                             "limit ?1",
    [ST_DELIVERY_DELAYED] = "select count(*)\n"
                            "from embq_delivery\n"
                            "where subscription = ?1 and lane = ?2 and kind = ?3\n"
                            "  and due_at_ms > ?4 and owner is null",
    [ST_DELIVERY_FORGET] = "update embq_delivery\n"
                           "set token = null\n"
                           "where token is not null",
    [ST_DELIVERY_ALL_LEASED] = "select subscription, message\n"
                               "from embq_delivery\n"
                               "where owner is not null and ?2 = 0\n"
                               "limit ?1",

    [ST_DELIVERY_BLOCKED] = "select count(*)\n"
                            "from embq_delivery\n"
                            "where subscription = ?1 and lane = ?2 and kind = 2\n"
                            "  and due_at_ms < 0 and owner is null",
    [ST_DELIVERY_WAITING] = "select message\n"
                            "from embq_delivery\n"
                            "where subscription = ?1 and owner is null\n"
                            "  and message & 2199023255551 < ?2\n"
                            "limit ?3",
    [ST_DELIVERY_OF_QUEUE] = "select message\n"
                             "from embq_delivery\n"
                             "where subscription = ?1\n"
                             "limit ?2",
    /* By the primary key: in the order of ids. */
    [ST_DELIVERY_FREE] = "select message\n"
                         "from embq_delivery\n"
                         "where subscription = ?3 and message > ?1 and message <= ?2\n"
                         "  and +owner is null\n"
                         "order by message\n"
                         "limit 1",
    [ST_KEY_HOLDER] = "select message\n"
                      "from embq_key\n"
                      "where subscription = ?1 and key_hash = ?2",
    [ST_KEY_TAKE] = "insert into embq_key(subscription, key_hash, message)\n"
                    "values (?1, ?2, ?3)\n"
                    "on conflict do nothing",
    [ST_KEY_NEXT] = "select message\n"
                    "from embq_delivery\n"
                    "where subscription = ?1 and key_hash = ?2\n"
                    "order by message\n"
                    "limit 1",
    /* The first one of a key among the next ?3. */
    [ST_KEY_BEFORE] = "select id\n"
                      "from (select id, key\n"
                      "      from embq_message_%d\n"
                      "      where id > ?1 and id <= ?2\n"
                      "      order by id\n"
                      "      limit ?3)\n"
                      "where key = ?4\n"
                      "limit 1",
    [ST_KEY_PASS_ON] = "update embq_key\n"
                       "set message = ?3\n"
                       "where subscription = ?1 and key_hash = ?2",
    [ST_KEY_FREE] = "delete from embq_key\n"
                    "where subscription = ?1 and key_hash = ?2",
    [ST_DELIVERY_UNBLOCK] = "update embq_delivery\n"
                            "set due_at_ms = 0\n"
                            "where subscription = ?1 and message = ?2\n"
                            "  and due_at_ms < 0",

    [ST_DEDUP_FIND] = "select result\n"
                      "from embq_idempotency\n"
                      "where scope = ?1 and key = ?2 and expires_at_ms > ?3",
    [ST_DEDUP_NOTE] =
        "insert into embq_idempotency(scope, key, result, expires_at_ms)\n"
        "values (?1, ?2, ?3, ?4)\n"
        "on conflict do update set result = ?3, expires_at_ms = ?4",
    [ST_DEDUP_DELETE] = "delete from embq_idempotency\n"
                        "where (scope, key) in (\n"
                        "  select scope, key\n"
                        "  from embq_idempotency\n"
                        "  where scope = ?1\n"
                        "  limit ?2)",

    [ST_RESULT_FIND] = "select result, owner, token, expires_at_ms\n"
                       "from embq_idempotency\n"
                       "where scope = ?1 and key = ?2",
    [ST_RESULT_WRITE] =
        "insert into embq_idempotency(scope, key, result, expires_at_ms, owner,\n"
        "  token)\n"
        "values (?1, ?2, ?3, ?4, ?5, ?6)\n"
        "on conflict do update set result = ?3, expires_at_ms = ?4, owner = ?5,\n"
        "  token = ?6",
    [ST_RESULT_DELETE] = "delete from embq_idempotency\n"
                         "where scope = ?1 and key = ?2",
    [ST_RESULT_OF_OWNER] = "delete from embq_idempotency\n"
                           "where owner = ?1",
    [ST_RESULT_VOID] = "delete from embq_idempotency\n"
                       "where owner is not null",
    [ST_RESULT_FORGET] = "delete from embq_idempotency\n"
                         "where (scope, key) in (\n"
                         "  select scope, key\n"
                         "  from embq_idempotency\n"
                         "  where expires_at_ms <= ?1 and owner is null\n"
                         "  order by expires_at_ms\n"
                         "  limit ?2)\n"
                         "returning scope",
    [ST_RESULT_NEXT] = "select expires_at_ms\n"
                       "from embq_idempotency\n"
                       "order by expires_at_ms\n"
                       "limit 1",
    [ST_RESULT_GET] = "select result\n"
                      "from embq_idempotency\n"
                      "where scope = ?1 and key = ?2 and expires_at_ms > ?3\n"
                      "  and owner is null",
    [ST_SCOPE_READ] = "select size\n"
                      "from embq_scope\n"
                      "where name = ?1",
    [ST_SCOPE_NUMBER] = "select count(*)\n"
                        "from embq_scope",
    [ST_SCOPE_EMPTY] = "delete from embq_scope\n"
                       "where name in (\n"
                       "  select name\n"
                       "  from embq_scope\n"
                       "  where size = 0\n"
                       "  limit 1)",
    [ST_SCOPE_INSERT] = "insert into embq_scope(name, size, hits)\n"
                        "values (?1, 0, 0)",
    [ST_SCOPE_COUNT] = "update embq_scope\n"
                       "set size = size + ?2\n"
                       "where name = ?1",
    [ST_SCOPE_HITS] = "update embq_scope\n"
                      "set hits = hits + ?2\n"
                      "where name = ?1",
    [ST_SCOPE_ALL] = "select name, size, hits\n"
                     "from embq_scope\n"
                     "order by name",

    [ST_DUE_INSERT] = "insert into embq_due(subscription, lane, due_at_ms, message)\n"
                      "values (?1, ?2, ?3, ?4)",
    [ST_DUE_DELETE] = "delete from embq_due\n"
                      "where subscription = ?1 and lane = ?2 and due_at_ms = ?3\n"
                      "  and message = ?4\n"
                      "returning 1",
    [ST_DUE_NEXT] = "select due_at_ms\n"
                    "from embq_due\n"
                    "where subscription = ?1 and lane = ?2\n"
                    "order by due_at_ms\n"
                    "limit 1",
    [ST_DUE_COUNT] = "select count(*)\n"
                     "from embq_due\n"
                     "where subscription = ?1 and lane = ?2 and due_at_ms > ?3",

    [ST_DUE_ALL] = "select message\n"
                   "from embq_due\n"
                   "where subscription = ?1 and message & 2199023255551 < ?2\n"
                   "limit ?3",

    [ST_EXPIRY_INSERT] = "insert or ignore into embq_expiry(expires_at_ms, message)\n"
                         "values (?1, ?2)",
    [ST_EXPIRY_DELETE] = "delete from embq_expiry\n"
                         "where expires_at_ms = ?1 and message = ?2\n"
                         "returning 1",
    [ST_EXPIRY_DELETE_RANGE] = "delete from embq_expiry\n"
                               "where (expires_at_ms, message) in (\n"
                               "  select expires_at_ms, id\n"
                               "  from embq_message_%d\n"
                               "  where id between ?1 and ?2\n"
                               "    and expires_at_ms is not null)",
    [ST_EXPIRY_PASSED] = "select message, expires_at_ms\n"
                         "from embq_expiry\n"
                         "where expires_at_ms <= ?1\n"
                         "order by expires_at_ms, message\n"
                         "limit ?2",
    [ST_EXPIRY_NEXT] = "select expires_at_ms\n"
                       "from embq_expiry\n"
                       "order by expires_at_ms\n"
                       "limit 1",

    [ST_REDRIVE_OPEN] = "select channel\n"
                        "from embq_redrive\n"
                        "where ended_at_ms is null\n"
                        "limit 1",
    /* One of this process (?1), or of one that is gone, which may go on now (?2). */
    [ST_REDRIVE_NEXT] = "select channel\n"
                        "from embq_redrive\n"
                        "where ended_at_ms is null\n"
                        "  and (owner = ?1\n"
                        "    or owner not in (select slot from embq_owner))\n"
                        "  and (next_at_ms <= ?2\n"
                        "    or next_at_ms > ?2 + coalesce(1000 / rate, 0))\n"
                        "order by next_at_ms\n"
                        "limit 1",
    [ST_REDRIVE_READ] =
        "select token, moved, skipped, ended_at_ms is not null, below, position,\n"
        "       next_at_ms, coalesce(rate, 0), target\n"
        "from embq_redrive\n"
        "where channel = ?1",
    [ST_REDRIVE_SAME] = "select target is ?2 and conditions is ?3 and rate is ?4\n"
                        "from embq_redrive\n"
                        "where channel = ?1 and ended_at_ms is null",
    [ST_REDRIVE_BEGIN] =
        "insert or replace into embq_redrive(channel, target, conditions, rate,\n"
        "  token, owner, below, position, moved, skipped, started_at_ms, next_at_ms)\n"
        "values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, 0, ?9,\n"
        "  ?9 + coalesce(1000 / ?4, 0))",
    [ST_REDRIVE_WRITE] =
        "update embq_redrive\n"
        "set owner = ?2, position = ?3, moved = ?4, skipped = ?5, next_at_ms = ?6,\n"
        "    ended_at_ms = ?7\n"
        "where channel = ?1",
    [ST_REDRIVE_FORGET] = "delete from embq_redrive\n"
                          "where channel = ?1",
    [ST_REDRIVE_CANCEL] = "update embq_redrive\n"
                          "set ended_at_ms = ?3\n"
                          "where channel = ?1 and token = ?2 and ended_at_ms is null\n"
                          "returning 1",
    /* Messages from ?1 to ?2, whether each one meets the conditions of the task of
     * channel ?3, and the queue that it died in last, other than ?4. */
    [ST_REDRIVE_LOOK] =
        "select m.id, not exists (\n"
        "    select 1\n"
        "    from embq_redrive r, json_each(r.conditions) f\n"
        "    where r.channel = ?3 and not exists (\n"
        "      select 1\n"
        "      from json_each(f.value) v\n"
        "      where v.value is case f.key\n"
        "        when 'type' then m.type\n"
        "        when 'source' then m.source\n"
        "        when 'key' then m.key\n"
        "        when 'reason' then json_extract(m.history, '$[#-1].reason')\n"
        "        when 'queue' then json_extract(m.history, '$[#-1].queue') end)),\n"
        "  (select json_extract(m.history, '$[' || h.key || '].queue') as name\n"
        "   from json_each(m.history) h\n"
        "   where name is not ?4\n"
        "   order by h.key desc\n"
        "   limit 1)\n"
        "from embq_message_%d m\n"
        "where m.id > ?1 and m.id <= ?2\n"
        "order by m.id\n"
        "limit ?5",
};
/* clang-format on */

struct statement_cache *statements_new(sqlite3 *db) {
    struct statement_cache *c = calloc(1, sizeof *c);
    if (c) c->db = db;
    return c;
}

void statements_free(struct statement_cache *c) {
    if (!c) return;
    for (int i = 0; i < STATEMENTS; i++)
        for (int shard = 0; shard < EMBQ_SHARDS; shard++)
            sq.finalize(c->prepared[i][shard]);
    free(c);
}

sqlite3_stmt *statement_get(struct statement_cache *c, enum statement which, int shard,
                            int *result) {
    sqlite3_stmt *s = c->prepared[which][shard];
    if (s) return s;
    char text[1024];
    snprintf(text, sizeof text, texts[which], shard);
    *result = sq.prepare_v3(c->db, text, -1, SQLITE_PREPARE_PERSISTENT, &s, NULL);
    if (*result != SQLITE_OK) return NULL;
    return c->prepared[which][shard] = s;
}

/* ---- on the leader's connection ---- */

static int failed(struct engine *e, int result) {
    if (!e->storage_error) e->storage_error = result;
    return -1;
}

int storage_corrupt(struct engine *e) {
    return failed(e, SQLITE_CORRUPT);
}

sqlite3_stmt *statement(struct engine *e, enum statement which, int shard) {
    int result = SQLITE_OK;
    if (e->storage_error) return NULL; /* the group is lost: touch nothing more */
    sqlite3_stmt *s = statement_get(e->statements, which, shard, &result);
    if (!s) failed(e, result);
    return s;
}

sqlite3_stmt *statement_ints(struct engine *e, enum statement which, int shard,
                             int count, const int64_t *values) {
    sqlite3_stmt *s = statement(e, which, shard);
    for (int i = 0; s && i < count; i++) sq.bind_int64(s, i + 1, values[i]);
    return s;
}

int statement_step(struct engine *e, sqlite3_stmt *s) {
    if (!s) return -1;
    int result = sq.step(s);
    if (result == SQLITE_ROW) return 1;
    sq.reset(s);
    return result == SQLITE_DONE ? 0 : failed(e, result);
}

int statement_run(struct engine *e, sqlite3_stmt *s) {
    int result;
    while ((result = statement_step(e, s)) > 0) {}
    return result;
}

int statement_do(struct engine *e, enum statement which, int shard, int count,
                 const int64_t *values) {
    return statement_run(e, statement_ints(e, which, shard, count, values));
}

int statement_ids(struct engine *e, sqlite3_stmt *s, int64_t *ids) {
    int count = 0, more;
    while ((more = statement_step(e, s)) > 0) ids[count++] = sq.column_int64(s, 0);
    return more < 0 ? -1 : count;
}

int64_t statement_int(struct engine *e, enum statement which, int shard, int count,
                      const int64_t *values, int64_t otherwise) {
    sqlite3_stmt *s = statement_ints(e, which, shard, count, values);
    if (statement_step(e, s) > 0) {
        otherwise = sq.column_int64(s, 0);
        sq.reset(s);
    }
    return otherwise;
}

struct slice column_slice(sqlite3_stmt *s, int column) {
    /* The text first: it may convert, and the size is of what it converted to. */
    struct slice text = {(const char *)sq.column_text(s, column), 0};
    text.size = (size_t)sq.column_bytes(s, column);
    return text;
}

void bind_slice(sqlite3_stmt *s, int index, struct slice text) {
    if (text.data) sq.bind_text(s, index, text.data, (int)text.size, SQLITE_STATIC);
    else sq.bind_null(s, index);
}

void bind_or_null(sqlite3_stmt *s, int index, int64_t value) {
    if (value) sq.bind_int64(s, index, value);
    else sq.bind_null(s, index);
}
