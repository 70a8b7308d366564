/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzzing of payloads, which come from peers: read to the end or refused. One thread. */
#include "tools/anabranchd/pack.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *payload = malloc(size + (size == 0));
    ab_pack_reader reader;
    ab_point point;
    memcpy(payload, data, size);
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
