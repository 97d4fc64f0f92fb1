/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connects to an address in the guest that the host asks for. Not to anything: TCP and UDP go to
 * this machine's own addresses, or to one that a rule of the user names; a Unix socket is reached
 * with the rights of the user that the request names, as that user's own programs would reach it;
 * and nothing leads to a socket of this agent.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "base/error.h"
#include "guest.pb.h"

/*
 * 0 and a non-blocking socket, whose connection stands or is under way: it becomes writable, and
 * SO_ERROR says how it ended. A UDP socket is connected, so it hears of a port that nobody has.
 *
 * Errors: EINVAL (no such address, port or path), EACCES (an address or socket that is not to be
 * reached, or not with this user's rights), ENOENT (no such user or path), EAGAIN (the queue of a
 * Unix listener is full; nothing signals its end, so it has to be tried again), and what socket(2)
 * and connect(2) say.
 */
int dial_start(const lima_guest_v1_TunnelRequest *request, int *ret_fd, struct error *err);

/* A socket address of @len bytes of address, v4-mapped ones as IPv4; 0: there is none. */
socklen_t dial_address(const uint8_t *address, size_t len, uint32_t port,
                       struct sockaddr_storage *ret);
/* Is it absolute, without "." and ".." and short enough for a socket? EINVAL, ENAMETOOLONG. */
int dial_check_path(const char *path, struct error *err);
