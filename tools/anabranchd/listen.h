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

/** Listens on `host` (name or address) and `port` (0: the system chooses; *port_out says which).
 * @param insecure  false: loopback addresses only
 * @return AB_OK, AB_ECONFIG (no such host; not loopback), AB_EIO; `message` says what */
int ab_listen(const char *host, uint16_t port, bool insecure, int *fd, uint16_t *port_out,
              ab_message *message);

/** Whether ab_listen() may have that address. A name is not looked up: that may take long, and have another result later.
 * @return AB_OK, AB_ECONFIG */
int ab_listen_check(const char *host, bool insecure, ab_message *message);

#endif
