/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Has the disk under the root file system grown since the partition was made? cloud-init grows it
 * on the boots where it runs; on others we start the same tools, and only when sysfs shows free
 * space.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "steps.h"

struct grow_layout { /* in sectors of 512 bytes */
    uint64_t disk;
    uint64_t start; /* of our partition */
    uint64_t size;
    uint64_t last_start; /* of the partition that lies last on the disk */
};

/* Worth the tools: ours lies last, and a good piece of the disk behind it is free. */
bool grow_wanted(const struct grow_layout *layout);
/* Adds the commands that are needed, if any; false when there are none. */
bool grow_plan(struct steps *steps);
