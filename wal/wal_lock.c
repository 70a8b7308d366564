/* SPDX-License-Identifier: Apache-2.0 */
/* The file LOCK: one process per directory. Called at open only. */
#define _GNU_SOURCE /* open file description locks */
#include "wal/wal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The process that holds the lock wrote its number into the file; the kernel does not tell for these locks. */
static long holder(int fd)
{
    char text[24] = "";
    ssize_t size = pread(fd, text, sizeof(text) - 1, 0);
    return size > 0 ? strtol(text, NULL, 10) : 0;
}

static int write_pid(int fd)
{
    char text[24];
    int size = snprintf(text, sizeof(text), "%ld\n", (long)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)size, 0) != size) {
        return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? AB_ENOSPC : AB_EIO;
    }
    return AB_OK;
}

static int lock_fd(int fd, bool read_only, const char *path, ab_message *message)
{
    struct flock lock = {.l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(fd, F_OFD_SETLK, &lock) == 0) {
        return AB_OK;
    }
    if (errno == EAGAIN || errno == EACCES) {
        ab_wal_say(message, "%s: the directory is in use by process %ld; stop it first", path, holder(fd));
        return AB_ELOCKED;
    }
    ab_wal_say(message, "%s: cannot lock: %s", path, strerror(errno));
    return AB_EIO;
}

int ab_wal_lock_take(const char *dir, bool read_only, int *fd, ab_message *message)
{
    *fd = -1;
    size_t size = strlen(dir) + sizeof("/LOCK");
    char *path = malloc(size);
    if (path == NULL) {
        return AB_ENOMEM;
    }
    snprintf(path, size, "%s/LOCK", dir);
    int code = AB_OK;
    int file = open(path, read_only ? O_RDONLY | O_CLOEXEC : O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0 && read_only && errno == ENOENT) {
        free(path);
        return AB_OK; /* a copy without LOCK: nobody can have it open */
    }
    if (file < 0) {
        code = errno == ENOSPC || errno == EDQUOT ? AB_ENOSPC : AB_EIO;
        ab_wal_say(message, "%s: cannot open: %s", path, strerror(errno));
        free(path);
        return code;
    }
    code = lock_fd(file, read_only, path, message);
    if (code == AB_OK && !read_only && (code = write_pid(file)) != AB_OK) {
        ab_wal_say(message, "%s: cannot write: %s", path, strerror(errno));
    }
    if (code != AB_OK) {
        close(file);
        file = -1;
    }
    *fd = file;
    free(path);
    return code;
}
