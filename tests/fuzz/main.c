/* The program of a target. Under libFuzzer it gives that the entry; alone it runs the
 * inputs that are named, so that the corpus can be replayed without clang:
 *
 *     EMBQ_FUZZ_FOLDER=FOLDER replay database|boundary FILE...
 *
 * FOLDER holds "empty.db", an embq file without queues; all else in it is ours.
 */
#include "fuzz.h"

#include <dlfcn.h>
#include <unistd.h>

#define CASE_SECONDS 10

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

const struct target *target;

static void target_choose(const char *name) {
    static const struct target *const all[] = {&database_target, &boundary_target};
    for (size_t i = 0; i < LENGTH(all); i++)
        if (name && !strcmp(all[i]->name, name)) target = all[i];
    CHECK(target);
    /* The system's SQLite stands in for Python's: bound in the same way. */
    CHECK(dlopen("libsqlite3.so.0", RTLD_NOW | RTLD_GLOBAL));
    CHECK(embq_bind_module("libsqlite3.so.0") == 1);
    CHECK(embq_bind_check() > 0);
    clocks_set(0, 0);
    target->prepare();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input in = input_read(data, size);
    target->run(&in);
    return 0;
}

#ifdef EMBQ_LIBFUZZER

int LLVMFuzzerInitialize(int *count, char ***arguments) {
    (void)count, (void)arguments;
    target_choose(getenv("EMBQ_FUZZ_TARGET"));
    return 0;
}

#else

int main(int count, char **arguments) {
    CHECK(count > 1);
    target_choose(arguments[1]);
    for (int i = 2; i < count; i++) {
        struct image input = file_read(arguments[i]);
        CHECK(input.data);
        /* In memory of exactly its size, so that reading beyond it is noticed. */
        uint8_t *exact = malloc(input.size ? input.size : 1);
        CHECK(exact);
        memcpy(exact, input.data, input.size);
        alarm(CASE_SECONDS);
        fprintf(stderr, "%s\n", arguments[i]);
        LLVMFuzzerTestOneInput(exact, input.size);
        alarm(0);
        free(exact);
        free(input.data);
    }
    return 0;
}

#endif
