/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file ready.h
 * The file that says that the daemon serves (--ready-file). Who wrote it holds a lock on it as long as it runs: so a file of
 * an earlier run, which goes, and that of another daemon, which stays, are told apart, whatever end the earlier run had. The
 * main thread.
 */
#ifndef ANABRANCHD_READY_H
#define ANABRANCHD_READY_H

#include <anabranch/error.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct ab_ready {
    const char *path;  /* NULL: nobody wants one */
    char beside[4096]; /* where it is written */
    int fd;            /* of it; has the lock */
    bool written;
} ab_ready;

/** Takes away the file of an earlier run. `path` must outlive it. @return AB_OK; AB_EIO (it is not to be had, or another
 * daemon's that runs or starts): `message` says what */
int ab_ready_begin(ab_ready *ready, const char *path, ab_message *message);

/** Whoever sees it sees all of it. @return AB_OK, AB_EIO: `message` says what */
int ab_ready_write(ab_ready *ready, uint16_t http_port, uint16_t node_port, ab_message *message);

/** Leaves the file where it was written, and nothing else. */
void ab_ready_end(ab_ready *ready);

#endif
