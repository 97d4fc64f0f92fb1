/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration of an instance as plain structs, filled by config_load(). No functions: whoever
 * needs one part takes a pointer to that part only. Strings are owned, NULL only where said; lists
 * are arrays with a count. Sizes in bytes.
 */
#pragma once

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "util/strv.h"

struct config_pair { /* env, param */
    char *key;
    char *value;
};

struct config_pairs {
    struct config_pair *items;
    size_t len;
};

struct config_file { /* something to fetch */
    char *location;  /* URL, path, or "image:NAME" (an image built here) */
    char *arch;
    char *digest; /* "" : not checked */
};

struct config_image {
    struct config_file file;
    char *variant; /* "" if unset */
    char *arch_variant;
    bool has_kernel;
    struct config_file kernel;
    char *kernel_cmdline; /* "" if unset */
    bool has_initrd;
    struct config_file initrd;
};

struct config_ssh {
    int local_port; /* 0: chosen at start */
    bool load_dot_ssh_pub_keys;
    bool forward_agent;
    bool forward_x11;
    bool forward_x11_trusted;
};

enum config_proto {
    CONFIG_PROTO_ANY,
    CONFIG_PROTO_TCP,
    CONFIG_PROTO_UDP,
};

struct config_address {
    int family; /* AF_INET or AF_INET6 */
    union {
        struct in_addr v4;
        struct in6_addr v6;
    };
};

/* What becomes of a forward whose host address is taken. */
enum config_conflict {
    CONFIG_CONFLICT_SKIP,  /* said, and tried again until it works */
    CONFIG_CONFLICT_FAIL,  /* the same, and the instance counts as degraded */
    CONFIG_CONFLICT_REMAP, /* another free port of the host is taken */
};

struct config_port_forward {
    struct config_address guest_ip;
    bool guest_ip_must_be_zero;
    int guest_first, guest_last; /* 1..65535; 0,0 with guest_socket */
    char *guest_socket;          /* "" if unset */
    struct config_address host_ip;
    int host_first, host_last; /* 0,0 with host_socket */
    char *host_socket;         /* absolute once filled; "" if unset */
    enum config_proto proto;
    bool reverse;
    bool ignore;
    bool is_static;
    enum config_conflict on_conflict;
};

enum config_provision_mode {
    CONFIG_PROVISION_SYSTEM,
    CONFIG_PROVISION_USER,
    CONFIG_PROVISION_BOOT,
};

struct config_provision {
    enum config_provision_mode mode;
    char *script; /* expanded */
};

struct config_probe {
    char *description;
    char *script; /* expanded; begins with "#!" */
    char *hint;   /* "" if unset */
};

struct config_user {
    char *name;
    char *comment;
    char *home;
    char *shell;
    unsigned uid;
    bool passwordless_sudo;
};

enum config_mount_type {
    CONFIG_MOUNT_DEFAULT, /* what works best */
    CONFIG_MOUNT_AGENT,   /* FUSE in the guest, served over the guest agent */
    CONFIG_MOUNT_9P,
    CONFIG_MOUNT_VIRTIOFS,
    CONFIG_MOUNT_REVERSE_SSHFS,
    CONFIG_MOUNT_WSL2,
};

struct config_mount {
    char *location;    /* of the host, absolute and clean */
    char *mount_point; /* of the guest, absolute */
    bool writable;
    enum config_mount_type type; /* CONFIG_MOUNT_DEFAULT: as the instance's mountType */
    bool sshfs_cache;
    bool follow_symlinks; /* sshfs */
    char *sftp_driver;    /* "": whichever */
    char *security_model; /* 9p: these four */
    char *protocol_version;
    int64_t msize;
    char *cache;
    int queue_size; /* virtiofs; 0: its default */
};

struct config_host_resolver {
    bool enabled;
    bool ipv6;                 /* answers have IPv6 addresses */
    struct config_pairs hosts; /* name -> address or another name */
};

struct config {
    char *instance; /* name it was loaded for */
    char *dir;      /* $LIMA_HOME/NAME */
    char *vm_type;  /* "qemu" */
    char *os;       /* "Linux" */
    char *arch;     /* "x86_64" */
    int cpus;
    int64_t memory;
    int64_t disk;
    char *cpu_type; /* vmOpts.qemu.cpuType of arch; "" if unset */
    struct config_image *images;
    size_t image_count;
    struct config_ssh ssh;
    struct config_port_forward *port_forwards;
    size_t port_forward_count;
    struct config_mount *mounts;
    size_t mount_count;
    enum config_mount_type mount_type;
    bool mount_inotify;
    struct strv mount_types_unsupported;
    struct config_provision *provision;
    size_t provision_count;
    struct config_probe *probes;
    size_t probe_count;
    struct config_pairs env;
    struct config_pairs param;
    struct config_user user;
    char *message;       /* not expanded; "" if unset */
    char *timezone;      /* "" : not set */
    char *video_display; /* "none" */
    bool legacy_bios;
    bool plain;
    bool upgrade_packages;
    struct config_host_resolver host_resolver;
    struct strv dns; /* addresses of the guest's servers; empty: whom DHCP names */
    char *guest_install_prefix;
    char *minimum_lima_version; /* "" if unset */
};
