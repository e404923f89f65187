/* The calls by which threads sleep, wake and exclude each other. */
#include "interpose.h"

#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

/* SQLite has mutexes around every allocation; those are no steps of ours. */
static int mutex_counts(void *address) {
    if (!stir.on && !(plan.calls & MUTEX)) return 0;
    for (int i = 0; i < range_count; i++)
        if ((uintptr_t)address >= ranges[i].from && (uintptr_t)address < ranges[i].to)
            return ranges[i].ours;
    return 0;
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
