/* What a child of a fork has of SQLite's that is not its own: locks that it only
 * believes to hold, and mutexes that nobody will ever release.
 *
 * POSIX locks are not inherited, but SQLite's memory of them is. With a connection that
 * was open across a fork, SQLite takes the file's shared lock for taken, and gives
 * every connection that the child opens a lock that is not there: others may then
 * unlink the WAL or empty the WAL-index under it. Nothing that SQLite offers tells so,
 * but the kernel does, who lists with each descriptor the locks that this process took
 * through it (proc_pid_fdinfo(5), "lock:"). A child's copy of a descriptor shows none
 * of the parent's.
 */
#include "embq.h"
#include "engine.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MUTEX_WAIT_US 1000000

/* Another thread of the parent, maybe the application's with a file of its own, may
 * have been in SQLite in the moment of the fork. Or it is one of this process, which
 * will be out soon. */
int mutexes_are_free(const char *path) {
    int64_t end = clock_real_us() + MUTEX_WAIT_US;
    for (int which = SQLITE_MUTEX_STATIC_MAIN; which <= SQLITE_MUTEX_STATIC_VFS3;) {
        sqlite3_mutex *mutex = sq.mutex_alloc(which);
        if (sq.mutex_try(mutex) == SQLITE_OK) {
            sq.mutex_leave(mutex);
            which++;
        } else if (clock_real_us() < end) usleep(NAP_US);
        else
            return error_set(EMBQ_FORKED,
                             "%s: another thread was in SQLite when this process was "
                             "forked, and its mutexes stay taken here",
                             path);
    }
    return 0;
}

#ifdef __linux__

#define LINE_SIZE 1024
/* PF_FORKNOEXEC of linux/sched.h: forked, and no exec since. */
#define FLAG_FORKED 0x40

/* Also of a fork that came before embq was loaded. */
int process_is_forked(void) {
    char line[LINE_SIZE] = "";
    unsigned flags = 0;
    if (fork_generation) return 1;
    FILE *file = fopen("/proc/self/stat", "re");
    if (!file) return 0;
    size_t size = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[size] = 0;
    const char *after = strrchr(line, ')'); /* the program's name may hold anything */
    return after && sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %u", &flags) == 1 &&
           (flags & FLAG_FORKED);
}

/* What the kernel told. */
struct seen {
    int held;   /* the shared lock is this process's */
    int marked; /* it tells of locks: the one that was set for this look was there */
    int failed; /* errno; something could not be read */
};

/* A line is "lock:", number, kind, "ADVISORY", "READ", pid, device and inode, first,
 * last. */
static void line_read(const char *line, struct seen *seen) {
    char kind[16], last[24];
    long long first;
    if (sscanf(line, "lock: %*s %15s %*s %*s %*s %*s %lld %23s", kind, &first, last) !=
        3)
        return;
    long long end = strcmp(last, "EOF") ? strtoll(last, NULL, 10) : INT64_MAX;
    if (!strcmp(kind, "POSIX") && first <= SHARED_FIRST && end >= SHARED_LAST)
        seen->held = 1;
    if (!strcmp(kind, "OFDLCK") && first == FORK_MARK) seen->marked = 1;
}

static void descriptor_read(const char *number, struct seen *seen) {
    char name[64], line[LINE_SIZE];
    snprintf(name, sizeof name, "/proc/self/fdinfo/%.20s", number);
    FILE *file = fopen(name, "re");
    if (!file) {
        if (errno != ENOENT) seen->failed = errno; /* else closed just now */
        return;
    }
    while (fgets(line, sizeof line, file)) line_read(line, seen);
    fclose(file);
}

static void descriptors_read(const struct guard *g, struct seen *seen) {
    DIR *folder = opendir("/proc/self/fd");
    if (!folder) {
        seen->failed = errno;
        return;
    }
    for (const struct dirent *entry; (entry = readdir(folder));) {
        struct stat s;
        if (entry->d_name[0] == '.' || fstat(atoi(entry->d_name), &s)) continue;
        if (s.st_dev == g->device && s.st_ino == g->inode)
            descriptor_read(entry->d_name, seen);
    }
    closedir(folder);
}

int locks_are_ours(const struct guard *g, const char *path) {
    struct seen seen = {0};
    if (guard_mark(g, 1)) return 0;
    descriptors_read(g, &seen);
    guard_mark(g, 0);
    if (seen.held) return 0;
    if (seen.failed == EMFILE || seen.failed == ENFILE || seen.failed == ENOMEM)
        return error_set(EMBQ_LIMIT_REACHED, "%s: /proc/self/fd: %s", path,
                         strerror(seen.failed));
    if (seen.failed || !seen.marked) return 0; /* the kernel does not tell */
    return error_set(EMBQ_FORKED,
                     "%s: a connection that was open on it when this process was "
                     "forked is still open here, and SQLite takes the locks of the "
                     "parent for this process's",
                     path);
}

#else /* not told of anywhere that we know */

int process_is_forked(void) {
    return fork_generation > 0;
}

int locks_are_ours(const struct guard *g, const char *path) {
    (void)g, (void)path;
    return 0;
}

#endif
