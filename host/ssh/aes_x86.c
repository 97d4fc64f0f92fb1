/* SPDX-License-Identifier: Apache-2.0 */
#include "ssh/aes.h"

bool aes_in_hardware(void)
{
    return __builtin_cpu_supports("aes") != 0;
}
