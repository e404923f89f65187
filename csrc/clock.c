/* Clocks. Leases run on CLOCK_BOOTTIME (it counts suspended time and never jumps),
 * delays on the wall clock. Tests map a file of two int64 over both, shared by all
 * their processes.
 *
 * A time namespace (time_namespaces(7)) has a boot time of its own: so many seconds
 * more than the machine's. That is taken off, so that processes of several namespaces
 * mean the same by the deadline of a lease. */
#include "embq.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#ifndef CLOCK_BOOTTIME
#define CLOCK_BOOTTIME CLOCK_MONOTONIC /* macOS: its monotonic clock counts sleep */
#endif

static int64_t machine_ms(clockid_t id) {
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the time namespace ---- */

#define LINK_SIZE 32

static char time_namespace[LINK_SIZE]; /* the one that the offset is of; empty: none */
static int64_t namespace_ms;           /* how far it is ahead of the machine */

/* The name of a namespace, as the kernel's link says it; empty where there is none. */
static void namespace_name(const char *link, char name[LINK_SIZE]) {
    ssize_t n = readlink(link, name, LINK_SIZE - 1);
    name[n > 0 ? n : 0] = 0;
}

/* Of the namespace of this process's children, in milliseconds. */
static int64_t children_offset_ms(void) {
    char text[256] = "";
    int fd = open("/proc/self/timens_offsets", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    const char *line = n > 0 ? strstr(text, "boottime") : NULL;
    char *end;
    if (!line) return 0;
    int64_t seconds = strtoll(line + strlen("boottime"), &end, 10);
    return seconds * 1000 + strtoll(end, NULL, 10) / 1000000;
}

int clock_find(void) {
    char ours[LINK_SIZE], children[LINK_SIZE];
    namespace_name("/proc/self/ns/time", ours);
    if (!strcmp(ours, time_namespace)) return 0;
    namespace_name("/proc/self/ns/time_for_children", children);
    /* After unshare(CLONE_NEWTIME) and before fork or exec, /proc tells the children's
     * offset, and nothing tells ours. */
    if (strcmp(ours, children))
        return error_set(EMBQ_LIMIT_REACHED,
                         "this process has made a time namespace for its children, so "
                         "its own clock cannot be compared; open the file before, or "
                         "in a child");
    ATOMIC_STORE(&namespace_ms, children_offset_ms());
    memcpy(time_namespace, ours, sizeof time_namespace);
    return 0;
}

static int64_t machine_boot_ms(void) {
    return machine_ms(CLOCK_BOOTTIME) - ATOMIC_LOAD(&namespace_ms);
}

static int64_t machine_wall_ms(void) {
    return machine_ms(CLOCK_REALTIME);
}

static volatile int64_t *mapped; /* [0] boot_ms, [1] wall_ms */

static int64_t mapped_boot_ms(void) {
    return mapped[0];
}

static int64_t mapped_wall_ms(void) {
    return mapped[1];
}

static int64_t (*boot_ms)(void) = machine_boot_ms;
static int64_t (*wall_ms)(void) = machine_wall_ms;

int64_t clock_boot_ms(void) {
    return boot_ms();
}

long long embq_boot_ms(void) {
    return boot_ms();
}

int64_t clock_wall_ms(void) {
    return wall_ms();
}

int64_t clock_real_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

int embq_clock_map(const char *path) {
    boot_ms = machine_boot_ms;
    wall_ms = machine_wall_ms;
    if (mapped) munmap((void *)mapped, 2 * sizeof *mapped);
    mapped = NULL;
    if (!path) return 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) return error_set(EMBQ_NOT_FOUND, "clock file: %s", strerror(errno));
    void *memory = mmap(NULL, 2 * sizeof *mapped, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (memory == MAP_FAILED)
        return error_set(EMBQ_NO_MEMORY, "clock file: %s", strerror(errno));
    mapped = memory;
    boot_ms = mapped_boot_ms;
    wall_ms = mapped_wall_ms;
    return 0;
}

uint64_t random_u64(void) {
    /* Tokens must be unguessable across processes and forks, so the kernel makes them;
     * a block at a time per thread, dropped when the process is another one. */
    static _Thread_local struct {
        uint64_t words[64];
        int left;
        pid_t pid;
    } pool;
    if (!pool.left || pool.pid != getpid()) {
        size_t got = 0;
        while (got < sizeof pool.words) {
            ssize_t n = getrandom((char *)pool.words + got, sizeof pool.words - got, 0);
            if (n > 0) got += (size_t)n;
        }
        pool.left = 64;
        pool.pid = getpid();
    }
    return pool.words[--pool.left];
}
