/* The four connections of an engine: see struct engine. */
#ifndef EMBQ_CONNECTION_H
#define EMBQ_CONNECTION_H

#include "engine.h"

/* Open all, check the schema, map the WAL-index. On a failure close them again. */
int connections_open(struct engine *e);
/* `checkpoint`: let SQLite bring the WAL into the database if we are its last user. */
void connections_close(struct engine *e, int checkpoint);

#endif
