/* The whole boundary between Python and C, and nothing else: declarations only, so that
 * ffi_build.py can feed this text to cffi and embq.h can include it. One header, two
 * readers: drift cannot compile.
 *
 * Two cffi units read it. What stands above the line "NEVER BLOCKS" may wait, and lives
 * in the unit that gives up the GIL; what stands below it never waits, and lives in the
 * unit that keeps the GIL (giving it up costs up to 5 ms beside a computing thread).
 * The units share one library, so handles cross between them as integers: `embq_ref`.
 *
 * A call returns >= 0 for success, a count or a row, and < 0 for one of the codes
 * below; the text of the last failure on this thread is embq_errmsg(). Sizes are bytes,
 * times are milliseconds, -1 as a wait means "for ever". No call keeps a pointer that
 * it was given, but a resumed one fills the `out` of the call that was interrupted.
 */
typedef intptr_t embq_ref;

/* Codes. embq/errors.py has one class for each; EMBQ_INTERRUPTED and EMBQ_NOT_YET never
 * reach a user, EMBQ_NO_SCHEMA asks _native to run the migrations and to open again,
 * EMBQ_DETACHED, which only staging gives, to call embq_ping() first and then again,
 * and EMBQ_PARENTS, of a call from before a fork, is a `Closed` with a hint of its own.
 */
#define EMBQ_INTERRUPTED -1
#define EMBQ_NOT_YET -2
#define EMBQ_NO_SCHEMA -3
#define EMBQ_DETACHED -4
#define EMBQ_PARENTS -5
#define EMBQ_INVALID_ARGUMENT -10
#define EMBQ_NOT_FOUND -11
#define EMBQ_QUEUE_FULL -13
#define EMBQ_FULL -14
#define EMBQ_STORAGE_FULL -15
#define EMBQ_MESSAGE_TOO_LARGE -16
#define EMBQ_LEASE_LOST -18
#define EMBQ_INVALID_RECEIPT -19
#define EMBQ_BUSY -20
#define EMBQ_COMMIT_UNCERTAIN -21
#define EMBQ_STORAGE_READ_ONLY -22
#define EMBQ_STORAGE_IO_ERROR -23
#define EMBQ_LIMIT_REACHED -24
#define EMBQ_CORRUPT -26
#define EMBQ_NOT_AN_EMBQ_FILE -27
#define EMBQ_SCHEMA_TOO_NEW -28
#define EMBQ_UNSUPPORTED_SQLITE -29
#define EMBQ_UNSUPPORTED_FILESYSTEM -30
#define EMBQ_DATABASE_REPLACED -31
#define EMBQ_CLOSED -32
#define EMBQ_FORKED -33
#define EMBQ_NO_MEMORY -34
#define EMBQ_REDRIVE_UNDER_WAY -36

#define EMBQ_SCHEMA_VERSION 1

/* In the row that a send returns: it was sent before, as that row. */
#define EMBQ_DUPLICATE 0x4000000000000000

/* Flags of embq_open. */
#define EMBQ_OPEN_CREATE 1
#define EMBQ_OPEN_FULL 2
#define EMBQ_OPEN_SECURE 8   /* what is removed leaves no trace */
#define EMBQ_OPEN_ANYWHERE 4 /* also on a file system that is refused else */

/* Flags of embq_claim and embq_consumer_open. */
#define EMBQ_CLAIM_AUTO_ACK 1

/* In the number that a claim returns: embq_damage() has something to tell. */
#define EMBQ_DAMAGED 0x40000000

/* Verbs of embq_settle. */
#define EMBQ_ACK 1
#define EMBQ_NACK 2
#define EMBQ_REJECT 3
#define EMBQ_EXTEND 4
#define EMBQ_GIVE_BACK 5
#define EMBQ_REFUSE 6

#define EMBQ_RECEIPT_SIZE 24

/* What embq_result_begin found. */
#define EMBQ_RESULT_STORED 1
#define EMBQ_RESULT_BEGUN 2

/* States of a message, as the view embq_messages has them. */
#define EMBQ_READY 0
#define EMBQ_DELAYED 1
#define EMBQ_BLOCKED 2
#define EMBQ_IN_FLIGHT 3

/* Bytes that C made for Python: one msgpack value. Freed by embq_bytes_free. */
typedef struct {
    char *data;
    long long size;
    long long count;
} embq_bytes;

/* ---- the borrowed SQLite (sqlite.c) ---- */

/* Take SQLite's functions from the library that the loaded module at `path` is or
 * links. Returns 1 when all were found, 0 when the module hides them. */
int embq_bind_module(const char *path);
/* Whether sqlite3_extension_init() was called, and so SQLite's functions are known. */
int embq_bind_extension(void);
/* Register a VFS of this unique name, to prove that `sqlite3` and we use one copy. */
int embq_bind_proof(const char *name);
int embq_bind_proof_end(void);
/* As sqlite3_libversion_number(), or UNSUPPORTED_SQLITE with the reason as text. */
int embq_bind_check(void);

/* ---- a file, opened (engine.c) ---- */

/* Open the file at `path` (absolute; taken literally) and give a broker handle in
 * `*broker`. All brokers of one file in one process share one engine. EMBQ_NO_SCHEMA:
 * the file is there, with mode 0600, but holds no tables of this version; nothing stays
 * open. disk_reserve: bytes that sends leave free; -1: 5 % of the file system, 64 MiB
 * at most. EMBQ_INTERRUPTED: a signal came while another had the write lock; nothing is
 * open, and there is nothing to resume: call it again. */
int embq_open(const char *path, int flags, int busy_timeout_ms, long long disk_reserve,
              embq_ref *broker);
/* Store what is staged, wake every waiting call of this broker with EMBQ_CLOSED. The
 * first failure that nobody awaited is returned. The handle stays valid until
 * embq_broker_free. */
int embq_close(embq_ref broker);
void embq_broker_free(embq_ref broker);
void embq_before_fork(void);
void embq_after_fork_parent(void);
void embq_after_fork_child(void);
/* Tests: all clocks of this process are read from this file of two int64: boot_ms,
 * wall_ms. NULL: the machine's clocks again. */
int embq_clock_map(const char *path);

/* ---- verbs. A signal makes any of them return EMBQ_INTERRUPTED, and a long wait does
 * so from time to time, as a signal may have come before the sleep: call embq_resume()
 * until it returns something else, or embq_abandon() to take the call back: what was
 * not begun does not happen, what a claim brought is given back. Both act on this
 * thread's latest call. ---- */

long long embq_resume(void);
void embq_abandon(void);

/* Create the queue, or find it. `options`: msgpack array in the order of the columns of
 * embq_channel, empty for "as stored, else NOT_FOUND". Returns the channel, a
 * handle that a later queue of the same name or number does not have; `stored`
 * gets the stored options as such an array. */
long long embq_declare(embq_ref broker, const char *name, size_t name_size,
                       const char *options, size_t options_size, embq_bytes *stored);
/* Give a queue other options, if they are still the ones that are `expected`: 1, else
 * 0. Both arrays as for embq_declare. */
int embq_configure(embq_ref broker, long long channel, const char *expected,
                   size_t expected_size, const char *options, size_t options_size);
/* Hand nothing out until then, ms since 1970; 0: go on. */
int embq_pause(embq_ref broker, long long channel, long long until_ms);
/* Remove all that nobody holds; how many. */
long long embq_purge(embq_ref broker, long long channel);
/* Remove the queue of this name with all that it has, also what is held; how many
 * messages there were. */
long long embq_delete(embq_ref broker, const char *name, size_t name_size);
/* Remove a message by its public id: 1; 0 when somebody holds it. */
int embq_cancel(embq_ref broker, long long channel, const char *id, size_t id_size);
/* Begin to move what nobody holds back to where it died last, or (size not 0) to the
 * queue `target`; when the same is under way, go on with that. `conditions`: JSON
 * object, for each field an array of the values that are wanted. `rate`: messages a
 * second; 0: no limit. Returns the token of the task; the keepers do it. */
long long embq_redrive(embq_ref broker, long long channel, const char *target,
                       size_t target_size, const char *conditions,
                       size_t conditions_size, double rate);
/* End that task: 1; 0 when it is over. */
int embq_redrive_cancel(embq_ref broker, long long channel, long long token);
/* Store one message. `fields`: msgpack array [type, source, key, attributes], each nil
 * or str; with more to say followed by [priority, delay_ms, at_ms, ttl_ms], each -1
 * when the queue decides; or nothing (size 0). A dedup id may follow, and after it the
 * boot_ms since when it may be stored already (0: not yet): then it is refused unless
 * the queue knows the dedup ids of that time. Returns its row. timeout -1: the broker's
 * busy timeout. */
long long embq_send(embq_ref broker, long long channel, const char *body,
                    size_t body_size, const char *fields, size_t fields_size,
                    int timeout_ms);
/* Store all or none. `packed`: msgpack array whose items are bodies (bin) or arrays
 * [body, fields (bin)]. Returns the first row; the others follow it without a gap, or
 * `rows` gets all of them as an array. */
long long embq_send_many(embq_ref broker, long long channel, const char *packed,
                         size_t packed_size, int timeout_ms, embq_bytes *rows);
/* Lease up to `limit` messages for the channel's visibility timeout; wait for the first
 * one. Returns how many; `out` gets an array of messages, each an array in the order of
 * message_pack(). 0 with `out` empty when there was none in time. One whose body is
 * damaged is never among them: it becomes a dead letter, or waits where there are none.
 * The number may have EMBQ_DAMAGED. */
int embq_claim(embq_ref broker, long long channel, int limit, int wait_ms, int flags,
               embq_bytes *out);
/* Settle `count` receipts of EMBQ_RECEIPT_SIZE bytes each. delay_ms: NACK (-1: the
 * retry policy), EXTEND, and the least wait of a REFUSE where there are no dead
 * letters. `note`: the error of a NACK or REFUSE, the reason of a REJECT. Returns how
 * many were settled, of a REFUSE how many became dead letters; when none was settled,
 * LEASE_LOST or INVALID_RECEIPT. */
int embq_settle(embq_ref broker, long long channel, int verb, const char *receipts,
                int count, long long delay_ms, const char *note, size_t note_size,
                int timeout_ms);
/* Results of what is to be done once. `names`: a scope, a NUL and a key, each of 1 to
 * 255 bytes. ttl 0: for ever.
 *
 * Find a result, or begin: EMBQ_RESULT_STORED with the result in `out`; .._BEGUN with
 * a token (8 bytes) in `out`, whose count is 1 then: embq_result_end or .._free must
 * follow; 0 when it was in flight elsewhere for all of wait_ms. */
int embq_result_begin(embq_ref broker, const char *names, size_t names_size,
                      int wait_ms, embq_bytes *out);
/* Store what came of it: 1; 0 when another result was set meanwhile, which `out` gets.
 * LEASE_LOST when that is gone as well. */
int embq_result_end(embq_ref broker, const char *names, size_t names_size,
                    const char *token, const char *result, size_t result_size,
                    long long ttl_ms, embq_bytes *out);
int embq_result_set(embq_ref broker, const char *names, size_t names_size,
                    const char *result, size_t result_size, long long ttl_ms,
                    int timeout_ms);
/* 1; 0 when there was none. */
int embq_result_delete(embq_ref broker, const char *names, size_t names_size);
/* Wait until all that this broker staged is stored (and synced, when durability is
 * full). */
int embq_flush(embq_ref broker, int timeout_ms);
/* Write nothing, but go the whole way of a write: is the file there and lockable? */
int embq_ping(embq_ref broker, int timeout_ms);

/* ---- reads, on a connection of their own ---- */

/* Messages in the queue that are not settled. */
long long embq_depth(embq_ref broker, long long channel);
/* msgpack map of one channel's counters, or (channel 0) of the engine's. */
int embq_stats(embq_ref broker, long long channel, embq_bytes *out);
/* msgpack array of [id, name] of all queues. */
int embq_queues(embq_ref broker, embq_bytes *out);

/* 1 with a result in `out`, 0 when there is none. `out` may be NULL. */
int embq_result_get(embq_ref broker, const char *names, size_t names_size,
                    embq_bytes *out);
/* msgpack array of [scope, size, hits] of all scopes. */
int embq_scopes(embq_ref broker, embq_bytes *out);

/* msgpack array of the channel's latest redrive: token, moved, skipped, over (0, 1). */
int embq_redrive_look(embq_ref broker, long long channel, embq_bytes *out);

/* Looking at messages without receiving them. `out` gets an array of
 *
 *     [row, message, state, due_at_ms, kind, error]
 *
 * where message is as in a claim, with an empty receipt, state is one of EMBQ_READY and
 * so on, and damaged (1, 0) says that its body is not what was sent. Each returns how
 * many.
 *
 * Up to `limit` after the row `after` (0: from the first on), in the order of rows: */
int embq_browse(embq_ref broker, long long channel, long long after, int limit,
                embq_bytes *out);
/* Up to `limit` of those that a claim would hand out now, as they would come: */
int embq_peek(embq_ref broker, long long channel, int limit, embq_bytes *out);
/* One by its public id, or none: */
int embq_get(embq_ref broker, long long channel, const char *id, size_t id_size,
             embq_bytes *out);
/* The same, and after it what is known about its state:
 * [its owner's pid, deadline (boot_ms), claimed_at_ms, the id of the message that goes
 *  first of its key or queue (nil), how many go before it (nil), whether there may be
 *  more of those (0, 1), paused_until_ms, now (wall_ms), now (boot_ms)], 0 for what
 * there is not: */
int embq_explain(embq_ref broker, long long channel, const char *id, size_t id_size,
                 embq_bytes *out);

/* ---- prefetch (consumer.c) ---- */

/* prefetch 0: adapts to the handling time. */
embq_ref embq_consumer_open(embq_ref broker, long long channel, int prefetch,
                            int flags);
/* Wait for the next batch, and ask for the one after it in the background. As
 * embq_claim. */
int embq_consumer_next(embq_ref consumer, int wait_ms, embq_bytes *out);
/* Give back what was not taken. */
int embq_consumer_close(embq_ref consumer);
void embq_consumer_free(embq_ref consumer);

/* ---- damage (damage.c) ---- */

/* What claims of this process found to be damaged since this was asked last: [how many,
 * [[queue, id, 1: it is a dead letter now; 0: it waits], ...]], 4,096 at the most. */
int embq_damage(embq_ref broker, embq_bytes *out);
/* Whether this is not the body that was stored with these flags. */
int embq_is_damaged(long long flags, const char *body, size_t size);
/* The CRC-32C of these bytes, also (`plain`) as a processor without the instruction has
 * to compute it. */
unsigned int embq_crc32c(const char *data, size_t size, int plain);

/* Wait for a staged send; its row, or EMBQ_NOT_YET after timeout_ms. */
long long embq_ticket_wait(embq_ref ticket, int timeout_ms);

/* ==== NEVER BLOCKS ==== */

/* The clock that leases live by. Before a file was opened it may be that of a time
 * namespace. */
long long embq_boot_ms(void);

/* Stage one message; the keeper stores it. Gives a ticket (> 0) or a code; FULL when
 * the ring has no room. */
embq_ref embq_send_nowait(embq_ref broker, long long channel, const char *body,
                          size_t body_size, const char *fields, size_t fields_size);
/* The row of a staged send, EMBQ_NOT_YET, or the code of its failure. */
long long embq_ticket_result(embq_ref ticket);
/* Forget a ticket. A failure that nobody has seen is counted and kept for flush. */
void embq_ticket_free(embq_ref ticket);
/* Stage an ack: it joins the next group, within 5 ms. 0, or a code. */
int embq_ack_nowait(embq_ref broker, long long channel, const char *receipt);
/* Stage that what was begun has no result; whoever waits for it begins. Also of a
 * broker that is closed. 0, or a code. */
int embq_result_free(embq_ref broker, const char *names, size_t names_size,
                     const char *token);
/* As embq_consumer_next when the batch asked for ahead is there, or comes within half a
 * millisecond; else 0. */
int embq_consumer_ready(embq_ref consumer, embq_bytes *out);
/* Take the next message of the consumer's batch: 1, or 0 when its lease is over or
 * given back and it must not be handled. */
int embq_consumer_take(embq_ref consumer);
void embq_bytes_free(embq_bytes *bytes);
/* The file's random identity: the first half of every public id. */
unsigned long long embq_file_id(embq_ref broker);
/* What a send of this broker would be refused with, whatever it is: CLOSED; the code
 * of an earlier failure, for good; STORAGE_IO_ERROR until the WAL has started over
 * after an fsync that failed; or 0. */
int embq_refuses(embq_ref broker);
/* The sends and acks of this broker that failed with nobody waiting. */
long long embq_unawaited_failures(embq_ref broker);
/* Text of this thread's last failure: what happened, where. Valid until its next call.
 */
const char *embq_errmsg(void);
/* A byte that is not 0 while there is a notice, to be looked at where it lies. */
const char *embq_notice_waits(void);
/* Take the notice: what the log should have, without anybody's call having failed.
 * NULL: none. Valid as the text above. */
const char *embq_notice(void);
