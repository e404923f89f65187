/* Futexes: how threads of one process, and processes on one WAL-index, wait for each
 * other without polling. Elsewhere than on Linux: short sleeps with the same contract.
 */
#include "embq.h"

#include <errno.h>
#include <limits.h>
#include <time.h>

#ifdef __linux__
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

static int wait_on(volatile uint32_t *word, int operation, uint32_t value,
                   uint32_t bits, int64_t timeout_us) {
    struct timespec end, *limit = NULL;
    if (timeout_us >= 0) {
        /* FUTEX_WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC. */
        int64_t at = clock_real_us() + timeout_us;
        end.tv_sec = at / 1000000;
        end.tv_nsec = at % 1000000 * 1000;
        limit = &end;
    }
    if (syscall(SYS_futex, word, operation, value, limit, NULL, bits) == 0) return 0;
    return errno == EAGAIN ? 0 : errno;
}

int futex_wait(uint32_t *word, uint32_t value, int64_t timeout_us) {
    return wait_on(word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, value,
                   FUTEX_BITSET_MATCH_ANY, timeout_us);
}

void futex_wake(uint32_t *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0);
}

int futex_wait_shared(volatile uint32_t *word, uint32_t value, uint32_t bits,
                      int64_t timeout_us) {
    return wait_on(word, FUTEX_WAIT_BITSET, value, bits, timeout_us);
}

void futex_wake_shared(volatile uint32_t *word, uint32_t bits) {
    syscall(SYS_futex, word, FUTEX_WAKE_BITSET, INT_MAX, NULL, NULL, bits);
}

#else

static int wait_on(volatile uint32_t *word, uint32_t value, int64_t timeout_us) {
    const struct timespec nap = {0, 200000};
    int64_t end = clock_real_us() + timeout_us;
    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == value) {
        if (timeout_us >= 0 && clock_real_us() >= end) return ETIMEDOUT;
        if (nanosleep(&nap, NULL)) return EINTR;
    }
    return 0;
}

int futex_wait(uint32_t *word, uint32_t value, int64_t timeout_us) {
    return wait_on(word, value, timeout_us);
}

void futex_wake(uint32_t *word, int count) {
    (void)word;
    (void)count;
}

int futex_wait_shared(volatile uint32_t *word, uint32_t value, uint32_t bits,
                      int64_t timeout_us) {
    (void)bits;
    return wait_on(word, value, timeout_us);
}

void futex_wake_shared(volatile uint32_t *word, uint32_t bits) {
    (void)word;
    (void)bits;
}

#endif
