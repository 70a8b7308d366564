/* SPDX-License-Identifier: Apache-2.0 */
/* Reads requests: a msgpack map of known keys. Pure functions; any thread. */
#include "engine/admin/command.h"
#include "wal/block.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum value_kind { KIND_UINT, KIND_BOOL, KIND_COMMAND, KIND_STREAM, KIND_VERSION } value_kind;

typedef struct request_key {
    const char *name;
    value_kind kind;
    size_t offset;
} request_key;

static const request_key keys[] = {
    {"v", KIND_VERSION, 0},
    {"cmd", KIND_COMMAND, 0},
    {"group", KIND_UINT, offsetof(ab_admin_request, group)},
    {"stream", KIND_STREAM, 0},
    {"from", KIND_UINT, offsetof(ab_admin_request, from)},
    {"to", KIND_UINT, offsetof(ab_admin_request, to)},
    {"limit", KIND_UINT, offsetof(ab_admin_request, limit)},
    {"payload_max", KIND_UINT, offsetof(ab_admin_request, payload_max)},
    {"timeout_ms", KIND_UINT, offsetof(ab_admin_request, timeout_ms)},
    {"newest", KIND_UINT, offsetof(ab_admin_request, newest)},
    {"follow", KIND_BOOL, offsetof(ab_admin_request, follow)},
    {"detail", KIND_BOOL, offsetof(ab_admin_request, detail)},
};

static int fail(int code, ab_message *message, const char *text)
{
    snprintf(message->text, sizeof message->text, "%s", text);
    return code;
}

/* "NODE.EPOCH" */
static bool read_stream(const msgpack_object_str *text, ab_stream *stream)
{
    char copy[32];
    char *end;
    if (text->size >= sizeof copy || text->size == 0) {
        return false;
    }
    memcpy(copy, text->ptr, text->size);
    copy[text->size] = '\0';
    unsigned long long node = strtoull(copy, &end, 10);
    if (*end != '.' || node > UINT32_MAX) {
        return false;
    }
    unsigned long long epoch = strtoull(end + 1, &end, 10);
    if (*end != '\0' || epoch > UINT32_MAX) {
        return false;
    }
    *stream = (ab_stream){.node = (uint32_t)node, .epoch = (uint32_t)epoch};
    return true;
}

static int read_value(const request_key *key, const msgpack_object *value, ab_admin_request *request,
                      ab_message *message)
{
    char *at = (char *)request + key->offset;
    switch (key->kind) {
    case KIND_VERSION:
        return value->type == MSGPACK_OBJECT_POSITIVE_INTEGER && value->via.u64 == AB_ADMIN_PROTOCOL
                   ? AB_OK
                   : fail(AB_EVERSION, message,
                          "the node speaks version 1 of the admin protocol: use the inspector "
                          "of the same release");
    case KIND_UINT:
        if (value->type != MSGPACK_OBJECT_POSITIVE_INTEGER) {
            break;
        }
        memcpy(at, &value->via.u64, sizeof value->via.u64);
        return AB_OK;
    case KIND_BOOL:
        if (value->type != MSGPACK_OBJECT_BOOLEAN) {
            break;
        }
        memcpy(at, &value->via.boolean, sizeof(bool));
        return AB_OK;
    case KIND_COMMAND:
        if (value->type != MSGPACK_OBJECT_STR || value->via.str.size >= sizeof request->command) {
            break;
        }
        memcpy(request->command, value->via.str.ptr, value->via.str.size);
        return AB_OK;
    case KIND_STREAM:
        if (value->type != MSGPACK_OBJECT_STR || !read_stream(&value->via.str, &request->stream)) {
            break;
        }
        request->one_stream = true;
        return AB_OK;
    }
    return fail(AB_EINVAL, message, "a value of the request has the wrong type");
}

static int read_map(const msgpack_object_map *map, ab_admin_request *request, ab_message *message)
{
    bool version = false;
    for (uint32_t i = 0; i < map->size; i++) {
        const msgpack_object *name = &map->ptr[i].key;
        const request_key *found = NULL;
        for (size_t k = 0; name->type == MSGPACK_OBJECT_STR && k < sizeof keys / sizeof keys[0]; k++) {
            if (strlen(keys[k].name) == name->via.str.size &&
                memcmp(keys[k].name, name->via.str.ptr, name->via.str.size) == 0) {
                found = &keys[k];
            }
        }
        if (found == NULL) {
            return fail(AB_EINVAL, message, "the request has a key that this node does not know");
        }
        int code = read_value(found, &map->ptr[i].val, request, message);
        if (code != AB_OK) {
            return code;
        }
        version = version || found->kind == KIND_VERSION;
    }
    return version ? AB_OK : fail(AB_EVERSION, message, "the request names no protocol version");
}

int ab_admin_request_read(const void *data, size_t size, ab_admin_request *request, ab_message *message)
{
    msgpack_unpacked result;
    size_t offset = 0;
    *request = (ab_admin_request){.payload_max = 256, .timeout_ms = 5000};
    msgpack_unpacked_init(&result);
    int code = AB_EPROTO;
    msgpack_unpack_return r = msgpack_unpack_next(&result, data, size, &offset);
    if (r == MSGPACK_UNPACK_SUCCESS && offset == size && result.data.type == MSGPACK_OBJECT_MAP) {
        code = read_map(&result.data.via.map, request, message);
    } else {
        code = fail(code, message, "the request is no msgpack map, or nested too deeply");
    }
    msgpack_unpacked_destroy(&result);
    return code;
}

bool ab_admin_selects(const ab_admin_request *request, const ab_entry *entry)
{
    return (!request->one_stream || ab_stream_compare(request->stream, entry->stream) == 0) &&
           entry->index >= request->from && (request->to == 0 || entry->index <= request->to);
}
