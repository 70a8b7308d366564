/* SPDX-License-Identifier: Apache-2.0 */
/* The inspector's end of the admin protocol (engine/admin/README.md). Main thread. */
#ifndef ANABRANCH_TOOLS_CLIENT_H
#define ANABRANCH_TOOLS_CLIENT_H

#include "tools/anabranch/source.h"

/* Connects to DIR/admin.sock, or to the socket itself. @return descriptor, or -1 with errno */
int client_connect(const char *data);

/* Whether it is a socket, and so no directory. */
bool client_is_socket(const char *data);

/* Sends the query, gives each row but hello and end to `fn`. @return code of the end; AB_EIO, AB_EPROTO, AB_ENOMEM;
 * AB_ECLOSED (the node hung up); AB_ETIMEDOUT (silent for `silence_ms`; -1: for ever) */
int client_ask(int fd, const query *q, int silence_ms, row_fn fn, void *arg, ab_message *message);

#endif
