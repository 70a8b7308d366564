/* SPDX-License-Identifier: Apache-2.0 */
/* Chooses between the admin socket and the log itself, and reads fields of rows. Main thread. */
#include "tools/anabranch/source.h"
#include "tools/anabranch/client.h"
#include "tools/anabranch/offline.h"
#include "tools/anabranch/salvage.h"
#include "wal/wal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A node that says nothing for so long is stuck; rows and progress come far more often. */
#define SILENCE_MS 30000

static void open_log(source *s, int connect_error)
{
    ab_wal_options options = {.read_only = true};
    if (client_is_socket(s->data_dir)) {
        s->code = connect_error == ECONNREFUSED ? AB_ECLOSED : AB_EIO;
        snprintf(s->message.text, sizeof s->message.text, "%s: %s", s->data_dir,
                 connect_error == ECONNREFUSED ? "no node answers: it is not running"
                                               : strerror(connect_error));
        return;
    }
    ab_wal_origin origin;
    s->code = ab_wal_open(s->data_dir, &options, &s->wal, &origin, &s->message);
    if (s->code == AB_OK) {
        memcpy(s->store_id, origin.store_id, sizeof s->store_id);
    }
    if (s->code == AB_ELOCKED && connect_error != ENOENT) {
        size_t used = strlen(s->message.text);
        snprintf(s->message.text + used, sizeof s->message.text - used, " (its admin.sock: %s)",
                 strerror(connect_error));
    }
}

void source_open(source *s, const char *data_dir)
{
    *s = (source){.data_dir = data_dir, .fd = client_connect(data_dir), .silence_ms = SILENCE_MS};
    if (s->fd < 0) {
        open_log(s, errno);
    }
}

void source_connect(source *s, const char *data_dir)
{
    *s = (source){.data_dir = data_dir, .fd = client_connect(data_dir), .silence_ms = SILENCE_MS};
    if (s->fd < 0) {
        s->code = AB_ECLOSED;
        snprintf(s->message.text, sizeof s->message.text, "%s: no node answers: %s", data_dir,
                 strerror(errno));
    }
}

void source_close(source *s)
{
    if (s->fd >= 0) {
        close(s->fd);
    }
    ab_wal_close(s->wal);
    s->fd = -1;
    s->wal = NULL;
}

bool source_live(const source *s)
{
    return s->fd >= 0;
}

int source_ask(source *s, const query *q, row_fn fn, void *arg)
{
    if (s->code == AB_ECORRUPT || s->code == AB_EVERSION) {
        int code = salvage_answers(q) && !s->salvaged ? salvage_ask(s, q, fn, arg) : AB_OK;
        s->salvaged = true;
        return code == AB_ENOMEM || code == AB_ECLOSED ? code : s->code;
    }
    if (s->code != AB_OK) {
        return s->code;
    }
    s->message.text[0] = '\0';
    if (!source_live(s)) {
        return offline_ask(s, q, fn, arg);
    }
    ab_message said = {""};
    int silence = q->follow ? -1 : s->silence_ms + (int)q->timeout_ms;
    int code = client_ask(s->fd, q, silence, fn, arg, &said);
    if (said.text[0] != '\0') { /* a node does not know by which name it is asked */
        snprintf(s->message.text, sizeof s->message.text, "%s: %s", s->data_dir, said.text);
    }
    return code;
}
