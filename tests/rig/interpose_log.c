/* The log of what reached the files.
 *
 * One record: kind, name length, offset, size (all int64), the name, `size` bytes. A
 * sync has two, with its thread as the offset: what was written before its 'S' is
 * stable at its 's'. The log is locked from before the call to after its record, so
 * that records stand in the order of the calls of all processes.
 */
#include "interpose.h"

#include <alloca.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

static int log_fd = -1;
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;

void log_record(char kind, const char *name, int64_t offset, const void *bytes,
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

int log_lock(int wanted) {
    if (log_fd < 0 || !wanted) return 0;
    NEXT(pthread_mutex_lock)(&log_mutex);
    while (syscall(SYS_flock, log_fd, LOCK_EX)) continue;
    return 1;
}

void log_unlock(void) {
    int before = errno;
    syscall(SYS_flock, log_fd, LOCK_UN);
    NEXT(pthread_mutex_unlock)(&log_mutex);
    errno = before;
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
