/* SPDX-License-Identifier: Apache-2.0 */
/** @file recover.h What a group starts from: its state machine, the log's streams, the small state. */
#ifndef ANABRANCH_ENGINE_RECOVER_H
#define ANABRANCH_ENGINE_RECOVER_H

#include "engine/engine.h"

/** Opens the state machine, reads what the log knows of the group, makes and starts its core. On error the state
 *  machine is closed again. @return as ab_group_open() */
int ab_group_recover(ab_group *group, ab_message *message);

#endif
