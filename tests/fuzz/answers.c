/* What every call of any target is held to: codes that mean something, and answers that
 * can be read to their last byte. */
#include "fuzz.h"

int64_t resumed(int64_t code) {
    while (code == EMBQ_INTERRUPTED) code = embq_resume();
    return code;
}

void operations_check(void) {
    CHECK(ATOMIC_LOAD(&ops_alive) == 0);
}

int claimed(embq_ref broker, int64_t code) {
    embq_bytes notes = {0};
    if (code < 0 || !(code & EMBQ_DAMAGED)) return (int)code;
    CHECK(embq_damage(broker, &notes) == 0);
    struct unpacker u = unpack_from(notes.data, (size_t)notes.size);
    CHECK(unpack_array(&u) == 2);
    int64_t found = unpack_int(&u);
    uint32_t told = unpack_array(&u);
    CHECK(found > 0 && told <= found);
    for (uint32_t i = 0; i < told; i++) {
        CHECK(unpack_array(&u) == 3 && unpack_slice(&u).data && unpack_slice(&u).data);
        int64_t is_dead = unpack_int(&u);
        CHECK(is_dead == 0 || is_dead == 1);
    }
    CHECK(!u.failed && u.next == u.end);
    embq_bytes_free(&notes);
    return (int)code & ~EMBQ_DAMAGED;
}

int code_is_typed(int64_t code) {
    switch (code) {
    case EMBQ_INVALID_ARGUMENT:
    case EMBQ_NOT_FOUND:
    case EMBQ_FULL:
    case EMBQ_QUEUE_FULL:
    case EMBQ_STORAGE_FULL:
    case EMBQ_MESSAGE_TOO_LARGE:
    case EMBQ_LEASE_LOST:
    case EMBQ_INVALID_RECEIPT:
    case EMBQ_BUSY:
    case EMBQ_COMMIT_UNCERTAIN:
    case EMBQ_STORAGE_READ_ONLY:
    case EMBQ_STORAGE_IO_ERROR:
    case EMBQ_LIMIT_REACHED:
    case EMBQ_CORRUPT:
    case EMBQ_NOT_AN_EMBQ_FILE:
    case EMBQ_SCHEMA_TOO_NEW:
    case EMBQ_UNSUPPORTED_SQLITE:
    case EMBQ_DATABASE_REPLACED:
    case EMBQ_CLOSED:
    case EMBQ_NO_MEMORY: return 1;
    default: return code >= 0;
    }
}

/* The twelve values of message_pack(). */
static void message_read(struct unpacker *u, int64_t channel, struct receipt_of *r) {
    int64_t words[3];
    CHECK(unpack_array(u) == 12);
    CHECK(unpack_slice(u).data);                 /* id */
    unpack_int(u);                               /* sent_at_ms */
    for (int i = 0; i < 5; i++) unpack_slice(u); /* type .. history */
    int64_t priority = unpack_int(u);
    CHECK(priority >= 0 && priority <= EMBQ_PRIORITY_MAX);
    if (*u->next == 0xc0) unpack_slice(u); /* expires_at_ms: never */
    else unpack_int(u);
    unpack_int(u); /* receive_count */
    struct slice receipt = unpack_slice(u);
    CHECK(receipt.size == EMBQ_RECEIPT_SIZE);
    CHECK(unpack_slice(u).data); /* body */
    memcpy(words, receipt.data, sizeof words);
    CHECK(message_channel(words[2]) == channel);
    memcpy(r->bytes, receipt.data, sizeof r->bytes);
    r->channel = channel;
}

int batch_read(const embq_bytes *batch, int count, int64_t channel,
               struct receipt_of *receipts, int most) {
    struct unpacker u = unpack_from(batch->data, (size_t)batch->size);
    CHECK(unpack_array(&u) == (uint32_t)count);
    for (int i = 0; i < count; i++) {
        struct receipt_of spare;
        message_read(&u, channel, i < most ? receipts + i : &spare);
    }
    CHECK(!u.failed && u.next == u.end);
    return count < most ? count : most;
}

int64_t stat_of(const embq_bytes *stats, const char *name) {
    struct unpacker u = unpack_from(stats->data, (size_t)stats->size);
    CHECK(*u.next == 0xdf);
    int64_t pairs = stats->data[4];
    for (u.next += 5; pairs > 0; pairs--) {
        struct slice key = unpack_slice(&u);
        int found = key.size == strlen(name) && !memcmp(key.data, name, key.size);
        if (*u.next == 0xc0) u.next++;
        else if ((*u.next & 0xe0) == 0xa0) unpack_slice(&u);
        else if (found) return unpack_int(&u);
        else unpack_int(&u);
        CHECK(!u.failed);
    }
    CHECK(u.next == u.end);
    return -1;
}

struct bounds bounds_of(int64_t v) {
    static const int64_t messages[] = {1, 3, 9, 0}, bytes[] = {0, 4000, 300, 20};
    unsigned pick = (unsigned)((uint64_t)v * 0x9e3779b97f4a7c15u >> 57); /* mixed */
    struct bounds b = {messages[pick >> 1 & 3], bytes[pick >> 3 & 3], pick >> 5};
    return pick & 1 ? b : (struct bounds){0};
}

struct packer options_packed(const struct queue_options *o) {
    struct packer p = {0};
    pack_array(&p, 17);
    pack_text(&p, o->codec, strlen(o->codec));
    pack_int(&p, o->visibility_ms);
    pack_int(&p, o->max_receives);
    pack_text(&p, o->dead_letter, o->dead_letter ? strlen(o->dead_letter) : 0);
    pack_int(&p, o->first_ms);
    pack_double(&p, o->factor);
    pack_int(&p, o->cap_ms);
    pack_bool(&p, 0);
    pack_int(&p, o->max_body);
    pack_int(&p, o->delay_ms);
    pack_int(&p, o->ttl_ms);
    pack_bool(&p, 0);
    pack_int(&p, o->ordered);
    pack_int(&p, 300000);
    pack_int(&p, o->bounds.messages);
    pack_int(&p, o->bounds.bytes);
    pack_int(&p, o->bounds.overflow);
    CHECK(!p.failed);
    return p;
}
