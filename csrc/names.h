/* Whether the names of a file may have changed: asked after each commit, so it must
 * cost less than a look at the path. The kernel tells of what is moved, removed or
 * mounted over; only then is there something to look at. */
#ifndef EMBQ_NAMES_H
#define EMBQ_NAMES_H

#include <stdint.h>

/* Watch database, -wal and every folder above them. Returns the moment from which on
 * this holds, for names_are_kept(); 0 when the kernel may not tell of all changes. Who
 * looks at the path after this call misses none. */
uint64_t names_watch(const char *path);
/* Whether nothing happened to the names since: 0 also when that is not known. */
int names_are_kept(uint64_t since);
/* In the child of a fork: the watches are the parent's. */
void names_forget(void);

#endif
