/* The tables of a file, with and without what they forbid.
 *
 * STRICT and NOT NULL keep SQL from writing what a damaged page can hold. So the words
 * are made comments of the same length in the file's text of its schema, the damage is
 * written, and the words are put back: a file that claims what it does not hold.
 */
#include "fuzz.h"

static const struct {
    const char *strict, *loose;
} words[] = {
    /* With the type: "is not null" must stay. */
    {"integer not null", "integer /*null*/"},
    {"real not null", "real /*null*/"},
    {"text not null", "text /*null*/"},
    {"blob not null", "blob /*null*/"},
    {") strict, without rowid", ")/*trict*/without rowid"},
    {") strict", ")/*str*/"},
};

static int replace(struct image *image, const char *from, const char *to) {
    size_t size = strlen(from);
    int count = 0;
    char *at = image->data, *end = image->data + image->size;
    CHECK(strlen(to) == size);
    while ((at = memmem(at, (size_t)(end - at), from, size))) {
        memcpy(at, to, size);
        at += size;
        count++;
    }
    return count;
}

void schema_loosen(struct image *database) {
    for (size_t i = 0; i < LENGTH(words); i++)
        CHECK(replace(database, words[i].strict, words[i].loose) > 0);
}

void schema_tighten(struct image *database) {
    for (size_t i = 0; i < LENGTH(words); i++)
        replace(database, words[i].loose, words[i].strict);
}
