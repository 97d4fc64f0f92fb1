/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Forwards as a command line names them:
 *
 *     [HOSTIP:]HOSTPORT:[GUESTIP:]GUESTPORT[/PROTO]    8080:80  127.0.0.2:53:53/udp  [::1]:80:80
 *     PORT[/PROTO]                                     the same port on both sides
 *     FIRST-LAST instead of a port                     8000-8010:9000-9010
 *     /PATH instead of an address and a port           /tmp/x.sock:/run/x.sock  8080:/run/x.sock
 */
#pragma once

#include "base/error.h"
#include "util/value.h"

/*
 * The rule as it would stand in portForwards, with the keys that @text gives; "proto" only if it
 * says one. Errors: EINVAL, the message names what is wrong at which place.
 */
int forward_spec_parse(const char *text, jv *ret, struct error *err);
