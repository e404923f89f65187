/* CRC-32C: by the processor's instruction where it has one, else by a table. See
 * checksum.h.
 *
 * It is computed under the write lock, once for each message that is stored, and once
 * for each that is handed out: eight bytes an instruction are a part of what copying a
 * body into a page costs.
 */
#include "checksum.h"

#include "embq.h"

#include <pthread.h>
#include <string.h>

#define POLYNOMIAL 0x82f63b78u /* reflected */

static uint32_t table[256];

static void table_make(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? POLYNOMIAL : 0);
        table[byte] = crc;
    }
}

static uint32_t by_table(uint32_t crc, const unsigned char *data, size_t size) {
    for (; size; size--, data++) crc = crc >> 8 ^ table[(crc ^ *data) & 0xff];
    return crc;
}

#if defined __x86_64__
#include <nmmintrin.h>

#define TARGET __attribute__((target("sse4.2")))

TARGET static inline uint32_t step_8(uint32_t crc, uint64_t word) {
    return (uint32_t)_mm_crc32_u64(crc, word);
}

TARGET static inline uint32_t step_1(uint32_t crc, unsigned char byte) {
    return _mm_crc32_u8(crc, byte);
}

static int has_instruction(void) {
    return __builtin_cpu_supports("sse4.2");
}
#elif defined __aarch64__ && (defined __linux__ || defined __ARM_FEATURE_CRC32)
#ifdef __linux__
#include <sys/auxv.h>
#endif

#define TARGET __attribute__((target("+crc")))

/* Not <arm_acle.h>: some compilers have its functions only when all is built for it. */
TARGET static inline uint32_t step_8(uint32_t crc, uint64_t word) {
    __asm__("crc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(word));
    return crc;
}

TARGET static inline uint32_t step_1(uint32_t crc, unsigned char byte) {
    __asm__("crc32cb %w0, %w0, %w1" : "+r"(crc) : "r"((uint32_t)byte));
    return crc;
}

static int has_instruction(void) {
#ifdef __linux__
    return (getauxval(AT_HWCAP) >> 7 & 1) != 0; /* HWCAP_CRC32 */
#else
    return 1; /* what this is built for has it */
#endif
}
#endif

#ifdef TARGET
TARGET static inline uint32_t step_at(uint32_t crc, const unsigned char *data) {
    uint64_t word;
    memcpy(&word, data, sizeof word);
    return step_8(crc, word);
}

TARGET static uint32_t by_instruction(uint32_t crc, const unsigned char *data,
                                      size_t size) {
    for (; size >= 32; size -= 32, data += 32) {
        crc = step_at(crc, data);
        crc = step_at(crc, data + 8);
        crc = step_at(crc, data + 16);
        crc = step_at(crc, data + 24);
    }
    for (; size >= 8; size -= 8, data += 8) crc = step_at(crc, data);
    for (; size; size--, data++) crc = step_1(crc, *data);
    return crc;
}
#endif

static uint32_t (*update)(uint32_t crc, const unsigned char *data, size_t size);

static void choose(void) {
    table_make();
    update = by_table;
#ifdef TARGET
    if (has_instruction()) update = by_instruction;
#endif
}

uint32_t crc32c(const void *data, size_t size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, choose);
    return ~update(~(uint32_t)0, data, size);
}

uint32_t embq_crc32c(const char *data, size_t size, int plain) {
    uint32_t crc = crc32c(data, size);
    return plain ? ~by_table(~(uint32_t)0, (const unsigned char *)data, size) : crc;
}

int embq_is_damaged(long long flags, const char *body, size_t size) {
    return flags_deny(flags, body, size);
}
