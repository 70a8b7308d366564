/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file settings.h
 * The daemon's own part of the configuration file: the mapping `application:`. Read once, by one thread.
 */
#ifndef ANABRANCHD_SETTINGS_H
#define ANABRANCHD_SETTINGS_H

#include "tools/anabranchd/log.h"
#include <anabranch/config.h>

#define AB_DEFAULT_HTTP_HOST "127.0.0.1"
#define AB_DEFAULT_HTTP_PORT 8086u /* where clients of InfluxDB look */
#define AB_DEFAULT_HTTP_THREADS 2u
#define AB_DEFAULT_GROUPS 8u
#define AB_DEFAULT_TIMEOUT_MS 10000u
#define AB_DEFAULT_MAX_BODY (16u << 20)
#define AB_DEFAULT_MAX_BODIES (256u << 20)
#define AB_DEFAULT_MAX_CONNECTIONS 1000u
#define AB_DEFAULT_IDLE_TIMEOUT_S 60u
#define AB_DEFAULT_DELETE_GRACE_S 86400u

/** Members have the names of the keys. */
typedef struct ab_settings {
    char *http_host;
    char *token;                /**< that requests must show; NULL: none */
    uint64_t http_port;         /**< 0: the system chooses */
    uint64_t http_threads;      /**< 1 to 64 */
    uint64_t groups;            /**< made where the file lists no `groups:`, 1 to 4096 */
    uint64_t timeout_ms;        /**< of a write or a read, 1 to 600000 */
    uint64_t max_body;          /**< bytes of one body, 1024 to 1 GiB */
    uint64_t max_bodies;        /**< bytes of all bodies being received or parsed, at least max_body */
    uint64_t max_connections;   /**< 1 to 65000 */
    uint64_t idle_timeout_s;    /**< of a connection, 1 to 86400 */
    uint64_t delete_grace_s;    /**< how long a delete is kept at least, 0 (for ever) to 10 years */
    ab_write_level write_level; /**< of a POST, AB_WRITE_DEFAULT: the group's */
    ab_log_format log_format;
    struct ab_settings *before; /**< those that were in use before these, if any */
} ab_settings;

/** Reads them from a file that ab_config_load() has accepted.
 *  @return AB_OK (free with ab_settings_free), AB_ECONFIG (`message`: "PATH:LINE: KEY.PATH: what is wrong"), AB_ENOMEM */
int ab_settings_load(const char *path, ab_settings *settings, ab_message *message);

void ab_settings_free(ab_settings *settings);

#endif
