/* The calls for memory: they may fail, and what the core and SQLite hold is counted. */
#include "interpose.h"

#include <string.h>

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void __libc_free(void *memory);

#define FAIL_MALLOC                                                      \
    if ((plan.calls & MALLOC) && from_core(__builtin_return_address(0))) \
    FAIL_IF_MET(MALLOC, NULL)

#define COUNT_LIVE(by)                                     \
    if (live.on && from_core(__builtin_return_address(0))) \
    atomic_fetch_add(&live.count, by)

PUBLIC void *malloc(size_t size) {
    FAIL_MALLOC;
    void *memory = __libc_malloc(size);
    if (memory) COUNT_LIVE(1);
    return memory;
}

PUBLIC void *calloc(size_t count, size_t size) {
    FAIL_MALLOC;
    void *memory = __libc_calloc(count, size);
    if (memory) COUNT_LIVE(1);
    return memory;
}

PUBLIC void *realloc(void *old, size_t size) {
    FAIL_MALLOC;
    void *memory = __libc_realloc(old, size);
    if (memory && !old) COUNT_LIVE(1);
    return memory;
}

PUBLIC char *strdup(const char *text) {
    FAIL_MALLOC;
    char *memory = __libc_malloc(strlen(text) + 1);
    if (memory) COUNT_LIVE(1);
    return memory ? strcpy(memory, text) : NULL;
}

PUBLIC void free(void *memory) {
    if (memory) COUNT_LIVE(-1);
    __libc_free(memory);
}
