/* SQLite's WAL-index, which every connection of every process maps: its header tells
 * whether anybody committed, and its change counter is what we sleep on. Layout:
 * sqlite.org/walformat.html, section 2.1. */
#ifndef EMBQ_WAL_H
#define EMBQ_WAL_H

#include "embq.h"

#define WAL_SALT 8 /* where the two words of the salt stand in the header */

struct wal_header {
    uint32_t words[12]; /* the first copy of WalIndexHdr */
};

struct wal_index {
    volatile uint32_t *words; /* NULL when not mapped */
};

/* Map the header through the connection's own file object: no new descriptor. */
int wal_index_map(sqlite3 *db, struct wal_index *w);
void wal_index_read(const struct wal_index *w, struct wal_header *header);
/* The word to sleep on. Every commit changes it. */
volatile uint32_t *wal_change_word(const struct wal_index *w);
uint32_t wal_change(const struct wal_index *w);
/* Wake who sleeps on it for these classes of channels. Also when it is not mapped. */
void wal_wake(const struct wal_index *w, uint32_t bits);
/* Frames in the WAL, and how many of them the database has already. */
uint32_t wal_frames(const struct wal_index *w);
/* Another one each time the WAL starts over. */
uint32_t wal_salt(const struct wal_index *w);
uint32_t wal_backfilled(const struct wal_index *w);
uint32_t wal_page_size(const struct wal_index *w);
/* Pages of the database as of the last commit. */
uint32_t wal_pages(const struct wal_index *w);

#endif
