/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A character goes through two machines. The first strips terminal sequences:
 *
 *   TEXT    --ESC-->  ESCAPE
 *   ESCAPE  --[-->    CSI       parameters until a final byte 0x40..0x7e
 *           --]PX^_-> STRING    until BEL or ESC \; a line end stops it too, so that a stray one
 *                               swallows no more than its line
 *           --other-> TEXT
 *
 * The second collects lines. Moving the cursor or clearing the screen ends a line as a line feed
 * does, because firmware paints its screens that way. Patterns are compared when their last
 * character arrives, so that a prompt, which no line feed follows, is seen at once and the result
 * does not depend on where the text was cut.
 */
#include "driver/console.h"

#include <stdbool.h>
#include <string.h>
#include "base/alloc.h"
#include "base/buf.h"

#define LINE_MAX_BYTES 400 /* the rest of a longer line is dropped */
#define TAIL_LINES     16

enum state {
    STATE_TEXT,
    STATE_ESCAPE,
    STATE_CSI,
    STATE_STRING,
    STATE_STRING_ESCAPE,
};

enum place {
    PLACE_START, /* of the line */
    PLACE_ANYWHERE,
};

struct pattern {
    const char *text;
    enum place place;
    bool whole_line; /* what follows on the line belongs to the cause */
    const char *cause;
};

#define NOTHING_TO_BOOT "the firmware found nothing to boot"
#define FIRMWARE_SHELL  "the firmware found nothing to boot and opened its own shell"
#define FIRMWARE_MENU   "the firmware found nothing to boot and opened its own menu"
#define BOOT_LOADER     "the boot loader stopped at its own prompt"
#define INITRD_SHELL    "the initial RAM disk stopped at an emergency shell"
#define EMERGENCY       "the guest stopped in emergency mode"

static const struct pattern patterns[] = {
    /* SeaBIOS and master boot records */
    {"No bootable device", PLACE_START, true, NOTHING_TO_BOOT},
    {"Missing operating system", PLACE_START, true, NOTHING_TO_BOOT},
    {"Operating system not found", PLACE_START, true, NOTHING_TO_BOOT},
    /* OVMF */
    {"BdsDxe: No bootable option or device", PLACE_START, true, NOTHING_TO_BOOT},
    {"\"EFI Internal Shell\" from", PLACE_ANYWHERE, true, FIRMWARE_SHELL},
    {"UEFI Interactive Shell", PLACE_START, true, FIRMWARE_SHELL},
    {"Shell>", PLACE_START, false, FIRMWARE_SHELL},
    {"\"UiApp\" from", PLACE_ANYWHERE, true, FIRMWARE_MENU},
    {"\"BootManagerMenuApp\" from", PLACE_ANYWHERE, true, FIRMWARE_MENU},
    {"\"EnterSetup\" from", PLACE_ANYWHERE, true, FIRMWARE_MENU},
    /* GRUB */
    {"grub>", PLACE_START, false, BOOT_LOADER},
    {"grub rescue>", PLACE_START, false, BOOT_LOADER},
    {"GRUB Hard Disk Error", PLACE_ANYWHERE, true, BOOT_LOADER},
    /* the kernel and its decompressor */
    {"Kernel panic - not syncing", PLACE_ANYWHERE, true, "the guest's kernel panicked"},
    {"-- System halted", PLACE_ANYWHERE, true, "the guest's kernel could not be unpacked"},
    {"reboot: System halted", PLACE_ANYWHERE, true, "the guest halted"},
    /* initramfs-tools, dracut, mkinitcpio, Alpine */
    {"(initramfs)", PLACE_START, false, INITRD_SHELL},
    {"Dropping to a shell!", PLACE_ANYWHERE, true, INITRD_SHELL},
    {"dracut:/#", PLACE_START, false, INITRD_SHELL},
    {"Entering emergency mode.", PLACE_ANYWHERE, true, INITRD_SHELL},
    {"You are now being dropped into an emergency shell", PLACE_ANYWHERE, true, INITRD_SHELL},
    {"initramfs emergency recovery shell launched", PLACE_ANYWHERE, true, INITRD_SHELL},
    /* systemd, sulogin */
    {"You are in emergency mode", PLACE_START, true, EMERGENCY},
    {"You are in rescue mode", PLACE_START, true, "the guest stopped in rescue mode"},
    {"Give root password for maintenance", PLACE_START, true, EMERGENCY},
    {"Press Enter for maintenance", PLACE_START, true, EMERGENCY},
    {"Cannot open access to console, the root account is locked", PLACE_START, true, EMERGENCY},
};

struct console_watch {
    enum state state;
    char line[LINE_MAX_BYTES + 1];
    size_t len;
    const struct pattern *found; /* on this line; waits for its end */
    bool reported;
    char *tail[TAIL_LINES]; /* ring of complete lines */
    size_t tail_count;      /* ever */
};

struct console_watch *console_watch_new(void)
{
    return xnew(struct console_watch);
}

void console_watch_free(struct console_watch *watch)
{
    if (!watch) {
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(watch->tail); i++) {
        free(watch->tail[i]);
    }
    free(watch);
}

/* True when @pattern ends at the end of the line so far. */
static bool pattern_ends_here(const struct pattern *pattern, const char *line, size_t len)
{
    size_t n = strlen(pattern->text);

    return len >= n && line[len - 1] == pattern->text[n - 1] &&
           (pattern->place == PLACE_ANYWHERE || len == n) &&
           memcmp(line + len - n, pattern->text, n) == 0;
}

static const struct pattern *pattern_find(const char *line, size_t len)
{
    for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
        if (pattern_ends_here(&patterns[i], line, len)) {
            return &patterns[i];
        }
    }
    return NULL;
}

static char *report(struct console_watch *watch)
{
    const struct pattern *found = watch->found;

    watch->reported = true;
    watch->found = NULL;
    return xasprintf("%s: %s", found->cause, watch->line);
}

static char *line_end(struct console_watch *watch)
{
    char **slot = &watch->tail[watch->tail_count % TAIL_LINES];
    char *cause;

    while (watch->len > 0 && watch->line[watch->len - 1] == ' ') {
        watch->line[--watch->len] = '\0';
    }
    cause = watch->found ? report(watch) : NULL;
    if (watch->len > 0) {
        free(*slot);
        *slot = xstrndup(watch->line, watch->len);
        watch->tail_count++;
    }
    watch->len = 0;
    watch->line[0] = '\0';
    return cause;
}

static char *line_put(struct console_watch *watch, char c)
{
    if (watch->len == LINE_MAX_BYTES) {
        return NULL;
    }
    if (watch->len == 0 && c == ' ') {
        return NULL; /* leading blanks only hide a prompt */
    }
    watch->line[watch->len++] = c;
    watch->line[watch->len] = '\0';
    if (watch->reported || watch->found) {
        return NULL;
    }
    watch->found = pattern_find(watch->line, watch->len);
    return watch->found && !watch->found->whole_line ? report(watch) : NULL;
}

static char *feed_text(struct console_watch *watch, char c)
{
    if (c == '\n' || c == '\r') {
        return line_end(watch);
    }
    if (c == '\033') {
        watch->state = STATE_ESCAPE;
    } else if (c == '\b' && watch->len > 0) {
        watch->line[--watch->len] = '\0';
    } else if (c == '\t') {
        return line_put(watch, ' ');
    } else if (c >= ' ' && c <= '~') { /* char may be unsigned */
        return line_put(watch, c);
    } else if (((unsigned char)c & 0xc0) == 0xc0) {
        return line_put(watch, '?'); /* UTF-8 may hide control characters; one mark a character */
    }
    return NULL;
}

static char *feed_escape(struct console_watch *watch, char c)
{
    if (c == '[') {
        watch->state = STATE_CSI;
    } else if (c && strchr("]PX^_", c)) {
        watch->state = STATE_STRING;
    } else if (c < ' ') {
        watch->state = STATE_TEXT;
        return feed_text(watch, c);
    } else if (c > '/') { /* else an intermediate byte: the final one follows */
        watch->state = STATE_TEXT;
        return c == 'c' ? line_end(watch) : NULL; /* full reset */
    }
    return NULL;
}

static char *feed_csi(struct console_watch *watch, char c)
{
    if (c < 0x40 && c >= ' ') {
        return NULL;
    }
    watch->state = STATE_TEXT;
    if (c < ' ') { /* cut short */
        return feed_text(watch, c);
    }
    return strchr("HfJ", c) ? line_end(watch) : NULL;
}

static char *feed_string(struct console_watch *watch, char c)
{
    if (watch->state == STATE_STRING_ESCAPE && c == '\\') {
        watch->state = STATE_TEXT;
    } else if (c == '\033') {
        watch->state = STATE_STRING_ESCAPE;
    } else if (c == '\a') {
        watch->state = STATE_TEXT;
    } else if (c == '\n' || c == '\r') {
        watch->state = STATE_TEXT;
        return line_end(watch);
    } else {
        watch->state = STATE_STRING;
    }
    return NULL;
}

static char *(*const feeders[])(struct console_watch *watch, char c) = {
    [STATE_TEXT] = feed_text,     [STATE_ESCAPE] = feed_escape,        [STATE_CSI] = feed_csi,
    [STATE_STRING] = feed_string, [STATE_STRING_ESCAPE] = feed_string,
};

char *console_watch_feed(struct console_watch *watch, const char *text, size_t len)
{
    char *first = NULL;

    for (size_t i = 0; i < len; i++) {
        char *cause = feeders[watch->state](watch, text[i]);

        first = first ? first : cause;
    }
    return first;
}

char *console_watch_tail(const struct console_watch *watch)
{
    size_t kept = MIN(watch->tail_count, (size_t)TAIL_LINES);
    scoped(buf_done) struct buf out = BUF_INIT;

    for (size_t i = watch->tail_count - kept; i < watch->tail_count; i++) {
        buf_printf(&out, "%s%s", out.len ? "\n" : "", watch->tail[i % TAIL_LINES]);
    }
    if (watch->len > 0) {
        buf_printf(&out, "%s%s", out.len ? "\n" : "", watch->line);
    }
    return buf_steal(&out);
}
