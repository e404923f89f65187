/* What the parts of the library share: the plan, the watched files, the record. */
#ifndef RIG_INTERPOSE_H
#define RIG_INTERPOSE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

/* All else is hidden: the library must take the place of nothing but its calls. */
#define PUBLIC __attribute__((visibility("default")))
#define FDS 4096
#define RANGES 8

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

/* What is to happen, and at which calls. */
struct plan {
    atomic_int calls, action;
    atomic_long first, last, every, argument, seen;
};

/* The memory of the core and of SQLite. */
struct live {
    atomic_int on;
    atomic_long count;
};

struct stir {
    atomic_int on;
    atomic_ulong state;
    long one_in, most_us;
};

/* A piece of the code of the core or of SQLite. */
struct range {
    uintptr_t from, to;
    int ours; /* the core's, not SQLite's */
};

/* ---- interpose.c ---- */

extern struct plan plan;
extern struct live live;
extern struct stir stir;
extern struct range ranges[RANGES];
extern int range_count;
extern char watched[4096];
extern char boot_id[4096]; /* the file to read in place of the kernel's */

#define NEXT(name) ((__typeof__(&name))next(#name))

/* libc's function of this name. */
void *next(const char *name);
int from_core(void *address);
/* A call is about to be made. Returns an errno when it must fail, -1 when it must be
 * short, 0 when it goes on. */
int met(int call);

#define FAIL_IF_MET(call, failed)  \
    do {                           \
        int met_error = met(call); \
        if (met_error > 0) {       \
            errno = met_error;     \
            return failed;         \
        }                          \
    } while (0)

/* ---- interpose_log.c ---- */

void log_record(char kind, const char *name, int64_t offset, const void *bytes,
                size_t size);
/* Lock the log, if `wanted` and if there is one: whether it must be unlocked. */
int log_lock(int wanted);
void log_unlock(void);

#endif
