/* msgpack: what is written can be read; no bytes whatever make the reader leave its
 * buffer. */
#include "check.h"
#include "pack.h"

static void round_trip(void) {
    const int64_t ints[] = {0, 1, 127, 128, 65535, INT64_MAX, -1, -33, INT64_MIN};
    struct packer p = {0};
    pack_array(&p, 9);
    for (int i = 0; i < 9; i++) pack_int(&p, ints[i]);
    for (size_t size = 0; size < 70000; size = size * 3 + 1) {
        char *text = malloc(size + 1);
        memset(text, 'x', size + 1);
        pack_text(&p, text, size);
        pack_blob(&p, text, size);
        free(text);
    }
    pack_nil(&p);
    pack_double(&p, 2.5);
    pack_bool(&p, 1);
    CHECK(!p.failed);

    struct unpacker u = unpack_from(p.data, p.size);
    CHECK(unpack_is_array(&u) && unpack_array(&u) == 9);
    for (int i = 0; i < 9; i++) CHECK(unpack_int(&u) == ints[i]);
    for (size_t size = 0; size < 70000; size = size * 3 + 1)
        for (int twice = 0; twice < 2; twice++) {
            struct slice s = unpack_slice(&u);
            CHECK(s.data && s.size == size && (size == 0 || s.data[size - 1] == 'x'));
        }
    CHECK(!unpack_slice(&u).data && !u.failed);
    CHECK(unpack_double(&u) == 2.5);
    CHECK(unpack_int(&u) == 1);
    CHECK(!u.failed && u.next == u.end);
    unpack_int(&u);
    CHECK(u.failed);
    pack_free(&p);
}

/* Reads with every call at every place; the sanitizer is the judge. */
static void read_anything(const char *bytes, size_t size) {
    for (int call = 0; call < 4; call++) {
        char *exact = malloc(size ? size : 1);
        memcpy(exact, bytes, size);
        struct unpacker u = unpack_from(exact, size);
        for (int i = 0; i < 64 && !u.failed; i++) {
            switch ((call + i) % 4) {
            case 0: unpack_slice(&u); break;
            case 1: unpack_int(&u); break;
            case 2: unpack_double(&u); break;
            default: unpack_is_array(&u), unpack_array(&u); break;
            }
            CHECK(u.next <= u.end);
        }
        free(exact);
    }
}

int main(void) {
    round_trip();
    char bytes[40];
    uint32_t seed = 1;
    for (int i = 0; i < 200000; i++) {
        for (size_t j = 0; j < sizeof bytes; j++) {
            seed = seed * 1664525 + 1013904223;
            bytes[j] = (char)(seed >> 24);
        }
        read_anything(bytes, seed % sizeof bytes);
    }
    return 0;
}
