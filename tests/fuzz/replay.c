/* SPDX-License-Identifier: Apache-2.0 */
/* Gives each file of the folders in argv to the fuzz target it is linked with, as libFuzzer would.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "base/alloc.h"
#include "base/macros.h"
#include "fuzz.h"

static void close_file(FILE *file)
{
    fclose(file);
}
SCOPED_PTR(FILE, close_file)

static int replay_file(const char *path)
{
    scoped(close_file) FILE *file = fopen(path, "rb");
    scoped(free) uint8_t *data = NULL;
    long len;

    if (!file || fseek(file, 0, SEEK_END) < 0 || (len = ftell(file)) < 0) {
        perror(path);
        return -1;
    }
    rewind(file);
    data = xmalloc((size_t)len); /* just as long as the input, for the sanitizer */
    if (fread(data, 1, (size_t)len, file) != (size_t)len) {
        perror(path);
        return -1;
    }
    return LLVMFuzzerTestOneInput(data, (size_t)len);
}

/* How many files were replayed, or -1. */
static int replay_folder(const char *folder)
{
    DIR *dir = opendir(folder);
    const struct dirent *entry;
    int count = 0;

    if (!dir) {
        perror(folder);
        return -1;
    }
    while (count >= 0 && (entry = readdir(dir))) {
        scoped(free) char *path = xasprintf("%s/%s", folder, entry->d_name);

        if (entry->d_name[0] != '.') {
            count = replay_file(path) < 0 ? -1 : count + 1;
        }
    }
    closedir(dir);
    return count;
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        int count = replay_folder(argv[i]);

        if (count <= 0) {
            fprintf(stderr, "%s: nothing was replayed\n", argv[i]);
            return 1;
        }
        printf("%s: %d inputs\n", argv[i], count);
    }
    return argc > 1 ? 0 : 1;
}
