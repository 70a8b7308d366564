/* SPDX-License-Identifier: Apache-2.0 */
/* Makes a data directory with fixed content, for the snapshots of the offline inspector: inspector_makelog DIR; or a
 * socket that nobody listens on: inspector_makelog --socket PATH; or one of a later format (--newer DIR), or of another program
 * (--foreign DIR). */
#include "wal/wal.h"

#include <endian.h>
#include <lmdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define START (1767225600000ull << 16) /* hlc of 2026-01-01 00:00:00 UTC */
#define BLOCK_MAX 4096u

typedef struct writer {
    ab_wal *wal;
    uint64_t group;
    ab_stream stream;
    uint64_t next;
    uint64_t hash;
    uint64_t hlc;
} writer;

static void require(int code, const char *what)
{
    if (code != AB_OK) {
        fprintf(stderr, "inspector_makelog: %s: %s\n", what, ab_strerror(code));
        exit(1);
    }
}

/* One block of the given payloads, an entry per second. */
static void put_block(writer *w, const ab_bytes *payloads, uint32_t count)
{
    uint8_t block[BLOCK_MAX];
    size_t used = AB_BLOCK_HEADER;
    ab_block_header header = {.group = w->group,
                              .node = w->stream.node,
                              .epoch = w->stream.epoch,
                              .first = w->next,
                              .last = w->next + count - 1,
                              .count = count,
                              .hlc_first = w->hlc,
                              .prev_hash = w->hash};
    for (uint32_t i = 0; i < count; i++) {
        uint64_t delta = i == 0 ? 0 : 1000ull << 16 | 1;
        used += ab_entry_pack(block + used, delta, payloads[i].data, payloads[i].size);
        w->hlc += delta;
    }
    header.hlc_last = w->hlc;
    header.entries_bytes = (uint32_t)(used - AB_BLOCK_HEADER);
    size_t size = ab_block_seal(block, &header, NULL, 0);
    ab_wal_op op = {.type = AB_WAL_PUT_BLOCK, .group = w->group, .stream = w->stream, .data = {block, size}};
    require(ab_wal_commit(w->wal, &op, 1, NULL), "block");
    w->next += count;
    w->hash = header.checksum;
    w->hlc += 1000ull << 16;
}

static ab_bytes text(const char *string)
{
    return (ab_bytes){string, strlen(string)};
}

static void put_state(ab_wal *wal, uint64_t group, const char *key, const char *value)
{
    ab_wal_op op = {.type = AB_WAL_PUT_STATE, .group = group, .key = text(key), .data = text(value)};
    require(ab_wal_commit(wal, &op, 1, NULL), key);
}

/* A quarantined entry, or some that cannot be decoded: hlc, term, time of refusal, payload. */
static void put_record(ab_wal *wal, uint64_t group, const char *key, const char *payload)
{
    uint64_t head[] = {htole64(START + (1000 << 16)), 0, htole64((START >> 16) + 2000)};
    char value[256];
    size_t size = strlen(payload);
    memcpy(value, head, sizeof head);
    memcpy(value + sizeof head, payload, size);
    ab_wal_op op = {
        .type = AB_WAL_PUT_STATE, .group = group, .key = text(key), .data = {value, sizeof head + size}};
    require(ab_wal_commit(wal, &op, 1, NULL), key);
}

static void fill(ab_wal *wal)
{
    static const char zeros[300];
    /* What anabranchd packs: two lines, three fields. */
    static const char points[] = "\x01\xaa"
                                 "cpu,host=a\xd3\x18\x86\x66\x0c\xbd\x6e\x00\x00\x02\xa4"
                                 "load\xca\x3f\xc0\x00\x00\xa2"
                                 "up\xc3\xc0\x05\x01\xa4"
                                 "load\xd7\x01\x00\x00\x00\x00\x00\x00\x00\x07";
    static const char removal[] = "\x02\x05\xcd\x03\xe8\xa3"
                                  "cpu\x01\xa6host=a";
    /* Three msgpack objects. */
    static const char objects[] = "\x82\xa4"
                                  "temp\xcb\x40\x35\x80\x00\x00\x00\x00\x00\x05\xc4\x02\x00\xff"
                                  "\x94\x01\xfe\xc0\xc2\xa7quote\"\\";
    writer sensors = {.wal = wal, .group = 1, .stream = {1, 1767225600}, .next = 1, .hlc = START};
    writer remote = {
        .wal = wal, .group = 1, .stream = {2, 1767225600}, .next = 1, .hlc = START + (500 << 16)};
    writer other = {.wal = wal, .group = 2, .stream = {1, 1767225600}, .next = 1, .hlc = START};
    writer kinds = {.wal = wal, .group = 3, .stream = {1, 1767225600}, .next = 1, .hlc = START};
    put_state(wal, 0, "engine/cluster", "plant");
    put_state(wal, 0, "engine/node", "1");
    put_state(wal, 1, "engine/group", "sensors\tmultimaster");
    put_state(wal, 2, "engine/group", "evil\x1b[31mname\tstandalone");
    put_record(wal, 2, "engine/quarantine/1.1767225600.00000000000000000001", "alone");
    put_record(wal, 2, "engine/quarantine/1.1767225600.00000000000000000004-00000000000000000006",
               "\xc1\xc1");
    put_record(wal, 1, "engine/quarantine/1.1767225600.00000000000000000002", "bad \x1b[2J value");
    put_block(&sensors, (ab_bytes[]){text("trimmed"), text("trimmed too")}, 2);
    put_block(&sensors, (ab_bytes[]){text("pump,site=north temp=21.5"), text(""), text("unit=\xc2\xb5m ok")},
              3);
    put_block(&sensors, (ab_bytes[]){text("DAMAGE-ME in the middle")}, 1);
    put_block(&sensors,
              (ab_bytes[]){text("esc \x1b[2J\x07 tab\there"),
                           {zeros, sizeof zeros},
                           text("a payload of more than forty bytes that is text all the way through")},
              3);
    put_block(&remote, (ab_bytes[]){text("\xff\xfe\x80 not UTF-8"), text("right \xe2\x80\xae to left")}, 2);
    put_block(&other, (ab_bytes[]){text("alone")}, 1);
    put_state(wal, 3, "engine/group", "kinds\tmultimaster");
    put_block(&kinds,
              (ab_bytes[]){{points, sizeof points - 1},
                           {points, sizeof points - 5}, /* not whole */
                           {objects, sizeof objects - 1},
                           {objects, sizeof objects - 4},
                           {removal, sizeof removal - 1}},
              5);
    ab_wal_op trim = {.type = AB_WAL_TRIM, .group = 1, .stream = sensors.stream, .index = 2, .limit = 10};
    require(ab_wal_commit(wal, &trim, 1, NULL), "trim");
}

/* What a node that was killed leaves behind. */
static int leave_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    return fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0 ? 0 : 1;
}

/* As a later release might leave it: the same blocks, another format of the rest. */
static void make_newer(ab_wal *wal)
{
    static const char format[] = {2, 0, 0, 0};
    ab_wal_op op = {
        .type = AB_WAL_PUT_STATE, .group = 0, .key = text("format"), .data = {format, sizeof format}};
    require(ab_wal_commit(wal, &op, 1, NULL), "format");
}

/* An LMDB environment of somebody else. */
static int make_foreign(const char *dir)
{
    MDB_env *env;
    MDB_txn *txn;
    MDB_dbi dbi;
    char text_of[] = "somebody else";
    MDB_val key = {8, text_of};
    MDB_val value = {sizeof text_of, text_of};
    bool made = mkdir(dir, 0777) == 0 && mdb_env_create(&env) == 0 && mdb_env_open(env, dir, 0, 0666) == 0 &&
                mdb_txn_begin(env, NULL, 0, &txn) == 0 && mdb_dbi_open(txn, NULL, 0, &dbi) == 0 &&
                mdb_put(txn, dbi, &key, &value, 0) == 0 && mdb_txn_commit(txn) == 0;
    return made ? 0 : 1;
}

int main(int argc, char **argv)
{
    ab_wal_options options = {
        .durability = AB_DURABILITY_SYNC, .max_bytes = 64u << 20, .map_bytes = 64u << 20};
    ab_wal_origin origin;
    ab_message message = {{0}};
    ab_wal *wal = NULL;
    if (argc == 3 && strcmp(argv[1], "--socket") == 0) {
        return leave_socket(argv[2]);
    }
    if (argc == 3 && strcmp(argv[1], "--foreign") == 0) {
        return make_foreign(argv[2]);
    }
    bool newer = argc == 3 && strcmp(argv[1], "--newer") == 0;
    if (argc != 2 && !newer) {
        fprintf(stderr, "usage: inspector_makelog DIR\n");
        return 2;
    }
    int code = ab_wal_open(argv[newer ? 2 : 1], &options, &wal, &origin, &message);
    require(code, message.text);
    fill(wal);
    if (newer) {
        make_newer(wal);
    }
    ab_wal_close(wal);
    return 0;
}
