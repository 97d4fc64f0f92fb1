/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The beginning of a connection to the guest by vsock: it is made, a process that stands between
 * says so in a line where there is one, the guest greets and we do (mux/greeting.h). What comes
 * from the other end is not trusted before it has shown its key.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/macros.h"
#include "mux/greeting.h"
#include "util/loop.h"

#define GREETER_TIME_MS  3000 /* from the beginning to the guest's greeting */
#define GREETER_LINE_MAX 16   /* bytes of "OK 1234567890\n" */

struct greeter;

/* 0 and the connection, which is the callee's, or -errno: EACCES (not the guest agent), ETIMEDOUT.
 */
typedef void (*greeter_fn)(int r, int fd, void *arg);

struct greeter_keys {
    uint8_t host[GREETING_KEY_LEN], guest[GREETING_KEY_LEN];
};

/*
 * @take_fd: non-blocking, connected or being connected. @line: "OK PORT\n" comes first. @keys are
 * copied. @done comes once, from the loop only; the greeter is gone then.
 */
struct greeter *greeter_new(struct loop *loop, int take_fd, bool line,
                            const struct greeter_keys *keys, greeter_fn done, void *arg);
/* Before @done came: closes the connection, and @done does not come. */
void greeter_free(struct greeter *greeter);
SCOPED_PTR(struct greeter, greeter_free)

/*
 * Pure, for tests: what has come so far. 1 complete, 0 more is needed, -EBADMSG: no such line, or
 * more than was to come; -EACCES: the key is another.
 */
int greeter_parse(bool line, const uint8_t *data, size_t len, const uint8_t key[GREETING_KEY_LEN]);
