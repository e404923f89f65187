/* Bodies that are not what was sent: what is told about them. They are found by a claim
 * and settled by it (settle.c), so no handler sees one, a look marks them, and Python
 * logs the notes that are kept here: of a group that was committed, once.
 */
#include "store.h"

#include <string.h>

#define NOTES_MAX 4096 /* beyond these they are counted only */

void damage_note(struct engine *e, const struct channel *c, struct slice id) {
    struct notes *n = &e->damage_found;
    if (n->count++ >= NOTES_MAX) return;
    n->kept++;
    pack_array(&n->packed, 3);
    pack_text(&n->packed, c->name, strlen(c->name));
    pack_text(&n->packed, id.data, id.size);
    pack_int(&n->packed, c->options.dead_letter != NULL);
}

void damage_end(struct engine *e, int committed) {
    struct notes *from = &e->damage_found, *to = &e->damage_told;
    if (!from->count) return;
    if (committed) {
        pthread_mutex_lock(&e->mutex);
        if (to->kept < NOTES_MAX && !from->packed.failed) {
            pack_raw(&to->packed, from->packed.data, from->packed.size);
            to->kept += from->kept;
        }
        to->count += from->count;
        ATOMIC_STORE(&e->damage_waits, 1);
        pthread_mutex_unlock(&e->mutex);
    }
    pack_free(&from->packed);
    *from = (struct notes){0};
}

void damage_forget(struct engine *e) {
    pack_free(&e->damage_found.packed);
    pack_free(&e->damage_told.packed);
    e->damage_found = e->damage_told = (struct notes){0};
    e->damage_waits = 0;
}

int damage_tell(const struct broker *b, int64_t result) {
    int tells = result >= 0 && ATOMIC_LOAD(&b->engine->damage_waits);
    return (int)result | (tells ? EMBQ_DAMAGED : 0);
}

int embq_damage(embq_ref broker, embq_bytes *out) {
    struct engine *e = broker_of(broker)->engine;
    struct packer p = {0};
    pack_array(&p, 2);
    pthread_mutex_lock(&e->mutex);
    struct notes told = e->damage_told;
    e->damage_told = (struct notes){0};
    ATOMIC_STORE(&e->damage_waits, 0);
    pthread_mutex_unlock(&e->mutex);
    pack_int(&p, told.count);
    pack_array(&p, told.packed.failed ? 0 : (uint32_t)told.kept);
    if (!told.packed.failed) pack_raw(&p, told.packed.data, told.packed.size);
    pack_free(&told.packed);
    if (p.failed) {
        pack_free(&p);
        return error_set(EMBQ_NO_MEMORY, "no memory for an answer");
    }
    *out = (embq_bytes){p.data, (long long)p.size, 1};
    return 0;
}
