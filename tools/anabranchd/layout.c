/* SPDX-License-Identifier: Apache-2.0 */
/* The file that remembers a data directory's groups: their ids in decimal, one per line. Any thread. */
#include "tools/anabranchd/layout.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ID_MAX 24u

static int fail(ab_message *message, int error, const char *path)
{
    snprintf(message->text, sizeof message->text, "%.300s: %s", path, strerror(error));
    return error == ENOSPC ? AB_ENOSPC : AB_EIO;
}

/* The file's text; *size = 0 where there is none. */
static int read_file(const char *path, char *text, size_t room, size_t *size, ab_message *message)
{
    *size = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? AB_OK : fail(message, errno, path);
    }
    ssize_t n = 0;
    while (*size < room && (n = read(fd, text + *size, room - *size)) > 0) {
        *size += (size_t)n;
    }
    int error = n < 0 ? errno : 0;
    close(fd);
    return error != 0 ? fail(message, error, path) : AB_OK;
}

static int write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, text, size);
        if (n < 0) {
            return errno;
        }
        text += n;
        size -= (size_t)n;
    }
    return fsync(fd) == 0 ? 0 : errno;
}

static int sync_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    int error = fsync(fd) == 0 ? 0 : errno;
    close(fd);
    return error;
}

/* All of it or nothing: written beside its place and moved there. */
static int write_file(const char *dir, const char *path, const char *text, size_t size, ab_message *message)
{
    size_t room = strlen(path) + 5;
    char *beside = malloc(room);
    if (beside == NULL) {
        return AB_ENOMEM;
    }
    snprintf(beside, room, "%s.new", path);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int error = fd < 0 ? errno : write_all(fd, text, size);
    if (fd >= 0 && close(fd) != 0 && error == 0) {
        error = errno;
    }
    if (error == 0 && rename(beside, path) != 0) {
        error = errno;
    }
    error = error == 0 ? sync_dir(dir) : error;
    free(beside);
    return error == 0 ? AB_OK : fail(message, error, path);
}

static int check(const char *dir, const char *path, const char *text, size_t size, char *known,
                 ab_message *message)
{
    size_t known_size = 0;
    int code = read_file(path, known, size + 1, &known_size, message);
    if (code != AB_OK) {
        return code;
    }
    if (known_size == 0) {
        return write_file(dir, path, text, size, message);
    }
    if (known_size != size || memcmp(known, text, size) != 0) {
        snprintf(message->text, sizeof message->text,
                 "the groups in the configuration are not those that the data directory was made with "
                 "(%.300s): series "
                 "would change their group. Set them back, or export the data and import it into an empty "
                 "directory",
                 path);
        return AB_ECONFIG;
    }
    return AB_OK;
}

int ab_layout_check(const char *dir, const ab_group_config *groups, size_t count, ab_message *message)
{
    size_t path_size = strlen(dir) + sizeof "/groups";
    char *path = malloc(path_size);
    char *text = malloc(count * ID_MAX + 1);
    char *known = malloc(count * ID_MAX + 1);
    int code = AB_ENOMEM;
    if (path != NULL && text != NULL && known != NULL) {
        size_t size = 0;
        snprintf(path, path_size, "%s/groups", dir);
        for (size_t i = 0; i < count; i++) {
            size += (size_t)snprintf(text + size, ID_MAX, "%" PRIu64 "\n", groups[i].id);
        }
        code = check(dir, path, text, size, known, message);
    }
    free(path);
    free(text);
    free(known);
    return code;
}
