/* What every file of the core includes: the boundary, the borrowed SQLite, errors,
 * clocks, futexes. Layers, lowest first: error, clock, futex, pack, sqlite | files, wal
 * | statement | channel, message, run, delivery | claim, settle | op, ring, wait, lead,
 * keeper, checkpoint | attach, engine | api. A file uses those left of it or on its own
 * level.
 */
#ifndef EMBQ_H
#define EMBQ_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#pragma GCC visibility push(hidden)
#include "embq_api.h"
#pragma GCC visibility pop

#include "sqlite.h"

/* ---- error.c ---- */

/* Of an error, the longest path in it. */
#define EMBQ_TEXT_SIZE 4608

/* Note what happened, for embq_errmsg() on this thread; returns `code`. No payload,
 * ever. */
int error_set(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
const char *error_text(void);
/* Leave word for the log, which Python writes: 1, or 0 while one is still untold. */
int notice_leave(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The code of a failed SQLite call on `db`, its text noted with `what` was being done.
 */
int error_sqlite(sqlite3 *db, int result, const char *what);

/* ---- clock.c: leases by boot time, delays by wall time; both in ms ---- */

/* Before the first look, and in each child: in which time namespace this is. 0, or a
 * code when that cannot be told. */
int clock_find(void);
int64_t clock_boot_ms(void);
int64_t clock_wall_ms(void);
/* Real monotonic time in microseconds, never simulated: for waiting. */
int64_t clock_real_us(void);
uint64_t random_u64(void);

/* ---- futex.c ---- */

/* Sleep while *word is `value`. timeout_us -1: for ever. 0 when woken (or not slept),
 * else ETIMEDOUT or EINTR. */
int futex_wait(uint32_t *word, uint32_t value, int64_t timeout_us);
void futex_wake(uint32_t *word, int count);
/* The same on a word that other processes map too; only sleepers whose bits meet wake.
 */
int futex_wait_shared(volatile uint32_t *word, uint32_t value, uint32_t bits,
                      int64_t timeout_us);
void futex_wake_shared(volatile uint32_t *word, uint32_t bits);

#define ATOMIC_LOAD(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define ATOMIC_STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define ATOMIC_ADD(p, v) __atomic_add_fetch((p), (v), __ATOMIC_ACQ_REL)
/* One more, for a counter that one thread at a time writes and any may read. */
#define ATOMIC_COUNT(p) ATOMIC_STORE((p), *(p) + 1)

#endif
