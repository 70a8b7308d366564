/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file notify.h
 * Tells the service manager that started the daemon how it is, where it asked for that (NOTIFY_SOCKET): systemd's
 * protocol, one datagram a message. Any thread.
 */
#ifndef ANABRANCHD_NOTIFY_H
#define ANABRANCHD_NOTIFY_H

/** Sends lines of NAME=VALUE. Nobody asked, or nobody listens: no harm. */
void ab_notify(const char *lines);

#endif
