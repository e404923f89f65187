/* The calls on files: they count on watched ones, and what they do there is recorded.
 */
#include "interpose.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BOOT_ID "/proc/sys/kernel/random/boot_id"

static char paths[FDS][256]; /* by descriptor; empty: not watched */

static int on_file(int fd) {
    return fd >= 0 && fd < FDS && paths[fd][0];
}

static const char *base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

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
