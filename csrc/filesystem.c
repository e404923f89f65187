/* File systems on which several processes cannot share an SQLite file in WAL mode: the
 * -shm is memory that they share, and who is alive is told by locks. Over a network, or
 * by way of another process, either may be different from what is there. */
#include "embq.h"
#include "files.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#ifdef __linux__
#include <sys/vfs.h>

/* Those that coreutils counts as remote (src/stat.c), and FUSE, whatever is behind it.
 * The numbers are of linux/magic.h, or of the file system's own sources. */
static const struct {
    uint32_t type;
    const char *name;
} unsafe[] = {
    {0x65735546, "FUSE"},
    {0x00006969, "NFS"},
    {0x01021997, "9p"},
    {0x0000517b, "SMB"},
    {0xff534d42, "CIFS"},
    {0xfe534d42, "SMB2"},
    {0x0000564c, "NCP"},
    {0x5346414f, "AFS"},
    {0x6b414653, "kAFS"},
    {0x73757245, "Coda"},
    {0x00c36400, "Ceph"},
    {0x0bd00bd0, "Lustre"},
    {0x47504653, "GPFS"},
    {0x01161970, "GFS2"},
    {0x7461636f, "OCFS2"},
    {0xaad7aaea, "PanFS"},
    {0xa501fcf5, "VxFS"},
    {0x61636673, "AcFS"},
    {0xbeefdead, "StorNext"},
    {0x013111a8, "IBRIX"},
    {0x786f4256, "VirtualBox shared folders"},
    {0xbacbacbc, "VMware shared folders"},
    {0x7c7c6673, "Parallels shared folders"},
};

static const char *unsafe_name(const char *path) {
    struct statfs s;
    int result;
    AGAIN_IF_INTERRUPTED(result, statfs(path, &s));
    for (size_t i = 0; result == 0 && i < sizeof unsafe / sizeof *unsafe; i++)
        if ((uint32_t)s.f_type == unsafe[i].type) return unsafe[i].name;
    return NULL; /* what is not there is told by whoever opens it */
}
#else
#include <sys/mount.h>
#include <sys/param.h>

static const char *unsafe_name(const char *path) {
    struct statfs s;
    return statfs(path, &s) == 0 && !(s.f_flags & MNT_LOCAL) ? "a network" : NULL;
}
#endif

int filesystem_check(const char *path) {
    char folder[PATH_MAX];
    const char *place = path;
    if (access(path, F_OK)) { /* it is to be made: then it is its folder's */
        snprintf(folder, sizeof folder, "%s", path);
        char *slash = strrchr(folder, '/');
        if (slash) slash[slash == folder] = 0;
        place = folder;
    }
    const char *name = unsafe_name(place);
    if (!name) return 0;
    return error_set(EMBQ_UNSUPPORTED_FILESYSTEM,
                     "%s: it is on %s, where processes do not share memory and locks "
                     "as they must",
                     path, name);
}
