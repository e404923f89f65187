/* Descriptors and locks beside SQLite's own. See files.h. */
#include "embq.h"
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIFE_BASE ((off_t)1 << 62)
#define HEADER_SIZE 16

static struct guard *guards; /* under guards_mutex */
static pthread_mutex_t guards_mutex = PTHREAD_MUTEX_INITIALIZER;

static int lock_range(int fd, int command, short type, off_t start, off_t length) {
    struct flock lock = {
        .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    return fcntl(fd, command, &lock);
}

#ifdef F_OFD_SETLK
static int lock_shared(int fd, off_t start, off_t length) {
    return lock_range(fd, F_OFD_SETLK, F_RDLCK, start, length);
}

static int unlock(int fd, off_t start, off_t length) {
    return lock_range(fd, F_OFD_SETLK, F_UNLCK, start, length);
}
#else /* without OFD locks there is no guard: the fence remains */
static int lock_shared(int fd, off_t start, off_t length) {
    (void)fd, (void)start, (void)length;
    return 0;
}

static int unlock(int fd, off_t start, off_t length) {
    (void)fd, (void)start, (void)length;
    return 0;
}
#endif

static int file_open(const char *path, int flags) {
    int fd;
    AGAIN_IF_INTERRUPTED(fd, open(path, flags | O_CLOEXEC, 0600));
    return fd;
}

/* ---- the guard ---- */

static int open_error(const char *path) {
    int code = errno == ENOENT || errno == ENOTDIR ? EMBQ_NOT_FOUND
               : errno == EACCES || errno == EROFS || errno == EPERM
                   ? EMBQ_STORAGE_READ_ONLY
               : errno == ENOSPC || errno == EDQUOT ? EMBQ_STORAGE_FULL
               : errno == EMFILE || errno == ENFILE ? EMBQ_LIMIT_REACHED
               : errno == ENAMETOOLONG || errno == ELOOP || errno == EISDIR
                   ? EMBQ_INVALID_ARGUMENT
                   : EMBQ_STORAGE_IO_ERROR;
    return error_set(code, "%s: %s", path, strerror(errno));
}

/* The power was cut while the first page was written (test_crash_images.py): SQLite
 * takes that back when it opens the file. */
static int journal_is_there(const char *path) {
    static const unsigned char magic[] = {0xd9, 0xd5, 0x05, 0xf9,
                                          0x20, 0xa1, 0x63, 0xd7};
    char real[PATH_MAX], name[PATH_MAX + sizeof "-journal"], begin[sizeof magic];
    ssize_t n = 0;
    if (!realpath(path, real)) return 0;
    snprintf(name, sizeof name, "%s-journal", real);
    int fd = file_open(name, O_RDONLY);
    if (fd < 0) return 0;
    AGAIN_IF_INTERRUPTED(n, pread(fd, begin, sizeof begin, 0));
    close(fd);
    return n == (ssize_t)sizeof begin && !memcmp(begin, magic, sizeof magic);
}

static int header_check(int fd, const char *path) {
    char header[HEADER_SIZE];
    size_t size = 0;
    ssize_t n;
    do { /* a read may bring less than there is */
        AGAIN_IF_INTERRUPTED(
            n, pread(fd, header + size, sizeof header - size, (off_t)size));
        if (n < 0) return open_error(path);
        size += (size_t)n;
    } while (n > 0 && size < sizeof header);
    if (size == 0) return 0; /* a new file */
    int known = size == HEADER_SIZE && !memcmp(header, "SQLite format 3", HEADER_SIZE);
    if (!known && !journal_is_there(path))
        return error_set(EMBQ_NOT_AN_EMBQ_FILE, "%s: not an SQLite database", path);
    return 0;
}

static int file_check(const char *path, const struct stat *s) {
    if (!S_ISREG(s->st_mode))
        return error_set(EMBQ_INVALID_ARGUMENT, "%s: not a regular file", path);
    if (s->st_nlink > 1)
        return error_set(EMBQ_INVALID_ARGUMENT,
                         "%s: the file has %ju names (hard links); SQLite would keep a "
                         "separate -wal for each of them",
                         path, (uintmax_t)s->st_nlink);
    if (access(path, W_OK)) return open_error(path);
    return 0;
}

static struct guard *guard_find(const struct stat *s) {
    for (struct guard *g = guards; g; g = g->next)
        if (g->device == s->st_dev && g->inode == s->st_ino) return g;
    return NULL;
}

static int guard_keep(struct guard *g, int fd, const struct stat *s,
                      struct guard **out) {
    *g = (struct guard){s->st_dev, s->st_ino, fd, 0, guards};
    guards = *out = g;
    return 0;
}

/* Under guards_mutex. An existing file is looked at with stat() first: a second
 * descriptor on a file that has a guard could never be closed again. */
static int guard_open_locked(const char *path, int create, struct guard *fresh,
                             struct guard **out) {
    struct stat s;
    int fd = -1, code;
    if (create && (fd = file_open(path, O_RDWR | O_CREAT | O_EXCL)) >= 0) {
        if (fchmod(fd, 0600) || fstat(fd, &s)) code = open_error(path);
        else return guard_keep(fresh, fd, &s, out);
        close(fd);
        return code;
    }
    if (create && errno != EEXIST) return open_error(path);
    if (stat(path, &s)) return open_error(path);
    if ((code = file_check(path, &s)) < 0) return code;
    if ((*out = guard_find(&s))) return header_check((*out)->fd, path);
    if ((fd = file_open(path, O_RDONLY)) < 0) return open_error(path);
    if (fstat(fd, &s)) return open_error(path);
    /* From here on the descriptor stays open whatever happens, as its closing would
     * drop the locks of an application that uses the same file. */
    guard_keep(fresh, fd, &s, out);
    return header_check(fd, path);
}

int guard_open(const char *path, int flags, struct guard **out) {
    int code = flags & EMBQ_OPEN_ANYWHERE ? 0 : filesystem_check(path);
    *out = NULL;
    if (code < 0) return code;
    /* First, as a descriptor that nobody keeps could not be closed again. */
    struct guard *fresh = calloc(1, sizeof *fresh);
    if (!fresh) return error_set(EMBQ_NO_MEMORY, "%s: no memory", path);
    pthread_mutex_lock(&guards_mutex);
    code = guard_open_locked(path, flags & EMBQ_OPEN_CREATE, fresh, out);
    pthread_mutex_unlock(&guards_mutex);
    if (*out != fresh) free(fresh);
    return code;
}

int guard_lock(struct guard *g) {
    /* Fails with EAGAIN while another process closes the file as its last user. */
    for (int tries = 0; lock_shared(g->fd, SHARED_FIRST, SHARED_SIZE); tries++) {
        if ((errno != EAGAIN && errno != EACCES) || tries == 1000)
            return error_set(EMBQ_BUSY, "the database's shared lock: %s",
                             strerror(errno));
        usleep(1000);
    }
    g->locks++;
    return 0;
}

void guard_unlock(struct guard *g) {
    if (g->locks > 0 && --g->locks == 0) unlock(g->fd, SHARED_FIRST, SHARED_SIZE);
}

void guard_collect(void) {
    pthread_mutex_lock(&guards_mutex);
    for (struct guard **at = &guards; *at;) {
        struct guard *g = *at;
        struct stat s;
        /* No name left, so nobody can open it any more; whoever has it open has lost
         * it. */
        if (g->locks || fstat(g->fd, &s) || s.st_nlink > 0) {
            at = &g->next;
            continue;
        }
        *at = g->next;
        close(g->fd);
        free(g);
    }
    pthread_mutex_unlock(&guards_mutex);
}

void guard_forget_all(void) {
    pthread_mutex_init(&guards_mutex,
                       NULL); /* another thread of the parent may have held it */
    while (guards) {
        struct guard *g = guards;
        guards = g->next;
        close(g->fd); /* drops no lock: POSIX locks are not inherited, OFD locks are
                         shared */
        free(g);
    }
}

int guard_mark(const struct guard *g, int on) {
    return on ? lock_shared(g->fd, FORK_MARK, 1) : unlock(g->fd, FORK_MARK, 1);
}

/* ---- the -wal ---- */

void file_close(int *fd) {
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

int wal_file_open(const char *path) {
    char name[4096 + 8];
    snprintf(name, sizeof name, "%s-wal", path);
    int fd = file_open(name, O_RDWR);
    return fd < 0 ? open_error(name) : fd;
}

int directory_sync(const char *path) {
    char name[4096];
    snprintf(name, sizeof name, "%s", path);
    char *slash = strrchr(name, '/');
    if (slash) slash[slash == name] = 0;
    int fd = file_open(name, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return open_error(name);
    int result;
    AGAIN_IF_INTERRUPTED(result, fsync(fd));
    int code = result && errno != EINVAL ? open_error(name) : 0;
    close(fd);
    return code;
}

/* Not fstat(): whoever asks for the times of a file makes the kernel (from 6.13 on)
 * stamp the next write exactly, which dirties the inode: each fdatasync then takes 40 %
 * longer. */
int64_t wal_file_size(int fd) {
#ifdef STATX_SIZE
    struct statx s;
    return statx(fd, "", AT_EMPTY_PATH, STATX_SIZE, &s) ? 0 : (int64_t)s.stx_size;
#else
    struct stat s;
    return fstat(fd, &s) ? 0 : s.st_size;
#endif
}

int wal_file_gone(int fd) {
#ifdef STATX_NLINK
    struct statx s;
    return statx(fd, "", AT_EMPTY_PATH, STATX_NLINK, &s) != 0 || s.stx_nlink == 0;
#else
    struct stat s;
    return fstat(fd, &s) != 0 || s.st_nlink == 0;
#endif
}

/* ---- the gate ---- */

int gate_enter(int fd, int wait) {
    int result, before, ignored;
    do {
        /* The keeper may be cancelled while it waits here, and only here: whoever ends
         * it closes the descriptor, so a gate that it just got is left with it. */
        if (wait) pthread_setcancelstate(PTHREAD_CANCEL_ENABLE, &before);
        if (wait) pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &ignored);
        result = flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
        if (wait) pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &ignored);
        if (wait) pthread_setcancelstate(before, &ignored);
    } while (result && errno == EINTR);
    if (!result) return 1;
    if (errno == EWOULDBLOCK) return 0;
    return error_set(EMBQ_STORAGE_IO_ERROR, "gate: %s", strerror(errno));
}

void gate_leave(int fd) {
    flock(fd, LOCK_UN);
}

/* ---- who is alive ---- */

int life_lock(int fd, int64_t slot) {
    if (lock_shared(fd, LIFE_BASE + slot, 1))
        return error_set(EMBQ_LIMIT_REACHED, "liveness lock: %s", strerror(errno));
    return 0;
}

int life_probe(int fd, int64_t slot) {
    if (slot < 1 || slot >= LIFE_SLOT_MAX) return 0;
#ifdef F_OFD_GETLK
    struct flock lock = {.l_type = F_WRLCK,
                         .l_whence = SEEK_SET,
                         .l_start = LIFE_BASE + slot,
                         .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
#else
    (void)fd, (void)slot;
    return 1;
#endif
}
