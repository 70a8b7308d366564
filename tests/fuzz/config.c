/* SPDX-License-Identifier: Apache-2.0 */
/* Any bytes as a configuration file: never a crash, a leak or a refusal without place and reason. */
#include <anabranch/config.h>

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int holds)
{
    if (!holds) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ab_config *config = NULL;
    ab_message message = {{0}};
    int code = ab_config_parse("fuzz", (const char *)data, size, &config, &message);
    if (code != AB_OK) {
        require(code == AB_ECONFIG && config == NULL);
        require(strncmp(message.text, "fuzz:", 5) == 0 && message.text[5] >= '1' && message.text[5] <= '9');
        for (const char *p = message.text; *p != '\0'; p++) {
            require((unsigned char)*p >= 0x20 && *p != 0x7f);
        }
        return 0;
    }
    require(ab_node_config_check(ab_config_node(config), NULL) == AB_OK);
    for (size_t i = 0; i < ab_config_group_count(config); i++) {
        require(ab_group_config_check(ab_config_group(config, i), NULL) == AB_OK);
    }
    ab_config_free(config);
    return 0;
}
