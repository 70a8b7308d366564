/* SPDX-License-Identifier: Apache-2.0 */
/* Runs the fuzz target over its corpus, and over each file with every byte changed in turn. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run_file(const char *path)
{
    static uint8_t data[1 << 16];
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        (void)fprintf(stderr, "cannot read %s\n", path);
        return 1;
    }
    size_t size = fread(data, 1, sizeof(data), file);
    (void)fclose(file);
    (void)LLVMFuzzerTestOneInput(data, size);
    for (size_t i = 0; i < size; i++) {
        uint8_t before = data[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            data[i] = (uint8_t)(before ^ 1u << bit);
            (void)LLVMFuzzerTestOneInput(data, size);
        }
        data[i] = before;
        (void)LLVMFuzzerTestOneInput(data, i);
    }
    return 0;
}

int main(void)
{
    unsigned files = 0;
    int failed = 0;
    DIR *dir = opendir(CORPUS);
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char path[1024];
        if (entry->d_name[0] != '.') {
            (void)snprintf(path, sizeof(path), "%s/%s", CORPUS, entry->d_name);
            failed |= run_file(path);
            files++;
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    (void)printf("%u files\n", files);
    return failed != 0 || files == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
