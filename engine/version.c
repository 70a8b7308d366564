/* SPDX-License-Identifier: Apache-2.0 */
/* The library's version, as the build knows it. Any thread. */
#include <anabranch/node.h>

const char *ab_version(void)
{
    return AB_VERSION_TEXT;
}
