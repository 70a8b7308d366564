/* SPDX-License-Identifier: Apache-2.0 */
/* Text for a terminal: what is unknown is made harmless, numbers get units. Pure functions; any thread. */
#ifndef ANABRANCH_TOOLS_TEXT_H
#define ANABRANCH_TOOLS_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the well-formed, harmless UTF-8 character at `text`; 0 if there is none. Control characters and those
 * that change the direction of text are not harmless. */
size_t text_char(const char *text, size_t length);

/* Copies `text`; what is not harmless becomes \xNN. Cut with "..." where `size` is too small.
 * @return bytes written, without the NUL */
size_t text_quote(const char *text, size_t length, char *out, size_t size);

/* Bytes of it that are not harmless. */
size_t text_strange(const char *text, size_t length);

/* Columns that harmless text takes on a terminal, counting a character as one. */
size_t text_width(const char *text);

/* Bytes of the first `columns` columns of harmless text. */
size_t text_bytes_of(const char *text, size_t columns);

/* 0 "0 B", 1536 "1.5 KiB". */
void text_bytes(uint64_t bytes, char *out, size_t size);

/* 66667 "66,667". */
void text_count(uint64_t count, char *out, size_t size);

/* 950 "950 ms", 192000 "3m12s", 97200000 "1d03h". */
void text_duration(uint64_t ms, char *out, size_t size);

/* hlc as "2026-11-21 08:55:55.123", with "+2" behind it where its counter is not 0. */
void text_hlc(uint64_t hlc, char *out, size_t size);

#endif
