/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu/virtiofs.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jv.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
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
#define RECORD_MAX 128
#define LATER_MS   200

/* What one is like, from what it says of itself. */
struct program {
    char *path;
    bool rust;           /* else that which came with QEMU up to 7.2 */
    bool read_only;      /* can enforce it */
    const char *sandbox; /* the strongest that this host allows */
};

struct server {
    struct qemu_virtiofs_server public; /* first: found by it */
    struct qemu_virtiofs *virtiofs;
    struct server *next;
    char *tag;
    int fd; /* connected to it; -1: QEMU has it */
    pid_t pid;
    struct loop_child *child; /* NULL: it has ended */
    struct loop_timer *later; /* on_server_later() */
    bool connected;           /* QEMU is or was: it ends by itself when that ends */
    bool removed;             /* only its end is awaited */
};

struct qemu_virtiofs {
    struct loop *loop;
    char *dir;
    qemu_virtiofs_ended_fn *ended;
    void *arg;
    bool searched;
    struct program program; /* its path is NULL: there is none that works */
    struct server *servers; /* in the order in which they were started */
    struct qemu_fs_device devices[QEMU_FS_MAX];
    size_t device_count;
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
    return true;
}

/* Once. */
int qemu_virtiofs_search(struct qemu_virtiofs *virtiofs, struct error *err)
{
    struct program *program = &virtiofs->program;

    if (!virtiofs->searched) {
        virtiofs->searched = true;
        program->path = find_program();
        if (program->path && !learn(program, err)) {
            free(steal(program->path));
            return -err->code;
        }
    }
    return program->path
               ? 0
               : error_set(err, ENOENT, "there is no '" PROGRAM "' on this host that works here");
}

/* --- one server --- */

static char *file_of(const struct qemu_virtiofs *virtiofs, const char *format, const char *tag)
{
    scoped(buf_done) struct buf name = BUF_INIT;

    buf_printf(&name, format, tag);
    return path_join(virtiofs->dir, buf_str(&name));
}

static void server_free(struct server *server)
{
    struct server **link = &server->virtiofs->servers;

    while (*link != server) {
        link = &(*link)->next;
    }
    *link = server->next;
    fd_close(server->fd);
    loop_child_free(server->child);
    loop_timer_free(server->later);
    free(server->tag);
    free(server);
}

static struct server *server_new(struct qemu_virtiofs *virtiofs, const char *tag, int port)
{
    struct server *server = xnew(struct server);
    struct server **link = &virtiofs->servers;

    while (*link) {
        link = &(*link)->next;
    }
    *server = (struct server){.virtiofs = virtiofs, .tag = xstrdup(tag), .fd = -1};
    server->public = (struct qemu_virtiofs_server){.tag = server->tag, .port = port};
    *link = server;
    return server;
}

static struct server *find(const struct qemu_virtiofs *virtiofs, const char *tag)
{
    struct server *server = virtiofs->servers;

    while (server && (server->removed || strcmp(server->tag, tag) != 0)) {
        server = server->next;
    }
    return server;
}

static void tell_ended(const struct server *server, const char *how)
{
    struct qemu_virtiofs *virtiofs = server->virtiofs;
    scoped(free) char *reason =
        xasprintf("%s (process %d) ended: %s", PROGRAM, (int)server->pid, how);

    virtiofs->ended(server->tag, reason, virtiofs->arg);
}

/* How one that is not our child has ended is not known: the VM's end would be heard by now. */
static void on_server_later(void *arg)
{
    tell_ended(arg, "without saying how");
}

static void on_server_exit(pid_t pid, int status, void *arg)
{
    struct server *server = arg;

    loop_child_free(steal(server->child));
    server->public.ended = true;
    if (server->removed) {
        server_free(server);
    } else if (status == -1) {
        loop_timer_set(server->later, LATER_MS);
    } else if (status != 0) { /* else QEMU has disconnected */
        scoped(free) char *how = process_status_text(status);

        tell_ended(server, how);
    }
}

static int watch(struct server *server, struct error *err)
{
    server->later = loop_timer_new(server->virtiofs->loop, on_server_later, server);
    return loop_child_new(server->virtiofs->loop, server->pid, on_server_exit, server,
                          &server->child, err);
}

/* "PID PORT START": the process, where its device is, and when the process began. */
static int record(const struct server *server, struct error *err)
{
    scoped(free) char *path = file_of(server->virtiofs, LAYOUT_VIRTIOFS_PID, server->tag);
    scoped(free) char *text = xasprintf("%d %d %llu\n", (int)server->pid, server->public.port,
                                        process_start_time(server->pid));

    return file_write(path, text, strlen(text), 0600, err);
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

static int open_source(const struct program *program, const struct config_mount *mount,
                       struct error *err)
{
    if (!mount->writable && !program->read_only) {
        return error_set(err, EROFS, "'%s' cannot share a folder read-only", program->path);
    }
    if (strcmp(program->sandbox, "none") == 0) {
        log_warn("this host allows no namespaces: '%s' runs without a sandbox, ignoring",
                 program->path);
    }
    return file_exists(mount->location) ? 0 : file_mkdirs(mount->location, 0755, err);
}

/* The socket is made here, so it can be connected to before the program has even begun. */
static int serve(struct qemu_virtiofs *virtiofs, const struct config_mount *mount, int port,
                 bool connect, struct server **ret, struct error *err)
{
    const struct program *program = &virtiofs->program;
    scoped(free) char *tag = mount_tag(mount);
    scoped(free) char *path = file_of(virtiofs, LAYOUT_VIRTIOFS_SOCK, tag);
    scoped(free) char *log_path = path_join(virtiofs->dir, LAYOUT_VIRTIOFS_LOG);
    scoped(fd_close) int listen_fd = -1;
    scoped(fd_close) int fd = -1;
    scoped(fd_close) int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct server *server;
    pid_t pid;
    int r = open_source(program, mount, err);

    r = r < 0 ? r : file_listen_unix(path, 1, &listen_fd, err);
    if (connect) {
        r = r < 0 ? r : file_connect_unix(path, &fd, err);
        unlink(path);
    }
    r = r < 0 ? r : spawn(program, mount, listen_fd, log_fd, &pid, err);
    if (r < 0) {
        unlink(path);
        return r;
    }
    server = server_new(virtiofs, tag, port);
    server->fd = steal_fd(&fd);
    server->connected = connect;
    server->pid = pid;
    r = record(server, err);
    r = r < 0 ? r : watch(server, err);
    if (r < 0) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        unlink(path);
        server_free(server);
        return r;
    }
    *ret = server;
    return 0;
}

static int queue_size(const struct config_mount *mount)
{
    return mount->queue_size ? mount->queue_size : QUEUE_SIZE;
}

/* --- with the VM --- */

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

static void start_one(struct qemu_virtiofs *virtiofs, const struct config_mount *mount)
{
    scoped(error_done) struct error err = ERROR_INIT;
    size_t index = virtiofs->device_count;
    struct server *server;

    if (serve(virtiofs, mount, index < QEMU_FS_PORTED ? (int)index : -1, true, &server, &err) < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "'%s' is not shared by virtiofs, ignoring",
                     mount->location);
        return;
    }
    virtiofs->devices[virtiofs->device_count++] =
        (struct qemu_fs_device){.tag = server->tag, .queue_size = queue_size(mount)};
}

void qemu_virtiofs_start(struct qemu_virtiofs *virtiofs, const struct config *config,
                         bool *ret_usable)
{
    scoped(error_done) struct error err = ERROR_INIT;
    bool wanted = config->mount_type == CONFIG_MOUNT_VIRTIOFS || any_wanted(config);
    int r = wanted ? qemu_virtiofs_search(virtiofs, &err) : 0;

    *ret_usable = wanted && r == 0;
    if (r < 0) {
        log_error_of(LOG_LEVEL_WARN, &err, "no folder is shared by virtiofs, ignoring");
    }
    for (size_t i = 0; r == 0 && i < config->mount_count; i++) {
        if (is_wanted(config, i) && virtiofs->device_count < QEMU_FS_MAX) {
            start_one(virtiofs, &config->mounts[i]);
        }
    }
}

const struct qemu_fs_device *qemu_virtiofs_devices(const struct qemu_virtiofs *virtiofs,
                                                   size_t *ret_count)
{
    *ret_count = virtiofs->device_count;
    return virtiofs->devices;
}

int qemu_virtiofs_fd(const struct qemu_virtiofs *virtiofs, size_t index)
{
    return find(virtiofs, virtiofs->devices[index].tag)->fd;
}

void qemu_virtiofs_passed(struct qemu_virtiofs *virtiofs)
{
    for (struct server *server = virtiofs->servers; server; server = server->next) {
        fd_close(steal_fd(&server->fd));
    }
}

/* --- of an earlier host agent --- */

/* The tag in the name of a record; caller frees. NULL: it is another file. */
static char *tag_of_record(const char *name)
{
    static const char start[] = LAYOUT_VIRTIOFS_PID;
    size_t head = strcspn(start, "%"), tail = strlen(start) - head - 2, len = strlen(name);

    return len > head + tail && strncmp(name, start, head) == 0 &&
                   strcmp(name + len - tail, start + head + 2) == 0
               ? xstrndup(name + head, len - head - tail)
               : NULL;
}

/* Of a process that has ended the record is still that of its device. */
static void take_over(struct qemu_virtiofs *virtiofs, const char *tag)
{
    scoped(free) char *path = file_of(virtiofs, LAYOUT_VIRTIOFS_PID, tag);
    scoped(buf_done) struct buf text = BUF_INIT;
    struct server *server;
    unsigned long long began;
    int pid, port;

    if (file_read(path, RECORD_MAX, &text, NULL) < 0 ||
        sscanf(buf_str(&text), "%d %d %llu", &pid, &port, &began) != 3 || pid <= 0 || port < -1 ||
        port >= QEMU_PORTS_MAX) {
        log_warn("'%s' says nothing of a " PROGRAM ", ignoring it", path);
        return;
    }
    server = server_new(virtiofs, tag, port);
    server->pid = pid;
    server->connected = true;
    if (watch(server, NULL) < 0 || process_start_time(pid) != began) {
        loop_child_free(steal(server->child)); /* another process has its number by now */
        server->public.ended = true;
        loop_timer_set(server->later, LATER_MS);
    }
}

void qemu_virtiofs_attach(struct qemu_virtiofs *virtiofs)
{
    DIR *dir = opendir(virtiofs->dir);
    const struct dirent *entry;

    while (dir && (entry = readdir(dir))) {
        scoped(free) char *tag = tag_of_record(entry->d_name);

        if (tag) {
            take_over(virtiofs, tag);
        }
    }
    if (dir) {
        closedir(dir);
    }
}

/* --- later --- */

const struct qemu_virtiofs_server *qemu_virtiofs_next(const struct qemu_virtiofs *virtiofs,
                                                      const struct qemu_virtiofs_server *from)
{
    const struct server *server = from ? ((const struct server *)from)->next : virtiofs->servers;

    static_assert(offsetof(struct server, public) == 0, "found by it");
    while (server && server->removed) {
        server = server->next;
    }
    return server ? &server->public : NULL;
}

int qemu_virtiofs_add(struct qemu_virtiofs *virtiofs, const struct config_mount *mount, int port,
                      int *ret_queue_size, char **ret_path, struct error *err)
{
    struct server *server;
    int r = qemu_virtiofs_search(virtiofs, err);

    r = r < 0 ? r : serve(virtiofs, mount, port, false, &server, err);
    if (r < 0) {
        return r;
    }
    *ret_queue_size = queue_size(mount);
    *ret_path = file_of(virtiofs, LAYOUT_VIRTIOFS_SOCK, server->tag);
    return 0;
}

static void unlink_file(const struct qemu_virtiofs *virtiofs, const char *format, const char *tag)
{
    scoped(free) char *path = file_of(virtiofs, format, tag);

    unlink(path);
}

void qemu_virtiofs_added(struct qemu_virtiofs *virtiofs, const char *tag)
{
    find(virtiofs, tag)->connected = true;
    unlink_file(virtiofs, LAYOUT_VIRTIOFS_SOCK, tag);
}

static void end(struct server *server)
{
    unlink_file(server->virtiofs, LAYOUT_VIRTIOFS_SOCK, server->tag);
    unlink_file(server->virtiofs, LAYOUT_VIRTIOFS_PID, server->tag);
    fd_close(steal_fd(&server->fd));
    loop_timer_set(server->later, -1);
    if (!server->child) {
        server_free(server);
        return;
    }
    server->removed = true;
    if (!server->connected) { /* it would wait for that for ever */
        loop_child_kill(server->child, SIGTERM);
    }
}

void qemu_virtiofs_remove(struct qemu_virtiofs *virtiofs, const char *tag)
{
    struct server *server = find(virtiofs, tag);

    if (server) {
        end(server);
    }
}

void qemu_virtiofs_clean(struct qemu_virtiofs *virtiofs)
{
    for (struct server *server = virtiofs->servers, *next; server; server = next) {
        next = server->next;
        if (!server->removed) {
            end(server);
        }
    }
    virtiofs->device_count = 0;
}

struct qemu_virtiofs *qemu_virtiofs_new(struct loop *loop, const char *dir,
                                        qemu_virtiofs_ended_fn *ended, void *arg)
{
    struct qemu_virtiofs *virtiofs = xnew(struct qemu_virtiofs);

    virtiofs->loop = loop;
    virtiofs->dir = xstrdup(dir);
    virtiofs->ended = ended;
    virtiofs->arg = arg;
    return virtiofs;
}

void qemu_virtiofs_free(struct qemu_virtiofs *virtiofs)
{
    if (virtiofs) {
        while (virtiofs->servers) {
            server_free(virtiofs->servers);
        }
        free(virtiofs->program.path);
        free(virtiofs->dir);
        free(virtiofs);
    }
}
