/* SPDX-License-Identifier: Apache-2.0 */
#include "cidata/vars.h"

#include <ctype.h>
#include <string.h>
#include "base/alloc.h"
#include "util/path.h"
#include "util/strv.h"

#define PREFIX "LIMA_CIDATA_"

/* Addresses of the user-mode network, as driver/qemu/args.c sets it up. */
#define SLIRP_GATEWAY "192.168.5.2"
#define SLIRP_DNS     "192.168.5.3"
#define SLIRP_GUEST   "192.168.5.15"

/* Name of the agent's virtio-serial port. */
#define VIRTIO_PORT "io.lima-vm.guest_agent.0"

static bool is_key(const char *key)
{
    if (!*key || isdigit((unsigned char)*key)) {
        return false;
    }
    for (; *key; key++) {
        if (!isalnum((unsigned char)*key) && *key != '_') {
            return false;
        }
    }
    return true;
}

static int put_line(struct buf *out, const char *prefix, const char *key, const char *value,
                    struct error *err)
{
    if (strpbrk(value, "\r\n")) {
        return error_set(err, EINVAL, "'%s': the value has a line break, which cannot be passed on",
                         key);
    }
    buf_printf(out, "%s%s=%s\n", prefix, key, value);
    return 0;
}

static int put_pairs(struct buf *out, const char *prefix, const struct config_pairs *pairs,
                     struct error *err)
{
    for (size_t i = 0; i < pairs->len; i++) {
        const struct config_pair *pair = &pairs->items[i];
        int r;

        if (!is_key(pair->key)) {
            return error_set(err, EINVAL, "'%s': not a name that a variable can have", pair->key);
        }
        r = put_line(out, prefix, pair->key, pair->value, err);
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static const char *flag(bool on)
{
    return on ? "1" : "";
}

char *vars_gecos(const char *comment)
{
    scoped(buf_done) struct buf out = BUF_INIT;

    for (const unsigned char *p = (const unsigned char *)comment; *p; p++) {
        bool c1 = *p == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0;

        p += c1;
        if (!c1 && *p >= 0x20 && *p != 0x7f && *p != ':') {
            buf_putc(&out, (char)*p);
        }
    }
    return buf_steal(&out);
}

/* Where the host user's home is in the guest, "" if nowhere. */
static const char *home_mount_point(const struct config *config)
{
    const char *home = path_home();

    for (size_t i = 0; home && i < config->mount_count; i++) {
        if (str_eq(config->mounts[i].location, home) &&
            !strpbrk(config->mounts[i].mount_point, "\r\n")) {
            return config->mounts[i].mount_point;
        }
    }
    return "";
}

/* A path with a line break has no place here; the agent that mounts it knows it from elsewhere. */
static int put_mounts(const struct config *config, struct buf *out, struct error *err)
{
    scoped(free) char *count = xasprintf("%zu", config->mount_count);
    int r = put_line(out, PREFIX, "MOUNTS", count, err);

    for (size_t i = 0; i < config->mount_count && r == 0; i++) {
        scoped(free) char *key = xasprintf("MOUNTS_%zu_MOUNTPOINT", i);

        if (!strpbrk(config->mounts[i].mount_point, "\r\n")) {
            r = put_line(out, PREFIX, key, config->mounts[i].mount_point, err);
        }
    }
    return r;
}

int vars_lima_env(const struct vars_facts *facts, struct buf *out, struct error *err)
{
    const struct config *config = facts->config;
    const struct config_user *user = &config->user;
    scoped(free) char *uid = xasprintf("%u", user->uid);
    scoped(free) char *gecos = vars_gecos(user->comment);
    const struct {
        const char *key, *value;
    } lines[] = {
        {"DEBUG", flag(facts->debug)},
        {"IID", facts->instance_id},
        {"NAME", config->instance},
        {"HOSTNAME", facts->hostname},
        {"USER", user->name},
        {"UID", uid},
        {"COMMENT", gecos},
        {"HOME", user->home},
        {"SHELL", user->shell},
        {"HOSTHOME_MOUNTPOINT", home_mount_point(config)},
        {"MOUNTTYPE", config->mount_count ? "agent" : ""},
        {"DISKS", "0"},
        {"GUEST_INSTALL_PREFIX", config->guest_install_prefix},
        {"UPGRADE_PACKAGES", flag(config->upgrade_packages)},
        {"CONTAINERD_USER", ""},
        {"CONTAINERD_SYSTEM", ""},
        {"SKIP_DEFAULT_DEPENDENCY_RESOLUTION", ""},
        {"PLAIN", flag(config->plain)},
        {"NO_CLOUD_INIT", ""},
        {"PASSWORDLESS_SUDO", flag(user->passwordless_sudo)},
        {"SLIRP_GATEWAY", SLIRP_GATEWAY},
        {"SLIRP_DNS", SLIRP_DNS},
        {"SLIRP_IP_ADDRESS", SLIRP_GUEST},
        {"UDP_DNS_LOCAL_PORT", "0"},
        {"TCP_DNS_LOCAL_PORT", "0"},
        {"ROSETTA_ENABLED", "false"},
        {"ROSETTA_BINFMT", "false"},
        {"VMTYPE", config->vm_type},
        {"VSOCK_PORT", "0"},
        {"VIRTIO_PORT", config->plain ? "" : VIRTIO_PORT},
    };

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        int r = put_line(out, PREFIX, lines[i].key, lines[i].value, err);

        if (r < 0) {
            return r;
        }
    }
    return put_mounts(config, out, err);
}

int vars_param_env(const struct config_pairs *param, struct buf *out, struct error *err)
{
    int r = put_pairs(out, "PARAM_", param, err);

    return r < 0 ? error_wrap(err, r, "param") : 0;
}

int vars_etc_environment(const struct config_pairs *env, struct buf *out, struct error *err)
{
    int r = put_pairs(out, "", env, err);

    return r < 0 ? error_wrap(err, r, "env") : 0;
}
