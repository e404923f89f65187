/* A C test: a program that ends with 0 when every CHECK held. */
#ifndef EMBQ_TEST_CHECK_H
#define EMBQ_TEST_CHECK_H

#include "embq.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                         \
    do {                                                                         \
        if (!(condition)) {                                                      \
            fprintf(stderr, "%s:%d: %s\n  last error: %s\n", __FILE__, __LINE__, \
                    #condition, embq_errmsg());                                  \
            exit(1);                                                             \
        }                                                                        \
    } while (0)

/* The system's SQLite stands in for Python's: bound in the same way. */
static inline void bind_sqlite(void) {
    CHECK(dlopen("libsqlite3.so.0", RTLD_NOW | RTLD_GLOBAL));
    CHECK(embq_bind_module("libsqlite3.so.0") == 1);
    CHECK(embq_bind_check() > 0);
}

#endif
