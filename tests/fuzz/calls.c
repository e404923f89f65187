/* The calls of the boundary, each with what its record says. See boundary.c. */
#include "boundary.h"

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define S boundary

static int64_t channel_of(const struct record *r) {
    if (S.channel_count && r->a % 8 < CHANNELS)
        return S.channels[r->a % 8 % S.channel_count];
    return input_number(r->a, r->v);
}

static int int_of(uint8_t pick, int64_t v) {
    return (int)input_number(pick, v);
}

/* None, a short one, or the broker's own. */
static int timeout_of(const struct record *r) {
    return (int)(r->v >> 40 & 3) - 1;
}

/* ---- bytes, well formed but for one place ---- */

static struct packer fields_of(struct slice bytes, uint8_t c) {
    static const int64_t delays[] = {-1, 0, 50, 100000}, ends[] = {-1, 1, 500, 100000};
    struct packer p = {0};
    int placed = c & 0x10;
    pack_array(&p, placed ? 9 : 4);
    for (int i = 0; i < 4; i++) {
        if (c >> i & 1) pack_text(&p, bytes.data, bytes.size);
        else pack_nil(&p);
    }
    if (!placed) return p;
    pack_int(&p, (c >> 5) - 1);
    pack_int(&p, delays[c & 3]);
    pack_int(&p, c & 4 ? CLOCK_START + delays[c & 3] : -1);
    pack_int(&p, ends[c >> 2 & 3]);
    pack_nil(&p);
    return p;
}

static struct packer batch_of(struct slice bytes, const struct record *r) {
    struct packer p = {0}, fields = fields_of(bytes, r->b);
    pack_array(&p, r->b % 16);
    for (int i = 0; i < r->b % 16; i++) {
        if (i & r->c) {
            pack_array(&p, 2);
            pack_blob(&p, bytes.data, bytes.size);
            pack_blob(&p, fields.data, fields.size);
        } else {
            pack_blob(&p, bytes.data, bytes.size);
        }
    }
    pack_free(&fields);
    return p;
}

/* A byte of it is another: the place and the byte come from `v`. */
static void spoil(struct packer *p, const struct record *r) {
    if (r->c & 0x80 && p->size) p->data[(uint64_t)r->v % p->size] = (char)(r->v >> 32);
}

static struct packer options_of(const struct record *r) {
    static const char *const names[] = {NULL, "a.dead", "a", "b", "raw"};
    struct queue_options o = {"json",
                              names[r->b % LENGTH(names)],
                              1000,
                              3,
                              1000,
                              300000,
                              1 << 16,
                              2.0,
                              0,
                              r->b & 0x10 ? 300 : 0,
                              r->b >> 5 & 3,
                              bounds_of(r->v)};
    int64_t *numbers[] = {&o.visibility_ms, &o.max_receives, &o.first_ms, &o.cap_ms};
    if (r->c & 0x10) o.max_body = input_number((uint8_t)(r->n >> 8), r->v);
    if (r->c & 1) *numbers[r->c >> 1 & 3] = input_number((uint8_t)(r->n >> 8), r->v);
    if (r->c & 8) memcpy(&o.factor, &r->v, sizeof o.factor);
    struct packer p = options_packed(&o);
    spoil(&p, r);
    return p;
}

/* ---- one call each ---- */

/* With NUL bytes and slashes it could be any path; without EMBQ_OPEN_CREATE nothing is
 * made there. */
static void open_any(struct slice bytes, const struct record *r) {
    embq_ref broker = 0;
    char path[8192];
    const char *folder = getenv("EMBQ_FUZZ_FOLDER");
    int made = r->c & 1 && !memchr(bytes.data, '/', bytes.size);
    snprintf(path, sizeof path, "%s%s%.*s", made ? folder : "", made ? "/any-" : "",
             (int)(bytes.size > 4200 ? 4200 : bytes.size), bytes.data);
    int code = embq_open(path, (r->b & ~EMBQ_OPEN_CREATE) | made, (int)r->v,
                         input_number(r->a, r->v), &broker);
    CHECK((code == 0) == (broker != 0));
    CHECK(code_is_typed(code) || code == EMBQ_NO_SCHEMA);
    if (broker) embq_broker_free(broker);
    if (made) unlink(path), file_clear(path);
}

static void declare(embq_ref b, struct slice bytes, const struct record *r) {
    static const char *const names[] = {"a", "b", "a.dead", "raw"};
    embq_bytes stored = {0};
    struct slice name = {names[r->a % 4], strlen(names[r->a % 4])};
    struct packer p = options_of(r);
    struct slice options = {p.data, p.size};
    if (r->c & 0x40) options = bytes;
    else if (r->c & 0x20) name = bytes;
    int64_t id = checked(
        embq_declare(b, name.data, name.size, options.data, options.size, &stored));
    if (id > 0 && S.channel_count < CHANNELS) S.channels[S.channel_count++] = id;
    CHECK((id < 0) == (stored.data == NULL));
    embq_bytes_free(&stored);
    pack_free(&p);
}

/* All or nothing: the file holds `count` messages more, or as many as before. */
static void send(int which, struct slice bytes, const struct record *r, int many) {
    embq_ref b = S.brokers[which];
    int64_t channel = channel_of(r), code, count = 1;
    struct packer p = many ? batch_of(bytes, r) : fields_of(bytes, r->b);
    spoil(&p, r);
    struct slice packed = {p.data, p.size};
    if (r->c & 0x40) packed = bytes;
    int64_t before = total_of(which);
    if (many) {
        embq_bytes rows = {0};
        struct unpacker u = unpack_from(packed.data, packed.size);
        count = unpack_array(&u);
        code =
            embq_send_many(b, channel, packed.data, packed.size, timeout_of(r), &rows);
        embq_bytes_free(&rows);
    } else {
        code = embq_send(b, channel, bytes.data, bytes.size, packed.data, packed.size,
                         timeout_of(r));
    }
    code = checked(code);
    int64_t after = total_of(which);
    if (before >= 0 && after >= 0 && code != EMBQ_COMMIT_UNCERTAIN)
        CHECK(after - before == (code < 0 ? 0 : count));
    pack_free(&p);
}

static void send_nowait(int which, struct slice bytes, const struct record *r) {
    struct ticket_slot *t = &S.tickets[r->b % TICKETS];
    struct packer p = fields_of(bytes, r->c);
    spoil(&p, r);
    embq_ref ticket = embq_send_nowait(S.brokers[which], channel_of(r), bytes.data,
                                       bytes.size, p.data, r->c & 0x40 ? 0 : p.size);
    checked(ticket);
    pack_free(&p);
    if (ticket <= 0) return;
    if (t->ref) embq_ticket_free(t->ref);
    *t = (struct ticket_slot){ticket, which};
}

static void ticket(const struct record *r) {
    struct ticket_slot *t = &S.tickets[r->b % TICKETS];
    if (!t->ref) return;
    int64_t code =
        r->c & 1 ? embq_ticket_wait(t->ref, r->c & 3) : embq_ticket_result(t->ref);
    if (code != EMBQ_NOT_YET && code != EMBQ_INTERRUPTED) checked(code);
    if (r->c & 4) embq_ticket_free(t->ref), t->ref = 0;
}

static void claim(embq_ref b, const struct record *r) {
    embq_bytes batch = {0};
    int64_t channel = channel_of(r);
    int limit = r->n & 1 ? 1 + r->b % 16 : int_of(r->b, r->v);
    int code = embq_claim(b, channel, limit, r->c >> 6 & 1, r->c & 0x3f, &batch);
    while (code == EMBQ_INTERRUPTED) code = (int)embq_resume();
    code = (int)checked(code);
    CHECK((code > 0) == (batch.size > 5));
    batch_note(&batch, code, channel);
    embq_bytes_free(&batch);
}

static const struct receipt_of *receipt_at(unsigned i) {
    static const struct receipt_of none;
    return S.given_count ? &S.given[i % (unsigned)S.given_count] : &none;
}

static void settle(embq_ref b, struct slice note, const struct record *r) {
    const struct receipt_of *it = receipt_at(r->n);
    int64_t channel = r->a % 8 ? it->channel : channel_of(r);
    int verb = r->c & 1 ? 1 + r->b % 5 : int_of(r->b, r->v);
    checked(embq_settle(b, channel, verb, it->bytes, 1, input_number(r->c, r->v),
                        note.data, note.size, timeout_of(r)));
}

static void settle_many(embq_ref b, struct slice bytes, const struct record *r) {
    char receipts[8 * EMBQ_RECEIPT_SIZE] = {0};
    int count = r->b % 9;
    for (int i = 0; i < count; i++)
        memcpy(receipts + i * EMBQ_RECEIPT_SIZE, receipt_at(r->n + (unsigned)i)->bytes,
               EMBQ_RECEIPT_SIZE);
    if (r->c & 1) {
        size_t most = sizeof receipts < bytes.size ? sizeof receipts : bytes.size;
        memcpy(receipts, bytes.data, most);
    }
    int code = embq_settle(b, receipt_at(r->n)->channel, 1 + r->c % 5, receipts, count,
                           r->v & 0xfff, NULL, 0, -1);
    CHECK(checked(code) <= count);
}

/* A receipt that nobody was given settles nothing. */
static void forge(int which, struct slice bytes, const struct record *r) {
    char receipt[EMBQ_RECEIPT_SIZE];
    int64_t channel = receipt_at(r->n)->channel, words[3];
    memcpy(words, receipt_at(r->n)->bytes, sizeof words);
    words[r->c % 3] = r->c & 0x40
                          ? words[r->c % 3] ^ (int64_t)((uint64_t)1 << (r->v & 63))
                          : input_number(r->b, r->v);
    memcpy(receipt, words, sizeof words);
    if (r->c & 0x80 && bytes.size >= sizeof receipt)
        memcpy(receipt, bytes.data, sizeof receipt);
    if (receipt_was_given(receipt)) return;
    int64_t before = total_of(which);
    int code = embq_settle(S.brokers[which], channel, 1 + r->a % 5, receipt, 1, 0, NULL,
                           0, -1);
    CHECK(checked(code) < 0);
    int64_t after = total_of(which);
    CHECK(before < 0 || after < 0 || before == after);
}

static void look(embq_ref b, const struct record *r) {
    embq_bytes answer = {0};
    int64_t channel = channel_of(r);
    CHECK(embq_unawaited_failures(b) >= 0 && embq_errmsg());
    CHECK(embq_notice_waits()); /* it may come at any moment */
    embq_notice();
    switch (r->b % 4) {
    case 0:
        checked(embq_depth(b, channel));
        checked(embq_peek(b, channel, int_of(r->c, r->v), &answer));
        break;
    case 1: checked(embq_stats(b, channel, &answer)); break;
    case 2: checked(embq_queues(b, &answer)); break;
    default: checked(embq_browse(b, channel, r->v, int_of(r->c, r->v), &answer)); break;
    }
    embq_bytes_free(&answer);
}

/* What is done to a queue as a whole. What a purge or a cancel removes was dropped, so
 * that the totals of other calls hold. */
static void administer(embq_ref b, struct slice bytes, const struct record *r) {
    int64_t channel = channel_of(r);
    if (r->b >> 5 == 7) {
        results_call(b, bytes, r);
        return;
    }
    struct packer expected = options_of(r), options = options_of(r);
    switch (r->b % 4) {
    case 0: checked(embq_pause(b, channel, input_number(r->c, r->v))); break;
    case 1: checked(embq_purge(b, channel)); break;
    case 2: checked(embq_cancel(b, channel, bytes.data, bytes.size)); break;
    default:
        checked(embq_configure(b, channel, r->c & 1 ? bytes.data : expected.data,
                               r->c & 1 ? bytes.size : expected.size, options.data,
                               options.size));
    }
    pack_free(&expected);
    pack_free(&options);
}

static void consumer_open(int which, const struct record *r) {
    struct consumer_slot *c = &S.consumers[r->b % CONSUMERS];
    int prefetch = r->n & 1 ? r->c % 20 : int_of(r->c, r->v);
    if (c->ref) return;
    embq_ref ref = embq_consumer_open(S.brokers[which], channel_of(r), prefetch, r->c);
    if (checked(ref) < 0) return;
    c->ref = ref;
    c->broker = which;
    c->channel = channel_of(r);
}

static void consumer_next(struct consumer_slot *c, const struct record *r) {
    embq_bytes batch = {0};
    int code = embq_consumer_ready(c->ref, &batch);
    CHECK(code >= 0);
    if (!code) code = embq_consumer_next(c->ref, r->c & 1, &batch);
    while (code == EMBQ_INTERRUPTED) code = (int)embq_resume();
    batch_note(&batch, checked(code), c->channel);
    embq_bytes_free(&batch);
}

static void consumer(const struct record *r) {
    struct consumer_slot *c = &S.consumers[r->b % CONSUMERS];
    if (!c->ref) return;
    if (r->kind == CALL_CONSUMER_NEXT) consumer_next(c, r);
    else if (r->kind == CALL_CONSUMER_TAKE)
        for (int i = 0; i < r->c && embq_consumer_take(c->ref) == 1; i++) {}
    else {
        pending_end();
        checked(embq_consumer_close(c->ref));
        if (r->c & 1) embq_consumer_free(c->ref), c->ref = 0;
    }
}

/* ---- signals ---- */

static embq_bytes interrupted; /* where the call that goes on puts its answer */

static void handle(int unused) {
    (void)unused;
}

static timer_t timer_of_this_thread(void) {
    static timer_t timer;
    static int made;
    struct sigaction action = {.sa_handler = handle}; /* no SA_RESTART */
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN};
    if (made) return timer;
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    CHECK(sigaction(SIGRTMIN, &action, NULL) == 0);
    CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    made = 1;
    return timer;
}

static void resume_all(void) {
    int64_t code = embq_resume();
    while (code == EMBQ_INTERRUPTED) code = embq_resume();
    checked(code);
    embq_bytes_free(&interrupted);
}

/* A claim that waits, and a signal meanwhile: resumed, abandoned, or left for later.
 * One that acks as it takes is not left: it would take what a later call counts. */
static void interrupt(embq_ref b, const struct record *r) {
    struct itimerspec soon = {.it_value = {0, 1000 * (1 + r->b)}};
    pending_end();
    embq_bytes_free(&interrupted);
    timer_settime(timer_of_this_thread(), 0, &soon, NULL);
    int code = embq_claim(b, channel_of(r), 1, 2, r->c & 1, &interrupted);
    if (code != EMBQ_INTERRUPTED) {
        checked(code);
        embq_bytes_free(&interrupted);
        return;
    }
    if (r->c & 2) resume_all();
    else if (r->c & 5) embq_abandon();
}

/* ---- by the record's kind ---- */

static void calls_of_broker(int which, struct slice bytes, const struct record *r) {
    embq_ref b = S.brokers[which];
    switch (r->kind) {
    case CALL_CLOSE:
        pending_end();
        checked(embq_close(b));
        if (r->c & 1) broker_free(which);
        break;
    case CALL_DECLARE: declare(b, bytes, r); break;
    case CALL_SEND: send(which, bytes, r, 0); break;
    case CALL_SEND_MANY: send(which, bytes, r, 1); break;
    case CALL_SEND_NOWAIT: send_nowait(which, bytes, r); break;
    case CALL_CLAIM: claim(b, r); break;
    case CALL_SETTLE: settle(b, bytes, r); break;
    case CALL_SETTLE_MANY: settle_many(b, bytes, r); break;
    case CALL_FORGE: forge(which, bytes, r); break;
    case CALL_ACK_NOWAIT:
        checked(embq_ack_nowait(b, channel_of(r), receipt_at(r->n)->bytes));
        break;
    case CALL_READ: look(b, r); break;
    case CALL_ADMIN: administer(b, bytes, r); break;
    case CALL_CONSUMER_OPEN: consumer_open(which, r); break;
    case CALL_FLUSH:
        checked(r->c & 1 ? embq_flush(b, timeout_of(r)) : embq_ping(b, timeout_of(r)));
        break;
    case CALL_INTERRUPT: interrupt(b, r); break;
    default: break;
    }
}

void calls_run(const struct input *in, const struct record *r) {
    int which = r->n >> 8 & 3;
    struct slice bytes = input_bytes(in, r->n);
    if (which >= BROKERS) which = 0;
    switch (r->kind) {
    case CALL_OPEN: broker_open(which, r->c & 1 ? input_number(r->b, r->v) : -1); break;
    case CALL_OPEN_ANY: open_any(bytes, r); break;
    case CALL_TICKET: ticket(r); break;
    case CALL_CONSUMER_NEXT:
    case CALL_CONSUMER_TAKE:
    case CALL_CONSUMER_CLOSE: consumer(r); break;
    case CALL_RESUME: resume_all(); break;
    case CALL_FORK:
        embq_before_fork();
        embq_after_fork_parent();
        break;
    case CALL_MOVE_CLOCKS: clocks_move(r->v & 0x3ffff); break;
    default:
        if (S.brokers[which]) calls_of_broker(which, bytes, r);
    }
    free((char *)bytes.data);
}
