/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The program lima-hostagent, which `limactl hostagent` becomes. It is a program of its own because
 * it runs as long as the VM: without the libraries that only limactl needs (curl, archive and what
 * they bring) it takes half the memory.
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include "agent/agent.h"
#include "base/alloc.h"
#include "base/log.h"
#include "util/path.h"

enum option_id {
    OPTION_PIDFILE = 'p',
    OPTION_SOCKET = 's',
    OPTION_DEBUG = 'd',
};

static const struct option options[] = {
    {"pidfile", required_argument, NULL, OPTION_PIDFILE},
    {"socket", required_argument, NULL, OPTION_SOCKET},
    {"debug", no_argument, NULL, OPTION_DEBUG},
    {NULL, 0, NULL, 0},
};

/* The command line is limactl's, checked there. */
static int parse(int argc, char **argv, struct agent_options *ret)
{
    int c;

    while ((c = getopt_long(argc, argv, "p:s:d", options, NULL)) != -1) {
        if (c == OPTION_PIDFILE) {
            ret->pidfile = optarg;
        } else if (c == OPTION_SOCKET) {
            ret->socket = optarg;
        } else if (c == OPTION_DEBUG) {
            log_set_level(LOG_LEVEL_TRACE);
        } else {
            return -EINVAL;
        }
    }
    if (optind != argc - 1 || !ret->pidfile || !ret->socket) {
        return -EINVAL;
    }
    ret->instance = argv[optind];
    return 0;
}

int main(int argc, char **argv)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *lima_home = NULL;
    struct agent_options agent = {0};
    int r;

    log_set_level(LOG_LEVEL_DEBUG);
    log_set_format(LOG_FORMAT_JSON);
    if (parse(argc, argv, &agent) < 0) {
        fprintf(stderr, "usage: limactl hostagent --pidfile FILE --socket FILE INSTANCE\n");
        return 2;
    }
    r = path_lima_home(&lima_home, &err);
    if (r == 0) {
        agent.lima_home = lima_home;
        r = agent_run(&agent, &err);
    }
    if (r < 0) {
        log_error_of(LOG_LEVEL_FATAL, &err, "the host agent of '%s' ends", agent.instance);
        return 1;
    }
    return 0;
}
