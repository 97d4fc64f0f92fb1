/* SPDX-License-Identifier: Apache-2.0 */
#include "ssh/aes.h"

#include <asm/hwcap.h>
#include <sys/auxv.h>

bool aes_in_hardware(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_AES) != 0;
}
