/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "test.h"
#include "base/buf.h"
#include "ssh/ssh.h"
#include "util/file.h"
#include "util/path.h"
#include "util/process.h"

static char *folder; /* HOME, LIMA_HOME and cache of each test */

static int setup(void **state)
{
    char name[] = "/tmp/lima-test-ssh-XXXXXX";

    folder = xstrdup(mkdtemp(name));
    setenv("HOME", folder, 1);
    setenv("XDG_CACHE_HOME", folder, 1);
    unsetenv("SSH");
    return 0;
}

static int teardown(void **state)
{
    file_remove_tree(folder, NULL);
    free(folder);
    return 0;
}

static const struct config_ssh plain_ssh = {0};

static void test_options_come_in_the_documented_order(void **state)
{
    static const char *const want[] = {
        "IdentityFile=\"/h/_config/user\"",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "NoHostAuthenticationForLocalhost=yes",
        "PreferredAuthentications=publickey",
        "Compression=no",
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "GSSAPIAuthentication=no",
        NULL, /* Ciphers: by the CPU */
        "User=me",
        "ControlMaster=auto",
        "ControlPath=\"/h/a/ssh.sock\"",
        "ControlPersist=yes",
        "ForwardAgent=yes",
        "ForwardX11=yes",
        "ForwardX11Trusted=yes",
    };
    const struct ssh_client client = {.major = 9, .minor = 2, .gssapi = true};
    const struct config_ssh all = {
        .forward_agent = true, .forward_x11 = true, .forward_x11_trusted = true};
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv got = STRV_INIT;

    assert_works(ssh_client_options(&client, "/h", "/h/a", &all, "me", &got, &err), &err);
    assert_int_equal(got.len, ARRAY_LEN(want));
    for (size_t i = 0; i < got.len; i++) {
        if (want[i]) {
            assert_string_equal(got.items[i], want[i]);
        } else {
            assert_true(str_starts(got.items[i], "Ciphers=\"^"));
        }
    }
}

static void test_an_old_client_gets_only_what_it_knows(void **state)
{
    const struct ssh_client client = {.major = 8, .minor = 0};
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv got = STRV_INIT;
    scoped(free) char *joined = NULL;

    assert_works(ssh_client_options(&client, "/h", "/h/a", &plain_ssh, "me", &got, &err), &err);
    joined = strv_join(&got, "\n");
    assert_null(strstr(joined, "Ciphers"));
    assert_null(strstr(joined, "GSSAPI"));
    assert_null(strstr(joined, "Forward"));
}

/* What `ssh -G` says of @key ("identityfile") when it reads ssh.config in @dir. Caller frees. */
static char *effective(const char *dir, const char *host, const char *key)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *config = path_join(dir, "ssh.config");
    scoped(free) char *prefix = xasprintf("%s ", key);
    scoped(buf_done) struct buf out = BUF_INIT;
    scoped(strv_done) struct strv lines = STRV_INIT;
    const char *argv[] = {"ssh", "-G", "-F", config, host, NULL};

    assert_works(process_check(argv, 10000, &out, &err), &err);
    strv_split(&lines, buf_str(&out), '\n');
    for (size_t i = 0; i < lines.len; i++) {
        if (str_starts(lines.items[i], prefix)) {
            return xstrdup(lines.items[i] + strlen(prefix));
        }
    }
    return xstrdup("");
}

static void test_odd_folder_names_reach_ssh_unchanged(void **state)
{
    static const char *const names[] = {
        "plain",  "two words", "it's",  "a\"b",  "a\\b",
        "a\\\"b", "%h%%u",     "#hash", "$HOME", "\"",
        "\\",     "a  b ",     "= x",   "é",     "x\" ProxyCommand=\"touch y"};

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(strv_done) struct strv options = STRV_INIT;
        scoped(free) char *dir = path_join(folder, names[i]);
        scoped(free) char *sock = path_join(dir, "ssh.sock");
        scoped(free) char *key = path_join(dir, "_config", "user");
        scoped(free) char *got_sock = NULL;
        scoped(free) char *got_key = NULL;
        scoped(free) char *got_proxy = NULL;

        assert_works(file_mkdirs(dir, 0700, &err), &err);
        assert_works(ssh_options(dir, dir, &plain_ssh, "me", &options, &err), &err);
        assert_works(ssh_config_write(dir, "lima-a", &options, 60022, &err), &err);
        got_sock = effective(dir, "lima-a", "controlpath");
        got_key = effective(dir, "lima-a", "identityfile");
        got_proxy = effective(dir, "lima-a", "proxycommand");
        assert_string_equal(got_sock, sock);
        if (!strchr(names[i], '%')) { /* this one is printed before its expansion */
            assert_string_equal(got_key, key);
        }
        assert_string_equal(got_proxy, "");
    }
}

static void test_values_that_ssh_cannot_hold_are_refused(void **state)
{
    static const char *const bad[] = {"a\nProxyCommand x", "a\r", "a\tb", "${HOME}", "\x7f"};
    const struct ssh_client client = {.major = 9, .minor = 2};

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(strv_done) struct strv got = STRV_INIT;

        assert_fails(ssh_client_options(&client, bad[i], "/d", &plain_ssh, "me", &got, &err), &err,
                     EINVAL, "IdentityFile");
        assert_fails(ssh_client_options(&client, "/h", bad[i], &plain_ssh, "me", &got, &err), &err,
                     EINVAL, "ControlPath");
        assert_int_equal(got.len, 0);
    }
    {
        scoped(error_done) struct error err = ERROR_INIT;
        scoped(strv_done) struct strv got = STRV_INIT;

        assert_fails(ssh_client_options(&client, "/h", "/d", &plain_ssh, "me\nx", &got, &err), &err,
                     EINVAL, "User");
    }
}

static void test_config_refuses_what_would_add_lines(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv good = STRV_INIT;
    scoped(strv_done) struct strv bad = STRV_INIT;

    strv_add(&good, "User=x");
    strv_add(&bad, "User=x\n  ProxyCommand y");
    assert_fails(ssh_config_write(folder, "lima-a", &bad, 1, &err), &err, EINVAL, "option");
    assert_fails(ssh_config_write(folder, "a b", &good, 1, &err), &err, EINVAL, "host name");
    assert_fails(ssh_config_write(folder, "a\nb", &good, 1, &err), &err, EINVAL, "host name");
    assert_fails(ssh_config_write(folder, "*", &good, 1, &err), &err, EINVAL, "host name");
    assert_int_equal(ssh_config_port(folder), 0);
}

static void test_config_is_private_and_tells_its_port(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv options = STRV_INIT;
    scoped(free) char *path = path_join(folder, "ssh.config");
    struct stat st;

    strv_add(&options, "User=Port 7");
    assert_int_equal(ssh_config_port(folder), 0);
    assert_works(ssh_config_write(folder, "lima-a", &options, 60022, &err), &err);
    assert_int_equal(ssh_config_port(folder), 60022);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
}

/* A client that counts how often it is asked. */
static void write_fake_client(const char *path, const char *log, const char *version)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *text =
        xasprintf("#!/bin/sh\necho asked >>'%s'\necho 'OpenSSH_%s, fake' >&2\n", log, version);

    assert_works(file_write_text(path, text, 0755, &err), &err);
}

static void test_the_client_is_asked_once_until_it_changes(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(folder, "my ssh");
    scoped(free) char *log = path_join(folder, "log");
    scoped(free) char *env = xasprintf("'%s' -4", path);
    scoped(buf_done) struct buf text = BUF_INIT;

    write_fake_client(path, log, "9.2p1");
    setenv("SSH", env, 1);
    for (int i = 0; i < 3; i++) {
        scoped(ssh_client_done) struct ssh_client client = SSH_CLIENT_INIT;

        assert_works(ssh_client_find(&client, &err), &err);
        assert_int_equal(client.major, 9);
        assert_int_equal(client.minor, 2);
        assert_true(client.gssapi);
        assert_string_equal(client.command.items[0], path);
        assert_string_equal(client.command.items[1], "-4");
    }
    assert_works(file_read(log, 1000, &text, &err), &err);
    assert_string_equal(buf_str(&text), "asked\n");

    write_fake_client(path, log, "8.9.1-longer");
    {
        scoped(ssh_client_done) struct ssh_client client = SSH_CLIENT_INIT;

        assert_works(ssh_client_find(&client, &err), &err);
        assert_int_equal(client.major, 8);
        assert_true(ssh_client_at_least(&client, 8, 9));
        assert_false(ssh_client_at_least(&client, 8, 10));
        assert_false(ssh_client_at_least(&client, 9, 0));
    }
}

static void test_recalling_a_client_runs_none(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(folder, "ssh");
    scoped(free) char *log = path_join(folder, "log");
    struct ssh_client client;

    write_fake_client(path, log, "9.2p1");
    setenv("SSH", path, 1);
    ssh_client_recall(&client);
    assert_true(ssh_client_at_least(&client, 8, 1));
    assert_false(ssh_client_at_least(&client, 8, 2));
    assert_false(client.gssapi);
    assert_false(file_exists(log));
    ssh_client_done(&client);
    assert_works(ssh_client_find(&client, &err), &err);
    ssh_client_done(&client);
    ssh_client_recall(&client);
    assert_true(ssh_client_at_least(&client, 9, 2));
    assert_true(client.gssapi);
    ssh_client_done(&client);
    setenv("SSH", "/nowhere/ssh", 1);
    ssh_client_recall(&client);
    assert_true(ssh_client_at_least(&client, 8, 1));
    ssh_client_done(&client);
}

static void test_a_missing_client_is_named(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(ssh_client_done) struct ssh_client client = SSH_CLIENT_INIT;

    setenv("SSH", "/nowhere/ssh", 1);
    assert_fails(ssh_client_find(&client, &err), &err, ENOENT, "/nowhere/ssh");
    setenv("SSH", "'open", 1);
    assert_fails(ssh_client_find(&client, &err), &err, EINVAL, "SSH");
}

static void test_no_master_means_nothing_to_stop(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *sock = path_join(folder, "ssh.sock");
    int fd;

    ssh_master_stop(folder);
    assert_works(file_listen_unix(sock, 1, &fd, &err), &err);
    close(fd); /* a stale socket: nobody listens */
    ssh_master_stop(folder);
    assert_false(file_exists(sock));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_options_come_in_the_documented_order),
        TEST(test_an_old_client_gets_only_what_it_knows),
        TEST(test_odd_folder_names_reach_ssh_unchanged),
        TEST(test_values_that_ssh_cannot_hold_are_refused),
        TEST(test_config_refuses_what_would_add_lines),
        TEST(test_config_is_private_and_tells_its_port),
        TEST(test_the_client_is_asked_once_until_it_changes),
        TEST(test_recalling_a_client_runs_none),
        TEST(test_a_missing_client_is_named),
        TEST(test_no_master_means_nothing_to_stop),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
