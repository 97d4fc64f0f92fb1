/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where packages come from: the mirrors and the transport settings that the host's own apt uses,
 * when the host runs the distribution that is asked for, so that a local mirror or proxy serves
 * here too.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"
#include "image/recipe.h"

/* Both are known, or both are NULL: then the choice is mmdebstrap's. */
struct image_mirrors {
    char *archive;  /* URL of the packages */
    char *security; /* URL of "<suite>-security" */
};

void image_mirrors_done(struct image_mirrors *mirrors);
SCOPED_VAL(struct image_mirrors, image_mirrors_done)

/*
 * Looks for the two archives of @codename in @text: a sources.list, or with @deb822 the stanzas of
 * a .sources file. Fills what is still NULL in @mirrors. Entries that a guest could not use itself
 * (cdrom:, mirror:, options we do not know) are passed over. No I/O.
 */
void image_mirrors_scan(const char *text, bool deb822, const char *codename,
                        struct image_mirrors *mirrors);
/*
 * The mirrors for @recipe: the host's if it runs the same distribution and names both, else none.
 * @etc: "/etc" but in tests.
 */
void image_mirrors_find(const struct image_recipe *recipe, const char *etc,
                        struct image_mirrors *ret);
/*
 * A sources.list for known mirrors. @for_guest: addresses that mean nothing inside a guest are
 * commented out.
 */
void image_sources_format(const struct image_recipe *recipe, const struct image_mirrors *mirrors,
                          bool for_guest, struct buf *ret);
/* apt.conf lines of the host's proxies, time-outs and date checks, from `apt-config dump` text. */
void image_apt_options(const char *dump, struct buf *ret);
