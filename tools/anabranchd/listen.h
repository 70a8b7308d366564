/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file listen.h
 * A listening TCP socket. Any thread.
 */
#ifndef ANABRANCHD_LISTEN_H
#define ANABRANCHD_LISTEN_H

#include <anabranch/error.h>
#include <stdbool.h>
#include <stdint.h>

/** Takes `host` (name or address) and `port` (0: the system chooses; *port_out says which). Who connects is refused until
 * ab_listen_begin().
 * @param insecure  false: loopback addresses only
 * @return AB_OK (close *fd), AB_ECONFIG (no such host; not loopback), AB_EIO; `message` says what */
int ab_listen_bind(const char *host, uint16_t port, bool insecure, int *fd, uint16_t *port_out,
                   ab_message *message);

/** Listens on what ab_listen_bind() gave. `host` and `port` are for the message.
 * @return AB_OK, AB_EIO (somebody who took the port at the same time was first) */
int ab_listen_begin(const char *host, uint16_t port, int fd, ab_message *message);

/** Whether ab_listen_bind() may have that address. A name is not looked up: that may take long, and have another result later.
 * @return AB_OK, AB_ECONFIG */
int ab_listen_check(const char *host, bool insecure, ab_message *message);

#endif
