/* Checksums of bodies, as they stand in the flags of a message. */
#ifndef EMBQ_CHECKSUM_H
#define EMBQ_CHECKSUM_H

#include "bounds.h"

#include <stddef.h>

/* CRC-32C (Castagnoli), as iSCSI has it (RFC 3720, 12.1). */
uint32_t crc32c(const void *data, size_t size);

/* A message's flags: its priority, that there is a checksum, and from bit 8 on that of
 * its body. */
static inline int64_t flags_of(int64_t priority, const void *body, size_t size) {
    return priority | MESSAGE_CHECKED |
           (int64_t)crc32c(body, size) << MESSAGE_CHECKSUM_BIT;
}

/* Whether this is not the body that was stored with these flags. */
static inline int flags_deny(int64_t flags, const void *body, size_t size) {
    if (!(flags & ~(int64_t)MESSAGE_PRIORITY)) return 0; /* it has no checksum */
    return flags != flags_of(flags & MESSAGE_PRIORITY, body, size);
}

#endif
