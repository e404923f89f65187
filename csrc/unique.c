/* Which dedup ids of a batch were there before in it. A table of slices of the batch
 * itself, hashed; see store.h.
 */
#include "store.h"

#include <stdlib.h>
#include <string.h>

#define SLOTS_LEAST 64

static struct slice *slot_of(const struct unique *u, struct slice id) {
    size_t at = (size_t)key_hash(id);
    for (;; at++) {
        struct slice *slot = &u->slots[at & (u->size - 1)];
        int same = slot->data && slot->size == id.size &&
                   !memcmp(slot->data, id.data, id.size);
        if (!slot->data || same) return slot;
    }
}

static int grow(struct unique *u) {
    struct unique more = {.size = u->size ? u->size * 2 : SLOTS_LEAST,
                          .count = u->count};
    more.slots = calloc(more.size, sizeof *more.slots);
    if (!more.slots) return -1;
    for (size_t i = 0; i < u->size; i++)
        if (u->slots[i].data) *slot_of(&more, u->slots[i]) = u->slots[i];
    free(u->slots);
    *u = more;
    return 0;
}

int unique_add(struct unique *u, struct slice id) {
    if (u->count * 2 >= u->size && grow(u) < 0) return -1;
    struct slice *slot = slot_of(u, id);
    if (slot->data) return 0;
    *slot = id;
    u->count++;
    return 1;
}

void unique_free(struct unique *u) {
    free(u->slots);
    *u = (struct unique){0};
}
