/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file error.h
 * Error codes of Anabranch: one list makes the codes, the names and the messages.
 *
 * Every function that can fail returns `int`: AB_OK (0) or one of the negative codes below. A code says what
 * kind of failure it is; an `ab_message` (where a function takes one) says what, where, and what to do next.
 */
#ifndef ANABRANCH_ERROR_H
#define ANABRANCH_ERROR_H

#include <anabranch/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/* X(name, value, message). Values are part of the interface: never renumbered, new ones at the end. */
#define AB_ERROR_LIST(X)                                                                                     \
    X(AB_OK, 0, "success")                                                                                   \
    X(AB_ENOMEM, -1, "out of memory")                                                                        \
    X(AB_EINVAL, -2, "invalid argument")                                                                     \
    X(AB_EBUSY, -3, "queue full: slow down and try again")                                                   \
    X(AB_ETIMEDOUT, -4, "timed out: outcome not known yet, the work goes on")                                \
    X(AB_ECLOSED, -5, "closed or closing")                                                                   \
    X(AB_ENOTFOUND, -6, "not found")                                                                         \
    X(AB_EEXIST, -7, "exists already")                                                                       \
    X(AB_EIO, -8, "input/output error")                                                                      \
    X(AB_ENOSPC, -9, "no space left: disk full or log at its configured ceiling")                            \
    X(AB_ECORRUPT, -10, "stored or received data is damaged")                                                \
    X(AB_EVERSION, -11, "unknown format or protocol version")                                                \
    X(AB_ELOCKED, -12, "data directory is in use by another process")                                        \
    X(AB_ETOOBIG, -13, "larger than the configured or built-in maximum")                                     \
    X(AB_ECONFIG, -14, "configuration is wrong")                                                             \
    X(AB_EUNSUPPORTED, -15, "not available with this backend or version")                                    \
    X(AB_ENOTLEADER, -16, "this member is not the leader")                                                   \
    X(AB_ESTALE, -17, "local state is staler than the read allows")                                          \
    X(AB_EPROTO, -18, "peer broke the protocol")                                                             \
    X(AB_EDIVERGED, -19, "two histories exist under one stream name")                                        \
    X(AB_EIDENTITY, -20, "cluster name, node id or store id does not match")                                 \
    X(AB_ETRIMMED, -21, "that part of the log has been trimmed")                                             \
    X(AB_ERETRY, -22, "state machine asks to try again later")                                               \
    X(AB_EREJECT, -23, "state machine will never accept this entry")                                         \
    X(AB_EINTERNAL, -24, "internal error: please report it")

/** Error codes. AB_OK is 0, all others are negative. */
enum ab_error {
#define AB_ERROR_ENUM(name, value, text) name = (value),
    AB_ERROR_LIST(AB_ERROR_ENUM)
#undef AB_ERROR_ENUM
};

/** Message for a code, e.g. "out of memory". Never NULL; an unknown code gives "unknown error". Static
 * storage. */
AB_API const char *ab_strerror(int code);

/** Name of a code, e.g. "AB_ENOMEM". Never NULL; an unknown code gives "AB_E?". Static storage. */
AB_API const char *ab_error_name(int code);

/** Bytes in an ab_message: enough for a path and a sentence. */
#define AB_MESSAGE_SIZE 512

/** Filled by a failing call that takes one: what went wrong, where, and what to do. Always NUL-terminated. */
typedef struct ab_message {
    char text[AB_MESSAGE_SIZE];
} ab_message;

#ifdef __cplusplus
}
#endif
#endif
