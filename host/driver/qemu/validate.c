/* SPDX-License-Identifier: Apache-2.0 */
#include "driver/qemu/validate.h"

#include <string.h>
#include "base/alloc.h"
#include "base/log.h"
#include "driver/qemu/accel.h"
#include "driver/qemu/args.h"
#include "driver/qemu/firmware.h"

/* Older ones are refused, or used with a warning. */
#define HARD_MAJOR 4
#define HARD_MINOR 0
#define SOFT_MAJOR 6
#define SOFT_MINOR 2

static int check_supported(const struct config *config, struct error *err)
{
    const struct qemu_arch *arch = qemu_arch_find(config->arch);

    if (!str_eq(config->os, "Linux")) {
        error_set(err, ENOTSUP, "os '%s' is not supported by vmType qemu", config->os);
        error_hint(err, "set os to Linux");
        return -ENOTSUP;
    }
    if (!arch || !arch->supported) {
        error_set(err, ENOTSUP, "arch '%s' is not supported by vmType qemu yet", config->arch);
        error_hint(err, "set arch to x86_64");
        return -ENOTSUP;
    }
    if (*str_or_empty(config->video_display) && !str_eq(config->video_display, "none")) {
        error_set(err, ENOTSUP, "video.display '%s' is not supported yet", config->video_display);
        error_hint(err, "set video.display to none");
        return -ENOTSUP;
    }
    return 0;
}

/* The model is what stands before the first comma. */
static int check_cpu(const char *cpu, const struct qemu_caps *caps, struct error *err)
{
    scoped(free) char *model = xstrndup(cpu, strcspn(cpu, ","));

    if (str_eq(model, "max") || strv_contains(&caps->cpus, model)) {
        return 0;
    }
    error_set(err, EINVAL, "this QEMU has no CPU model '%s'", model);
    error_hint(err, "remove vmOpts.qemu.cpuType, or choose one of `qemu-system-... -cpu help`");
    return -EINVAL;
}

static int check_devices(const struct qemu_arch *arch, const struct qemu_caps *caps,
                         struct error *err)
{
    const char *const needed[] = {arch->blk, arch->net, arch->rng, arch->serial_bus,
                                  "virtserialport"};

    for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
        if (!strv_contains(&caps->devices, needed[i])) {
            error_set(err, ENOTSUP, "this QEMU lacks the device '%s'", needed[i]);
            error_hint(err, "install your distribution's full QEMU package");
            return -ENOTSUP;
        }
    }
    if (caps->netdevs.len > 0 && !strv_contains(&caps->netdevs, "user")) {
        error_set(err, ENOTSUP, "this QEMU was built without user-mode networking (slirp)");
        error_hint(err, "install your distribution's full QEMU package");
        return -ENOTSUP;
    }
    return 0;
}

int qemu_validate_caps(const struct config *config, const char *accel, const struct qemu_caps *caps,
                       struct error *err)
{
    const struct qemu_arch *arch = qemu_arch_find(config->arch);
    int r;

    if (!qemu_caps_at_least(caps, HARD_MAJOR, HARD_MINOR)) {
        return error_set(err, ENOTSUP, "QEMU %d.%d.%d is too old: %d.%d or later is needed",
                         caps->major, caps->minor, caps->micro, HARD_MAJOR, HARD_MINOR);
    }
    if (!strv_contains(&caps->accels, accel)) {
        return error_set(err, ENOTSUP, "this QEMU lacks the accelerator '%s'", accel);
    }
    r = check_cpu(qemu_accel_cpu_model(accel, config->cpu_type), caps, err);
    return r < 0 ? r : check_devices(arch, caps, err);
}

/* True when some image may boot through firmware. */
static bool needs_firmware(const struct config *config)
{
    if (config->legacy_bios) {
        return false;
    }
    for (size_t i = 0; i < config->image_count; i++) {
        const struct config_image *image = &config->images[i];

        if (!image->has_kernel && !str_starts(image->file.location, "image:")) {
            return true;
        }
    }
    return config->image_count == 0;
}

static int check_firmware(const struct config *config, const char *binary, struct error *err)
{
    scoped(free) char *code = NULL, *vars = NULL;

    if (!needs_firmware(config)) {
        return 0;
    }
    return qemu_firmware_find(config->arch, binary, &code, &vars, err);
}

int qemu_validate(const struct config *config, struct error *err)
{
    struct qemu_accel_facts facts = qemu_accel_facts_get();
    scoped(strv_done) struct strv extra = STRV_INIT;
    scoped(qemu_caps_free) struct qemu_caps *caps = NULL;
    scoped(free) char *binary = NULL, *reason = NULL;
    struct qemu_accel_choice accel;
    int r = check_supported(config, err);

    if (r < 0) {
        return r;
    }
    r = qemu_binary_find(config->arch, &binary, &extra, err);
    if (r < 0) {
        return r;
    }
    r = qemu_caps_get(binary, &caps, err);
    if (r < 0) {
        return r;
    }
    accel = qemu_accel_choose(&facts, config->arch, NULL);
    reason = accel.reason;
    r = qemu_validate_caps(config, accel.name, caps, err);
    if (r < 0) {
        return r;
    }
    if (!qemu_caps_at_least(caps, SOFT_MAJOR, SOFT_MINOR)) {
        log_warn("QEMU %d.%d.%d is older than %d.%d, which is known to work, ignoring", caps->major,
                 caps->minor, caps->micro, SOFT_MAJOR, SOFT_MINOR);
    }
    return check_firmware(config, binary, err);
}

char *qemu_describe(const struct config *config)
{
    struct qemu_accel_facts facts = qemu_accel_facts_get();
    struct qemu_accel_choice accel = qemu_accel_choose(&facts, config->arch, NULL);
    scoped(free) char *reason = accel.reason;

    return xasprintf("accelerator %s: %s", accel.name, reason);
}
