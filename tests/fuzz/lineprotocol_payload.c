/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzing of payloads, which come from peers: read to the end or refused; a delete that is read packs to one that selects
 * the same. One thread. */
#include "tools/anabranchd/pack.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_delete(const uint8_t *payload, size_t size)
{
    ab_selection selection;
    ab_selection again;
    char *packed = NULL;
    size_t packed_size = 0;
    if (ab_pack_read_delete(payload, size, &selection) != AB_OK) {
        return;
    }
    for (size_t i = 0; i < selection.tag_count; i++) {
        const uint8_t *text = selection.tags[i].data;
        if (text < payload || text + selection.tags[i].size > payload + size) {
            abort();
        }
        ab_selection_has_series(&selection, selection.tags[i]);
    }
    if (ab_pack_delete(&selection, &packed, &packed_size) != AB_OK ||
        ab_pack_read_delete(packed, packed_size, &again) != AB_OK ||
        !ab_selection_covers(&selection, &again) || !ab_selection_covers(&again, &selection)) {
        abort();
    }
    free(packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *payload = malloc(size + (size == 0));
    ab_pack_reader reader;
    ab_point point;
    memcpy(payload, data, size);
    check_delete(payload, size);
    int code = ab_pack_read(&reader, payload, size);
    while (code == AB_OK) {
        code = ab_pack_next(&reader, &point);
        if (code == AB_OK && point.value.type == AB_VALUE_STRING && point.value.as.text.size > 0) {
            /* Each string is inside the payload. */
            const uint8_t *text = point.value.as.text.data;
            if (text < payload || text + point.value.as.text.size > payload + size) {
                abort();
            }
        }
    }
    free(payload);
    return 0;
}
