/* What the C tests of a file share: a queue to work with, and reading a claimed batch.
 */
#ifndef EMBQ_TEST_BATCH_H
#define EMBQ_TEST_BATCH_H

#include "check.h"
#include "pack.h"

/* A call that may wait: as Python does, go on with it until it has an outcome. */
static inline long long outcome_of(long long result) {
    while (result == EMBQ_INTERRUPTED) result = embq_resume();
    return result;
}

/* Options of a raw queue, in the order of embq/_options.py; with a bound, 0: none, it
 * blocks. */
static inline struct packer options_of(int max_receives, int max_messages) {
    struct packer options = {0};
    pack_array(&options, 17);
    pack_text(&options, "raw", 3);
    pack_int(&options, 30000);
    pack_int(&options, max_receives);
    pack_text(&options, "q.dead", 6);
    pack_int(&options, 1000);
    pack_double(&options, 2);
    pack_int(&options, 300000);
    pack_bool(&options, 0);
    pack_int(&options, 1000);
    pack_int(&options, 0);
    pack_int(&options, 0);
    pack_bool(&options, 0);
    pack_int(&options, 0);
    pack_int(&options, 300000);
    pack_int(&options, max_messages);
    pack_int(&options, 0);
    pack_int(&options, 0);
    return options;
}

/* The receipts of a claimed batch: the last but one of the twelve values of each. */
static inline int receipts_of(const embq_bytes *batch, char *receipts) {
    struct unpacker u = unpack_from(batch->data, (size_t)batch->size);
    int count = (int)unpack_array(&u);
    for (int i = 0; i < count; i++) {
        CHECK(unpack_array(&u) == 12);
        unpack_slice(&u);
        unpack_int(&u);
        for (int j = 0; j < 5; j++) unpack_slice(&u);
        unpack_int(&u);   /* priority */
        unpack_slice(&u); /* never expires */
        unpack_int(&u);
        struct slice receipt = unpack_slice(&u);
        CHECK(receipt.size == EMBQ_RECEIPT_SIZE);
        memcpy(receipts + i * EMBQ_RECEIPT_SIZE, receipt.data, receipt.size);
        CHECK(unpack_slice(&u).data);
    }
    CHECK(!u.failed && u.next == u.end);
    return count;
}

#endif
