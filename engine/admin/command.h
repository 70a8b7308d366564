/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file command.h
 * What an inspector asks, and the work of answering it. Runs on a thread per request; never on a thread of the
 * node.
 */
#ifndef ANABRANCH_ENGINE_ADMIN_COMMAND_H
#define ANABRANCH_ENGINE_ADMIN_COMMAND_H

#include "engine/admin/admin.h"
#include "engine/admin/answer.h"

#define AB_ADMIN_PROTOCOL 1u

/** Largest request, bytes. */
#define AB_ADMIN_REQUEST_MAX 4096u

typedef struct ab_admin_request {
    char command[16];
    uint64_t group; /* 0: all */
    bool one_stream;
    ab_stream stream;
    uint64_t from;
    uint64_t to;
    uint64_t limit;       /* entries; 0: no limit */
    uint64_t payload_max; /* bytes of each payload to show */
    uint64_t timeout_ms;
    uint64_t newest; /* entries of each stream; 0: all */
    bool detail;
    bool follow; /* goes on until nobody reads it */
} ab_admin_request;

/** Reads a request. @return AB_OK, AB_EVERSION, AB_EPROTO, AB_EINVAL (`message` says what) */
int ab_admin_request_read(const void *data, size_t size, ab_admin_request *request, ab_message *message);

/** Whether the request is about this entry, as far as its stream and its range of indexes tell. */
bool ab_admin_selects(const ab_admin_request *request, const ab_entry *entry);

/** Answers it: rows, then one "end". */
void ab_admin_answer(ab_node *node, const ab_admin_request *request, ab_answer *answer);

/** The "end" of a request that was not even begun. */
void ab_admin_refuse(ab_answer *answer, int code, const char *message);

/* rows.c: one message each. */
void ab_row_hello(ab_out *out);
void ab_row_node(ab_out *out, const ab_node *node);
void ab_row_link(ab_out *out, const ab_link_status *link);
struct ab_wal_group_size;
/* `size`: NULL for the row of `status`, which looks at no block. */
void ab_row_group(ab_out *out, const ab_group *group, const struct ab_wal_group_size *size);
void ab_row_stream(ab_out *out, uint64_t group, const ab_stream_status *stream);
void ab_row_sync(ab_out *out, uint64_t group, const ab_sync_status *sync);
void ab_row_metric(ab_out *out, const ab_metric *metric);
void ab_row_end(ab_out *out, int code, const char *message);

#endif
