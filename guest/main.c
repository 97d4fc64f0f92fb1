/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lima-guestagent run [--transport SPEC] [--no-boot] [--socket PATH]
 *                 [--stream-socket PATH] [--no-bpf] [--debug]
 *                 install [SEED-FOLDER]     the folder of this program, if not given
 *                 guard                     of a program that was replaced, see upgrade.h
 *                 version
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "agent.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "install.h"
#include "program.h"
#include "local.h"
#include "transport.h"
#include "upgrade.h"

#define EXIT_USAGE 2

static int usage(FILE *to, int status)
{
    fputs("Usage: lima-guestagent run [--transport virtio:NAME|unix:PATH|fd:N] [--no-boot] "
          "[--socket PATH] [--stream-socket PATH] [--no-bpf] [--debug]\n"
          "       lima-guestagent install [SEED-FOLDER]\n"
          "       lima-guestagent guard\n"
          "       lima-guestagent version\n",
          to);
    return status;
}

static int finish(int r, const struct error *err)
{
    if (r < 0) {
        log_error("%s", error_text(err));
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}

static int run_main(int argc, char **argv)
{
    struct agent_options options = {.transport = "virtio:" TRANSPORT_PORT_DEFAULT,
                                    .socket = LOCAL_SOCKET_DEFAULT};
    scoped(error_done) struct error err = ERROR_INIT;
    bool own_socket = false;

    options.argv = argv - 1; /* this command's own name is argv[0] here */
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--transport") == 0 && i + 1 < argc) {
            options.transport = argv[++i];
        } else if (strcmp(argv[i], "--no-boot") == 0) {
            options.no_boot = true;
            options.socket = own_socket ? options.socket : NULL;
        } else if (strcmp(argv[i], "--socket") == 0 && i + 1 < argc) {
            own_socket = true;
            options.socket = argv[++i];
        } else if (strcmp(argv[i], "--no-bpf") == 0) {
            options.no_bpf = true;
        } else if (strcmp(argv[i], "--stream-socket") == 0 && i + 1 < argc) {
            options.stream_socket = argv[++i];
        } else if (strcmp(argv[i], "--debug") == 0) {
            log_set_level(LOG_LEVEL_DEBUG);
        } else {
            return usage(stderr, EXIT_USAGE);
        }
    }
    return finish(agent_run(&options, &err), &err);
}

static int install_command(int argc, char **argv)
{
    scoped(error_done) struct error err = ERROR_INIT;
    char self[PATH_MAX] = "";
    char *slash;

    if (argc > 2) {
        return usage(stderr, EXIT_USAGE);
    }
    if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0) {
        return finish(error_errno(&err, errno, "finding this program"), &err);
    }
    slash = strrchr(self, '/');
    *slash = '\0';
    return finish(install_main(argc > 1 ? argv[1] : self, &err), &err);
}

static int guard_main(int argc, char **argv)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *self = program_path();
    int r = self ? upgrade_guard(self, &err) : error_errno(&err, errno, "finding this program");

    if (r == 1) {
        log_warn("the new program never met the host, the one before it is back");
        execlp("systemctl", "systemctl", "restart", "--no-block", "lima-guestagent.service",
               (char *)NULL);
        r = error_errno(&err, errno, "executing systemctl");
    }
    return finish(r, &err);
}

static int version_main(int argc, char **argv)
{
    puts("lima-guestagent " LIMA_VERSION);
    return EXIT_SUCCESS;
}

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"run", run_main},
    {"install", install_command},
    {"guard", guard_main},
    {"version", version_main},
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 1 && i < ARRAY_LEN(commands); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    return usage(stderr, EXIT_USAGE);
}
