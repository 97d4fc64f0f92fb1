/* SPDX-License-Identifier: Apache-2.0 */
/* mount(2) of what a device brings, which may have been added to the machine just now. */
#pragma once

#include "mountpoint.h"

/*
 * At @path, which leads to @point->path. Waits for the device for up to @point->wait_ms, so a child
 * process may call it. 0, or -1 with errno: ENODEV (none came).
 */
int mountdevice(const struct mountpoint *point, const char *path);
