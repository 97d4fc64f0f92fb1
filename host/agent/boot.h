/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far the boot has come: a small state machine fed with what the driver and the guest say, that
 * decides when the instance is ready and why it never will be. No I/O.
 *
 *   LAUNCHING   the VM process has been asked for
 *   BOOTING     it runs; firmware, kernel, initrd, services
 *   GUEST       the guest agent speaks: its stages are the progress
 *   READY       everything is done, possibly with errors ("degraded")
 *   FAILED      it cannot come up any more; the cause is in the errors
 *
 * Moves go downwards only; a guest that reboots leaves it READY. What a guest can cause is bounded:
 * so many progress events and errors in all, and what goes beyond is dropped.
 */
#pragma once

#include <stdbool.h>
#include "peer/client.h"
#include "util/strv.h"

enum boot_state {
    BOOT_STATE_LAUNCHING,
    BOOT_STATE_BOOTING,
    BOOT_STATE_GUEST,
    BOOT_STATE_READY,
    BOOT_STATE_FAILED,
};

struct boot_events {
    /* A new stage, for display; @detail may be NULL. */
    void (*progress)(const char *stage, const char *detail, void *arg);
    /* Once: READY. @errors: what went wrong on the way (scripts), may be empty. */
    void (*ready)(const struct strv *errors, void *arg);
    /* Once: FAILED. The callee may free the boot. */
    void (*failed)(const struct strv *errors, void *arg);
};

struct boot;

struct boot *boot_new(const struct boot_events *events, void *arg);
void boot_free(struct boot *boot);
SCOPED_PTR(struct boot, boot_free)

enum boot_state boot_state(const struct boot *boot);
const struct strv *boot_errors(const struct boot *boot);

void boot_started(struct boot *boot);
/* New console text: shown as detail while nothing better is known; its caller looks for panics. */
void boot_console(struct boot *boot, const char *text, size_t len);
void boot_stage(struct boot *boot, enum peer_stage stage, const char *detail);
void boot_script(struct boot *boot, const struct peer_script *script);
/* In plain mode, where no agent speaks: sshd has answered. */
void boot_ssh_answers(struct boot *boot);
/* The boot cannot succeed; no-op after READY or FAILED. @cause: a sentence without full stop. */
void boot_fail(struct boot *boot, const char *cause);
