/* The four connections of an engine: see struct engine. */
#ifndef EMBQ_CONNECTION_H
#define EMBQ_CONNECTION_H

#include "engine.h"

/* Look at the tables until they are there and the file is in WAL mode: another process
 * may be opening, recovering or closing it this very moment. */
int schema_wait(struct engine *e);
/* Take it anew; SQLite's code. */
int schema_fingerprint(sqlite3 *db, int64_t *fingerprint);

/* Whether what SQLite takes for its lock is one, see forked.c. In a rollback mode it
 * has one only as long as it reads. */
int locks_check(sqlite3 *db, const struct guard *guard, const char *path);
/* Open all, check the schema, map the WAL-index. On a failure close them again. */
int connections_open(struct engine *e);
/* `checkpoint`: let SQLite bring the WAL into the database if we are its last user. */
void connections_close(struct engine *e, int checkpoint);

#endif
