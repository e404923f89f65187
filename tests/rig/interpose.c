/* A library that stands between a process and libc (LD_PRELOAD): it counts the calls
 * that SQLite and the C core make on watched files, and at a chosen one kills the
 * process, fails, is short, or waits; it writes down what reached the files, for crash
 * images; it stirs the order of threads. interpose.py is its Python side.
 *
 * Watched are files whose path begins with rig_watch()'s text. Calls without a file
 * (futex, malloc, mutexes) count when they come from the core or from SQLite.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define PUBLIC __attribute__((visibility("default")))
#define FDS 4096
#define RANGES 8
#define BOOT_ID "/proc/sys/kernel/random/boot_id"

/* Bits of a set of calls; the names are interpose.py's. */
enum {
    PWRITE = 1 << 0, /* and write */
    FSYNC = 1 << 1,  /* and fdatasync */
    FCNTL = 1 << 2,
    FTRUNCATE = 1 << 3,
    UNLINK = 1 << 4,
    OPEN = 1 << 5,
    MMAP = 1 << 6,
    FLOCK = 1 << 7,
    FUTEX = 1 << 8,
    MALLOC = 1 << 9,
    MUTEX = 1 << 10,
    PREAD = 1 << 11
};

enum { COUNT, KILL, FAIL, SHORT, DELAY, STOP };

static struct {
    atomic_int calls, action;
    atomic_long first, last, every, argument, seen;
} plan;

static struct {
    atomic_int on;
    atomic_long count;
} live; /* memory of the core and of SQLite */

static struct {
    atomic_int on;
    atomic_ulong state;
    long one_in, most_us;
} stir;

static char watched[4096];
static char boot_id[4096];   /* the file to read in place of BOOT_ID */
static char paths[FDS][256]; /* by descriptor; empty: not watched */
static struct {
    uintptr_t from, to;
    int ours; /* the core's, not SQLite's */
} ranges[RANGES];
static int range_count;
static int log_fd = -1;
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;

#define NEXT(name) ((__typeof__(&name))next(#name))

static void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

static int on_file(int fd) {
    return fd >= 0 && fd < FDS && paths[fd][0];
}

static int from_core(void *address) {
    for (int i = 0; i < range_count; i++)
        if ((uintptr_t)address >= ranges[i].from && (uintptr_t)address < ranges[i].to)
            return 1;
    return 0;
}

/* SQLite has mutexes around every allocation; those are no steps of ours. */
static int mutex_counts(void *address) {
    if (!stir.on && !(plan.calls & MUTEX)) return 0;
    for (int i = 0; i < range_count; i++)
        if ((uintptr_t)address >= ranges[i].from && (uintptr_t)address < ranges[i].to)
            return ranges[i].ours;
    return 0;
}

static void nap(long us) {
    struct timespec time = {us / 1000000, us % 1000000 * 1000};
    int before = errno;
    nanosleep(&time, NULL);
    errno = before;
}

static void stir_now(void) {
    if (!stir.on) return;
    uint64_t x = atomic_fetch_add(&stir.state, 0x9e3779b97f4a7c15u);
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    if (x % (uint64_t)stir.one_in == 0)
        nap((long)(x / (uint64_t)stir.one_in % (uint64_t)stir.most_us));
}

/* A call is about to be made. Returns an errno when it must fail, -1 when it must be
 * short, 0 when it goes on. */
static int met(int call) {
    stir_now();
    if (!(plan.calls & call)) return 0;
    long number = atomic_fetch_add(&plan.seen, 1) + 1;
    if (number < plan.first || number > plan.last) return 0;
    if ((number - plan.first) % plan.every) return 0;
    switch (plan.action) {
    case KILL:
        syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
        for (;;) syscall(SYS_pause);
    case FAIL: return (int)plan.argument;
    case SHORT: return -1;
    case DELAY: nap(plan.argument); return 0;
    case STOP: syscall(SYS_kill, syscall(SYS_getpid), SIGSTOP); return 0;
    default: return 0;
    }
}

#define FAIL_IF_MET(call, failed)  \
    do {                           \
        int met_error = met(call); \
        if (met_error > 0) {       \
            errno = met_error;     \
            return failed;         \
        }                          \
    } while (0)

/* ---- the log of what reached the files ----
 * One record: kind, name length, offset, size (all int64), the name, `size` bytes. A
 * sync has two, with its thread as the offset: what was written before its 'S' is
 * stable at its 's'. The log is locked from before the call to after its record, so
 * that records stand in the order of the calls of all processes. */

static void log_record(char kind, const char *name, int64_t offset, const void *bytes,
                       size_t size) {
    int64_t head[4] = {kind, (int64_t)strlen(name), offset, (int64_t)size};
    char *whole = alloca(sizeof head + strlen(name));
    memcpy(whole, head, sizeof head);
    memcpy(whole + sizeof head, name, strlen(name));
    const char *parts[2] = {whole, bytes};
    size_t sizes[2] = {sizeof head + strlen(name), bytes ? size : 0};
    for (int i = 0; i < 2; i++)
        for (size_t done = 0; done < sizes[i];) {
            long n = syscall(SYS_write, log_fd, parts[i] + done, sizes[i] - done);
            if (n <= 0) abort();
            done += (size_t)n;
        }
}

static int log_lock(int wanted) {
    if (log_fd < 0 || !wanted) return 0;
    NEXT(pthread_mutex_lock)(&log_mutex);
    while (syscall(SYS_flock, log_fd, LOCK_EX)) continue;
    return 1;
}

static void log_unlock(void) {
    int before = errno;
    syscall(SYS_flock, log_fd, LOCK_UN);
    NEXT(pthread_mutex_unlock)(&log_mutex);
    errno = before;
}

static const char *base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- the calls ---- */

static ssize_t do_write(int fd, const void *bytes, size_t size, int64_t offset) {
    size_t want = size;
    if (on_file(fd)) {
        int error = met(PWRITE);
        if (error > 0) {
            errno = error;
            return -1;
        }
        if (error < 0) want = size / 2;
    }
    int locked = log_lock(on_file(fd));
    int64_t at = offset < 0 ? (int64_t)lseek(fd, 0, SEEK_CUR) : offset;
    ssize_t n = offset < 0 ? (ssize_t)syscall(SYS_write, fd, bytes, want)
                           : (ssize_t)syscall(SYS_pwrite64, fd, bytes, want, offset);
    if (locked) {
        if (n > 0) log_record('W', base(paths[fd]), at, bytes, (size_t)n);
        log_unlock();
    }
    return n;
}

PUBLIC ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset) {
    return do_write(fd, bytes, size, offset);
}

PUBLIC ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
    return do_write(fd, bytes, size, offset);
}

PUBLIC ssize_t write(int fd, const void *bytes, size_t size) {
    return do_write(fd, bytes, size, -1);
}

PUBLIC ssize_t pread64(int fd, void *bytes, size_t size, off64_t offset) {
    if (on_file(fd)) {
        int error = met(PREAD);
        if (error > 0) {
            errno = error;
            return -1;
        }
        if (error < 0 && size > 1) size /= 2;
    }
    return (ssize_t)syscall(SYS_pread64, fd, bytes, size, offset);
}

PUBLIC ssize_t pread(int fd, void *bytes, size_t size, off_t offset) {
    return pread64(fd, bytes, size, offset);
}

static int do_sync(int fd, long call) {
    int64_t thread = syscall(SYS_gettid);
    if (log_lock(on_file(fd))) {
        log_record('S', base(paths[fd]), thread, NULL, 0);
        log_unlock();
    }
    if (on_file(fd)) FAIL_IF_MET(FSYNC, -1); /* a slow one is slow in the record too */
    int result = (int)syscall(call, fd);
    if (result == 0 && log_lock(on_file(fd))) {
        log_record('s', base(paths[fd]), thread, NULL, 0);
        log_unlock();
    }
    return result;
}

PUBLIC int fdatasync(int fd) {
    return do_sync(fd, SYS_fdatasync);
}

PUBLIC int fsync(int fd) {
    return do_sync(fd, SYS_fsync);
}

PUBLIC int ftruncate64(int fd, off64_t size) {
    if (on_file(fd)) FAIL_IF_MET(FTRUNCATE, -1);
    int locked = log_lock(on_file(fd));
    int result = (int)syscall(SYS_ftruncate, fd, size);
    if (locked) {
        if (result == 0) log_record('T', base(paths[fd]), size, NULL, 0);
        log_unlock();
    }
    return result;
}

PUBLIC int ftruncate(int fd, off_t size) {
    return ftruncate64(fd, size);
}

static int is_watched(const char *path) {
    return watched[0] && strncmp(path, watched, strlen(watched)) == 0;
}

PUBLIC int unlink(const char *path) {
    if (is_watched(path)) FAIL_IF_MET(UNLINK, -1);
    int locked = log_lock(is_watched(path));
    int result = (int)syscall(SYS_unlink, path);
    if (locked) {
        if (result == 0) log_record('U', base(path), 0, NULL, 0);
        log_unlock();
    }
    return result;
}

static int do_open(int folder, const char *path, int flags, unsigned mode) {
    if (boot_id[0] && strcmp(path, BOOT_ID) == 0)
        return (int)syscall(SYS_openat, AT_FDCWD, boot_id, flags, mode);
    if (!is_watched(path)) return (int)syscall(SYS_openat, folder, path, flags, mode);
    FAIL_IF_MET(OPEN, -1);
    int locked = log_lock(1);
    int fresh = (flags & O_CREAT) && access(path, F_OK);
    int fd = (int)syscall(SYS_openat, folder, path, flags, mode);
    if (fd >= 0 && fd < FDS) snprintf(paths[fd], sizeof paths[fd], "%s", path);
    if (locked) {
        if (fd >= 0 && fresh) log_record('C', base(path), 0, NULL, 0);
        log_unlock();
    }
    return fd;
}

#define MODE(flags, mode)                    \
    unsigned mode = 0;                       \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list list;                        \
        va_start(list, flags);               \
        mode = va_arg(list, unsigned);       \
        va_end(list);                        \
    }

PUBLIC int open(const char *path, int flags, ...) {
    MODE(flags, mode)
    return do_open(AT_FDCWD, path, flags, mode);
}

PUBLIC int open64(const char *path, int flags, ...) {
    MODE(flags, mode)
    return do_open(AT_FDCWD, path, flags, mode);
}

PUBLIC int openat(int folder, const char *path, int flags, ...) {
    MODE(flags, mode)
    return do_open(folder, path, flags, mode);
}

PUBLIC int close(int fd) {
    if (fd >= 0 && fd < FDS) paths[fd][0] = 0;
    return (int)syscall(SYS_close, fd);
}

/* Locks may be refused; letting go of one never fails. */
static int lets_go(int command, const void *argument) {
    int locks = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK ||
                command == F_OFD_SETLKW;
    return locks && ((const struct flock *)argument)->l_type == F_UNLCK;
}

static int do_fcntl(int fd, int command, void *argument) {
    int error = on_file(fd) ? met(FCNTL) : 0;
    if (error > 0 && !lets_go(command, argument)) {
        errno = error;
        return -1;
    }
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

PUBLIC int fcntl(int fd, int command, ...) {
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return do_fcntl(fd, command, argument);
}

PUBLIC int fcntl64(int fd, int command, ...) {
    va_list list;
    va_start(list, command);
    void *argument = va_arg(list, void *);
    va_end(list);
    return do_fcntl(fd, command, argument);
}

PUBLIC int flock(int fd, int operation) {
    int error = on_file(fd) ? met(FLOCK) : 0;
    if (error > 0 && operation != LOCK_UN) {
        errno = error;
        return -1;
    }
    return (int)syscall(SYS_flock, fd, operation);
}

PUBLIC void *mmap64(void *at, size_t size, int protect, int flags, int fd,
                    off64_t offset) {
    if (on_file(fd)) FAIL_IF_MET(MMAP, MAP_FAILED);
    return (void *)syscall(SYS_mmap, at, size, protect, flags, fd, offset);
}

PUBLIC void *mmap(void *at, size_t size, int protect, int flags, int fd, off_t offset) {
    return mmap64(at, size, protect, flags, fd, offset);
}

/* The core sleeps and wakes by syscall(SYS_futex, ...). */
PUBLIC long syscall(long number, ...) {
    static long (*real)(long, ...);
    if (!real) real = (long (*)(long, ...))next("syscall");
    va_list list;
    va_start(list, number);
    long a[6];
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (number == SYS_futex && from_core(__builtin_return_address(0))) {
        int error = met(FUTEX), wakes = (a[1] & FUTEX_CMD_MASK) != FUTEX_WAIT_BITSET;
        if (error > 0 && !wakes) { /* a wake has no reason to fail */
            errno = error;
            return -1;
        }
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

PUBLIC int pthread_mutex_lock(pthread_mutex_t *mutex) {
    static int (*real)(pthread_mutex_t *);
    if (!real) real = NEXT(pthread_mutex_lock);
    if (mutex_counts(__builtin_return_address(0))) met(MUTEX);
    return real(mutex);
}

PUBLIC int pthread_mutex_unlock(pthread_mutex_t *mutex) {
    static int (*real)(pthread_mutex_t *);
    if (!real) real = NEXT(pthread_mutex_unlock);
    int result = real(mutex);
    if (mutex_counts(__builtin_return_address(0))) met(MUTEX);
    return result;
}

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void __libc_free(void *memory);

#define FAIL_MALLOC                                                      \
    if ((plan.calls & MALLOC) && from_core(__builtin_return_address(0))) \
    FAIL_IF_MET(MALLOC, NULL)

#define COUNT_LIVE(by)                                     \
    if (live.on && from_core(__builtin_return_address(0))) \
    atomic_fetch_add(&live.count, by)

PUBLIC void *malloc(size_t size) {
    FAIL_MALLOC;
    void *memory = __libc_malloc(size);
    if (memory) COUNT_LIVE(1);
    return memory;
}

PUBLIC void *calloc(size_t count, size_t size) {
    FAIL_MALLOC;
    void *memory = __libc_calloc(count, size);
    if (memory) COUNT_LIVE(1);
    return memory;
}

PUBLIC void *realloc(void *old, size_t size) {
    FAIL_MALLOC;
    void *memory = __libc_realloc(old, size);
    if (memory && !old) COUNT_LIVE(1);
    return memory;
}

PUBLIC char *strdup(const char *text) {
    FAIL_MALLOC;
    char *memory = __libc_malloc(strlen(text) + 1);
    if (memory) COUNT_LIVE(1);
    return memory ? strcpy(memory, text) : NULL;
}

PUBLIC void free(void *memory) {
    if (memory) COUNT_LIVE(-1);
    __libc_free(memory);
}

/* ---- the controls ---- */

static int look_at_library(struct dl_phdr_info *info, size_t size, void *unused) {
    (void)size, (void)unused;
    if (!strstr(info->dlpi_name, "/_core.") && !strstr(info->dlpi_name, "libsqlite3"))
        return 0;
    for (int i = 0; i < info->dlpi_phnum && range_count < RANGES; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_X)) continue;
        ranges[range_count].from = info->dlpi_addr + part->p_vaddr;
        ranges[range_count].to = info->dlpi_addr + part->p_vaddr + part->p_memsz;
        ranges[range_count].ours = strstr(info->dlpi_name, "/_core.") != NULL;
        range_count++;
    }
    return 0;
}

/* Watch files whose path begins so; returns how many libraries' code was found, which
 * must be those of the core and of SQLite: import embq first. */
PUBLIC int rig_watch(const char *prefix) {
    snprintf(watched, sizeof watched, "%s", prefix);
    range_count = 0;
    dl_iterate_phdr(look_at_library, NULL);
    return range_count;
}

/* From now on count these calls; from the `first` to the `last` of them, act, on one in
 * `every`. */
PUBLIC void rig_arm(int calls, int action, long first, long last, long every,
                    long argument) {
    plan.calls = 0;
    plan.every = every;
    plan.action = action;
    plan.first = first;
    plan.last = last;
    plan.argument = argument;
    plan.seen = 0;
    plan.calls = calls;
}

/* How many of the armed calls there were. */
PUBLIC long rig_seen(void) {
    return plan.seen;
}

/* From now on count what the core and SQLite allocate and free. */
PUBLIC void rig_count_live(void) {
    live.count = 0;
    live.on = 1;
}

/* How many of their allocations since then are not freed. */
PUBLIC long rig_live(void) {
    return live.count;
}

/* One in so many calls, mutexes too, sleeps up to so long; 0 ends it. */
PUBLIC void rig_stir(unsigned long seed, long one_in, long most_us) {
    stir.one_in = one_in;
    stir.most_us = most_us;
    stir.state = seed * 0x9e3779b97f4a7c15u;
    stir.on = one_in > 0;
}

/* From now on this boot of the machine is the one whose id stands in that file. */
PUBLIC void rig_boot(const char *path) {
    snprintf(boot_id, sizeof boot_id, "%s", path);
}

/* Append what reaches watched files to this log; several processes may share it. */
PUBLIC int rig_record(const char *path) {
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, path,
                          O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return log_fd;
}

/* Put a word of the test into the log. */
PUBLIC void rig_mark(const char *bytes, long size) {
    if (!log_lock(1)) return;
    log_record('M', "", 0, bytes, (size_t)size);
    log_unlock();
}
