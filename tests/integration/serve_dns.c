/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's resolver by itself, for benchmarks and tests without a machine:
 *
 *     serve_dns [-6] [-r RESOLV_CONF] [-H HOSTS] [-N NSSWITCH] [-p PORT] [NAME=VALUE]...
 *
 * -p: of the servers that resolv.conf names. Prints "UDP-PORT TCP-PORT" once it answers; ends with
 * SIGTERM or SIGINT.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "dns/server.h"

static void on_signal(int signo, void *arg)
{
    loop_quit(arg, 0);
}

static int serve(struct dns_names *take_names, const struct dns_server_options *options,
                 struct error *err)
{
    scoped(loop_free) struct loop *loop = loop_new();
    scoped(loop_signal_free) struct loop_signal *term =
        loop_signal_new(loop, SIGTERM, on_signal, loop);
    scoped(loop_signal_free) struct loop_signal *interrupt =
        loop_signal_new(loop, SIGINT, on_signal, loop);
    scoped(dns_server_free) struct dns_server *server = NULL;
    int r = dns_server_new(loop, take_names, options, &server, err);

    if (r < 0) {
        return r;
    }
    printf("%u %u\n", dns_server_udp_port(server), dns_server_tcp_port(server));
    fflush(stdout);
    return loop_run(loop);
}

int main(int argc, char **argv)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct dns_names *names = dns_names_new();
    struct dns_server_options options = {0};
    int c;

    while ((c = getopt(argc, argv, "6r:H:N:p:")) >= 0) {
        switch (c) {
        case '6':
            options.ipv6 = true;
            break;
        case 'r':
            options.resolv_conf = optarg;
            break;
        case 'H':
            options.hosts = optarg;
            break;
        case 'N':
            options.nsswitch = optarg;
            break;
        case 'p':
            options.server_port = (uint16_t)atoi(optarg);
            break;
        default:
            dns_names_free(names);
            return 2;
        }
    }
    for (; optind < argc; optind++) {
        char *value = strchr(argv[optind], '=');

        if (value) {
            *value = '\0';
            dns_names_add(names, argv[optind], value + 1);
        }
    }
    if (serve(names, &options, &err) < 0) {
        log_error_of(LOG_LEVEL_ERROR, &err, "no resolver");
        return 1;
    }
    return 0;
}
