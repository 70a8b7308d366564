/* SPDX-License-Identifier: Apache-2.0 */
/* Fixtures for tests of the log. One thread. */
#include "tests/unit/test_wal_support.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

char *wt_dir_new(bool in_memory)
{
    const char *base = getenv("TMPDIR");
    char path[256];
    if (base == NULL || *base == '\0') {
        base = "/tmp";
    }
    if (in_memory && access("/dev/shm", W_OK) == 0) {
        base = "/dev/shm";
    }
    snprintf(path, sizeof(path), "%s/ab_wal_XXXXXX", base);
    return mkdtemp(path) != NULL ? strdup(path) : NULL;
}

char *wt_path(const char *dir, const char *name)
{
    size_t size = strlen(dir) + strlen(name) + 2;
    char *path = malloc(size);
    snprintf(path, size, "%s/%s", dir, name);
    return path;
}

void wt_dir_remove(char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *entry;
    while (d != NULL && (entry = readdir(d)) != NULL) {
        char *path = wt_path(dir, entry->d_name);
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 && unlink(path) != 0) {
            (void)rmdir(path);
        }
        free(path);
    }
    if (d != NULL) {
        closedir(d);
    }
    (void)rmdir(dir);
    free(dir);
}

uint8_t *wt_file_read(const char *path, size_t *size)
{
    struct stat st;
    FILE *file = fopen(path, "rb");
    uint8_t *data = NULL;
    if (file != NULL && fstat(fileno(file), &st) == 0) {
        data = malloc((size_t)st.st_size + 1);
        *size = fread(data, 1, (size_t)st.st_size, file);
    }
    if (file != NULL) {
        fclose(file);
    }
    return data;
}

bool wt_file_write(const char *path, const uint8_t *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    bool good = file != NULL && fwrite(data, 1, size, file) == size;
    return file != NULL && fclose(file) == 0 && good;
}

static uint8_t payload_byte(uint64_t group, ab_stream stream, uint64_t index, size_t i)
{
    uint64_t x = (group * 31 + stream.node) * 31 + stream.epoch + index * 0x9e3779b97f4a7c15ull;
    return (uint8_t)((x >> (i % 8 * 8)) + i / 8);
}

static void payload_fill(uint8_t *p, size_t size, uint64_t group, ab_stream stream, uint64_t index)
{
    for (size_t i = 0; i < size; i++) {
        p[i] = payload_byte(group, stream, index, i);
    }
}

uint8_t *wt_block(uint64_t group, ab_stream stream, uint64_t first, uint32_t count, size_t payload,
                  uint64_t prev_hash, ab_block_header *header)
{
    uint8_t *block = malloc(AB_BLOCK_HEADER + count * (payload + AB_ENTRY_OVERHEAD));
    uint8_t *bytes = malloc(payload + 1);
    size_t used = AB_BLOCK_HEADER;
    for (uint32_t i = 0; i < count; i++) {
        payload_fill(bytes, payload, group, stream, first + i);
        used += ab_entry_pack(block + used, i == 0 ? 0 : i * 37u, bytes, payload);
    }
    free(bytes);
    *header = (ab_block_header){.count = count,
                                .entries_bytes = (uint32_t)(used - AB_BLOCK_HEADER),
                                .group = group,
                                .node = stream.node,
                                .epoch = stream.epoch,
                                .first = first,
                                .hlc_first = first << 16,
                                .hlc_last = (first << 16) + 37ull * count * (count - 1) / 2,
                                .prev_hash = prev_hash};
    (void)ab_block_seal(block, header, NULL, 0);
    return block;
}

bool wt_block_good(const void *data, const ab_block_header *header)
{
    ab_block_iter iter;
    ab_entry entry;
    uint64_t index = header->first;
    int code;
    ab_block_iter_init(&iter, data, header);
    while ((code = ab_block_iter_next(&iter, &entry)) == AB_OK) {
        const uint8_t *p = entry.payload;
        if (entry.index != index ||
            ab_stream_compare(entry.stream, (ab_stream){header->node, header->epoch}) != 0) {
            return false;
        }
        for (size_t i = 0; i < entry.size; i++) {
            if (p[i] != payload_byte(header->group, entry.stream, index, i)) {
                return false;
            }
        }
        index++;
    }
    return code == AB_ENOTFOUND && index == header->last + 1;
}

void *wt_alloc(void *arg, size_t size)
{
    (void)arg;
    return malloc(size);
}

typedef struct stream_search {
    ab_stream stream;
    ab_stream_state *state;
    bool found;
} stream_search;

static bool stream_is(void *arg, uint64_t group, const ab_stream_state *state)
{
    stream_search *search = arg;
    (void)group;
    if (ab_stream_compare(state->stream, search->stream) == 0) {
        *search->state = *state;
        search->found = true;
    }
    return !search->found;
}

bool wt_stream(ab_wal *wal, uint64_t group, ab_stream stream, ab_stream_state *state)
{
    stream_search search = {.stream = stream, .state = state};
    *state = (ab_stream_state){.stream = stream};
    (void)ab_wal_streams(wal, group, stream_is, &search);
    return search.found;
}

int wt_append(ab_wal *wal, uint64_t group, ab_stream stream, uint32_t count, size_t payload)
{
    ab_stream_state state;
    ab_block_header header;
    (void)wt_stream(wal, group, stream, &state);
    uint8_t *block = wt_block(group, stream, state.last + 1, count, payload, state.last_hash, &header);
    ab_wal_op op = {.type = AB_WAL_PUT_BLOCK, .data = {block, ab_block_size(&header)}};
    int code = ab_wal_commit(wal, &op, 1, NULL);
    free(block);
    return code;
}

int wt_trim(ab_wal *wal, uint64_t group, ab_stream stream, uint64_t index, uint32_t limit)
{
    ab_wal_op op = {.type = AB_WAL_TRIM, .group = group, .stream = stream, .index = index, .limit = limit};
    int code = ab_wal_commit(wal, &op, 1, NULL);
    return code == AB_OK ? (int)op.done : code;
}

int wt_state_put(ab_wal *wal, uint64_t group, const char *key, const void *data, size_t size)
{
    ab_wal_op op = {
        .type = AB_WAL_PUT_STATE, .group = group, .key = {key, strlen(key)}, .data = {data, size}};
    return ab_wal_commit(wal, &op, 1, NULL);
}

int wt_read_all(ab_wal *wal, uint64_t group, const ab_stream_state *state)
{
    uint64_t hash = state->base_hash;
    uint64_t next = state->base + 1;
    while (next <= state->last) {
        ab_block_header header;
        void *data;
        size_t size;
        int code = ab_wal_read(wal, group, state->stream, next, wt_alloc, NULL, &header, &data, &size);
        if (code != AB_OK) {
            return code;
        }
        bool good = header.first == next && header.prev_hash == hash && header.group == group &&
                    ab_block_size(&header) == size && wt_block_good(data, &header);
        free(data);
        if (!good) {
            return AB_EINTERNAL;
        }
        next = header.last + 1;
        hash = header.checksum;
    }
    return next == state->last + 1 && hash == state->last_hash ? AB_OK : AB_EINTERNAL;
}

static bool count_fault(void *arg, const ab_wal_fault *fault, uint64_t blocks, uint64_t total)
{
    int *count = arg;
    (void)blocks;
    (void)total;
    if (fault != NULL) {
        if (getenv("AB_WAL_SHOW") != NULL) {
            fprintf(stderr, "fault: group %llu stream %u/%u %llu..%llu code %d: %s\n",
                    (unsigned long long)fault->group, fault->stream.node, fault->stream.epoch,
                    (unsigned long long)fault->first, (unsigned long long)fault->last, fault->code,
                    fault->what);
        }
        (*count)++;
    }
    return true;
}

int wt_verify(ab_wal *wal)
{
    int count = 0;
    int code = ab_wal_verify(wal, count_fault, &count);
    if (code == AB_ECORRUPT && count > 0) {
        return count;
    }
    return code == AB_OK && count > 0 ? AB_EINTERNAL : code;
}
