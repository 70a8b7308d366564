/* SPDX-License-Identifier: Apache-2.0 */
/** @file anabranch.h The whole public interface. */
#ifndef ANABRANCH_ANABRANCH_H
#define ANABRANCH_ANABRANCH_H

#include <anabranch/backend.h>
#include <anabranch/config.h>
#include <anabranch/error.h>
#include <anabranch/group.h>
#include <anabranch/node.h>
#include <anabranch/statemachine.h>
#include <anabranch/types.h>

#endif
