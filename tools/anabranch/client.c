/* SPDX-License-Identifier: Apache-2.0 */
/* The inspector's end of the admin protocol. What comes in is checked as if it came from a stranger. Main thread. */
#define _GNU_SOURCE /* O_PATH */
#include "tools/anabranch/client.h"
#include "tools/anabranch/text.h"
#include "wal/bytes.h"

#include <errno.h>
#include <fcntl.h>
#include <msgpack.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PROTOCOL 1u
#define FRAME_HEADER 4u
#define FRAME_MAX (1u << 20) /* a payload of 512 KiB is the largest thing in a row */

bool client_is_socket(const char *data)
{
    struct stat about;
    return stat(data, &about) == 0 && S_ISSOCK(about.st_mode);
}

int client_connect(const char *data)
{
    bool direct = client_is_socket(data);
    int place = open(data, direct ? O_PATH | O_CLOEXEC : O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (place < 0) {
        return -1;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    /* Through the descriptor: sockaddr_un holds no long paths. */
    snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d%s", place,
             direct ? "" : "/admin.sock");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0 ? errno : 0;
    close(place);
    if (error != 0 && fd >= 0) {
        close(fd);
        fd = -1;
    }
    errno = error;
    return fd;
}

static void pack_key(msgpack_packer *p, const char *key)
{
    msgpack_pack_str(p, strlen(key));
    msgpack_pack_str_body(p, key, strlen(key));
}

static void pack_uint(msgpack_packer *p, const char *key, uint64_t value)
{
    pack_key(p, key);
    msgpack_pack_uint64(p, value);
}

static void pack_query(msgpack_packer *p, const query *q)
{
    uint64_t values[] = {q->group, q->from, q->to, q->limit, q->payload_max, q->timeout_ms, q->newest};
    static const char *const keys[] = {"group", "from", "to", "limit", "payload_max", "timeout_ms", "newest"};
    size_t count = 2;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        count += values[i] != 0;
    }
    msgpack_pack_map(p, count + q->one_stream + q->detail + q->follow);
    pack_uint(p, "v", PROTOCOL);
    pack_key(p, "cmd");
    pack_key(p, q->command);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (values[i] != 0) {
            pack_uint(p, keys[i], values[i]);
        }
    }
    if (q->one_stream) {
        char text[32];
        snprintf(text, sizeof text, "%u.%u", q->stream.node, q->stream.epoch);
        pack_key(p, "stream");
        pack_key(p, text);
    }
    if (q->follow) {
        pack_key(p, "follow");
        msgpack_pack_true(p);
    }
    if (q->detail) {
        pack_key(p, "detail");
        msgpack_pack_true(p);
    }
}

static int io_failed(ab_message *message)
{
    bool gone = errno == EPIPE || errno == ECONNRESET;
    snprintf(message->text, sizeof message->text, "admin.sock: %s",
             gone ? "the node hung up: is it stopping?" : strerror(errno));
    return gone ? AB_ECLOSED : AB_EIO;
}

static int send_all(int fd, const char *data, size_t size, ab_message *message)
{
    while (size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR) {
            return io_failed(message);
        }
        data += n > 0 ? n : 0;
        size -= n > 0 ? (size_t)n : 0;
    }
    return AB_OK;
}

static int send_query(int fd, const query *q, ab_message *message)
{
    msgpack_sbuffer buffer;
    msgpack_packer packer;
    msgpack_sbuffer_init(&buffer);
    msgpack_packer_init(&packer, &buffer, msgpack_sbuffer_write);
    pack_query(&packer, q);
    uint8_t header[FRAME_HEADER];
    ab_put_le32(header, (uint32_t)buffer.size);
    int code = send_all(fd, (const char *)header, sizeof header, message);
    code = code != AB_OK ? code : send_all(fd, buffer.data, buffer.size, message);
    msgpack_sbuffer_destroy(&buffer);
    return code;
}

static int receive_all(int fd, void *data, size_t size, int silence_ms, ab_message *message)
{
    for (size_t got = 0; got < size;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = poll(&p, 1, silence_ms);
        if (ready == 0) {
            snprintf(message->text, sizeof message->text, "admin.sock: the node said nothing for %d s",
                     silence_ms / 1000);
            return AB_ETIMEDOUT;
        }
        ssize_t n = ready < 0 ? -1 : recv(fd, (char *)data + got, size - got, 0);
        if (n == 0) {
            errno = EPIPE;
        }
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return io_failed(message);
        }
        got += n > 0 ? (size_t)n : 0;
    }
    return AB_OK;
}

static json_t *to_json(const msgpack_object *o);

/* The key is quoted by json_text too; "payload" of bytes becomes "payload_hex". */
static json_t *map_to_json(const msgpack_object_map *map)
{
    json_t *object = json_object();
    for (uint32_t i = 0; object != NULL && i < map->size; i++) {
        const msgpack_object *key = &map->ptr[i].key;
        const msgpack_object *value = &map->ptr[i].val;
        char name[64];
        if (key->type != MSGPACK_OBJECT_STR || key->via.str.size > 40 ||
            text_strange(key->via.str.ptr, key->via.str.size) > 0) {
            continue;
        }
        snprintf(name, sizeof name, "%.*s%s", (int)key->via.str.size, key->via.str.ptr,
                 value->type == MSGPACK_OBJECT_BIN ? "_hex" : "");
        if (json_object_set_new(object, name, to_json(value)) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static json_t *array_to_json(const msgpack_object_array *items)
{
    json_t *array = json_array();
    for (uint32_t i = 0; array != NULL && i < items->size; i++) {
        if (json_array_append_new(array, to_json(&items->ptr[i])) != 0) {
            json_decref(array);
            return NULL;
        }
    }
    return array;
}

static json_t *to_json(const msgpack_object *o)
{
    switch (o->type) {
    case MSGPACK_OBJECT_BOOLEAN:
        return json_boolean(o->via.boolean);
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        return json_uint(o->via.u64);
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        return json_integer(o->via.i64);
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        return json_real(o->via.f64);
    case MSGPACK_OBJECT_STR:
        return json_text(o->via.str.ptr, o->via.str.size);
    case MSGPACK_OBJECT_BIN:
        return json_hex(o->via.bin.ptr, o->via.bin.size);
    case MSGPACK_OBJECT_MAP:
        return map_to_json(&o->via.map);
    case MSGPACK_OBJECT_ARRAY:
        return array_to_json(&o->via.array);
    default:
        return json_null();
    }
}

static int broken(ab_message *message, const char *what)
{
    snprintf(message->text, sizeof message->text, "admin.sock: %s", what);
    return AB_EPROTO;
}

/* Next message as JSON. */
static int receive_row(int fd, int silence_ms, json_t **row, ab_message *message)
{
    uint8_t header[FRAME_HEADER];
    int code = receive_all(fd, header, sizeof header, silence_ms, message);
    if (code != AB_OK) {
        return code;
    }
    size_t size = ab_get_le32(header);
    if (size == 0 || size > FRAME_MAX) {
        return broken(message, "an answer of an impossible size");
    }
    char *data = malloc(size);
    if (data == NULL) {
        return AB_ENOMEM;
    }
    code = receive_all(fd, data, size, silence_ms, message);
    msgpack_unpacked result;
    msgpack_unpacked_init(&result);
    size_t offset = 0;
    if (code == AB_OK && (msgpack_unpack_next(&result, data, size, &offset) != MSGPACK_UNPACK_SUCCESS ||
                          offset != size || result.data.type != MSGPACK_OBJECT_MAP)) {
        code = broken(message, "an answer that is no msgpack map");
    }
    if (code == AB_OK) {
        *row = to_json(&result.data);
        code = *row != NULL ? AB_OK : AB_ENOMEM;
    }
    msgpack_unpacked_destroy(&result);
    free(data);
    return code;
}

static int code_by_name(const char *name)
{
    static const struct {
        const char *name;
        int code;
    } codes[] = {
#define CODE_ENTRY(id, value, text) {#id, value},
        AB_ERROR_LIST(CODE_ENTRY)
#undef CODE_ENTRY
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        if (strcmp(codes[i].name, name) == 0) {
            return codes[i].code;
        }
    }
    return AB_EINTERNAL;
}

int client_ask(int fd, const query *q, int silence_ms, row_fn fn, void *arg, ab_message *message)
{
    int code = send_query(fd, q, message);
    for (bool end = false; code == AB_OK && !end;) {
        json_t *row = NULL;
        code = receive_row(fd, silence_ms, &row, message);
        if (code != AB_OK) {
            return code;
        }
        end = row_is(row, "end");
        if (end) {
            code = code_by_name(row_text(row, "code"));
            snprintf(message->text, sizeof message->text, "%s", row_text(row, "message"));
        } else if (row_is(row, "hello") && row_uint(row, "v") != PROTOCOL) {
            snprintf(message->text, sizeof message->text,
                     "admin.sock: the node is of release %s: use the inspector of that release",
                     row_text(row, "version"));
            code = AB_EVERSION;
        } else if (!row_is(row, "hello") && !fn(arg, row)) {
            code = AB_ECLOSED;
        }
        json_decref(row);
    }
    return code;
}
