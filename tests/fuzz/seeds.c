/* Files that were in use: what the damage is done to. Made by the core itself when the
 * fuzzer starts, so that the corpus holds nothing of the file format.
 */
#include "fuzz.h"

#include <pthread.h>

const char *const seed_queues[] = {"a", "b", "a.dead", "b.dead", "c", "nobody"};

static struct seed made[SEEDS][2];
static embq_ref broker;
static int64_t queue_a, queue_b;
static struct receipt_of held[512];

static int64_t declare_placed(const char *name, const char *dead, int64_t max_receives,
                              int64_t ordered, struct bounds bounds) {
    const struct queue_options options = {"json", dead,   30000,   max_receives,
                                          1000,   300000, 1 << 20, 2.0,
                                          0,      0,      ordered, bounds};
    struct packer p = options_packed(&options);
    embq_bytes stored = {0};
    int64_t id = embq_declare(broker, name, strlen(name), p.data, p.size, &stored);
    CHECK(id > 0);
    embq_bytes_free(&stored);
    pack_free(&p);
    return id;
}

static int64_t declare(const char *name, const char *dead, int64_t max_receives) {
    return declare_placed(name, dead, max_receives, 0, (struct bounds){0});
}

static void send(int64_t queue, size_t size) {
    struct packer fields = {0};
    char *body = malloc(size + 1);
    CHECK(body);
    memset(body, '1', size);
    pack_array(&fields, 4);
    pack_text(&fields, "type", 4);
    pack_text(&fields, NULL, 0);
    pack_text(&fields, "key", 3);
    pack_text(&fields, "{\"version\":1}", 13);
    int few = size % 2 == 0;
    CHECK(embq_send(broker, queue, body, size, few ? "" : fields.data,
                    few ? 0 : fields.size, -1) > 0);
    free(body);
    pack_free(&fields);
}

/* With a priority, and now and then a delay and an end of its life. */
static void send_placed(int64_t queue, int i) {
    struct packer fields = {0};
    pack_array(&fields, 9);
    for (int j = 0; j < 4; j++) pack_nil(&fields);
    pack_int(&fields, i % 10);
    pack_int(&fields, i % 3 ? -1 : 1000 * i);
    pack_int(&fields, -1);
    pack_int(&fields, i % 4 ? -1 : 1000 * (i + 1));
    pack_text(&fields, i % 2 ? NULL : "once", 4);
    CHECK(embq_send(broker, queue, "1", 1, fields.data, fields.size, -1) > 0);
    pack_free(&fields);
}

static int claim(int64_t queue, int limit) {
    embq_bytes batch = {0};
    int count = embq_claim(broker, queue, limit, 0, 0, &batch);
    CHECK(count >= 0);
    if (count) batch_read(&batch, count, queue, held, LENGTH(held));
    embq_bytes_free(&batch);
    return count;
}

static void settle(int64_t queue, int verb, int which, int64_t delay_ms) {
    CHECK(embq_settle(broker, queue, verb, held[which].bytes, 1, delay_ms, "why", 3,
                      -1) == 1);
}

/* ---- their contents ---- */

static void fill_nothing(void) {
}

static void fill_messages(void) {
    for (int i = 0; i < 12; i++) send(i % 3 ? queue_a : queue_b, (size_t)i);
    for (int i = 0; i < 24; i++) send_placed(i % 3 ? queue_b : queue_a, i);
    CHECK(claim(queue_b, 3) == 3);
}

static void fill_runs(void) {
    for (int i = 0; i < 30; i++) send(queue_a, 10);
    CHECK(claim(queue_a, 12) == 12);
    for (int i = 2; i < 7; i++) settle(queue_a, EMBQ_ACK, i, -1);
    settle(queue_a, EMBQ_ACK, 9, -1);
    CHECK(claim(queue_a, 5) == 5);
    settle(queue_a, EMBQ_ACK, 0, -1);
}

/* Deliveries that wait, are due, are held; suspects; an error's text. */
static void fill_deliveries(void) {
    for (int i = 0; i < 20; i++) send(i % 5 ? queue_a : queue_b, 9);
    CHECK(claim(queue_a, 9) == 9);
    settle(queue_a, EMBQ_NACK, 0, 0);
    settle(queue_a, EMBQ_NACK, 1, 100000);
    settle(queue_a, EMBQ_NACK, 2, -1);
    settle(queue_a, EMBQ_EXTEND, 3, 90000);
    settle(queue_a, EMBQ_GIVE_BACK, 4, 0);
    clocks_move(40000); /* what was not extended becomes a suspect */
    CHECK(claim(queue_b, 1) == 1);
    CHECK(claim(queue_a, 1) == 1);
}

static void fill_dead_letters(void) {
    int64_t dead = declare("a.dead", "b.dead", 3);
    for (int i = 0; i < 8; i++) send(queue_a, 30);
    CHECK(claim(queue_a, 8) == 8);
    for (int i = 0; i < 6; i++) settle(queue_a, EMBQ_REJECT, i, -1);
    CHECK(claim(dead, 3) == 3);
    settle(dead, EMBQ_REJECT, 0, -1);
    settle(dead, EMBQ_NACK, 1, 0);
}

/* Pages of overflow, and trees of more than one level. */
static void fill_large(void) {
    for (int i = 0; i < 3; i++) send(queue_b, 5000 * (size_t)(i + 1));
    for (int i = 0; i < 200; i++) send(queue_a, 60);
    CHECK(claim(queue_a, 40) == 40);
    for (int i = 0; i < 40; i += 3) settle(queue_a, EMBQ_NACK, i, 1000 * i);
}

static void fill_many_queues(void) {
    for (char c = 'c'; c < 'c' + 18; c++) {
        char name[] = {c, 0};
        struct bounds two = {2, 0, c % 4};
        send(declare_placed(name, "a.dead", 5, 0, two), 20);
    }
    int64_t keyed = declare_placed("keyed", "a.dead", 3, 1, (struct bounds){0});
    for (int i = 0; i < 9; i++) send(keyed, (size_t)i % 3 * 2 + 1);
    CHECK(claim(keyed, 4) == 1);
    send(queue_a, 20);
    CHECK(claim(queue_a, 1) == 1);
}

static void (*const fills[SEEDS])(void) = {
    fill_nothing,      fill_messages, fill_runs,        fill_deliveries,
    fill_dead_letters, fill_large,    fill_many_queues,
};

/* ---- making ---- */

static void seed_take(struct seed *seed, const char *path, const char *wal) {
    struct engine *e = broker_of(broker)->engine;
    pthread_mutex_lock(&e->checkpoint_mutex); /* no page moves while they are read */
    seed->database = file_read(path);
    seed->wal = file_read(wal);
    pthread_mutex_unlock(&e->checkpoint_mutex);
    CHECK(seed->database.size && seed->wal.size);
    schema_loosen(&seed->database);
}

static void seed_make(int which, const char *path, const char *wal) {
    file_clear(path); /* of a case that crashed */
    file_write(path, file_empty());
    clocks_set(0, 0);
    CHECK(embq_open(path, 0, 5000, -1, &broker) == 0);
    queue_a = declare("a", "a.dead", 3);
    queue_b = declare("b", NULL, 5);
    fills[which]();
    seed_take(&made[which][1], path, wal);
    embq_broker_free(broker);
    made[which][0].database = file_read(path);
    schema_loosen(&made[which][0].database);
}

void seeds_make(const char *path) {
    char wal[4096 + 8];
    snprintf(wal, sizeof wal, "%s-wal", path);
    for (int i = 0; i < SEEDS; i++) seed_make(i, path, wal);
}

const struct seed *seed_get(int which, int open) {
    return &made[which % SEEDS][open != 0];
}
