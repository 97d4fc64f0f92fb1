/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A mount by virtiofs whose server is gone: each request to it waits for ever, sync(2) and the
 * guest's shutdown with it, until the host takes the device away; from then on each is refused. But
 * should the server owe answers, whoever lets go of the file system last waits for those for ever,
 * and holds up sync(2) again.
 */
#pragma once

/*
 * Takes the mount of @source at @path out of the tree, with what is mounted below. A process of its
 * own holds the file system until the device is gone whole, which means that no answer is owed; if
 * need be beyond the end of all other processes. Waits, so a child process may call it.
 */
void deadmount_end(const char *source, const char *path);
