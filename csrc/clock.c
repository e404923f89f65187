/* Clocks. Leases run on CLOCK_BOOTTIME (it counts suspended time and never jumps),
 * delays on the wall clock. Tests map a file of two int64 over both, shared by all
 * their processes. */
#include "embq.h"

#include <errno.h>
#include <fcntl.h>
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

static int64_t machine_boot_ms(void) {
    return machine_ms(CLOCK_BOOTTIME);
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
