/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checks of one scalar, as the schema names them. Each takes the text of a value that is not empty
 * and returns 0, or -EINVAL with what is allowed: "must be an absolute path, not 'x'".
 */
#pragma once

#include "base/error.h"

typedef int (*config_check_fn)(const char *text, struct error *err);

int config_check_absolute(const char *text, struct error *err); /* begins with '/' */
int config_check_address(const char *text, struct error *err);  /* IPv4 or IPv6 literal */
int config_check_comment(const char *text, struct error *err);  /* a full name */
int config_check_digest(const char *text, struct error *err);   /* algorithm:hex */
int config_check_identifier(const char *text, struct error *err);
int config_check_location(const char *text, struct error *err);     /* URL, path or image:NAME */
int config_check_machine_size(const char *text, struct error *err); /* a size of 1 MiB or more */
int config_check_port(const char *text, struct error *err);         /* 0, or 1..65535 but 22 */
int config_check_size(const char *text, struct error *err);
int config_check_timezone(const char *text, struct error *err); /* IANA form */
int config_check_user(const char *text, struct error *err);     /* a guest user but root */
int config_check_version(const char *text, struct error *err);  /* X.Y.Z */

/* The same for keys and values of maps. */
int config_check_env(const char *key, const char *value, struct error *err);
int config_check_host(const char *key, const char *value, struct error *err);
int config_check_param(const char *key, const char *value, struct error *err);
