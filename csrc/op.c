/* Operations: one call each, from its arrival to its outcome. See op.h. */
#include "engine.h"
#include "line.h"

#include <stdlib.h>
#include <string.h>

#ifdef EMBQ_COUNT_OPS
int64_t ops_alive;
#define COUNT_OPS(more) ATOMIC_ADD(&ops_alive, (more))
#else
#define COUNT_OPS(more) ((void)0)
#endif

struct op *op_new(struct broker *b, enum op_kind kind, int64_t channel, size_t size,
                  size_t extra_size) {
    struct op *op = malloc(sizeof *op + size + extra_size);
    if (!op) {
        error_set(EMBQ_NO_MEMORY, "no memory for a call of %zu bytes",
                  size + extra_size);
        return NULL;
    }
    memset(op, 0, sizeof *op);
    COUNT_OPS(1);
    op->refs = 1;
    op->generation = fork_generation;
    op->kind = (uint8_t)kind;
    op->broker = b;
    op->channel = channel;
    op->size = size;
    op->extra_size = extra_size;
    op->deadline_us = -1;
    op->result = EMBQ_NOT_YET;
    return op;
}

void op_release(struct op *op) {
    if (ATOMIC_ADD(&op->refs, -1) > 0) return;
    pack_free(&op->out);
    pack_free(&op->receipts);
    free(op->error);
    free(op);
    COUNT_OPS(-1);
}

void op_outcome(struct op *op, int64_t result) {
    op->result = result;
    if (result >= 0) return;
    free(op->error);
    op->error = strdup(error_text());
}

const char *op_error(const struct op *op) {
    return op->error ? op->error : "no memory for the text";
}

void op_unlink(struct op *op) {
    if (op->place == PLACE_NONE) return;
    if (op->place == PLACE_LINE) line_left(op);
    op->link.prev->next = op->link.next;
    op->link.next->prev = op->link.prev;
    op->place = PLACE_NONE;
}

void op_move(struct op *op, struct link *head, enum op_place place) {
    op_unlink(op);
    op->link.prev = head->prev;
    op->link.next = head;
    head->prev->next = &op->link;
    head->prev = &op->link;
    op->place = (uint8_t)place;
}
