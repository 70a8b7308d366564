/* SPDX-License-Identifier: Apache-2.0 */
/* Greeting and farewell: encoding, decoding, who is welcome. Pure functions. */
#include "engine/transport/hello.h"

#include "wal/bytes.h"
#include <anabranch/error.h>
#include <msgpack/pack.h>
#include <stdio.h>
#include <string.h>

/* Values inside unknown keys may nest this deep. */
#define DEPTH_MAX 8

typedef struct sink {
    uint8_t *data;
    size_t size;
} sink;

static int sink_write(void *data, const char *bytes, size_t size)
{
    sink *to = data;
    if (size > AB_HELLO_SIZE - to->size) {
        return -1; /* cannot be: names have a maximum */
    }
    memcpy(to->data + to->size, bytes, size);
    to->size += size;
    return 0;
}

static void pack_text(msgpack_packer *packer, const char *text)
{
    msgpack_pack_str(packer, strlen(text));
    msgpack_pack_str_body(packer, text, strlen(text));
}

static void pack_uint(msgpack_packer *packer, const char *key, uint64_t value)
{
    pack_text(packer, key);
    msgpack_pack_uint64(packer, value);
}

size_t ab_hello_encode(const ab_hello *hello, uint8_t body[AB_HELLO_SIZE])
{
    sink to = {body, 0};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &to, sink_write);
    msgpack_pack_map(&packer, 9);
    pack_uint(&packer, "protocol", hello->protocol);
    pack_uint(&packer, "block", hello->block_version);
    pack_uint(&packer, "features", hello->features);
    pack_uint(&packer, "required", hello->required);
    pack_text(&packer, "cluster");
    pack_text(&packer, hello->cluster);
    pack_uint(&packer, "node", hello->node_id);
    pack_text(&packer, "store");
    msgpack_pack_bin(&packer, sizeof(hello->store_id));
    msgpack_pack_bin_body(&packer, hello->store_id, sizeof(hello->store_id));
    pack_uint(&packer, "nonce", hello->nonce);
    pack_uint(&packer, "seen", hello->seen);
    return to.size;
}

/* One decoded msgpack header: a scalar, the size of a string or bin, or how many values follow. */
typedef struct item {
    enum { ITEM_UINT, ITEM_TEXT, ITEM_BIN, ITEM_MAP, ITEM_ARRAY, ITEM_OTHER } kind;
    uint64_t value; /* number, bytes, or count of pairs or elements */
    const uint8_t *data;
} item;

static uint64_t get_be(const uint8_t *p, unsigned width)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++) {
        value = value << 8 | p[i];
    }
    return value;
}

/* What each first byte from 0xc0 to 0xdf announces: its kind and how many bytes of number follow; `fixed` bytes of
 * payload beyond that. 0xc1 is never used in msgpack. */
static const struct {
    uint8_t kind;
    uint8_t width;
    uint8_t fixed;
} announced[32] = {
    {ITEM_OTHER, 0, 0},  {ITEM_OTHER, 0, 0}, {ITEM_OTHER, 0, 0}, {ITEM_OTHER, 0, 0}, /* nil, -, false, true */
    {ITEM_BIN, 1, 0},    {ITEM_BIN, 2, 0},   {ITEM_BIN, 4, 0},                       /* bin */
    {ITEM_BIN, 1, 1},    {ITEM_BIN, 2, 1},   {ITEM_BIN, 4, 1},                       /* ext: type byte */
    {ITEM_OTHER, 0, 4},  {ITEM_OTHER, 0, 8},                                         /* float */
    {ITEM_UINT, 1, 0},   {ITEM_UINT, 2, 0},  {ITEM_UINT, 4, 0},  {ITEM_UINT, 8, 0},  /* uint */
    {ITEM_OTHER, 0, 1},  {ITEM_OTHER, 0, 2}, {ITEM_OTHER, 0, 4}, {ITEM_OTHER, 0, 8}, /* int */
    {ITEM_OTHER, 0, 2},  {ITEM_OTHER, 0, 3}, {ITEM_OTHER, 0, 5}, {ITEM_OTHER, 0, 9}, /* fixext */
    {ITEM_OTHER, 0, 17}, {ITEM_TEXT, 1, 0},  {ITEM_TEXT, 2, 0},  {ITEM_TEXT, 4, 0},  /* fixext 16, str */
    {ITEM_ARRAY, 2, 0},  {ITEM_ARRAY, 4, 0}, {ITEM_MAP, 2, 0},   {ITEM_MAP, 4, 0},
};

static bool skip(ab_bytes *input, uint64_t size)
{
    if (size > input->size) {
        return false;
    }
    input->data = (const uint8_t *)input->data + size;
    input->size -= (size_t)size;
    return true;
}

/* Takes one header, and the bytes of a string or bin. Containers: their values follow. */
static bool read_item(ab_bytes *input, item *out)
{
    if (input->size == 0) {
        return false;
    }
    uint8_t first = *(const uint8_t *)input->data;
    (void)skip(input, 1);
    uint64_t fixed = 0;
    if (first < 0x80 || first >= 0xe0) {
        *out = (item){first < 0x80 ? ITEM_UINT : ITEM_OTHER, first, NULL};
    } else if (first < 0xc0) {
        *out = first < 0x90   ? (item){ITEM_MAP, first & 0x0fu, NULL}
               : first < 0xa0 ? (item){ITEM_ARRAY, first & 0x0fu, NULL}
                              : (item){ITEM_TEXT, first & 0x1fu, NULL};
    } else {
        unsigned width = announced[first - 0xc0].width;
        fixed = announced[first - 0xc0].fixed;
        const uint8_t *number = input->data;
        if (first == 0xc1 || !skip(input, width)) {
            return false;
        }
        *out = (item){announced[first - 0xc0].kind, get_be(number, width), NULL};
    }
    out->data = input->data;
    uint64_t payload = out->kind == ITEM_TEXT || out->kind == ITEM_BIN ? out->value : 0;
    return skip(input, payload + fixed);
}

/* Skips what belongs to an item: nested values, counted instead of recursed into. */
static bool skip_values(ab_bytes *input, const item *parent)
{
    uint64_t left[DEPTH_MAX] = {0};
    int depth = -1;
    item at = *parent;
    for (;;) {
        if (at.kind == ITEM_MAP || at.kind == ITEM_ARRAY) {
            if (++depth == DEPTH_MAX) {
                return false;
            }
            left[depth] = at.kind == ITEM_MAP ? at.value * 2 : at.value;
        }
        while (depth >= 0 && left[depth] == 0) {
            depth--;
        }
        if (depth < 0) {
            return true;
        }
        left[depth]--;
        if (!read_item(input, &at)) {
            return false;
        }
    }
}

static bool key_is(const item *key, const char *name)
{
    return key->value == strlen(name) && memcmp(key->data, name, key->value) == 0;
}

/* Takes the value of a known key over. @return its bit; 0 if the key is unknown; -1 if the value is wrong */
static int take_value(const item *key, const item *value, ab_hello *hello)
{
    static const char *const names[] = {"protocol", "block",    "node",    "nonce", "seen",
                                        "features", "required", "cluster", "store"};
    int found = 0;
    while (found < 9 && !key_is(key, names[found])) {
        found++;
    }
    if (found < 7 && (value->kind != ITEM_UINT || (found < 3 && value->value > UINT32_MAX))) {
        return -1;
    }
    switch (found) {
    case 0:
        hello->protocol = (uint32_t)value->value;
        break;
    case 1:
        hello->block_version = (uint32_t)value->value;
        break;
    case 2:
        hello->node_id = (uint32_t)value->value;
        break;
    case 3:
        hello->nonce = value->value;
        break;
    case 4:
        hello->seen = value->value;
        break;
    case 5:
        hello->features = value->value;
        break;
    case 6:
        hello->required = value->value;
        break;
    case 7:
        if (value->kind != ITEM_TEXT || value->value > AB_NAME_MAX) {
            return -1;
        }
        memcpy(hello->cluster, value->data, value->value);
        hello->cluster[value->value] = '\0';
        break;
    case 8:
        if (value->kind != ITEM_BIN || value->value != sizeof(hello->store_id)) {
            return -1;
        }
        memcpy(hello->store_id, value->data, sizeof(hello->store_id));
        break;
    default:
        return 0;
    }
    return 1 << found;
}

int ab_hello_decode(ab_bytes body, ab_hello *hello)
{
    enum { PROTOCOL = 1 << 0, NEEDED = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 7 | 1 << 8 };
    memset(hello, 0, sizeof(*hello));
    item map;
    if (!read_item(&body, &map) || map.kind != ITEM_MAP) {
        return AB_EPROTO;
    }
    int got = 0;
    int wrong = 0;
    for (uint64_t i = 0; i < map.value; i++) {
        item key;
        item value;
        if (!read_item(&body, &key) || key.kind != ITEM_TEXT || !read_item(&body, &value) ||
            !skip_values(&body, &value)) {
            return AB_EPROTO;
        }
        int bit = take_value(&key, &value, hello);
        if (bit < 0) {
            wrong = 1;
        } else {
            got |= bit;
        }
    }
    if ((got & PROTOCOL) != 0 && hello->protocol != AB_PROTOCOL_VERSION) {
        return AB_EVERSION; /* whatever else it says may mean something else there */
    }
    return wrong == 0 && body.size == 0 && (got & NEEDED) == NEEDED ? AB_OK : AB_EPROTO;
}

/* What comes from a stranger goes into log lines. */
static void make_printable(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || (unsigned char)*text > '~') {
            *text = '.';
        }
    }
}

int ab_hello_check(const ab_hello *self, const ab_hello *peer, char reason[AB_REASON_SIZE])
{
    if (peer->protocol != self->protocol) {
        (void)snprintf(reason, AB_REASON_SIZE, "protocol version %u, here %u", peer->protocol,
                       self->protocol);
        return AB_EVERSION;
    }
    if (peer->block_version != self->block_version) {
        (void)snprintf(reason, AB_REASON_SIZE, "block format version %u, here %u", peer->block_version,
                       self->block_version);
        return AB_EVERSION;
    }
    if ((peer->required & ~(uint64_t)AB_FEATURES_KNOWN) != 0) {
        (void)snprintf(reason, AB_REASON_SIZE, "requires features 0x%llx that are not known here",
                       (unsigned long long)(peer->required & ~(uint64_t)AB_FEATURES_KNOWN));
        return AB_EVERSION;
    }
    if (strcmp(peer->cluster, self->cluster) != 0) {
        (void)snprintf(reason, AB_REASON_SIZE, "cluster '%s', here '%s'", peer->cluster, self->cluster);
        make_printable(reason);
        return AB_EIDENTITY;
    }
    if (peer->node_id == 0 || peer->node_id == self->node_id) {
        (void)snprintf(reason, AB_REASON_SIZE,
                       peer->node_id == 0 ? "node id 0" : "node id %u is this node's own", peer->node_id);
        return AB_EIDENTITY;
    }
    return AB_OK;
}

size_t ab_goodbye_encode(int code, const char *reason, uint8_t *body)
{
    size_t size = strnlen(reason, AB_REASON_SIZE - 1);
    ab_put_le32(body, (uint32_t)code);
    memcpy(body + 4, reason, size);
    return 4 + size;
}

void ab_goodbye_decode(ab_bytes body, int *code, char reason[AB_REASON_SIZE])
{
    *code = (int)(int32_t)ab_get_le32(body.data);
    if (*code > 0 || *code < AB_EINTERNAL) {
        *code = AB_EPROTO;
    }
    size_t size = body.size - 4 < AB_REASON_SIZE - 1 ? body.size - 4 : AB_REASON_SIZE - 1;
    memcpy(reason, (const uint8_t *)body.data + 4, size);
    reason[size] = '\0';
    make_printable(reason);
}
