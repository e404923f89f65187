/* What is to be done once, by threads that meet at the same keys. */
#ifndef ONCE_H
#define ONCE_H

#include "batch.h"

#include <string.h>

#define ONCE_KEYS 20
#define ONCE_ROUNDS 200

static int once_at[ONCE_KEYS]; /* how many are at each: one at the most */

/* Begin one, and end it, or give it up; find it, and now and then delete it. */
static void once_one(embq_ref b, int key, int round) {
    char names[] = {'s', 0, (char)('a' + key)}, token[8];
    embq_bytes found = {0};
    long long code =
        outcome_of(embq_result_begin(b, names, sizeof names, 30000, &found));
    CHECK(code == EMBQ_RESULT_STORED || code == EMBQ_RESULT_BEGUN);
    if (code == EMBQ_RESULT_BEGUN) {
        CHECK(found.count == 1 && found.size == sizeof token);
        memcpy(token, found.data, sizeof token);
        CHECK(ATOMIC_ADD(&once_at[key], 1) == 1);
        ATOMIC_ADD(&once_at[key], -1);
        if (round % 3) {
            embq_bytes other = {0};
            CHECK(outcome_of(embq_result_end(b, names, sizeof names, token, "1", 1, 0,
                                             &other)) == 1);
            embq_bytes_free(&other);
        } else {
            CHECK(embq_result_free(b, names, sizeof names, token) == 0);
        }
    }
    embq_bytes_free(&found);
    CHECK(embq_result_get(b, names, sizeof names, NULL) >= 0);
    if (round % 5 == 0)
        CHECK(outcome_of(embq_result_delete(b, names, sizeof names)) >= 0);
}

static void *once(void *which) {
    for (int i = 0; i < ONCE_ROUNDS; i++) {
        embq_bytes scopes = {0};
        once_one(*(embq_ref *)which, i % ONCE_KEYS, i);
        CHECK(embq_scopes(*(embq_ref *)which, &scopes) == 0);
        embq_bytes_free(&scopes);
    }
    return NULL;
}

#endif
