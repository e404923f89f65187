/* Descriptors and locks that stand beside SQLite's own.
 *
 *   guard   on the database: an OFD read lock over SQLite's shared range, so that no
 * close() and no second SQLite copy in this process makes anybody believe that the file
 * is unused and unlink its WAL. gate    flock() on the -wal: the queue in front of the
 * write lock. life    an OFD read lock on byte LIFE_BASE + slot of the -wal: this
 * process is alive.
 *
 * Caveat: closing *any* descriptor of a database drops every POSIX lock that the
 * process has on it. So a guard's descriptor outlives its engine until the file has no
 * name any more.
 */
#ifndef EMBQ_FILES_H
#define EMBQ_FILES_H

#include <stdint.h>
#include <sys/types.h>

struct guard {
    dev_t device;
    ino_t inode;
    int fd;
    int locks; /* engines that hold it now */
    struct guard *next;
};

/* Network file systems let a signal end what elsewhere cannot be interrupted. */
#define AGAIN_IF_INTERRUPTED(result, call) \
    do {                                   \
        result = call;                     \
    } while (result < 0 && errno == EINTR)

/* Before the file is touched: 0, or UNSUPPORTED_FILESYSTEM. See filesystem.c. */
int filesystem_check(const char *path);

/* Open the database at `path`, or find its guard. `flags` of embq_open: whether it is
 * made when it is not there (mode 0600), and whether on any file system. Refuses what
 * is no regular file, has several names, cannot be written, or is no database. */
int guard_open(const char *path, int flags, struct guard **out);
int guard_lock(struct guard *g);
void guard_unlock(struct guard *g);
/* Close the descriptors of files that were removed and that nobody can open any more.
 */
void guard_collect(void);
/* In the child of a fork: all guards are the parent's. */
void guard_forget_all(void);
/* Set or take away a lock on a byte that nobody else uses. */
int guard_mark(const struct guard *g, int on);

/* SQLite's locking bytes: the shared ones (sqlite3 file format, 1.3). And the byte that
 * guard_mark() locks. */
#define SHARED_FIRST 0x40000002
#define SHARED_SIZE 510
#define SHARED_LAST (SHARED_FIRST + SHARED_SIZE - 1)
#define FORK_MARK ((off_t)1 << 62)

/* Whether this process was forked and has not called exec() since. */
int process_is_forked(void);
/* In such a process: whether SQLite's mutexes can be had, so that calling it does not
 * wait for ever: 0, or FORKED. */
int mutexes_are_free(const char *path);
/* Whether the shared lock that SQLite believes to hold on this file just now is there:
 * 0, or a code. FORKED when it is not; when the kernel does not tell, 0. */
int locks_are_ours(const struct guard *g, const char *path);

/* Close what is open, and say so in `*fd`: -1. */
void file_close(int *fd);
/* A new descriptor on the -wal of `path`; close-on-exec. */
int wal_file_open(const char *path);
/* Make the names of database and -wal durable. */
int directory_sync(const char *path);

/* 1 when the gate was taken, 0 when another holds it (never with `wait`), < 0 a code.
 */
int gate_enter(int fd, int wait);
void gate_leave(int fd);

#define LIFE_SLOT_MAX 65536
int life_lock(int fd, int64_t slot);
/* Whether the process in `slot` is alive. Not for the own slot. A number that is no
 * slot is nobody's. */
int life_probe(int fd, int64_t slot);

/* How long the -wal is. */
int64_t wal_file_size(int fd);
/* Whether the -wal behind `fd` has lost its name. */
int wal_file_gone(int fd);

#endif
