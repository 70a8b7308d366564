/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file pack.h
 * The payload of an entry: the points of some lines of one group, packed, or a delete. A pack or a reader is used by
 * one thread at a time.
 *
 * Payload of points: one version byte (1), then for each line, as msgpack: str series key (nil: as the line before),
 * int nanoseconds since the line before (the first: since 1970; modulo 2^64), uint count of fields, and for
 * each field str key and value: float64 or float32, int, ext type 1 with 8 bytes big-endian (unsigned), str,
 * bool. Which write a point belongs to, and so who wins a conflict, is not in it: hlc and node are the
 * entry's; of two points of one entry with the same series, field and time the later one counts.
 *
 * The version byte alone is a payload, too: one without points.
 *
 * Payload of a delete: one version byte (2), then as msgpack: int start, int stop (ns, both belong to it), str
 * measurement (nil: any), uint count of tags, and for each str key=value, sorted. It takes away what it selects of
 * all writes with a smaller (hlc, node) than its entry's, whether they were applied before it or come after it.
 */
#ifndef ANABRANCHD_PACK_H
#define ANABRANCHD_PACK_H

#include "tools/anabranchd/lineprotocol.h"
#include "tools/anabranchd/selection.h"

#define AB_PACK_VERSION 1u
#define AB_PACK_DELETE 2u
#define AB_PACK_TARGET                                                                                       \
    (256u * 1024) /**< a payload is closed before it grows beyond this, unless one line does */

/** Payloads of one group, being packed. Zero it to begin. */
typedef struct ab_pack {
    char *data;
    size_t size;
    size_t capacity;
    ab_bytes *payloads; /**< `data` is an offset until ab_pack_finish() */
    size_t count;
    size_t payload_capacity;
    size_t start;  /**< of the payload being packed */
    size_t series; /**< offset and size of the last line's series key in `data`; 0: none */
    size_t series_size;
    int64_t time;  /**< of the last line */
    size_t points; /**< in all payloads */
} ab_pack;

/** Packs a line. @return AB_OK, AB_ENOMEM, AB_ETOOBIG: the line alone is above `payload_max`; on error the
 * pack is as it was */
int ab_pack_add(ab_pack *pack, const ab_lp_line *line, size_t payload_max);

/** Closes the last payload: `payloads` and `count` can be written. @return AB_OK, AB_ENOMEM */
int ab_pack_finish(ab_pack *pack);

void ab_pack_free(ab_pack *pack);

typedef struct ab_point {
    ab_bytes series;
    ab_bytes field;
    int64_t time;
    ab_value value;
    bool same_series; /**< as the point before */
} ab_point;

typedef struct ab_pack_reader {
    const uint8_t *p;
    const uint8_t *end;
    ab_bytes series;
    int64_t time;
    uint64_t fields; /**< left of the line */
    bool same_series;
} ab_pack_reader;

/** @return AB_OK, AB_EVERSION, AB_ECORRUPT */
int ab_pack_read(ab_pack_reader *reader, const void *payload, size_t size);

/** The next point; it borrows from the payload. @return AB_OK, AB_ENOTFOUND: no more, AB_ECORRUPT */
int ab_pack_next(ab_pack_reader *reader, ab_point *point);

/** Packs a delete into memory that the caller frees. @return AB_OK, AB_ENOMEM */
int ab_pack_delete(const ab_selection *selection, char **payload, size_t *size);

bool ab_pack_is_delete(const void *payload, size_t size);

/** The selection borrows from the payload. @return AB_OK, AB_EVERSION: it is no delete, AB_ECORRUPT */
int ab_pack_read_delete(const void *payload, size_t size, ab_selection *selection);

#endif
