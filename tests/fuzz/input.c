/* Reading an input, and making new ones out of old ones: the mutator works on whole
 * records, so that a change of one number leaves the others what they were. */
#include "fuzz.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most) __attribute__((weak));
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size,
                                 const uint8_t *other, size_t other_size, uint8_t *out,
                                 size_t most, unsigned seed);

#define RECORDS_MAX 48

_Static_assert(sizeof(struct record) == RECORD_SIZE, "a record's size");

struct input input_read(const uint8_t *data, size_t size) {
    struct input in = {0};
    memcpy(&in.head, data, size < RECORD_SIZE ? size : RECORD_SIZE);
    if (size < RECORD_SIZE) return in;
    size_t count = (size - RECORD_SIZE) / RECORD_SIZE;
    if (count > in.head.b) count = in.head.b;
    if (count > RECORDS_MAX) count = RECORDS_MAX;
    in.records = data + RECORD_SIZE;
    in.count = (int)count;
    in.pool.data = (const char *)in.records + count * RECORD_SIZE;
    in.pool.size = size - (count + 1) * RECORD_SIZE;
    return in;
}

struct record input_record(const struct input *in, int i) {
    struct record r;
    memcpy(&r, in->records + (size_t)i * RECORD_SIZE, sizeof r);
    return r;
}

struct slice input_bytes(const struct input *in, uint32_t n) {
    size_t from = in->pool.size ? (n & 0xffff) % (in->pool.size + 1) : 0;
    size_t size = n >> 16;
    if (size > in->pool.size - from) size = in->pool.size - from;
    char *copy = malloc(size ? size : 1);
    CHECK(copy);
    if (size) memcpy(copy, in->pool.data + from, size);
    return (struct slice){copy, size};
}

int64_t input_number(uint8_t pick, int64_t v) {
    const int64_t century_ms = 3155760000000; /* the longest duration */
    /* clang-format off */
    const int64_t numbers[] = {
        0,
        1,
        2,
        -1,
        -2,
        INT64_MIN,
        INT64_MAX,
        INT64_MIN + 1,
        INT64_MAX - 1,
        INT32_MAX,
        INT32_MIN,
        UINT32_MAX,
        1023,
        1024,
        1025,
        EMBQ_CHANNELS_MAX - 1,
        EMBQ_CHANNELS_MAX,
        EMBQ_SEQUENCE_MAX - 2,
        EMBQ_SEQUENCE_MAX - 1,
        EMBQ_SEQUENCE_MAX,
        (int64_t)1 << 42,
        (int64_t)1 << 45,
        ((int64_t)1 << 45) - 1,
        (int64_t)1 << 53,
        (int64_t)1 << 62,
        century_ms,
        century_ms + 1,
        CLOCK_START,
        CLOCK_START << 21,
        -CLOCK_START,
    };
    /* clang-format on */
    if (pick < 96) return numbers[pick % LENGTH(numbers)];
    if (pick < 128) return numbers[pick % LENGTH(numbers)] ^ (v & 3);
    if (pick < 160) return v & 0xff;
    if (pick < 192) return v & 0xffff;
    /* In a channel's lane, where ids are: channel, sequence. */
    if (pick < 224) return message_id(v >> 8 & 15, EMBQ_LANE_DEFAULT, v & 0xff);
    return v;
}

/* ---- the mutator ---- */

static uint64_t state;

static uint32_t random_below(uint32_t limit) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 33) % limit;
}

static struct record record_new(void) {
    struct record r = {0};
    r.kind = target->kinds[random_below((uint32_t)target->kind_count)];
    r.a = (uint8_t)random_below(random_below(2) ? 8 : 256);
    r.b = (uint8_t)random_below(random_below(2) ? 8 : 256);
    r.c = (uint8_t)random_below(256);
    r.n = random_below(2) ? random_below(64) << 16 | random_below(64) : (uint32_t)state;
    r.v = random_below(2) ? random_below(65536) : (int64_t)state;
    return r;
}

static void record_change(struct record *r) {
    switch (random_below(8)) {
    case 0: r->kind = target->kinds[random_below((uint32_t)target->kind_count)]; break;
    case 1: r->a = (uint8_t)random_below(random_below(2) ? 8 : 256); break;
    case 2: r->b = (uint8_t)random_below(random_below(2) ? 8 : 256); break;
    case 3: r->c = (uint8_t)random_below(256); break;
    case 4: r->n = (uint32_t)state; break;
    case 5: r->n += random_below(2) ? 1 : (uint32_t)-1; break;
    case 6: r->v = (int64_t)state; break;
    default: r->v = (int64_t)((uint64_t)r->v + random_below(17) - 8); break;
    }
}

/* An input in pieces, to be put together again. */
struct pieces {
    struct record head, records[RECORDS_MAX];
    uint32_t count;
    uint8_t *pool;
    size_t size;
};

static void pieces_take(struct pieces *p, const uint8_t *data, size_t size) {
    struct input in = input_read(data, size);
    p->head = in.head;
    p->count = (uint32_t)in.count;
    for (int i = 0; i < in.count; i++) p->records[i] = input_record(&in, i);
    p->size = in.pool.size;
    p->pool = malloc(p->size + 4096);
    CHECK(p->pool);
    if (p->size) memcpy(p->pool, in.pool.data, p->size);
}

static size_t pieces_put(struct pieces *p, uint8_t *out, size_t most) {
    size_t size = RECORD_SIZE;
    if (most < RECORD_SIZE) {
        free(p->pool);
        return 0;
    }
    while ((p->count + 1) * RECORD_SIZE > most) p->count--;
    p->head.b = (uint8_t)p->count;
    memcpy(out, &p->head, RECORD_SIZE);
    memcpy(out + size, p->records, p->count * RECORD_SIZE);
    size += p->count * RECORD_SIZE;
    if (p->size > most - size) p->size = most - size;
    if (p->size) memcpy(out + size, p->pool, p->size);
    free(p->pool);
    return size + p->size;
}

static void record_insert(struct pieces *p, uint32_t at, struct record r) {
    if (p->count == RECORDS_MAX) return;
    memmove(p->records + at + 1, p->records + at, (p->count - at) * sizeof *p->records);
    p->records[at] = r;
    p->count++;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed) {
    struct pieces p;
    state = (uint64_t)seed * 0x9e3779b97f4a7c15u + 1;
    for (int i = 0; i < 4; i++) random_below(2);
    pieces_take(&p, data, size);
    uint32_t at = p.count ? random_below(p.count) : 0;
    switch (random_below(8)) {
    case 0:
    case 1: record_insert(&p, at, record_new()); break;
    case 2:
        if (p.count) record_insert(&p, random_below(p.count), p.records[at]);
        break;
    case 3:
        if (!p.count) break;
        p.count--;
        memmove(p.records + at, p.records + at + 1, (p.count - at) * sizeof *p.records);
        break;
    case 4: record_change(&p.head); break;
    case 5: p.size = LLVMFuzzerMutate(p.pool, p.size, p.size + 4096); break;
    default:
        if (p.count) record_change(&p.records[at]);
        else record_insert(&p, 0, record_new());
        break;
    }
    return pieces_put(&p, data, most);
}

size_t LLVMFuzzerCustomCrossOver(const uint8_t *one, size_t one_size,
                                 const uint8_t *other, size_t other_size, uint8_t *out,
                                 size_t most, unsigned seed) {
    struct pieces p, q;
    state = (uint64_t)seed * 0x9e3779b97f4a7c15u + 1;
    random_below(2);
    pieces_take(&p, one, one_size);
    pieces_take(&q, other, other_size);
    p.count = p.count ? random_below(p.count + 1) : 0;
    for (uint32_t i = q.count ? random_below(q.count) : 0; i < q.count; i++)
        record_insert(&p, p.count, q.records[i]);
    if (random_below(2)) {
        uint8_t *pool = p.pool;
        p.pool = q.pool;
        q.pool = pool;
        p.size = q.size;
    }
    free(q.pool);
    return pieces_put(&p, out, most);
}
