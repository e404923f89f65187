/* Room on the disk. Everything writes, an ack too, so a queue on a full disk would be
 * stuck for ever. Therefore sends stop while a reserve is still free, and the others go
 * on: with the reserve, and by starting the -wal over in its own bytes, which needs
 * none.
 *
 * What is left is what the file system says and the free pages of the database, less
 * the bytes that the next checkpoint makes the database longer by. It is looked at anew
 * once this process may have written a share of it, and by the clock, as others write
 * too.
 */
#include "store.h"

#include <sys/stat.h>
#include <sys/statvfs.h>

#define RESERVE_MAX ((int64_t)64 << 20)
#define RESERVE_SHARE 20      /* of the file system */
#define WAL_SHARE 16          /* a -wal is no larger a share of it, ... */
#define WAL_LEAST (256 << 10) /* ... but for this */
#define LOOK_US 50000
#define LOOK_SHARE 4 /* and after so much of what was left */
/* A body of n bytes is n in the -wal, n more in the database, and some pages. */
#define BODY_COST 2
#define SEND_COST 65536

/* By how much more than its free pages the database gets longer at a checkpoint. */
static int64_t database_growth(struct engine *e) {
    struct stat s;
    int64_t page_size = wal_page_size(&e->wal), size = wal_pages(&e->wal) * page_size;
    int64_t unused = statement_int(e, ST_FREE_PAGES, 0, 0, NULL, 0) * page_size;
    if (fstat(e->guard->fd, &s)) return 0;
    e->space.owed = size > s.st_size;
    return (e->space.owed ? size - s.st_size : 0) - unused;
}

int64_t space_look(struct engine *e) {
    struct statvfs s;
    e->space.looked_us = clock_real_us();
    e->space.frames = wal_frames(&e->wal);
    e->space.salt = wal_salt(&e->wal);
    if (fstatvfs(e->wal_fd, &s)) {
        e->space.left = INT64_MAX;
        ATOMIC_STORE(&e->space.size, INT64_MAX); /* the keeper asks, too */
    } else {
        ATOMIC_STORE(&e->space.size, (int64_t)s.f_blocks * (int64_t)s.f_frsize);
        e->space.left = (int64_t)s.f_bavail * (int64_t)s.f_frsize - database_growth(e);
    }
    return e->space.left;
}

int64_t space_for_wal(const struct engine *e, int64_t most) {
    int64_t share = ATOMIC_LOAD(&e->space.size) / WAL_SHARE;
    if (share < WAL_LEAST) share = WAL_LEAST;
    return share < most ? share : most;
}

static int64_t reserve_of(const struct engine *e, const struct broker *b) {
    if (b->disk_reserve >= 0) return b->disk_reserve;
    int64_t share = e->space.size / RESERVE_SHARE;
    return share < RESERVE_MAX ? share : RESERVE_MAX;
}

static int look_is_old(const struct engine *e, int64_t spare) {
    int64_t frames = (int64_t)wal_frames(&e->wal) - e->space.frames;
    return wal_salt(&e->wal) != e->space.salt ||
           frames * wal_page_size(&e->wal) > spare / LOOK_SHARE ||
           clock_real_us() - e->space.looked_us > LOOK_US;
}

int space_check(struct engine *e, const struct op *send) {
    int64_t need = (int64_t)(send->size + send->extra_size) * BODY_COST + SEND_COST;
    if (look_is_old(e, e->space.left - reserve_of(e, send->broker) - need))
        space_look(e);
    int64_t reserve = reserve_of(e, send->broker); /* of the size as it is now */
    if (e->space.left - need >= reserve) return 0;
    /* Now, as acks may lengthen the -wal into what the database needs. */
    if (e->space.owed) checkpoint_stage(e);
    return error_set(
        EMBQ_STORAGE_FULL,
        "%s: %lld KiB are left on its file system, and %lld KiB of them are "
        "reserved for receiving and settling",
        e->path, (long long)(e->space.left / 1024), (long long)(reserve / 1024));
}
