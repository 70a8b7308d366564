/* SPDX-License-Identifier: Apache-2.0 */
/* The handles of a state machine's snapshot functions. An error sticks: what follows a hole is never taken for a whole.
 * One thread at a time. */
#include "engine/snapshot.h"

int ab_sink_write(ab_sink *sink, const void *data, size_t size)
{
    if (sink->code == AB_OK && size > 0) {
        sink->code = sink->write(sink->ctx, data, size);
    }
    return sink->code;
}

int ab_source_read(ab_source *source, void *data, size_t size, size_t *got)
{
    *got = 0;
    if (source->code == AB_OK && size > 0) {
        source->code = source->read(source->ctx, data, size, got);
    }
    if (source->code != AB_OK) {
        *got = 0;
    }
    return source->code;
}
