/* The WAL-index header. See wal.h. */
#include "wal.h"

#include <string.h>

/* Word offsets in the header (sqlite.org/walformat.html): iChange; the two 16-bit
 * values of isInit, bigEndCksum and szPage; mxFrame; nPage; and after two copies of 12
 * words, nBackfill. */
enum {
    WORD_CHANGE = 2,
    WORD_PAGE_SIZE = 3,
    WORD_FRAMES = 4,
    WORD_PAGES = 5,
    WORD_BACKFILLED = 24
};

#define REGION_SIZE 32768

int wal_index_map(sqlite3 *db, struct wal_index *w) {
    sqlite3_file *file = NULL;
    void volatile *region = NULL;
    w->words = NULL;
    sq.file_control(db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (!file || !file->methods || file->methods->version < 2)
        return error_set(EMBQ_UNSUPPORTED_SQLITE, "the VFS has no shared memory");
    int result = file->methods->shm_map(file, 0, REGION_SIZE, 0, &region);
    if (result != SQLITE_OK || !region)
        return error_sqlite(NULL, result ? result : SQLITE_IOERR, "map the WAL-index");
    ATOMIC_STORE(&w->words, (volatile uint32_t *)region);
    return 0;
}

void wal_index_read(const struct wal_index *w, struct wal_header *header) {
    for (size_t i = 0; i < sizeof header->words / sizeof *header->words; i++)
        header->words[i] = w->words[i];
}

volatile uint32_t *wal_change_word(const struct wal_index *w) {
    return w->words + WORD_CHANGE;
}

uint32_t wal_change(const struct wal_index *w) {
    return __atomic_load_n(w->words + WORD_CHANGE, __ATOMIC_ACQUIRE);
}

void wal_wake(const struct wal_index *w, uint32_t bits) {
    volatile uint32_t *words = ATOMIC_LOAD(&w->words);
    if (words) futex_wake_shared(words + WORD_CHANGE, bits);
}

uint32_t wal_frames(const struct wal_index *w) {
    return w->words[WORD_FRAMES];
}

uint32_t wal_salt(const struct wal_index *w) {
    return w->words[WAL_SALT];
}

uint32_t wal_backfilled(const struct wal_index *w) {
    return w->words[WORD_BACKFILLED];
}

uint32_t wal_pages(const struct wal_index *w) {
    return w->words[WORD_PAGES];
}

uint32_t wal_page_size(const struct wal_index *w) {
    uint16_t halves[2];
    uint32_t word = w->words[WORD_PAGE_SIZE];
    memcpy(halves, &word, sizeof halves);
    return halves[1] == 1 ? 65536 : halves[1];
}
