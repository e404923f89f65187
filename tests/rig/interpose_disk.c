/* What is told of a file system: its type, its size and what is free, when the test has
 * said so. */
#include "interpose.h"

#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

static atomic_long kind, total, left; /* 0: what it is; total and left: bytes */

PUBLIC void rig_filesystem(long type) {
    kind = type;
}

PUBLIC void rig_disk(long size, long available) {
    total = size;
    left = available;
}

PUBLIC int statfs(const char *path, struct statfs *s) {
    int result = (int)syscall(SYS_statfs, path, s);
    if (result == 0 && kind) s->f_type = kind;
    return result;
}

PUBLIC int statfs64(const char *path, struct statfs64 *s) {
    return statfs(path, (struct statfs *)s); /* the same where a long has 64 bits */
}

PUBLIC int fstatvfs(int fd, struct statvfs *s) {
    struct statfs told;
    if (syscall(SYS_fstatfs, fd, &told)) return -1;
    unsigned long block = (unsigned long)told.f_bsize;
    *s = (struct statvfs){.f_bsize = block, .f_frsize = block};
    s->f_blocks = total ? (unsigned long)total / block : told.f_blocks;
    s->f_bavail = total ? (unsigned long)left / block : told.f_bavail;
    return 0;
}

PUBLIC int fstatvfs64(int fd, struct statvfs64 *s) {
    return fstatvfs(fd, (struct statvfs *)s);
}
