/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU as a driver. Seen by the registry alone. */
#pragma once

#include "driver/driver.h"

extern const struct driver_ops qemu_driver_ops;
