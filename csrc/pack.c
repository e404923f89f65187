/* msgpack. See pack.h; the format: github.com/msgpack/msgpack/blob/master/spec.md */
#include "pack.h"

#include <stdlib.h>
#include <string.h>

/* ---- writing ---- */

static char *grow(struct packer *p, size_t more) {
    if (p->failed) return NULL;
    if (p->room - p->size < more) {
        size_t room = p->room ? p->room : 512;
        while (room - p->size < more) room *= 2;
        char *data = realloc(p->data, room);
        if (!data) {
            p->failed = 1;
            return NULL;
        }
        p->data = data;
        p->room = room;
    }
    char *at = p->data + p->size;
    p->size += more;
    return at;
}

void pack_free(struct packer *p) {
    free(p->data);
    memset(p, 0, sizeof *p);
}

static void put_big_endian(char *at, uint64_t value, int bytes) {
    for (int i = bytes - 1; i >= 0; i--, value >>= 8) at[i] = (char)(value & 0xff);
}

static void put_head(struct packer *p, int tag, uint64_t value, int bytes) {
    char *at = grow(p, 1 + (size_t)bytes);
    if (!at) return;
    at[0] = (char)tag;
    put_big_endian(at + 1, value, bytes);
}

void pack_raw(struct packer *p, const void *data, size_t size) {
    if (!size) return;
    char *at = grow(p, size);
    if (at) memcpy(at, data, size);
}

void pack_array(struct packer *p, uint32_t count) {
    put_head(p, 0xdd, count, 4);
}

void pack_array_count(struct packer *p, size_t at, uint32_t count) {
    if (!p->failed) put_big_endian(p->data + at + 1, count, 4);
}

void pack_map(struct packer *p, uint32_t count) {
    put_head(p, 0xdf, count, 4);
}

void pack_nil(struct packer *p) {
    put_head(p, 0xc0, 0, 0);
}

void pack_bool(struct packer *p, int value) {
    put_head(p, value ? 0xc3 : 0xc2, 0, 0);
}

void pack_int(struct packer *p, int64_t value) {
    if (value >= 0 && value < 128) put_head(p, (int)value, 0, 0);
    else put_head(p, 0xd3, (uint64_t)value, 8);
}

void pack_double(struct packer *p, double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_head(p, 0xcb, bits, 8);
}

void pack_text(struct packer *p, const char *text, size_t size) {
    if (!text) {
        pack_nil(p);
        return;
    }
    if (size < 32) put_head(p, 0xa0 | (int)size, 0, 0);
    else if (size < 256) put_head(p, 0xd9, size, 1);
    else put_head(p, 0xdb, size, 4);
    pack_raw(p, text, size);
}

void pack_blob(struct packer *p, const void *data, size_t size) {
    if (size < 256) put_head(p, 0xc4, size, 1);
    else put_head(p, 0xc6, size, 4);
    pack_raw(p, data, size);
}

/* ---- reading ---- */

struct unpacker unpack_from(const char *data, size_t size) {
    struct unpacker u = {(const unsigned char *)data,
                         (const unsigned char *)data + size, 0};
    return u;
}

static uint64_t take(struct unpacker *u, size_t bytes) {
    uint64_t value = 0;
    if (u->failed || (size_t)(u->end - u->next) < bytes) {
        u->failed = 1;
        return 0;
    }
    while (bytes--) value = value << 8 | *u->next++;
    return value;
}

int unpack_is_array(const struct unpacker *u) {
    if (u->failed || u->next == u->end) return 0;
    return (*u->next & 0xf0) == 0x90 || *u->next == 0xdc || *u->next == 0xdd;
}

uint32_t unpack_array(struct unpacker *u) {
    int tag = (int)take(u, 1);
    if ((tag & 0xf0) == 0x90) return (uint32_t)(tag & 0x0f);
    if (tag == 0xdc) return (uint32_t)take(u, 2);
    if (tag == 0xdd) return (uint32_t)take(u, 4);
    u->failed = 1;
    return 0;
}

int64_t unpack_int(struct unpacker *u) {
    int tag = (int)take(u, 1);
    if (tag < 0x80) return tag;
    if (tag >= 0xe0) return tag - 0x100;
    switch (tag) {
    case 0xc2:
    case 0xc3: return tag - 0xc2; /* false, true */
    case 0xcc: return (int64_t)take(u, 1);
    case 0xcd: return (int64_t)take(u, 2);
    case 0xce: return (int64_t)take(u, 4);
    case 0xcf:
    case 0xd3: return (int64_t)take(u, 8);
    case 0xd0: return (int8_t)take(u, 1);
    case 0xd1: return (int16_t)take(u, 2);
    case 0xd2: return (int32_t)take(u, 4);
    default: u->failed = 1; return 0;
    }
}

double unpack_double(struct unpacker *u) {
    if (u->next < u->end && *u->next != 0xcb) return (double)unpack_int(u);
    take(u, 1);
    uint64_t bits = take(u, 8);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

struct slice unpack_slice(struct unpacker *u) {
    struct slice none = {NULL, 0};
    int tag = (int)take(u, 1);
    size_t size;
    if (u->failed || tag == 0xc0) return none;
    if ((tag & 0xe0) == 0xa0) size = tag & 0x1f;
    else if (tag == 0xc4 || tag == 0xd9) size = take(u, 1);
    else if (tag == 0xc5 || tag == 0xda) size = take(u, 2);
    else if (tag == 0xc6 || tag == 0xdb) size = take(u, 4);
    else size = SIZE_MAX;
    if (u->failed || (size_t)(u->end - u->next) < size) {
        u->failed = 1;
        return none;
    }
    struct slice s = {(const char *)u->next, size};
    u->next += size;
    return s;
}
