/* Reading and writing msgpack, as far as the boundary to Python needs it. */
#ifndef EMBQ_PACK_H
#define EMBQ_PACK_H

#include <stddef.h>
#include <stdint.h>

/* A growing buffer. `failed` is set when memory ran out; then nothing is appended any
 * more, so a caller checks once, at the end. */
struct packer {
    char *data;
    size_t size, room;
    int failed;
};

/* Every array begins with the 5-byte form, so that its count can be written last. */
#define PACK_ARRAY_HEADER 5

void pack_free(struct packer *p);
void pack_array(struct packer *p, uint32_t count);
void pack_array_count(struct packer *p, size_t at, uint32_t count);
void pack_map(struct packer *p, uint32_t count);
void pack_nil(struct packer *p);
void pack_bool(struct packer *p, int value);
void pack_int(struct packer *p, int64_t value);
void pack_double(struct packer *p, double value);
void pack_text(struct packer *p, const char *text, size_t size);
void pack_raw(struct packer *p, const void *data, size_t size);
void pack_blob(struct packer *p, const void *data, size_t size);

/* A reader over foreign bytes. Every call checks its bounds; `failed` is set at the
 * first value that is not what was asked for, and everything read after it is nil. */
struct unpacker {
    const unsigned char *next, *end;
    int failed;
};

/* A str or bin; data NULL for nil. */
struct slice {
    const char *data;
    size_t size;
};

struct unpacker unpack_from(const char *data, size_t size);
uint32_t unpack_array(struct unpacker *u);
int unpack_is_array(const struct unpacker *u);
int64_t unpack_int(struct unpacker *u);
double unpack_double(struct unpacker *u);
struct slice unpack_slice(struct unpacker *u);

#endif
