/* Fails one file operation of a process group, for tests of crash safety: cc -shared -fPIC -o shim.so crash_shim.c -ldl

   Counts the calls that change files below CRASH_ROOT, over all processes, in the file CRASH_COUNTER. At call CRASH_AT:
   CRASH_HOW=kill    the process group gets SIGKILL before the call
   CRASH_HOW=half    the first half of a write is done, then as kill
   CRASH_HOW=eio     the call fails once with EIO
   CRASH_HOW=enospc  this and all later calls that need space fail with ENOSPC
   CRASH_HOW=count   nothing happens; the counter tells how many calls there are. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum fault { NONE, FAIL, HALF };

static volatile long *counter;
static long fail_at;
static const char *how = "count", *root;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Reads how and where to fail; a forked process may call it again, after it has changed the variables. */
void crash_arm(void) {
    how = getenv("CRASH_HOW") ? getenv("CRASH_HOW") : "count";
    fail_at = atol(getenv("CRASH_AT") ? getenv("CRASH_AT") : "0");
}

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CRASH_COUNTER");
    root = getenv("CRASH_ROOT");
    if (!path || !root) return;
    crash_arm();
    int file = REAL(open)(path, O_RDWR);
    if (file < 0) return;
    void *page = mmap(NULL, sizeof(long), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (page != MAP_FAILED) counter = page;
}

static int below_root(const char *path) { return root && strncmp(path, root, strlen(root)) == 0; }

static int open_below_root(int file) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below_root(path);
}

/* Decides what becomes of a call; `space`: whether it needs space on the disk. */
static enum fault fault(int counts, int space) {
    if (!counter || !counts) return NONE;
    long number = __sync_add_and_fetch(counter, 1);
    if (!strcmp(how, "enospc") && number >= fail_at && space) {
        errno = ENOSPC;
        return FAIL;
    }
    if (number != fail_at) return NONE;
    if (!strcmp(how, "kill")) kill(0, SIGKILL);
    if (!strcmp(how, "half")) return HALF;
    if (!strcmp(how, "eio")) {
        errno = EIO;
        return FAIL;
    }
    return NONE;
}

#define BEFORE(counts, space)                  \
    switch (fault(counts, space)) {            \
        case FAIL: return -1;                  \
        case HALF: kill(0, SIGKILL); break;    \
        case NONE: break;                      \
    }

ssize_t write(int file, const void *data, size_t size) {
    switch (fault(open_below_root(file), 1)) {
        case FAIL: return -1;
        case HALF:
            REAL(write)(file, data, size / 2);
            kill(0, SIGKILL);
            break;
        case NONE: break;
    }
    return REAL(write)(file, data, size);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    BEFORE(open_below_root(file), 1)
    return REAL(pwrite)(file, data, size, at);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    BEFORE(open_below_root(file), 1)
    return REAL(pwrite64)(file, data, size, at);
}

ssize_t writev(int file, const struct iovec *parts, int number) {
    BEFORE(open_below_root(file), 1)
    return REAL(writev)(file, parts, number);
}

int fsync(int file) {
    BEFORE(open_below_root(file), 1)
    return REAL(fsync)(file);
}

int rename(const char *old, const char *new) {
    BEFORE(below_root(old), 0)
    return REAL(rename)(old, new);
}

int link(const char *old, const char *new) {
    BEFORE(below_root(new), 1)
    return REAL(link)(old, new);
}

int linkat(int from, const char *old, int to, const char *new, int flags) {
    BEFORE(below_root(new), 1)
    return REAL(linkat)(from, old, to, new, flags);
}

int unlink(const char *path) {
    BEFORE(below_root(path), 0)
    return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode) {
    BEFORE(below_root(path), 1)
    return REAL(mkdir)(path, mode);
}

#define OPENING(name)                                          \
    int name(const char *path, int flags, ...) {               \
        va_list arguments;                                     \
        va_start(arguments, flags);                            \
        mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0; \
        va_end(arguments);                                     \
        BEFORE(flags & O_CREAT && below_root(path), 1)         \
        return REAL(name)(path, flags, mode);                  \
    }

OPENING(open)
OPENING(open64)
