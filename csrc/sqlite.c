/* Borrowing the process's SQLite: the two ways of reaching it and the proof. See
 * sqlite.h. */
#include "embq.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

struct sqlite_functions sq;

static const struct {
    const char *name;
    int index;
    size_t offset;
} functions[] = {
#define X(member, index, result, arguments) \
    {"sqlite3_" #member, index, offsetof(struct sqlite_functions, member)},
    EMBQ_SQLITE_FUNCTIONS(X)
#undef X
};

#define FUNCTIONS (sizeof functions / sizeof *functions)

/* What the run-time-extension entry was handed: an array of function pointers. */
static void *const *extension_routines;

static void function_set(size_t i, void *pointer) {
    memcpy((char *)&sq + functions[i].offset, &pointer, sizeof pointer);
}

int embq_bind_module(const char *path) {
    /* NOLOAD: the module must be in the process already; loading a second one is the
     * very accident that this binding exists to prevent. */
    void *library = dlopen(path, RTLD_NOW | RTLD_NOLOAD);
    if (!library) return 0;
    int found = 1;
    for (size_t i = 0; i < FUNCTIONS && found; i++) {
        void *pointer = dlsym(library, functions[i].name);
        found = pointer != NULL;
        function_set(i, pointer);
    }
    if (!found) memset(&sq, 0, sizeof sq);
    dlclose(library); /* the module's own reference keeps it */
    return found;
}

/* Called by SQLite when our library is loaded as a run-time extension. Keeps the table
 * of functions and registers nothing, so the connection may be thrown away. */
__attribute__((visibility("default"))) int
sqlite3_extension_init(sqlite3 *db, char **error, void *const *routines);

int sqlite3_extension_init(sqlite3 *db, char **error, void *const *routines) {
    (void)db;
    (void)error;
    extension_routines = routines;
    return SQLITE_OK;
}

int embq_bind_extension(void) {
    if (!extension_routines) return 0;
    for (size_t i = 0; i < FUNCTIONS; i++)
        function_set(i, extension_routines[functions[i].index]);
    extension_routines = NULL;
    return 1;
}

/* The start of sqlite3_vfs, as far as a copy of the default VFS needs a name of its
 * own. */
struct vfs_head {
    int version, file_size, path_max;
    sqlite3_vfs *next;
    const char *name;
};

static void *proof;
static char proof_name[64];

int embq_bind_proof(const char *name) {
    sqlite3_vfs *standard = sq.vfs_find(NULL);
    if (!standard)
        return error_set(EMBQ_UNSUPPORTED_SQLITE, "SQLite has no default VFS");
    /* Version 3 of the struct is 21 words; a copy of a shorter one must not read beyond
     * it. */
    const struct vfs_head *head = (const struct vfs_head *)standard;
    size_t size = sizeof(void *) * (head->version >= 3   ? 21
                                    : head->version == 2 ? 18
                                                         : 17);
    proof = calloc(1, sizeof(void *) * 21);
    if (!proof) return error_set(EMBQ_NO_MEMORY, "no memory for a VFS");
    memcpy(proof, standard, size);
    snprintf(proof_name, sizeof proof_name, "%s", name);
    ((struct vfs_head *)proof)->name = proof_name;
    ((struct vfs_head *)proof)->next = NULL;
    return sq.vfs_register(proof, 0) == SQLITE_OK ? 0 : EMBQ_UNSUPPORTED_SQLITE;
}

int embq_bind_proof_end(void) {
    if (proof) sq.vfs_unregister(proof);
    free(proof);
    proof = NULL;
    return 0;
}

int embq_bind_check(void) {
    int version = sq.libversion_number();
    if (version < SQLITE_FLOOR_VERSION)
        return error_set(EMBQ_UNSUPPORTED_SQLITE, "SQLite %s is older than 3.37",
                         sq.libversion());
    if (sq.compileoption_used("THREADSAFE=0"))
        return error_set(EMBQ_UNSUPPORTED_SQLITE,
                         "SQLite %s was built without thread safety (THREADSAFE=0)",
                         sq.libversion());
    return version;
}
