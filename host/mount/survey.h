/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All folders below a shared one, watched for changes of the host: from the top down, as far as the
 * share of the host's watches goes; the rest is said. What happens becomes touches (touches.h),
 * also in folders that appear later. When changes were lost, by the kernel or because too many
 * wait, all folders are looked through once more for what has changed since.
 *
 * Looking through folders takes long, so it is done in small steps.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include "mount/touches.h"
#include "mount/tree.h"

struct survey;

struct survey_options { /* borrowed */
    struct tree *tree;
    const char *source;  /* for messages */
    const char *without; /* a folder that is left out, with what is below; NULL: none */
    unsigned share;      /* of the watches that the user may have, in percent */
    size_t folders_told; /* so many are told as LIMA_TOUCH_FOLDER when the survey begins */
    int64_t since_ns;    /* CLOCK_REALTIME: what has changed since is touched; 0: nothing is */
};

/* Errors: ENOSYS (this system cannot watch). */
int survey_new(const struct survey_options *options, struct survey **ret, struct error *err);
void survey_free(struct survey *survey);
SCOPED_PTR(struct survey, survey_free)

struct touches *survey_touches(struct survey *survey);
/* Readable: survey_read() is due. */
int survey_fd(const struct survey *survey);
/* Takes what has happened until now. */
void survey_read(struct survey *survey);
/* False: the shared folder itself cannot be watched. */
bool survey_is_alive(const struct survey *survey);
/* Goes on looking through folders; false: nothing is to be done, or nothing can be now. */
bool survey_step(struct survey *survey);
