/* Watches on the names of our files. See names.h.
 *
 * One inotify descriptor for all files of the process, as a user has few of them, and
 * /proc/self/mountinfo, which poll() tells of mounts. Both stay open: to close an
 * inotify descriptor takes milliseconds. Any event makes everybody look again, so a
 * watch that is there for nothing costs one look.
 */
#include "embq.h"
#include "names.h"

#ifdef __linux__
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

static pthread_mutex_t names_mutex = PTHREAD_MUTEX_INITIALIZER;
/* Under names_mutex. */
static int events = -1, mounts = -1;
static int refused;         /* by the kernel */
static uint64_t moment = 1; /* one more when events were read */

/* Where all that happens to a name happens in this kernel, on the inode that we see. */
static int tells(const char *path) {
    struct statfs s;
    if (statfs(path, &s)) return 0;
    switch ((uint32_t)s.f_type) {
    case 0xef53:     /* ext2, ext3, ext4 */
    case 0x58465342: /* XFS */
    case 0x9123683e: /* btrfs */
    case 0xf2f52010: /* F2FS */
    case 0x2fc12fc1: /* ZFS */
    case 0x01021994: /* tmpfs */ return 1;
    default: return 0;
    }
}

/* Under names_mutex. */
static int begin(void) {
    if (refused) return 0;
    if (events >= 0) return 1;
    int fd = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
    int in = fd < 0 ? -1 : inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    refused = in < 0;
    if (refused && fd >= 0) close(fd);
    if (refused) return 0;
    mounts = fd;
    events = in;
    return 1;
}

static int watch(const char *name, uint32_t mask) {
    if (!tells(name)) return 0;
    if (inotify_add_watch(events, name, mask | IN_DONT_FOLLOW) >= 0) return 1;
    if (errno == ENOSPC || errno == ENOMEM) refused = 1; /* not at each commit again */
    return 0;
}

/* Under names_mutex. IN_ATTRIB is a changed link count too: a name that is removed or
 * replaced while the file is open. */
static int watch_all(const char *path) {
    char name[PATH_MAX + sizeof "-wal"], real[PATH_MAX];
    if (strlen(path) >= PATH_MAX || *path != '/') return 0;
    snprintf(name, sizeof name, "%s-wal", path);
    if (!watch(name, IN_ATTRIB | IN_MOVE_SELF)) return 0;
    snprintf(name, sizeof name, "%s", path);
    if (!watch(name, IN_ATTRIB | IN_MOVE_SELF)) return 0;
    for (char *slash; (slash = strrchr(name, '/')) != name;) {
        *slash = 0;
        if (!watch(name, IN_MOVE_SELF)) return 0;
    }
    /* After that, so that a link which takes the place of a folder is seen: it can be
     * turned elsewhere, and no watch tells. */
    return realpath(path, real) && !strcmp(real, path);
}

uint64_t names_watch(const char *path) {
    pthread_mutex_lock(&names_mutex);
    uint64_t since = moment;
    int known = begin() && watch_all(path);
    pthread_mutex_unlock(&names_mutex);
    return known ? since : 0;
}

int names_are_kept(uint64_t since) {
    if (!since) return 0;
    pthread_mutex_lock(&names_mutex); /* poll() tells of a mount only once */
    struct pollfd two[] = {{events, POLLIN, 0}, {mounts, POLLPRI, 0}};
    if (events < 0 || poll(two, 2, 0) != 0) {
        char read_in[4096] __attribute__((aligned(8)));
        while (events >= 0 && read(events, read_in, sizeof read_in) > 0) {}
        moment++;
    }
    int kept = moment == since;
    pthread_mutex_unlock(&names_mutex);
    return kept;
}

void names_forget(void) {
    pthread_mutex_init(&names_mutex, NULL);
    if (events >= 0) close(events);
    if (mounts >= 0) close(mounts);
    events = mounts = -1;
    refused = 0;
}
#else
uint64_t names_watch(const char *path) {
    (void)path;
    return 0;
}

int names_are_kept(uint64_t since) {
    (void)since;
    return 0;
}

void names_forget(void) {
}
#endif
