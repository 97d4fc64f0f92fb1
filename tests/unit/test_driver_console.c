/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include "driver/console.h"

/* Consoles as they really look: QEMU 7.2 with SeaBIOS and OVMF, Debian, Fedora, Alpine guests. */
static const char seabios[] =
    "\033c\033[?7l\033[2J\033[0mSeaBIOS (version 1.16.2-debian-1.16.2-1)\r\n"
    "Booting from Hard Disk...\r\nBoot failed: not a bootable disk\r\n\n"
    "No bootable device.\r\n";
static const char ovmf_shell[] =
    "\033[2J\033[01;01H\033[=3h\033[2J\033[01;01H\033[2J\033[01;01H\033[=3h\033[2J\033[01;"
    "01HBdsDxe: failed to load "
    "Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)/Pci(0x1,0x0): Not Found\r\n"
    "BdsDxe: loading Boot0002 \"EFI Internal Shell\" from Fv(7CB8BDC9-F8EB-4F34-AAEA-3EE4AF6516A1)/"
    "FvFile(7C04A583-9E3E-4F1C-AD65-E05268D0B4D1)\r\n";

static const struct {
    const char *console, *cause;
} hopeless[] = {
    {seabios, "the firmware found nothing to boot: No bootable device."},
    {ovmf_shell,
     "the firmware found nothing to boot and opened its own shell: BdsDxe: loading Boot0002"},
    {"\033[2J\033[01;01H\033[01;01HUEFI Interactive Shell v2.2\r\nEDK II\r\n",
     "shell: UEFI Interactive Shell v2.2"},
    {"\033[08;01H\033[1m\033[33m\033[40mShell> \033[0m\033[37m\033[40m", "its own shell: Shell>"},
    {"BdsDxe: No bootable option or device was found.\r\nBdsDxe: Press any key to enter the Boot "
     "Manager Menu.\r\n",
     "nothing to boot: BdsDxe: No bootable option or device was found."},
    {"BdsDxe: loading Boot0000 \"UiApp\" from Fv(7CB8BDC9)\r\n",
     "its own menu: BdsDxe: loading Boot0000"},
    {"\r\nMissing operating system\r\n", "nothing to boot: Missing operating system"},
    {"\033[0m\033[30m\033[47mMinimal BASH-like line editing is supported.\r\n\r\ngrub> ",
     "prompt: grub>"},
    {"error: unknown filesystem.\r\nEntering rescue mode...\r\ngrub rescue> ",
     "prompt: grub rescue>"},
    {"[    1.234567] Kernel panic - not syncing: VFS: Unable to mount root fs on "
     "unknown-block(0,0)\r\n"
     "[    1.23] CPU: 0 PID: 1 Comm: swapper/0\r\n",
     "the guest's kernel panicked: [    1.234567] Kernel panic - not syncing: VFS: Unable to mount "
     "root fs on "
     "unknown-block(0,0)"},
    {"\n\nOut of memory while allocating output buffer\n\n -- System halted\n",
     "could not be unpacked: -- System halted"},
    {"[   12.3] reboot: System halted\r\n", "the guest halted: "},
    {"ALERT!  UUID=0 does not exist.  Dropping to a shell!\r\n",
     "RAM disk stopped at an emergency shell: ALERT!"},
    {"Enter 'help' for a list of built-in commands.\r\n\r\n(initramfs) ",
     "emergency shell: (initramfs)"},
    {"Entering emergency mode. Exit the shell to continue.\r\n", "emergency shell: Entering"},
    {"\r\n\r\ndracut:/# ", "emergency shell: dracut:/#"},
    {"initramfs emergency recovery shell launched. Type 'exit' to continue boot\r\n",
     "shell: initramfs"},
    {"You are in emergency mode. After logging in, type \"journalctl -xb\" to view\r\n",
     "emergency mode: You are"},
    {"Give root password for maintenance\r\n(or press Control-D to continue): ",
     "emergency mode: Give"},
    {"\r\nCannot open access to console, the root account is locked.\r\n",
     "emergency mode: Cannot"},
};

static const char *const healthy[] = {
    "",
    "[    0.000000] Linux version 6.1.0 (debian-kernel@lists.debian.org)\r\n",
    "[  OK  ] Reached target \033[0;1;39mbasic.target\033[0m - Basic System.\r\n",
    "Booting from Hard Disk...\r\nGRUB loading...\r\nWelcome to GRUB!\r\n",
    "Debian GNU/Linux 12 lima-a ttyS0\r\n\r\nlima-a login: ",
    "echo not at the start: grub> Shell> (initramfs)\r\n",
    "BdsDxe: starting Boot0001 \"UEFI Misc Device\" from PciRoot(0x0)\r\n",
    "systemd[1]: emergency.target: not needed\r\nBoot failed: not a bootable disk\r\n",
    "\033]0;Kernel panic - not syncing\a\r\n",
};

static void check_cause(char *cause, const char *part)
{
    if (!cause || !strstr(cause, part)) {
        fail_msg("cause \"%s\" lacks \"%s\"", cause ? cause : "(none)", part);
    }
    free(cause);
}

static void test_console_finds_each_hopeless_boot(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(hopeless); i++) {
        scoped(console_watch_free) struct console_watch *watch = console_watch_new();

        check_cause(console_watch_feed(watch, hopeless[i].console, strlen(hopeless[i].console)),
                    hopeless[i].cause);
    }
}

static void test_console_finds_them_wherever_the_text_is_cut(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(hopeless); i++) {
        const char *text = hopeless[i].console;
        size_t len = strlen(text);

        for (size_t cut = 0; cut <= len; cut++) {
            scoped(console_watch_free) struct console_watch *watch = console_watch_new();
            char *first = console_watch_feed(watch, text, cut);
            char *second = console_watch_feed(watch, text + cut, len - cut);

            assert_true(!first || !second);
            check_cause(first ? first : second, hopeless[i].cause);
        }
    }
}

static void test_console_finds_them_byte_by_byte_and_once(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(hopeless); i++) {
        scoped(console_watch_free) struct console_watch *watch = console_watch_new();
        char *found = NULL;

        for (const char *at = hopeless[i].console; *at; at++) {
            char *cause = console_watch_feed(watch, at, 1);

            assert_true(!found || !cause);
            found = cause ? cause : found;
        }
        check_cause(found, hopeless[i].cause);
        assert_null(console_watch_feed(watch, hopeless[i].console, strlen(hopeless[i].console)));
    }
}

static void test_console_lets_a_healthy_boot_pass(void **state)
{
    for (size_t i = 0; i < ARRAY_LEN(healthy); i++) {
        scoped(console_watch_free) struct console_watch *watch = console_watch_new();
        char *cause = console_watch_feed(watch, healthy[i], strlen(healthy[i]));

        if (cause) {
            fail_msg("%s: %s", healthy[i], cause);
        }
    }
}

static void assert_tail(const char *text, const char *want)
{
    scoped(console_watch_free) struct console_watch *watch = console_watch_new();
    char *cause = console_watch_feed(watch, text, strlen(text));
    char *tail = console_watch_tail(watch);

    assert_string_equal(tail, want);
    free(tail);
    free(cause);
}

static void test_console_tail_is_plain_text(void **state)
{
    assert_tail("", "");
    assert_tail("\r\n\r\n", "");
    assert_tail("a\r\n\r\n  b \r\nc", "a\nb\nc");
    assert_tail("\033[1;31mred\033[0m\tx\a\r\n", "red x");
    assert_tail("ab\bc\n", "ac");
    assert_tail("\033]0;title\033\\x\n", "x");
    assert_tail("\033P1$r\033\\y\033(Bz\n", "yz");
    assert_tail("\033]never ends\nnext\n", "next");
    assert_tail("caf\xc3\xa9 \xc2\x9b"
                "31m\n",
                "caf? ?31m");
    assert_tail("\033\033[2Jx\n", "x");
    assert_tail(seabios, "SeaBIOS (version 1.16.2-debian-1.16.2-1)\nBooting from Hard Disk...\n"
                         "Boot failed: not a bootable disk\nNo bootable device.");
}

static void test_console_keeps_the_last_lines_only(void **state)
{
    scoped(console_watch_free) struct console_watch *watch = console_watch_new();
    char *tail;

    for (int i = 0; i < 1000; i++) {
        char *line = xasprintf("line %d\n", i);

        assert_null(console_watch_feed(watch, line, strlen(line)));
        free(line);
    }
    tail = console_watch_tail(watch);
    assert_true(strncmp(tail, "line 984\n", 9) == 0);
    assert_non_null(strstr(tail, "line 999"));
    free(tail);
}

static void test_console_bounds_a_line_without_end(void **state)
{
    scoped(console_watch_free) struct console_watch *watch = console_watch_new();
    char block[4096];
    char *tail;

    memset(block, 'x', sizeof(block));
    for (int i = 0; i < 256; i++) {
        assert_null(console_watch_feed(watch, block, sizeof(block)));
    }
    tail = console_watch_tail(watch);
    assert_true(strlen(tail) < 1024);
    free(tail);
    check_cause(console_watch_feed(watch, "\ngrub> ", 7), "grub>");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_console_finds_each_hopeless_boot),
        cmocka_unit_test(test_console_finds_them_wherever_the_text_is_cut),
        cmocka_unit_test(test_console_finds_them_byte_by_byte_and_once),
        cmocka_unit_test(test_console_lets_a_healthy_boot_pass),
        cmocka_unit_test(test_console_tail_is_plain_text),
        cmocka_unit_test(test_console_keeps_the_last_lines_only),
        cmocka_unit_test(test_console_bounds_a_line_without_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
