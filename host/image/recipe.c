/* SPDX-License-Identifier: Apache-2.0 */
#include "image/recipe.h"

#include <archive.h>
#include <archive_entry.h>
#include <string.h>
#include <sys/stat.h>
#include "base/alloc.h"
#include "image/scoped_archive.h"

/*
 * What a machine that a person works in needs, and nothing else: no recommended packages, network
 * by systemd-networkd, which cloud-init writes for and which is the quickest to start.
 */
#define DEBIAN_PACKAGES                                                                            \
    "systemd,systemd-sysv,systemd-resolved,libpam-systemd,dbus,udev,kmod,initramfs-tools,zstd,"    \
    "e2fsprogs,openssh-server,openssh-client,cloud-init,cloud-guest-utils,sudo,iproute2,"          \
    "iputils-ping,netbase,procps,less,ca-certificates,curl,nftables,locales,tzdata,fuse3,sshfs"

const struct image_recipe image_recipes[] = {
    {
        .name = "debian-12",
        .title = "Debian 12 (bookworm)",
        .id = "debian",
        .suite = "bookworm",
        .keyring = "/usr/share/keyrings/debian-archive-keyring.gpg",
        .packages = DEBIAN_PACKAGES,
    },
    {
        .name = "debian-13",
        .title = "Debian 13 (trixie)",
        .id = "debian",
        .suite = "trixie",
        .keyring = "/usr/share/keyrings/debian-archive-keyring.gpg",
        .packages = DEBIAN_PACKAGES,
    },
    {0},
};

static const struct image_arch arches[] = {
    {
        .arch = "x86_64",
        .deb = "amd64",
        .kernel = "linux-image-amd64",
        .efi_stub = "/usr/lib/systemd/boot/efi/linuxx64.efi.stub",
        .efi_name = "BOOTX64.EFI",
        .root_type = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
        .console = "ttyS0",
    },
    {
        .arch = "aarch64",
        .deb = "arm64",
        .kernel = "linux-image-arm64",
        .efi_stub = "/usr/lib/systemd/boot/efi/linuxaa64.efi.stub",
        .efi_name = "BOOTAA64.EFI",
        .root_type = "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
        .console = "ttyAMA0",
    },
};

/*
 * Interfaces keep the kernel's names: cloud-init calls the first one eth0, and later boots, which
 * do without cloud-init, must find it under the same name.
 */
const char image_cmdline[] = "root=LABEL=root ro net.ifnames=0 quiet systemd.show_status=1";

#define MASK(unit)                                                                                 \
    {                                                                                              \
        "etc/systemd/system/" unit, .link = "/dev/null"                                            \
    }

const struct image_overlay image_overlay_early[] = {
    {"etc/initramfs-tools/conf.d/virtual-machine",
     "# The disk of a virtual machine is one of a few kinds: hooks/virtual-machine puts the "
     "modules\n"
     "# for these into the initrd and leaves udev out, scripts/init-premount/virtual-machine "
     "loads\n"
     "# those that fit. For other hardware remove the three files and run update-initramfs -u.\n"
     "MODULES=list\n"
     "BUSYBOX=n\n"
     "COMPRESS=zstd\n"
     "FSTYPE=ext4\n",
     .mode = 0644},
    {"etc/initramfs-tools/hooks/virtual-machine",
     "#!/bin/sh\n"
     "# See /etc/initramfs-tools/conf.d/virtual-machine. Runs after the hooks of the packages.\n"
     "[ \"$1\" = prereqs ] && exit 0\n"
     ". /usr/share/initramfs-tools/hook-functions\n"
     "manual_add_modules virtio_pci virtio_mmio virtio_blk virtio_scsi nvme ahci ata_piix sd_mod\n"
     "manual_add_modules ext4 crc32c_generic crc32c_intel\n"
     "cd \"$DESTDIR\" && rm -rf scripts/init-top/udev scripts/init-bottom/udev usr/lib/udev \\\n"
     "    usr/lib/systemd usr/bin/udevadm usr/sbin/dmsetup\n",
     .mode = 0755},
    {"etc/initramfs-tools/scripts/init-premount/virtual-machine",
     "#!/bin/sh\n"
     "# See /etc/initramfs-tools/conf.d/virtual-machine. First the buses, then what is on them.\n"
     "[ \"$1\" = prereqs ] && exit 0\n"
     "for bus in pci platform virtio; do\n"
     "    modprobe -abq $(cat /sys/bus/$bus/devices/*/modalias 2>/dev/null)\n"
     "done\n"
     "[ -e /sys/class/scsi_host/host0 ] && modprobe -q sd_mod\n"
     "exit 0\n",
     .mode = 0755},
    {"etc/modprobe.d/virtual-machine.conf",
     "# Asked for by systemd-networkd at each start; no wireless network here.\n"
     "alias net-pf-16-proto-16-family-nl80211 off\n"
     "blacklist iTCO_wdt\nblacklist i2c_i801\nblacklist pcspkr\n",
     .mode = 0644},
    /* The journal is replayed by the kernel; a check at each boot finds nothing more. */
    {"etc/fstab",
     "LABEL=root / ext4 rw,discard,errors=remount-ro 0 0\n"
     "LABEL=ESP /boot/efi vfat umask=0077,noauto,nofail 0 0\n",
     .mode = 0644},
    {"etc/cloud/ds-identify.cfg",
     "# The seed is a disk labelled cidata; nothing else is looked for.\npolicy: enabled\n",
     .mode = 0644},
    {"etc/cloud/cloud.cfg.d/90_virtual-machine.cfg",
     "datasource_list: [NoCloud, None]\n"
     "ssh_genkeytypes: [ed25519, ecdsa]\n"
     "locale: false\n"
     "grub_dpkg: {enabled: false}\n"
     "ssh: {emit_keys_to_console: false}\n"
     "system_info:\n"
     "  network:\n"
     "    renderers: [networkd]\n",
     .mode = 0644},
    {"etc/default/locale", "LANG=C.UTF-8\n", .mode = 0644},
    /* Nobody on a user-mode network asks for names by multicast; it would only be a port to
       forward. */
    {"etc/systemd/resolved.conf.d/no-multicast.conf", "[Resolve]\nLLMNR=no\nMulticastDNS=no\n",
     .mode = 0644},
    /* Work for a machine that is on for days, or for hardware that is not there. */
    MASK("apt-daily.timer"),
    MASK("apt-daily-upgrade.timer"),
    MASK("dpkg-db-backup.timer"),
    MASK("e2scrub_all.timer"),
    MASK("e2scrub_reap.service"),
    MASK("fstrim.timer"),
    MASK("man-db.timer"),
    MASK("getty@tty1.service"),
    MASK("systemd-pstore.service"),
    MASK("modprobe@efi_pstore.service"),
    MASK("modprobe@drm.service"),
    MASK("systemd-repart.service"),
    {"etc/systemd/system-generators/systemd-gpt-auto-generator", .link = "/dev/null"},
    {0},
};

const struct image_overlay image_overlay_late[] = {
    /* Empty: systemd fills it in, without the settings of a very first boot. */
    {"etc/machine-id", "", .mode = 0444},
    {"etc/hostname", "debian\n", .mode = 0644},
    {"etc/hosts",
     "127.0.0.1 localhost\n127.0.1.1 debian\n::1 localhost ip6-localhost ip6-loopback\n"
     "ff02::1 ip6-allnodes\nff02::2 ip6-allrouters\n",
     .mode = 0644},
    {"etc/resolv.conf", .link = "../run/systemd/resolve/stub-resolv.conf"},
    {0},
};

const char *const image_customize[] = {
    "chroot \"$1\" systemctl --quiet enable systemd-networkd systemd-resolved ssh",
    "rm -f \"$1\"/etc/ssh/ssh_host_*_key* \"$1\"/etc/machine-id \"$1\"/var/lib/dbus/machine-id "
    "\"$1\"/etc/resolv.conf \"$1\"/etc/apt/apt.conf.d/99mmdebstrap "
    "\"$1\"/etc/dpkg/dpkg.cfg.d/99mmdebstrap \"$1\"/var/log/*.log \"$1\"/var/log/apt/*",
    NULL,
};

const struct image_recipe *image_recipe_find(const char *name)
{
    for (const struct image_recipe *r = image_recipes; r->name; r++) {
        if (!strcmp(r->name, name)) {
            return r;
        }
    }
    return NULL;
}

const struct image_arch *image_arch_find(const char *arch)
{
    for (size_t i = 0; i < ARRAY_LEN(arches); i++) {
        if (!strcmp(arches[i].arch, arch)) {
            return &arches[i];
        }
    }
    return NULL;
}

static int overlay_put(struct archive *out, const struct image_overlay *file, time_t when)
{
    scoped(archive_entry_free) struct archive_entry *entry = archive_entry_new();
    size_t len = file->text ? strlen(file->text) : 0;

    archive_entry_set_pathname(entry, file->path);
    archive_entry_set_mtime(entry, when, 0);
    archive_entry_set_uid(entry, 0);
    archive_entry_set_gid(entry, 0);
    if (file->link) {
        archive_entry_set_filetype(entry, AE_IFLNK);
        archive_entry_set_symlink(entry, file->link);
        archive_entry_set_perm(entry, 0777);
    } else {
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_size(entry, (la_int64_t)len);
        archive_entry_set_perm(entry, file->mode);
    }
    if (archive_write_header(out, entry) != ARCHIVE_OK) {
        return -1;
    }
    return len == 0 || archive_write_data(out, file->text, len) == (la_ssize_t)len ? 0 : -1;
}

int image_overlay_write(const struct image_overlay *files, time_t when, const char *tar,
                        struct error *err)
{
    scoped(archive_write_free) struct archive *out = archive_write_new();

    archive_write_set_format_pax_restricted(out);
    if (archive_write_open_filename(out, tar) != ARCHIVE_OK) {
        return error_set(err, EIO, "writing '%s': %s", tar, archive_error_string(out));
    }
    for (const struct image_overlay *file = files; file->path; file++) {
        if (overlay_put(out, file, when) < 0) {
            return error_set(err, EIO, "writing '%s': %s", tar, archive_error_string(out));
        }
    }
    if (archive_write_close(out) != ARCHIVE_OK) {
        return error_set(err, EIO, "writing '%s': %s", tar, archive_error_string(out));
    }
    return 0;
}
