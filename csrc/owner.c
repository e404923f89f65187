/* Owners: the processes that have the file open. Each has a row in embq_owner and, on
 * the byte of its slot, a lock that the kernel drops when it dies. So a death is
 * noticed whoever asks, and whatever process ids mean where the asker lives. See
 * files.h.
 */
#include "connection.h"
#include "store.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BOOT_ID_SIZE 40
#define ABSENT_US 500000 /* a death is believed when seen twice, so far apart */

static void boot_id_read(char *id) {
    memset(id, 0, BOOT_ID_SIZE);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return; /* elsewhere than on Linux: one boot, as far as we know */
    ssize_t n = read(fd, id, 36);
    id[n > 0 ? n : 0] = 0;
    close(fd);
}

/* With a live owner it is neither another boot nor a copy, whatever the numbers say:
 * another container may show another boot id, another mount another device. */
static int somebody_lives(struct engine *e) {
    int lives = 0;
    sqlite3_stmt *s = statement(e, ST_OWNER_ALL, 0);
    while (statement_step(e, s) > 0)
        lives |= life_probe(e->life_fd, sq.column_int64(s, 0));
    return lives;
}

/* Another boot, or a copy of the file: nobody who held a lease is alive, and numbers
 * that were seen outside may be forgotten here, so all are jumped over. */
static int incarnation_check(struct engine *e) {
    char boot_id[BOOT_ID_SIZE];
    boot_id_read(boot_id);
    int64_t device = (int64_t)e->guard->device, inode = (int64_t)e->guard->inode;
    sqlite3_stmt *s = statement(e, ST_META_READ, 0);
    if (statement_step(e, s) <= 0) return storage_corrupt(e); /* or failed already */
    e->file_id = (uint64_t)sq.column_int64(s, 0);
    struct slice known = column_slice(s, 1);
    int same = known.size == strlen(boot_id) &&
               !memcmp(known.data, boot_id, known.size) &&
               sq.column_int64(s, 2) == device && sq.column_int64(s, 3) == inode;
    sq.reset(s);
    if (same || !boot_id[0] || somebody_lives(e)) return 0;
    if (leases_void(e) < 0 || results_void(e) < 0 ||
        channels_jump(e, EMBQ_SEQUENCE_JUMP) < 0)
        return -1;
    if (statement_do(e, ST_OWNER_CLEAR, 0, 0, NULL) < 0) return -1;
    s = statement(e, ST_META_BOOT, 0);
    if (!s) return -1;
    sq.bind_text(s, 1, boot_id, -1, SQLITE_STATIC);
    sq.bind_int64(s, 2, device);
    sq.bind_int64(s, 3, inode);
    return statement_run(e, s);
}

/* The first to open a file after a migration keeps what its tables are then. */
static int fingerprint_keep(struct engine *e) {
    if (e->fingerprint) return 0;
    int64_t found; /* not kept in `e`: this group may run again */
    int result = schema_fingerprint(e->db, &found);
    if (result != SQLITE_OK) {
        if (!e->storage_error) e->storage_error = result;
        return -1;
    }
    return statement_do(e, ST_META_FINGERPRINT, 0, INTS(found)) < 0 ? -1 : 0;
}

int64_t owner_register(struct engine *e) {
    if (incarnation_check(e) < 0 || fingerprint_keep(e) < 0) return -1;
    int64_t slot = 1;
    sqlite3_stmt *s = statement(e, ST_OWNER_ALL, 0);
    while (statement_step(e, s) > 0)
        if (sq.column_int64(s, 0) == slot) slot++;
    if (e->storage_error) return -1;
    if (slot >= LIFE_SLOT_MAX)
        return error_set(EMBQ_LIMIT_REACHED, "%s: %d processes have it open", e->path,
                         LIFE_SLOT_MAX);
    int code = life_lock(e->life_fd, slot);
    if (code < 0) return code;
    if (statement_do(e, ST_OWNER_INSERT, 0, INTS(slot, getpid(), clock_wall_ms())) < 0)
        return -1;
    e->slot = slot;
    /* The sync that this waits for covers them all. */
    ATOMIC_STORE(&e->channels_certain,
                 statement_int(e, ST_CHANNEL_NEXT_ID, 0, 0, NULL, 1) - 1);
    return 0;
}

int64_t owner_recover(struct engine *e, int64_t slot) {
    /* A new process may have the slot already. But in ours, who has a lock as well has
     * given it up before we came, and is about to let go of it
     * (test_interleavings.py, "leave"). */
    if (slot != e->slot && life_probe(e->life_fd, slot)) return 0;
    int more = leases_of_owner(e, slot);
    if (more != 0) return more;
    if (results_of_owner(e, slot) < 0) return -1;
    return statement_do(e, ST_OWNER_DELETE, 0, INTS(slot)) < 0 ? -1 : 0;
}

/* ---- noticing ---- */

/* Since when the slot has been without its lock; noted now when that is new. */
static int64_t absent_since(struct engine *e, int64_t slot, int64_t now) {
    struct absence *empty = NULL;
    for (int i = 0; i < EMBQ_ABSENT_MAX; i++) {
        if (e->absent[i].slot == slot) return e->absent[i].since_us;
        if (!e->absent[i].slot) empty = &e->absent[i];
    }
    if (empty) *empty = (struct absence){slot, now};
    return now;
}

/* Forget the slots that have a lock again, or no row any more. */
static void absent_keep_only(struct engine *e, const int64_t *slots, int count) {
    for (int i = 0; i < EMBQ_ABSENT_MAX; i++) {
        int still = 0;
        for (int j = 0; j < count; j++) still |= slots[j] == e->absent[i].slot;
        if (!still) e->absent[i].slot = 0;
    }
}

void owners_look(struct engine *e) {
    int64_t slots[EMBQ_ABSENT_MAX], now = clock_real_us();
    int count = 0, result;
    pthread_mutex_lock(&e->read_mutex);
    sqlite3_stmt *s = statement_get(e->read_statements, ST_OWNER_ALL, 0, &result);
    while (s && count < EMBQ_ABSENT_MAX && sq.step(s) == SQLITE_ROW) {
        int64_t slot = sq.column_int64(s, 0);
        if (slot != e->slot && !life_probe(e->life_fd, slot)) slots[count++] = slot;
    }
    if (s) sq.reset(s);
    pthread_mutex_unlock(&e->read_mutex);
    absent_keep_only(e, slots, count);
    for (int i = 0; i < count; i++)
        if (now - absent_since(e, slots[i], now) >= ABSENT_US)
            keeper_stage(e, OP_RECOVER, slots[i]);
}
