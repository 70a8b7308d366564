/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file test_wal_support.h
 * Fixtures for tests of the log: directories, blocks whose content follows from their place, and their check.
 * One thread.
 */
#ifndef ANABRANCH_TESTS_WAL_SUPPORT_H
#define ANABRANCH_TESTS_WAL_SUPPORT_H

#include "wal/wal.h"

/** A new directory; on a memory file system where there is one (syncs then cost nothing). Freed by dir_remove. */
char *wt_dir_new(bool in_memory);
/** Removes the directory and the files in it, frees `dir`. */
void wt_dir_remove(char *dir);
/** "dir/name"; free() it. */
char *wt_path(const char *dir, const char *name);
/** A whole file; free() it. NULL: cannot be read. */
uint8_t *wt_file_read(const char *path, size_t *size);
bool wt_file_write(const char *path, const uint8_t *data, size_t size);

/** A block; free() it. Payloads are of `payload` bytes and follow from group, stream and index. */
uint8_t *wt_block(uint64_t group, ab_stream stream, uint64_t first, uint32_t count, size_t payload,
                  uint64_t prev_hash, ab_block_header *header);
/** Whether each entry of the block is what wt_block made. */
bool wt_block_good(const void *data, const ab_block_header *header);

/** For ab_wal_read: malloc. */
void *wt_alloc(void *arg, size_t size);

/** Appends a block of `count` entries after the stream's end (as ab_wal_streams has it). @return code */
int wt_append(ab_wal *wal, uint64_t group, ab_stream stream, uint32_t count, size_t payload);
/** State of one stream. False: unknown. */
bool wt_stream(ab_wal *wal, uint64_t group, ab_stream stream, ab_stream_state *state);
/** Trims once. @return blocks deleted, or a negative code */
int wt_trim(ab_wal *wal, uint64_t group, ab_stream stream, uint64_t index, uint32_t limit);
int wt_state_put(ab_wal *wal, uint64_t group, const char *key, const void *data, size_t size);

/** Reads the whole stream from base + 1 to its end: continuity, chain, content. @return code; AB_EINTERNAL where
 * the log said AB_OK to wrong data */
int wt_read_all(ab_wal *wal, uint64_t group, const ab_stream_state *state);

/** Number of faults that ab_wal_verify reports; negative: its error. */
int wt_verify(ab_wal *wal);

#endif
