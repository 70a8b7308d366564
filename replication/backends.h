/* SPDX-License-Identifier: Apache-2.0 */
/**
 * @file backends.h
 * The backends that come with the library. Constant tables, any thread.
 */
#ifndef ANABRANCH_REPLICATION_BACKENDS_H
#define ANABRANCH_REPLICATION_BACKENDS_H

#include <anabranch/backend.h>

extern const ab_backend ab_backend_standalone;
extern const ab_backend ab_backend_multimaster;

#endif
