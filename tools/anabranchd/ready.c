/* SPDX-License-Identifier: Apache-2.0 */
/* The ready file: written and locked beside its place, moved there, locked until the process ends. Only who has the lock of
 * the file beside it may remove or replace it. The main thread. */
#include "tools/anabranchd/ready.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail(const char *path, const char *what, ab_message *message)
{
    snprintf(message->text, sizeof message->text, "ready file %.300s: %s", path, what);
    return AB_EIO;
}

/* Where the file system has no locks nobody can be seen, and the daemon goes on as if it were alone. */
static bool is_locked(int fd, int how)
{
    return flock(fd, how | LOCK_NB) != 0 && errno == EWOULDBLOCK;
}

static bool is_still_at(int fd, const char *path)
{
    struct stat opened, there;
    return fstat(fd, &opened) == 0 && stat(path, &there) == 0 && opened.st_dev == there.st_dev &&
           opened.st_ino == there.st_ino;
}

/* Between its opening and its lock another one may have moved it to its place, or removed it: then once more. */
static int open_beside(ab_ready *ready, ab_message *message)
{
    for (;;) {
        int fd = open(ready->beside, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0666);
        if (fd < 0) {
            return fail(ready->beside, strerror(errno), message);
        }
        if (is_locked(fd, LOCK_EX)) {
            close(fd);
            return fail(ready->path, "another anabranchd that is starting writes it: give each its own",
                        message);
        }
        if (is_still_at(fd, ready->beside)) {
            ready->fd = fd;
            return AB_OK;
        }
        close(fd);
    }
}

static int remove_old(const ab_ready *ready, ab_message *message)
{
    struct stat there;
    int fd = open(ready->path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? AB_OK : fail(ready->path, strerror(errno), message);
    }
    bool regular = fstat(fd, &there) == 0 && S_ISREG(there.st_mode);
    bool used = regular && is_locked(fd, LOCK_SH);
    close(fd);
    if (!regular) {
        return fail(ready->path, "is there and is no regular file", message);
    }
    if (used) {
        return fail(ready->path, "another anabranchd that runs has written it: give each its own", message);
    }
    return unlink(ready->path) == 0 || errno == ENOENT ? AB_OK : fail(ready->path, strerror(errno), message);
}

int ab_ready_begin(ab_ready *ready, const char *path, ab_message *message)
{
    *ready = (ab_ready){.path = path, .fd = -1};
    if (path == NULL) {
        return AB_OK;
    }
    int size = snprintf(ready->beside, sizeof ready->beside, "%s.new", path);
    if (size < 0 || (size_t)size >= sizeof ready->beside) {
        return fail(path, strerror(ENAMETOOLONG), message);
    }
    int code = open_beside(ready, message);
    return code == AB_OK ? remove_old(ready, message) : code;
}

int ab_ready_write(ab_ready *ready, uint16_t http_port, uint16_t node_port, ab_message *message)
{
    if (ready->path == NULL) {
        return AB_OK;
    }
    if (ftruncate(ready->fd, 0) != 0 ||
        dprintf(ready->fd, "http=%u node=%u pid=%ld\n", (unsigned)http_port, (unsigned)node_port,
                (long)getpid()) < 0 ||
        rename(ready->beside, ready->path) != 0) {
        return fail(ready->path, strerror(errno), message);
    }
    ready->written = true;
    return AB_OK;
}

void ab_ready_end(ab_ready *ready)
{
    if (ready->fd < 0) {
        return;
    }
    if (!ready->written) {
        (void)unlink(ready->beside);
    }
    close(ready->fd);
    ready->fd = -1;
}
