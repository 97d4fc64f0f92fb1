/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The first bytes that the host agent sends on a connection to a file server, before it joins it to
 * the guest's stream. Both are of one build and one machine: native byte order.
 */
#pragma once

#include <stdint.h>

#define MOUNT_PREAMBLE_MAGIC "LIMAMNT\2"

struct mount_preamble {
    char magic[8];
    uint32_t uid, gid; /* who owns all files, as the guest numbers its users */
    uint32_t events;   /* 1: the guest replays what the host does */
};

/* Names in the folder of a mount, $LIMA_HOME/INSTANCE/mnt/DIGITS. */
#define MOUNT_SOCKET_NAME "sock"
#define MOUNT_STATE_NAME  "state"
