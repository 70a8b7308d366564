/* SPDX-License-Identifier: Apache-2.0 */
/* The socket file of the admin endpoint. A path longer than sockaddr_un holds is reached through /proc/self/fd.
 * Called by the thread that starts and stops the endpoint. */
#include "engine/admin/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char socket_name[] = "admin.sock";

static int fail(ab_message *message, int code, const char *dir, const char *what, int error)
{
    if (message != NULL) {
        snprintf(message->text, sizeof message->text, "%s/%s: %s%s%s", dir, socket_name, what,
                 error != 0 ? ": " : "", error != 0 ? strerror(error) : "");
    }
    return code;
}

/* Address of the socket in the directory open as `dir_fd`, whatever the length of its path. */
static void address_in(int dir_fd, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(address->sun_path, sizeof address->sun_path, "/proc/self/fd/%d/%s", dir_fd, socket_name);
}

static int new_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* Whether somebody listens at the address. */
static bool answers(const struct sockaddr_un *address)
{
    int fd = new_socket();
    if (fd < 0) {
        return false;
    }
    bool there = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno == EAGAIN;
    close(fd);
    return there;
}

/* Makes way for a new socket. */
static int remove_stale(int dir_fd, const char *dir, const struct sockaddr_un *address, ab_message *message)
{
    struct stat info;
    if (fstatat(dir_fd, socket_name, &info, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno == ENOENT ? AB_OK : fail(message, AB_EIO, dir, "cannot be looked at", errno);
    }
    if (!S_ISSOCK(info.st_mode)) {
        return fail(message, AB_EEXIST, dir, "is in the way and no socket (move it away)", 0);
    }
    if (answers(address)) {
        return fail(message, AB_ELOCKED, dir, "is served by another process (stop it first)", 0);
    }
    if (unlinkat(dir_fd, socket_name, 0) != 0 && errno != ENOENT) {
        return fail(message, AB_EIO, dir, "left by a dead process, cannot be removed", errno);
    }
    return AB_OK;
}

static int listen_in(int dir_fd, const char *dir, int *out, ab_message *message)
{
    struct sockaddr_un address;
    address_in(dir_fd, &address);
    int code = remove_stale(dir_fd, dir, &address, message);
    if (code != AB_OK) {
        return code;
    }
    int fd = new_socket();
    if (fd < 0) {
        return fail(message, AB_EIO, dir, "cannot make a socket", errno);
    }
    /* The mode of the socket before bind becomes the mode of the file: it is never open to others. */
    if (fchmod(fd, 0600) != 0 || bind(fd, (const struct sockaddr *)&address, sizeof address) != 0 ||
        listen(fd, 16) != 0) {
        code = fail(message, errno == ENOSPC ? AB_ENOSPC : AB_EIO, dir, "cannot listen there", errno);
        close(fd);
        return code;
    }
    if (fchmodat(dir_fd, socket_name, 0600, 0) != 0) {
        code = fail(message, AB_EIO, dir, "cannot be made private", errno);
        close(fd);
        return code;
    }
    *out = fd;
    return AB_OK;
}

int ab_admin_listen(const char *dir, int *dir_fd, int *fd, ab_message *message)
{
    *fd = -1;
    *dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*dir_fd < 0) {
        return fail(message, AB_EIO, dir, "its directory cannot be opened", errno);
    }
    return listen_in(*dir_fd, dir, fd, message);
}

void ab_admin_unlink(int dir_fd)
{
    unlinkat(dir_fd, socket_name, 0);
}
