/* A library that stands between a process and libc (LD_PRELOAD): it counts the calls
 * that SQLite and the C core make on watched files, and at a chosen one kills the
 * process, fails, is short, or waits; it writes down what reached the files, for crash
 * images; it stirs the order of threads. interpose.py is its Python side.
 *
 * Here is what is to happen, and the controls; beside it are the calls on files
 * (interpose_files.c), those of threads and for memory (interpose_threads.c,
 * interpose_memory.c), and the record (interpose_log.c).
 *
 * Watched are files whose path begins with rig_watch()'s text. Calls without a file
 * (futex, malloc, mutexes) count when they come from the core or from SQLite.
 */
#include "interpose.h"

#include <dlfcn.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct plan plan;
struct live live;
struct stir stir;
char watched[4096];
char boot_id[4096];
struct range ranges[RANGES];
int range_count;

void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

int from_core(void *address) {
    for (int i = 0; i < range_count; i++)
        if ((uintptr_t)address >= ranges[i].from && (uintptr_t)address < ranges[i].to)
            return 1;
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

int met(int call) {
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
