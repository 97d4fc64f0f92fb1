/* SPDX-License-Identifier: Apache-2.0 */
#include "config/schema.h"

#include <assert.h>
#include <limits.h>
#include <string.h>
#include <strings.h>
#include "base/macros.h"
#include "config/config.h"

#define AT(type, member)      .held = true, .offset = offsetof(type, member)
#define PRESENT(type, member) .optional = true, .present_offset = offsetof(type, member)
#define ITEMS(type, member, n)                                                                     \
    .held = true, .offset = offsetof(type, member), .count_offset = offsetof(type, n)
#define OBJECT(name) .type = SCHEMA_OBJECT, .object = &name
#define LIST(name)   .type = SCHEMA_LIST, .object = &name
#define NAMES(...)                                                                                 \
    .names = (const char *const[])                                                                 \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }
#define UNSET(...)                                                                                 \
    .unset = (const char *const[])                                                                 \
    {                                                                                              \
        __VA_ARGS__, NULL                                                                          \
    }
#define LATER   .use = SCHEMA_LATER
#define IDLE    .use = SCHEMA_IDLE
#define MISUSED .use = SCHEMA_MISUSED
#define END                                                                                        \
    {                                                                                              \
        .key = NULL                                                                                \
    }

#define SUGGEST_KEY_MAX  64
#define SUGGEST_DISTANCE 3
#define UID_LAST         4294967294 /* (uid_t)-1 is no user */

static const char *const arches[] = {"x86_64",  "aarch64", "armv7l", "ppc64le",
                                     "riscv64", "s390x",   NULL};

const char *const schema_protos[] = {
    [CONFIG_PROTO_ANY] = "any",
    [CONFIG_PROTO_TCP] = "tcp",
    [CONFIG_PROTO_UDP] = "udp",
    NULL,
};
static_assert(ARRAY_LEN(schema_protos) == CONFIG_PROTO_UDP + 2, "a name a protocol");

const char *const schema_conflicts[] = {
    [CONFIG_CONFLICT_SKIP] = "skip",
    [CONFIG_CONFLICT_FAIL] = "fail",
    [CONFIG_CONFLICT_REMAP] = "remap",
    NULL,
};
static_assert(ARRAY_LEN(schema_conflicts) == CONFIG_CONFLICT_REMAP + 2, "a name a way");

const char *const schema_mount_types[] = {
    [CONFIG_MOUNT_DEFAULT] = "default",
    [CONFIG_MOUNT_AGENT] = "agent",
    [CONFIG_MOUNT_9P] = "9p",
    [CONFIG_MOUNT_VIRTIOFS] = "virtiofs",
    [CONFIG_MOUNT_REVERSE_SSHFS] = "reverse-sshfs",
    [CONFIG_MOUNT_WSL2] = "wsl2",
    NULL,
};
static_assert(ARRAY_LEN(schema_mount_types) == CONFIG_MOUNT_WSL2 + 2, "a name a type");

const char *const schema_provision_modes[] = {
    [CONFIG_PROVISION_SYSTEM] = "system",
    [CONFIG_PROVISION_USER] = "user",
    [CONFIG_PROVISION_BOOT] = "boot",
    "dependency",
    "data",
    "yq",
    "ansible",
    NULL,
};

/* The tables keep a key to a row. */
/* clang-format off */

/* ---- things to fetch ---- */

static const struct schema_object locator = {
    .short_key = "url",
    .rows = (const struct schema_row[]){
        {"url", SCHEMA_TEXT, .help = "Template locator: URL, path or template:NAME."},
        {"digest", SCHEMA_TEXT, .check = config_check_digest, .help = "algorithm:hex of the file."},
        END,
    },
};

#define FILE_ROWS                                                                                  \
    {"location", SCHEMA_TEXT, .check = config_check_location, .help = "URL or path of the file."}, \
    {"arch", SCHEMA_TEXT, .names = arches, .help = "Architecture that the file is for."},          \
    {"digest", SCHEMA_TEXT, .check = config_check_digest, .help = "algorithm:hex of the file."}

static const struct schema_object file = {
    .rows = (const struct schema_row[]){FILE_ROWS, END},
};

static const struct schema_object firmware_image = {
    .rows = (const struct schema_row[]){
        FILE_ROWS,
        {"vmType", SCHEMA_TEXT, .help = "Driver that the image is for."},
        END,
    },
};

/* Rows of a struct config_file that stands in struct @type as @member. */
#define HELD_FILE_ROWS(type, member)                                                               \
    {"location", SCHEMA_TEXT, AT(type, member.location), .check = config_check_location,           \
     .help = "URL, path, or image:NAME for an image built on this machine."},                      \
    {"arch", SCHEMA_TEXT, AT(type, member.arch), .names = arches,                                  \
     .help = "Architecture; default: that of the instance."},                                      \
    {"digest", SCHEMA_TEXT, AT(type, member.digest), .fallback = "", .check = config_check_digest, \
     .help = "sha256:, sha384: or sha512: and lower-case hex; not checked when unset."}

static const struct schema_object kernel = {
    .rows = (const struct schema_row[]){
        HELD_FILE_ROWS(struct config_image, kernel),
        {"cmdline", SCHEMA_TEXT, AT(struct config_image, kernel_cmdline), .fallback = "",
         .help = "Kernel command line."},
        END,
    },
};

static const struct schema_object initrd = {
    .rows = (const struct schema_row[]){HELD_FILE_ROWS(struct config_image, initrd), END},
};

static const struct schema_object image = {
    .size = sizeof(struct config_image),
    .rows = (const struct schema_row[]){
        HELD_FILE_ROWS(struct config_image, file),
        {"variant", SCHEMA_TEXT, AT(struct config_image, variant), .fallback = "",
         .help = "Free text such as server or minimal."},
        {"archVariant", SCHEMA_TEXT, AT(struct config_image, arch_variant), .fallback = "",
         .help = "Micro-architecture level such as v3."},
        {"kernel", OBJECT(kernel), PRESENT(struct config_image, has_kernel),
         .help = "Kernel to boot directly."},
        {"initrd", OBJECT(initrd), PRESENT(struct config_image, has_initrd),
         .help = "Initial RAM disk for the kernel."},
        END,
    },
};

/* ---- options of drivers and guests ---- */

static const struct schema_object vm_opts_qemu = {
    .rows = (const struct schema_row[]){
        {"minimumVersion", SCHEMA_TEXT, LATER, .check = config_check_version,
         .help = "Oldest QEMU that will do."},
        {"cpuType", SCHEMA_ARCH_TEXT, AT(struct config, cpu_type), .names = arches,
         .help = "QEMU's -cpu, by architecture."},
        END,
    },
};

static const struct schema_object rosetta = {
    .rows = (const struct schema_row[]){
        {"enabled", SCHEMA_BOOL, IDLE, .help = "Share Rosetta with the guest."},
        {"binfmt", SCHEMA_BOOL, IDLE, .help = "Register Rosetta with binfmt_misc."},
        END,
    },
};

static const struct schema_object vm_opts_vz = {
    .rows = (const struct schema_row[]){
        {"rosetta", OBJECT(rosetta), .help = "Rosetta for Intel programs."},
        {"diskImageFormat", SCHEMA_TEXT, IDLE, NAMES("raw", "asif"),
         .help = "Format of the primary disk."},
        END,
    },
};

static const struct schema_object vm_opts = {
    .rows = (const struct schema_row[]){
        {"qemu", OBJECT(vm_opts_qemu), .help = "Options of QEMU."},
        {"vz", OBJECT(vm_opts_vz), .help = "Options of Apple's Virtualization.framework."},
        {"wsl2", SCHEMA_FREE, IDLE, .help = "Options of WSL 2; none are defined."},
        END,
    },
};

static const struct schema_object os_opts_windows = {
    .rows = (const struct schema_row[]){
        {"virtioWin", LIST(file), IDLE, .help = "ISO images with virtio drivers."},
        END,
    },
};

static const struct schema_object os_opts = {
    .rows = (const struct schema_row[]){
        {"Windows", OBJECT(os_opts_windows), .help = "Options of Windows guests."},
        {"Linux", SCHEMA_FREE, IDLE, .help = "None are defined."},
        {"Darwin", SCHEMA_FREE, IDLE, .help = "None are defined."},
        {"FreeBSD", SCHEMA_FREE, IDLE, .help = "None are defined."},
        END,
    },
};

/* ---- disks and mounts ---- */

static const struct schema_object additional_disk = {
    .short_key = "name",
    .rows = (const struct schema_row[]){
        {"name", SCHEMA_TEXT, .check = config_check_identifier, .help = "Name of the disk."},
        {"format", SCHEMA_BOOL, .help = "Partition and format it on first use."},
        {"fsType", SCHEMA_TEXT, .help = "File system, or swap."},
        {"fsArgs", SCHEMA_TEXTS, .help = "More arguments for mkfs."},
        END,
    },
};

static const struct schema_object mount_sshfs = {
    .rows = (const struct schema_row[]){
        {"cache", SCHEMA_BOOL, AT(struct config_mount, sshfs_cache), .fallback = "true",
         .help = "Let sshfs cache."},
        {"followSymlinks", SCHEMA_BOOL, AT(struct config_mount, follow_symlinks),
         .fallback = "false", .help = "Follow symlinks on the host."},
        {"sftpDriver", SCHEMA_TEXT, AT(struct config_mount, sftp_driver), NAMES("", "builtin", "openssh-sftp-server"),
         .help = "Server program."},
        END,
    },
};

static const struct schema_object mount_9p = {
    .rows = (const struct schema_row[]){
        {"securityModel", SCHEMA_TEXT, AT(struct config_mount, security_model),
         .fallback = "none", NAMES("passthrough", "mapped-xattr", "mapped-file", "none"),
         .help = "How owners and modes are kept."},
        {"protocolVersion", SCHEMA_TEXT, AT(struct config_mount, protocol_version),
         .fallback = "9p2000.L", NAMES("9p2000", "9p2000.u", "9p2000.L"),
         .help = "Dialect of 9p."},
        {"msize", SCHEMA_SIZE, AT(struct config_mount, msize), .fallback = "128KiB", .check = config_check_size, .help = "Bytes of one packet."},
        {"cache", SCHEMA_TEXT, AT(struct config_mount, cache), NAMES("none", "loose", "fscache", "mmap"),
         .help = "Cache mode of the guest."},
        END,
    },
};

static const struct schema_object mount_virtiofs = {
    .rows = (const struct schema_row[]){
        {"queueSize", SCHEMA_INT, AT(struct config_mount, queue_size), .max = INT_MAX,
         .help = "Entries of the request queue."},
        END,
    },
};

static const struct schema_object mount = {
    .size = sizeof(struct config_mount),
    .rows = (const struct schema_row[]){
        {"location", SCHEMA_TEXT, AT(struct config_mount, location),
         .help = "Host directory; a template."},
        {"mountPoint", SCHEMA_TEXT, AT(struct config_mount, mount_point),
         .help = "Guest directory; a template; default: the location."},
        {"writable", SCHEMA_BOOL, AT(struct config_mount, writable), .fallback = "false",
         .help = "Let the guest write."},
        {"type", SCHEMA_ENUM, AT(struct config_mount, type), .fallback = "default",
         .names = schema_mount_types, .help = "Of this one; default: mountType."},
        {"sshfs", OBJECT(mount_sshfs), .help = "Options of reverse-sshfs."},
        {"9p", OBJECT(mount_9p), .help = "Options of 9p."},
        {"virtiofs", OBJECT(mount_virtiofs), .help = "Options of virtiofs."},
        END,
    },
};

/* ---- services of the host ---- */

static const struct schema_object ssh = {
    .rows = (const struct schema_row[]){
        {"localPort", SCHEMA_INT, AT(struct config, ssh.local_port), .host = SCHEMA_HOST_SSH_PORT,
         .check = config_check_port, .help = "Host port of the guest's sshd; 0 takes a free one."},
        {"loadDotSSHPubKeys", SCHEMA_BOOL, AT(struct config, ssh.load_dot_ssh_pub_keys),
         .fallback = "false", .help = "Authorise the keys of ~/.ssh/*.pub too."},
        {"forwardAgent", SCHEMA_BOOL, AT(struct config, ssh.forward_agent), .fallback = "false",
         .help = "Forward the ssh agent."},
        {"forwardX11", SCHEMA_BOOL, AT(struct config, ssh.forward_x11), .fallback = "false",
         .help = "Forward X11."},
        {"forwardX11Trusted", SCHEMA_BOOL, AT(struct config, ssh.forward_x11_trusted),
         .fallback = "false", .help = "Forward X11 without restrictions."},
        {"overVsock", SCHEMA_BOOL, LATER, .help = "Reach sshd over vsock."},
        END,
    },
};

static const struct schema_object firmware = {
    .rows = (const struct schema_row[]){
        {"legacyBIOS", SCHEMA_BOOL, AT(struct config, legacy_bios), .fallback = "false",
         .help = "Boot by BIOS instead of UEFI; x86_64 and armv7l."},
        {"images", LIST(firmware_image), LATER, .help = "UEFI images to use instead."},
        END,
    },
};

static const struct schema_object audio = {
    .rows = (const struct schema_row[]){
        {"device", SCHEMA_TEXT, LATER, .inert = "none", .help = "Audio device of the host."},
        {"interface", SCHEMA_TEXT, IDLE, NAMES("", "hda", "virtio"),
         .help = "Sound card of the guest."},
        END,
    },
};

static const struct schema_object vnc = {
    .rows = (const struct schema_row[]){
        {"display", SCHEMA_TEXT, LATER, .help = "VNC address: host:number."},
        END,
    },
};

static const struct schema_object video = {
    .rows = (const struct schema_row[]){
        {"display", SCHEMA_TEXT, AT(struct config, video_display), .fallback = "none", UNSET(""),
         .help = "QEMU's -display."},
        {"vnc", OBJECT(vnc), .help = "Options of the display vnc."},
        END,
    },
};

static const struct schema_object containerd = {
    .rows = (const struct schema_row[]){
        {"system", SCHEMA_BOOL, LATER, .help = "Install containerd for root."},
        {"user", SCHEMA_BOOL, LATER, .help = "Install rootless containerd."},
        {"archives", LIST(file), IDLE, .help = "nerdctl-full archives."},
        END,
    },
};

/* ---- scripts ---- */

static const struct schema_object provision = {
    .size = sizeof(struct config_provision),
    .rows = (const struct schema_row[]){
        {"mode", SCHEMA_ENUM, AT(struct config_provision, mode), .fallback = "system",
         .names = schema_provision_modes, .help = "When and as whom the script runs."},
        {"script", SCHEMA_TEXT, AT(struct config_provision, script), .fallback = "",
         .help = "The script; a template; runs at every boot."},
        {"file", OBJECT(locator), MISUSED, .help = "Where the script comes from."},
        {"skipDefaultDependencyResolution", SCHEMA_BOOL, MISUSED,
         .help = "Mode dependency: do not install the standard packages."},
        {"playbook", SCHEMA_TEXT, MISUSED, .help = "Mode ansible: the playbook."},
        {"content", SCHEMA_TEXT, MISUSED, .help = "Mode data: content of the file."},
        {"overwrite", SCHEMA_BOOL, MISUSED, .help = "Mode data: replace an older file."},
        {"owner", SCHEMA_TEXT, MISUSED, .help = "Modes data and yq: user:group."},
        {"path", SCHEMA_TEXT, MISUSED, .help = "Modes data and yq: the file."},
        {"permissions", SCHEMA_TEXT, MISUSED, .help = "Modes data and yq: octal mode."},
        {"expression", SCHEMA_TEXT, MISUSED, .help = "Mode yq: what to change."},
        {"format", SCHEMA_TEXT, MISUSED, .help = "Mode yq: format of the file."},
        END,
    },
};

static const struct schema_object probe = {
    .size = sizeof(struct config_probe),
    .rows = (const struct schema_row[]){
        {"mode", SCHEMA_TEXT, NAMES("readiness"), .help = "The only one is readiness."},
        {"description", SCHEMA_TEXT, AT(struct config_probe, description), UNSET(""),
         .help = "What it waits for."},
        {"script", SCHEMA_TEXT, AT(struct config_probe, script), .fallback = "",
         .help = "Runs in the guest as the user; exit status 0 ends the wait; a template."},
        {"file", OBJECT(locator), MISUSED, .help = "Where the script comes from."},
        {"hint", SCHEMA_TEXT, AT(struct config_probe, hint), .fallback = "",
         .help = "Shown when it keeps failing."},
        END,
    },
};

/* ---- ports and files ---- */

static const struct schema_object port_forward = {
    .size = sizeof(struct config_port_forward),
    .rows = (const struct schema_row[]){
        {"guestIP", SCHEMA_ADDRESS, AT(struct config_port_forward, guest_ip), UNSET(""),
         .check = config_check_address, .help = "Address that the guest listens on."},
        {"guestIPMustBeZero", SCHEMA_BOOL, AT(struct config_port_forward, guest_ip_must_be_zero),
         .help = "With guestIP 0.0.0.0: match only listeners on all addresses."},
        {"guestPort", SCHEMA_INT, .check = config_check_port, .help = "Guest port."},
        {"guestPortRange", SCHEMA_PORTS, AT(struct config_port_forward, guest_first),
         .help = "First and last guest port."},
        {"guestSocket", SCHEMA_TEXT, AT(struct config_port_forward, guest_socket), .fallback = "",
         .help = "Unix socket in the guest; a template."},
        {"hostIP", SCHEMA_ADDRESS, AT(struct config_port_forward, host_ip), UNSET(""),
         .fallback = "127.0.0.1", .check = config_check_address,
         .help = "Address that the host listens on."},
        {"hostPort", SCHEMA_INT, .check = config_check_port, .help = "Host port."},
        {"hostPortRange", SCHEMA_PORTS, AT(struct config_port_forward, host_first),
         .help = "First and last host port."},
        {"hostSocket", SCHEMA_TEXT, AT(struct config_port_forward, host_socket), .fallback = "",
         .help = "Unix socket on the host; a template; relative to the instance's sock folder."},
        {"proto", SCHEMA_ENUM, AT(struct config_port_forward, proto), .fallback = "any", UNSET(""),
         .names = schema_protos, .help = "Protocol."},
        {"reverse", SCHEMA_BOOL, AT(struct config_port_forward, reverse), .fallback = "false",
         .help = "From the guest's socket to the host's."},
        {"ignore", SCHEMA_BOOL, AT(struct config_port_forward, ignore), .fallback = "false",
         .help = "Do not forward what matches."},
        {"static", SCHEMA_BOOL, AT(struct config_port_forward, is_static), .fallback = "false",
         .help = "Forward at once, whether anything listens or not."},
        {"onConflict", SCHEMA_ENUM, AT(struct config_port_forward, on_conflict), UNSET(""),
         .fallback = "skip", .names = schema_conflicts,
         .help = "When the host's address is taken: skip and retry, fail the start, or remap to "
                 "another free port."},
        END,
    },
};
static_assert(offsetof(struct config_port_forward, guest_last) ==
                  offsetof(struct config_port_forward, guest_first) + sizeof(int),
              "a range is two ints");
static_assert(offsetof(struct config_port_forward, host_last) ==
                  offsetof(struct config_port_forward, host_first) + sizeof(int),
              "a range is two ints");

static const struct schema_object copy_to_host = {
    .rows = (const struct schema_row[]){
        {"guest", SCHEMA_TEXT, .help = "File in the guest; a template."},
        {"host", SCHEMA_TEXT, .help = "File on the host; a template."},
        {"skipIfMissing", SCHEMA_BOOL, .help = "A missing file is no error."},
        {"deleteOnStop", SCHEMA_BOOL, .help = "Remove the host's file when stopped."},
        END,
    },
};

static const struct schema_object network = {
    .rows = (const struct schema_row[]){
        {"lima", SCHEMA_TEXT, .help = "Name of a network in networks.yaml."},
        {"socket", SCHEMA_TEXT, .help = "Unix socket of a network daemon."},
        {"vzNAT", SCHEMA_BOOL, .help = "NAT of Apple's framework."},
        {"macAddress", SCHEMA_TEXT, .help = "MAC address."},
        {"interface", SCHEMA_TEXT, .help = "Name of the interface in the guest."},
        {"metric", SCHEMA_UINT, .max = UINT32_MAX, .help = "Metric of its routes."},
        END,
    },
};

static const struct schema_object host_resolver = {
    .rows = (const struct schema_row[]){
        {"enabled", SCHEMA_BOOL, AT(struct config, host_resolver.enabled), .fallback = "true",
         .help = "Answer the guest's DNS on the host."},
        {"ipv6", SCHEMA_BOOL, AT(struct config, host_resolver.ipv6), .fallback = "false",
         .help = "Answer with IPv6 addresses too."},
        {"hosts", SCHEMA_MAP, AT(struct config, host_resolver.hosts),
         .check_pair = config_check_host, .help = "Names and their addresses, or other names."},
        END,
    },
};

static const struct schema_object ca_certs = {
    .rows = (const struct schema_row[]){
        {"removeDefaults", SCHEMA_BOOL, LATER, .help = "Drop the guest's own certificates."},
        {"files", SCHEMA_TEXTS, LATER, .help = "Files with certificates."},
        {"certs", SCHEMA_TEXTS, LATER, .help = "Certificates."},
        END,
    },
};

static const struct schema_object user = {
    .rows = (const struct schema_row[]){
        {"name", SCHEMA_TEXT, AT(struct config, user.name), .host = SCHEMA_HOST_USER, UNSET(""),
         .check = config_check_user, .help = "Name of the guest's user."},
        {"comment", SCHEMA_TEXT, AT(struct config, user.comment), .host = SCHEMA_HOST_USER_COMMENT,
         .check = config_check_comment, .help = "Full name."},
        {"home", SCHEMA_TEXT, AT(struct config, user.home), .host = SCHEMA_HOST_USER_HOME,
         UNSET(""), .help = "Home folder in the guest; a template."},
        {"shell", SCHEMA_TEXT, AT(struct config, user.shell), .fallback = "/bin/bash", UNSET(""),
         .check = config_check_absolute, .help = "Login shell."},
        {"uid", SCHEMA_UINT, AT(struct config, user.uid), .host = SCHEMA_HOST_USER_ID, .min = 1,
         .max = UID_LAST, .help = "Number of the user."},
        {"passwordlessSudo", SCHEMA_BOOL, AT(struct config, user.passwordless_sudo),
         .fallback = "true", .help = "Let the user run sudo without a password."},
        END,
    },
};

/* ---- the file ---- */

const struct schema_object schema_root = {
    .size = sizeof(struct config),
    .rows = (const struct schema_row[]){
        {"base", LIST(locator), MISUSED, .own = true, .single = true,
         .help = "Templates that this one builds on; merged in at creation."},
        {"minimumLimaVersion", SCHEMA_TEXT, AT(struct config, minimum_lima_version), .fallback = "",
         .own = true, UNSET(""), .check = config_check_version,
         .help = "Oldest program that will do."},
        {"message", SCHEMA_TEXT, AT(struct config, message), .fallback = "", .own = true,
         .help = "Shown after the start; a template over the instance's fields."},
        {"plain", SCHEMA_BOOL, AT(struct config, plain), .fallback = "false",
         .help = "Nothing in the guest but the user and ssh: no guest agent, no mounts."},
        {"param", SCHEMA_MAP, AT(struct config, param), .check_pair = config_check_param,
         .help = "Variables for the templates and scripts of this file."},

        {"vmType", SCHEMA_TEXT, AT(struct config, vm_type), .fallback = "qemu", UNSET(""),
         NAMES("qemu", "vz", "wsl2"), .help = "Driver that runs the machine."},
        {"os", SCHEMA_TEXT, AT(struct config, os), .fallback = "Linux", UNSET("", "default"),
         NAMES("Linux", "Darwin", "FreeBSD", "Windows"), .help = "System of the guest."},
        {"arch", SCHEMA_TEXT, AT(struct config, arch), .host = SCHEMA_HOST_ARCH,
         UNSET("", "default"), .names = arches, .help = "Architecture of the guest."},
        {"cpus", SCHEMA_INT, AT(struct config, cpus), .host = SCHEMA_HOST_CPUS, UNSET("0"),
         .min = 1, .max = 4096, .help = "Number of CPUs; default: 4 or those of the host."},
        {"memory", SCHEMA_SIZE, AT(struct config, memory), .host = SCHEMA_HOST_MEMORY, UNSET(""),
         .check = config_check_machine_size,
         .help = "Memory; default: 4GiB or half of the host's."},
        {"disk", SCHEMA_SIZE, AT(struct config, disk), .fallback = "100GiB", UNSET(""),
         .check = config_check_machine_size,
         .help = "Size of the primary disk; it may grow later."},
        {"cpuType", SCHEMA_ARCH_TEXT, .own = true, 
         .successor = "vmOpts.qemu.cpuType", .names = arches,
         .help = "Deprecated: see vmOpts.qemu.cpuType."},
        {"nestedVirtualization", SCHEMA_BOOL, IDLE, .help = "vz and krunkit only."},
        {"tpm", SCHEMA_BOOL, LATER, .help = "Give the guest a TPM 2.0."},
        {"timezone", SCHEMA_TEXT, AT(struct config, timezone), .host = SCHEMA_HOST_TIMEZONE,
         .check = config_check_timezone,
         .help = "IANA zone; default: the host's; empty leaves the image's."},
        {"upgradePackages", SCHEMA_BOOL, AT(struct config, upgrade_packages), .fallback = "false",
         .help = "Upgrade the guest's packages on the first boot."},
        {"guestInstallPrefix", SCHEMA_TEXT, AT(struct config, guest_install_prefix),
         .fallback = "/usr/local", UNSET(""), .check = config_check_absolute,
         .help = "Where the guest agent goes."},

        {"vmOpts", OBJECT(vm_opts), .help = "Options of the drivers."},
        {"osOpts", OBJECT(os_opts), .help = "Options of the guest systems."},
        {"images", LIST(image), ITEMS(struct config, images, image_count),
         .help = "Images for the primary disk; the first that can be had is used."},
        {"additionalDisks", LIST(additional_disk), LATER, .help = "More disks."},
        {"mounts", LIST(mount), ITEMS(struct config, mounts, mount_count), .help = "Host directories seen in the guest."},
        {"mountType", SCHEMA_ENUM, AT(struct config, mount_type), .fallback = "default",
         UNSET(""), .names = schema_mount_types, .help = "How directories are shared."},
        {"mountTypesUnsupported", SCHEMA_TEXTS, AT(struct config, mount_types_unsupported),
         .help = "What the image cannot mount."},
        {"mountInotify", SCHEMA_BOOL, AT(struct config, mount_inotify), .fallback = "false",
         .help = "Watchers in the guest see what the host does."},

        {"ssh", OBJECT(ssh), .help = "Access by ssh."},
        {"firmware", OBJECT(firmware), .help = "Firmware of the machine."},
        {"audio", OBJECT(audio), .help = "Sound."},
        {"video", OBJECT(video), .help = "Display."},
        {"containerd", OBJECT(containerd), .help = "Containers."},
        {"provision", LIST(provision), ITEMS(struct config, provision, provision_count),
         .help = "Scripts that set up the guest."},
        {"probes", LIST(probe), ITEMS(struct config, probes, probe_count),
         .help = "What has to be true before the instance counts as ready."},
        {"portForwards", LIST(port_forward),
         ITEMS(struct config, port_forwards, port_forward_count),
         .help = "Which guest ports appear where on the host; the first rule that fits."},
        {"copyToHost", LIST(copy_to_host), LATER, .help = "Files to fetch from the guest."},
        {"networks", LIST(network), LATER, .help = "More network interfaces."},
        {"dns", SCHEMA_TEXTS, AT(struct config, dns), .check = config_check_address,
         .help = "DNS servers of the guest."},
        {"hostResolver", OBJECT(host_resolver), .help = "DNS server on the host."},
        {"propagateProxyEnv", SCHEMA_BOOL, LATER,
         .help = "Take over the proxy variables of the environment."},
        {"env", SCHEMA_MAP, AT(struct config, env), .check_pair = config_check_env,
         .help = "Lines of the guest's /etc/environment."},
        {"caCerts", OBJECT(ca_certs), .help = "Certificates that the guest trusts."},
        {"user", OBJECT(user), .help = "The guest's user."},
        {"rosetta", OBJECT(rosetta), .own = true, .successor = "vmOpts.vz.rosetta",
         .help = "Deprecated: see vmOpts.vz.rosetta."},
        END,
    },
};

/* clang-format on */

const struct schema_row *schema_find(const struct schema_object *object, const char *key)
{
    for (const struct schema_row *row = object->rows; row->key; row++) {
        if (strcmp(row->key, key) == 0) {
            return row;
        }
    }
    return NULL;
}

int schema_name_index(const char *const *names, const char *text)
{
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], text) == 0) {
            return i;
        }
    }
    return -1;
}

/* Levenshtein distance without regard to case, or @max if it is that or more. */
static size_t edit_distance(const char *a, const char *b, size_t max)
{
    size_t row[SUGGEST_KEY_MAX + 1];
    size_t len = strlen(b);

    if (strlen(a) > SUGGEST_KEY_MAX || len > SUGGEST_KEY_MAX) {
        return max;
    }
    for (size_t j = 0; j <= len; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i]; i++) {
        size_t diagonal = row[0];

        row[0] = i + 1;
        for (size_t j = 0; j < len; j++) {
            size_t change = diagonal + (strncasecmp(&a[i], &b[j], 1) != 0);

            diagonal = row[j + 1];
            row[j + 1] = MIN(change, MIN(row[j], diagonal) + 1);
        }
    }
    return MIN(row[len], max);
}

const char *schema_suggest(const struct schema_object *object, const char *key)
{
    size_t best = MIN(strlen(key) / 2 + 1, (size_t)SUGGEST_DISTANCE + 1);
    const char *found = NULL;

    for (const struct schema_row *row = object->rows; row->key; row++) {
        size_t distance = edit_distance(key, row->key, best);

        if (distance < best) {
            best = distance;
            found = row->key;
        }
    }
    return found;
}
