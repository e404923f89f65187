/* The files of a case, and its clocks. All lie in one folder, which the runner names.
 */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define BOOT_START ((int64_t)1000000000)

const char *folder_path(const char *name) {
    static char paths[16][4096];
    static int used;
    const char *folder = getenv("EMBQ_FUZZ_FOLDER");
    CHECK(folder && (size_t)used < LENGTH(paths));
    char *path = paths[used++];
    snprintf(path, sizeof *paths, "%s/%s", folder, name);
    return path;
}

struct image file_read(const char *path) {
    struct image image = {NULL, 0};
    struct stat s;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return image;
    CHECK(fstat(fd, &s) == 0);
    image.size = (size_t)s.st_size;
    image.data = malloc(image.size + 1);
    CHECK(image.data && read(fd, image.data, image.size) == (ssize_t)image.size);
    close(fd);
    return image;
}

void file_write(const char *path, struct image image) {
    /* In place: an embq file knows its inode, and takes another one for a copy. */
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && write(fd, image.data, image.size) == (ssize_t)image.size);
    close(fd);
}

void file_clear(const char *path) {
    static const char *const suffixes[] = {"wal", "shm", "journal"};
    char name[4096 + 16];
    for (size_t i = 0; i < LENGTH(suffixes); i++) {
        snprintf(name, sizeof name, "%s-%s", path, suffixes[i]);
        unlink(name);
    }
}

struct image file_empty(void) {
    static struct image empty;
    if (!empty.data) empty = file_read(folder_path("empty.db"));
    CHECK(empty.size);
    return empty;
}

/* ---- clocks: so that a lease can end without anybody waiting for it ---- */

static int64_t *clocks;

static void clocks_make(void) {
    const char *path = folder_path("clocks");
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, 2 * sizeof *clocks) == 0);
    clocks = mmap(NULL, 2 * sizeof *clocks, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(clocks != MAP_FAILED);
    close(fd);
    CHECK(embq_clock_map(path) == 0);
}

void clocks_set(int64_t boot_ms, int64_t wall_ms) {
    if (!clocks) clocks_make();
    clocks[0] = boot_ms ? boot_ms : BOOT_START;
    clocks[1] = wall_ms ? wall_ms : CLOCK_START;
}

void clocks_move(int64_t by_ms) {
    __atomic_add_fetch(&clocks[0], by_ms, __ATOMIC_RELAXED);
    __atomic_add_fetch(&clocks[1], by_ms, __ATOMIC_RELAXED);
}
