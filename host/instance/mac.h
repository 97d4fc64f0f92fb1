/* SPDX-License-Identifier: Apache-2.0 */
/* The stable hardware address of an instance's first network interface. Pure but for the machine
 * id. */
#pragma once

/*
 * 52:55:55 and the first 3 bytes of SHA-256 over the machine id and the instance folder @dir, so
 * that it differs between machines and instances and stays over restarts. Caller frees.
 */
char *instance_mac(const char *dir);
