/* Any bytes as a database file.
 *
 * The head chooses one of seven files that were in use (seeds.c), as its close or as a
 * kill left it; the records damage it (damage.c) and then use it (verbs.c). Or the pool
 * is the file as it is, or its -wal.
 *
 *     head.kind   the seed                     head.c & 1   open at full
 *                                                     & 2   without a fingerprint of
 *                                                           the schema, which else
 *                                                           refuses most damage to it
 *     head.a & 1  with the -wal of a killed process
 *            & 2  as another file: a copy, whose leases are void
 *            & 4  damage by SQL stays in the -wal
 *           >> 4  15: the pool is the file; 14: the pool is the -wal
 */
#include "fuzz.h"

static const char *work, *copy;

static void database_prepare(void) {
    work = folder_path("work.db");
    copy = folder_path("copy.db");
    seeds_make(work);
    tables_check(work);
}

static int beside_are_none(const char *path) {
    static const char *const suffixes[] = {"wal", "shm", "journal"};
    char name[4096 + 16];
    for (size_t i = 0; i < LENGTH(suffixes); i++) {
        snprintf(name, sizeof name, "%s-%s", path, suffixes[i]);
        struct image found = file_read(name);
        free(found.data);
        if (found.data) return 0;
    }
    return 1;
}

/* CASE 1: what is no database is not changed, and nothing is left beside it. */
static void stays_as_it_is(const char *path, int alone) {
    embq_ref broker = 0;
    struct image before = file_read(path);
    int code = embq_open(path, 0, 50, -1, &broker);
    if (code == EMBQ_NOT_AN_EMBQ_FILE) {
        struct image after = file_read(path);
        CHECK(!broker && after.size == before.size);
        CHECK(!before.size || !memcmp(after.data, before.data, before.size));
        CHECK(!alone || beside_are_none(path));
        free(after.data);
    }
    if (broker) embq_broker_free(broker);
    free(before.data);
}

static void database_run(const struct input *in) {
    uint8_t mode = in->head.a >> 4, flags = in->head.a;
    const char *path = flags & 2 ? copy : work;
    const struct seed *seed = seed_get(in->head.kind, flags & 1);
    struct image pool = {(char *)in->pool.data, in->pool.size};
    int wal = flags & 1 || mode == 14;
    char wal_path[4096 + 8];
    snprintf(wal_path, sizeof wal_path, "%s-wal", path);
    clocks_set(0, 0);
    file_clear(path);
    file_write(path, mode == 15 ? pool : seed->database);
    if (wal) file_write(wal_path, mode == 14 ? pool : seed->wal);
    int damages = mode == 15 || damage_apply(in, path) > 0 || mode == 14;
    if (damages) stays_as_it_is(path, !wal && !(flags & 4));
    verbs_run(in, path, !damages);
    file_clear(path);
}

/* Damages, those of values oftener, and verbs. */
static const uint8_t kinds[] = {0,   1,   2,   3,   4,   5,   6,   6,   6,
                                7,   7,   8,   9,   10,  11,  12,  13,  14,
                                128, 129, 130, 131, 132, 132, 133, 133, 134,
                                135, 136, 137, 138, 139, 140, 141, 142, 143};

const struct target database_target = {"database", database_prepare, database_run,
                                       kinds, LENGTH(kinds)};
