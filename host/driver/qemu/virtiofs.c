/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu/virtiofs.h"

#include <dirent.h>
#include <fcntl.h>
#include <jv.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "base/alloc.h"
#include "base/log.h"
#include "driver/qemu/helper.h"
#include "instance/layout.h"
#include "mount/mount.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

#define PROGRAM    "virtiofsd"
#define HELP_MS    5000
#define QUEUE_SIZE 1024

/* What one is like, from what it says of itself. */
struct program {
    char *path;
    bool rust;           /* else that which came with QEMU up to 7.2 */
    bool read_only;      /* can enforce it */
    const char *sandbox; /* the strongest that this host allows */
};

struct server {
    struct qemu_virtiofs *virtiofs;
    char *tag;
    int fd; /* connected to it; -1: QEMU has it */
    struct loop_child *child;
};

struct qemu_virtiofs {
    struct loop *loop;
    qemu_virtiofs_ended_fn *ended;
    void *arg;
    struct server servers[QEMU_FS_MAX];
    struct qemu_fs_device devices[QEMU_FS_MAX];
    size_t count;
};

/* --- which program --- */

/* The binary that a vhost-user descriptor of QEMU names (docs/interop/vhost-user.json). */
static char *read_descriptor(const char *path)
{
    jv descriptor = jv_load_file(path, 0);
    char *found = NULL;

    if (jv_get_kind(descriptor) == JV_KIND_ARRAY) { /* the texts of the file */
        descriptor = jv_array_get(descriptor, 0);
    }
    if (jv_get_kind(descriptor) == JV_KIND_OBJECT) {
        jv type = jv_object_get(jv_copy(descriptor), jv_string("type"));
        jv binary = jv_object_get(jv_copy(descriptor), jv_string("binary"));

        if (jv_get_kind(type) == JV_KIND_STRING && strcmp(jv_string_value(type), "fs") == 0 &&
            jv_get_kind(binary) == JV_KIND_STRING) {
            found = process_find_program(jv_string_value(binary));
        }
        jv_free(type);
        jv_free(binary);
    }
    jv_free(descriptor);
    return found;
}

static int is_descriptor(const struct dirent *entry)
{
    const char *end = strrchr(entry->d_name, '.');

    return end && strcmp(end, ".json") == 0;
}

/* As QEMU's documentation has it: by their names in order, the first that fits. */
static char *find_in(const char *folder)
{
    struct dirent **entries;
    int count = scandir(folder, &entries, is_descriptor, alphasort);
    char *found = NULL;

    for (int i = 0; i < count; i++) {
        scoped(free) char *path = path_join(folder, entries[i]->d_name);

        found = found ? found : read_descriptor(path);
        free(entries[i]);
    }
    if (count >= 0) {
        free(entries);
    }
    return found;
}

static char *find_program(void)
{
    scoped(free) char *own =
        path_join(path_home() ? path_home() : "/", ".local/share/qemu/vhost-user");
    const char *const folders[] = {own, "/etc/qemu/vhost-user", "/usr/local/share/qemu/vhost-user",
                                   "/usr/share/qemu/vhost-user"};
    char *found = qemu_helper_find(PROGRAM);

    for (size_t i = 0; !found && i < ARRAY_LEN(folders); i++) {
        found = find_in(folders[i]);
    }
    return found;
}

/* Whether this host lets us have namespaces of our own, tried out by a child. */
static bool has_namespaces(void)
{
    int flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | (geteuid() ? CLONE_NEWUSER : 0);
    int status = -1;
    pid_t pid = fork();

    if (pid == 0) {
        _exit(unshare(flags) < 0);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static void program_done(struct program *program)
{
    free(program->path);
}

SCOPED_VAL(struct program, program_done)

static bool learn(struct program *program, struct error *err)
{
    const char *const argv[] = {program->path, "--help", NULL};
    scoped(buf_done) struct buf help = BUF_INIT;
    int r = process_capture(argv, NULL, HELP_MS, &help, &help, err);

    if (r < 0) {
        return false;
    }
    program->rust = strstr(buf_str(&help), "--shared-dir") != NULL;
    program->read_only = strstr(buf_str(&help), "--readonly") != NULL;
    program->sandbox = has_namespaces() ? "namespace" : geteuid() == 0 ? "chroot" : "none";
    if (!program->rust && !strstr(buf_str(&help), "sandbox=")) {
        error_set(err, ENOEXEC, "'%s' is no virtiofsd that is known here", program->path);
        return false;
    }
    if (!program->rust && geteuid() != 0) {
        error_set(err, EPERM, "'%s' works for root alone", program->path);
        error_hint(err, "Install the virtiofsd of https://virtio-fs.gitlab.io.");
        return false;
    }
    if (strcmp(program->sandbox, "none") == 0) {
        log_warn("this host allows no namespaces: '%s' runs without a sandbox, ignoring",
                 program->path);
    }
    return true;
}

/* --- one server --- */

static void on_server_exit(pid_t pid, int status, void *arg)
{
    struct server *server = arg;
    struct qemu_virtiofs *virtiofs = server->virtiofs;
    scoped(free) char *how = process_status_text(status);
    scoped(free) char *reason = xasprintf("%s (process %d) ended: %s", PROGRAM, (int)pid, how);

    loop_child_free(steal(server->child));
    if (status != 0) { /* else QEMU has disconnected */
        virtiofs->ended(server->tag, reason, virtiofs->arg);
    }
}

static int spawn(const struct program *program, const struct config_mount *mount, int listen_fd,
                 int log_fd, pid_t *ret_pid, struct error *err)
{
    scoped(free) char *source = xasprintf("source=%s", mount->location);
    scoped(free) char *sandbox = xasprintf("sandbox=%s", program->sandbox);
    const char *const rust[] = {program->path,
                                "--fd=3",
                                "--shared-dir",
                                mount->location,
                                "--sandbox",
                                program->sandbox,
                                mount->writable ? NULL : "--readonly",
                                NULL};
    const char *const old[] = {program->path, "--fd=3", "-o", source, "-o", sandbox, NULL};
    struct process_options options = PROCESS_OPTIONS_INIT;

    options.stdout_fd = options.stderr_fd = log_fd;
    options.pass_fds = &listen_fd;
    options.pass_count = 1;
    options.new_session = true;
    return process_start(program->rust ? rust : old, &options, ret_pid, err);
}

/* The socket is made here, so it can be connected to before the program has even begun. */
static int serve(struct qemu_virtiofs *virtiofs, const struct program *program,
                 const struct config_mount *mount, const char *dir, struct error *err)
{
    size_t index = virtiofs->count;
    struct server *server = &virtiofs->servers[index];
    scoped(free) char *name = xasprintf(LAYOUT_VIRTIOFS_SOCK, (int)index);
    scoped(free) char *path = path_join(dir, name);
    scoped(free) char *log_path = path_join(dir, LAYOUT_VIRTIOFS_LOG);
    scoped(fd_close) int listen_fd = -1;
    scoped(fd_close) int fd = -1;
    scoped(fd_close) int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    pid_t pid;
    int r;

    if (!mount->writable && !program->read_only) {
        return error_set(err, EROFS, "'%s' cannot share a folder read-only", program->path);
    }
    if (!file_exists(mount->location)) {
        r = file_mkdirs(mount->location, 0755, err);
        if (r < 0) {
            return r;
        }
    }
    r = file_listen_unix(path, 1, &listen_fd, err);
    r = r < 0 ? r : file_connect_unix(path, &fd, err);
    unlink(path);
    r = r < 0 ? r : spawn(program, mount, listen_fd, log_fd, &pid, err);
    if (r < 0) {
        return r;
    }
    *server = (struct server){.virtiofs = virtiofs, .tag = mount_tag(mount), .fd = steal_fd(&fd)};
    virtiofs->devices[index] = (struct qemu_fs_device){
        .tag = server->tag, .queue_size = mount->queue_size ? mount->queue_size : QUEUE_SIZE};
    virtiofs->count++;
    return loop_child_new(virtiofs->loop, pid, on_server_exit, server, &server->child, err);
}

/* --- all of a VM --- */

static bool is_wanted(const struct config *config, size_t index)
{
    return mount_choose(&config->mounts[index], config->mount_type).type == CONFIG_MOUNT_VIRTIOFS;
}

static bool any_wanted(const struct config *config)
{
    for (size_t i = 0; i < config->mount_count; i++) {
        if (is_wanted(config, i)) {
            return true;
        }
    }
    return false;
}

struct qemu_virtiofs *qemu_virtiofs_start(struct loop *loop, const struct config *config,
                                          const char *dir, qemu_virtiofs_ended_fn *ended, void *arg)
{
    scoped(program_done) struct program program = {0};
    scoped(error_done) struct error err = ERROR_INIT;
    struct qemu_virtiofs *virtiofs;

    if (!any_wanted(config)) {
        return NULL;
    }
    program.path = find_program();
    if (!program.path || !learn(&program, &err)) {
        log_warn("no folder is shared by virtiofs: %s, ignoring",
                 program.path ? error_text(&err) : "there is no '" PROGRAM "' on this host");
        return NULL;
    }
    virtiofs = xnew(struct qemu_virtiofs);
    *virtiofs = (struct qemu_virtiofs){.loop = loop, .ended = ended, .arg = arg};
    for (size_t i = 0; i < config->mount_count && virtiofs->count < QEMU_FS_MAX; i++) {
        scoped(error_done) struct error why = ERROR_INIT;

        if (is_wanted(config, i) && serve(virtiofs, &program, &config->mounts[i], dir, &why) < 0) {
            log_error_of(LOG_LEVEL_WARN, &why, "'%s' is not shared by virtiofs, ignoring",
                         config->mounts[i].location);
        }
    }
    if (!virtiofs->count) {
        qemu_virtiofs_free(virtiofs);
        return NULL;
    }
    return virtiofs;
}

void qemu_virtiofs_free(struct qemu_virtiofs *virtiofs)
{
    if (!virtiofs) {
        return;
    }
    for (size_t i = 0; i < virtiofs->count; i++) {
        fd_close(virtiofs->servers[i].fd);
        loop_child_free(virtiofs->servers[i].child);
        free(virtiofs->servers[i].tag);
    }
    free(virtiofs);
}

const struct qemu_fs_device *qemu_virtiofs_devices(const struct qemu_virtiofs *virtiofs,
                                                   size_t *ret_count)
{
    *ret_count = virtiofs ? virtiofs->count : 0;
    return virtiofs ? virtiofs->devices : NULL;
}

int qemu_virtiofs_fd(const struct qemu_virtiofs *virtiofs, size_t index)
{
    return virtiofs->servers[index].fd;
}

void qemu_virtiofs_passed(struct qemu_virtiofs *virtiofs)
{
    for (size_t i = 0; virtiofs && i < virtiofs->count; i++) {
        fd_close(steal_fd(&virtiofs->servers[i].fd));
    }
}
