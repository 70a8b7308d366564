/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz: header, check, marks and entries of a block from anywhere. One thread. */
#include "wal/block.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What was read must pack to something that reads the same. */
static void entry_again(const ab_entry *entry, uint64_t delta)
{
    uint8_t *packed = malloc(entry->size + AB_ENTRY_OVERHEAD);
    ab_entry again;
    size_t used = ab_entry_pack(packed, delta, entry->payload, entry->size);
    ab_block_iter iter = {.data = packed, .size = used, .index = entry->index, .left = 1, .hlc_last = delta};
    if (used > entry->size + AB_ENTRY_OVERHEAD || ab_block_iter_next(&iter, &again) != AB_OK ||
        again.size != entry->size || again.hlc != delta ||
        (again.size > 0 && memcmp(again.payload, entry->payload, again.size) != 0)) {
        abort();
    }
    free(packed);
}

static void walk(const uint8_t *block, const ab_block_header *header)
{
    ab_block_iter iter;
    ab_entry entry;
    uint64_t hlc = header->hlc_first;
    uint64_t count = 0;
    int code;
    ab_block_iter_init(&iter, block, header);
    while ((code = ab_block_iter_next(&iter, &entry)) == AB_OK) {
        if (entry.hlc < hlc || entry.index != header->first + count) {
            abort();
        }
        entry_again(&entry, entry.hlc - hlc);
        hlc = entry.hlc;
        count++;
    }
    if (code == AB_ENOTFOUND && (count != header->count || hlc != header->hlc_last)) {
        abort();
    }
}

/* The fuzzer does not guess checksums: give the block a good one. */
static void with_good_checksum(const uint8_t *data, size_t size)
{
    ab_block_header header;
    ab_block_info info;
    if (ab_block_header_read(data, size, &header) != AB_OK || ab_block_size(&header) != size) {
        return;
    }
    uint8_t *block = malloc(size);
    ab_mark *marks = calloc(header.mark_count + 1, sizeof(*marks));
    memcpy(block, data, size);
    ab_block_info_read(block, &header, marks, &info);
    if (ab_block_seal(block, &header, marks, header.mark_count) != size) {
        abort();
    }
    if (ab_block_check(block, size, &header) == AB_OK) {
        walk(block, &header);
    }
    free(marks);
    free(block);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ab_block_header header;
    if (ab_block_check(data, size, &header) == AB_OK) {
        walk(data, &header);
    }
    with_good_checksum(data, size);
    return 0;
}
