/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "test.h"
#include "base/buf.h"
#include "ssh/ssh.h"
#include "util/file.h"
#include "util/path.h"

static char *folder;

static int setup(void **state)
{
    char name[] = "/tmp/lima-test-keys-XXXXXX";
    scoped(free) char *ssh = NULL;

    folder = xstrdup(mkdtemp(name));
    ssh = path_join(folder, ".ssh");
    setenv("HOME", folder, 1);
    return mkdir(ssh, 0700);
}

static int teardown(void **state)
{
    file_remove_tree(folder, NULL);
    free(folder);
    return 0;
}

static void write_at(const char *name, const char *text)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = path_join(folder, name);

    assert_works(file_write_text(path, text, 0600, &err), &err);
}

static void test_a_first_use_makes_a_private_key(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv keys = STRV_INIT;
    scoped(strv_done) struct strv again = STRV_INIT;
    scoped(free) char *path = path_join(folder, "_config", "user");
    struct stat st;

    assert_works(ssh_keys_ensure(folder, false, &keys, &err), &err);
    assert_int_equal(keys.len, 1);
    assert_true(str_starts(keys.items[0], "ssh-ed25519 "));
    assert_true(str_ends(keys.items[0], " lima"));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);

    assert_works(ssh_keys_ensure(folder, false, &again, &err), &err);
    assert_string_equal(again.items[0], keys.items[0]);
}

static void test_two_first_uses_at_once_agree(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv keys = STRV_INIT;
    int status;

    for (int i = 0; i < 4; i++) {
        if (fork() == 0) {
            _exit(ssh_keys_ensure(folder, false, &keys, NULL) < 0);
        }
    }
    for (int i = 0; i < 4; i++) {
        assert_true(wait(&status) > 0);
        assert_int_equal(status, 0);
    }
    assert_works(ssh_keys_ensure(folder, false, &keys, &err), &err);
}

static void test_a_lost_public_half_comes_back(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv keys = STRV_INIT;
    scoped(strv_done) struct strv again = STRV_INIT;
    scoped(free) char *pub = path_join(folder, "_config", "user.pub");

    assert_works(ssh_keys_ensure(folder, false, &keys, &err), &err);
    assert_int_equal(unlink(pub), 0);
    assert_works(ssh_keys_ensure(folder, false, &again, &err), &err);
    /* the comment is kept in the private key as well */
    assert_string_equal(again.items[0], keys.items[0]);
}

static void test_dot_ssh_adds_each_key_once_and_no_trash(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv keys = STRV_INIT;

    write_at(".ssh/b.pub", "ssh-rsa BBBB me@there\n");
    write_at(".ssh/a.pub", "  ssh-ed25519 AAAA it's \"me\"\r\n");
    write_at(".ssh/copy.pub", "ssh-rsa BBBB me@there\n");
    write_at(".ssh/two.pub", "ssh-rsa CCCC\nssh-rsa DDDD\n");
    write_at(".ssh/empty.pub", "\n");
    write_at(".ssh/.hidden.pub", "ssh-rsa HHHH x\n");
    write_at(".ssh/config", "Host *\n");
    assert_works(ssh_keys_ensure(folder, true, &keys, &err), &err);
    assert_int_equal(keys.len, 3);
    assert_string_equal(keys.items[1], "ssh-ed25519 AAAA it's \"me\"");
    assert_string_equal(keys.items[2], "ssh-rsa BBBB me@there");
}

static void test_dot_ssh_keys_with_a_private_half_are_offered(void **state)
{
    const struct ssh_client client = {.major = 9};
    const struct config_ssh ssh = {.load_dot_ssh_pub_keys = true};
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv options = STRV_INIT;
    scoped(free) char *want = xasprintf("IdentityFile=\"%s/.ssh/id\"", folder);

    write_at(".ssh/id", "private\n");
    write_at(".ssh/id.pub", "ssh-rsa AAAA x\n");
    write_at(".ssh/token.pub", "ssh-rsa BBBB y\n");
    assert_works(ssh_client_options(&client, folder, folder, &ssh, "me", &options, &err), &err);
    assert_string_equal(options.items[1], want);
    assert_string_equal(options.items[2], "StrictHostKeyChecking=no");
}

static void test_a_broken_public_key_is_named(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(strv_done) struct strv keys = STRV_INIT;
    scoped(free) char *pub = path_join(folder, "_config", "user.pub");

    assert_works(ssh_keys_ensure(folder, false, &keys, &err), &err);
    assert_works(file_write_text(pub, "", 0644, &err), &err);
    assert_fails(ssh_keys_ensure(folder, false, &keys, &err), &err, EINVAL, "user.pub");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_first_use_makes_a_private_key),
        TEST(test_two_first_uses_at_once_agree),
        TEST(test_a_lost_public_half_comes_back),
        TEST(test_dot_ssh_adds_each_key_once_and_no_trash),
        TEST(test_dot_ssh_keys_with_a_private_half_are_offered),
        TEST(test_a_broken_public_key_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
