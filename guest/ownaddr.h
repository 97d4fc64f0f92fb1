/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which addresses are this machine's own: those that its kernel delivers locally. That is loopback
 * and whatever is configured on an interface, bridges of containers included, and nothing beyond.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * @address has @len bytes, 4 or 16, in network order. @ret_scope gets the interface
 * of a link-local IPv6 address, else 0.
 */
bool ownaddr_is(const uint8_t *address, size_t len, uint32_t *ret_scope);
