/* SPDX-License-Identifier: Apache-2.0 */
#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include "http_fixture.h"
#include "image/cache.h"
#include "image/fetch.h"
#include "util/digest.h"
#include "util/file.h"
#include "util/path.h"

#define CONTENT_LEN 300000

struct fixture {
    struct http_fixture server;
    char *dir;
    char *url;
    char content[CONTENT_LEN];
    char other[CONTENT_LEN];
    char *digest;
};

static int setup(void **state)
{
    struct fixture *f = xnew(struct fixture);
    scoped(free) char *hex = NULL;

    unsetenv("http_proxy");
    unsetenv("HTTP_PROXY");
    unsetenv("all_proxy");
    for (size_t i = 0; i < CONTENT_LEN; i++) {
        f->content[i] = (char)(i * 31 + i / 251);
        f->other[i] = (char)(i * 17 + 3);
    }
    hex = digest_sha256_hex(f->content, CONTENT_LEN);
    f->digest = xasprintf("sha256:%s", hex);
    f->dir = xstrdup("/tmp/lima-cache-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->server =
        (struct http_fixture){.content = f->content, .content_len = CONTENT_LEN, .etag = "\"one\""};
    http_fixture_start(&f->server);
    f->url = http_fixture_url(&f->server, "a/image.img?x=1");
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    http_fixture_stop(&f->server);
    file_remove_tree(f->dir, NULL);
    free(f->dir);
    free(f->url);
    free(f->digest);
    free(f);
    return 0;
}

static void assert_content(const char *path, const char *want)
{
    scoped(buf_done) struct buf got = BUF_INIT;
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(file_read(path, CONTENT_LEN * 2, &got, &err), &err);
    assert_int_equal(got.len, CONTENT_LEN);
    assert_memory_equal(got.data, want, CONTENT_LEN);
}

static char *entry_file(const struct fixture *f, const char *name)
{
    scoped(free) char *dir = cache_entry(f->dir, f->url);

    return path_join(dir, name);
}

/* cache_get() of the server's URL gives @want, with outcome @result. */
static void assert_get(struct fixture *f, const char *digest, int result, const char *want)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *path = NULL;
    int r = cache_get(f->dir, f->url, digest, "the image", &path, &err);

    assert_works(r, &err);
    assert_int_equal(r, result);
    assert_content(path, want);
}

static void assert_entry_text(const struct fixture *f, const char *name, const char *want)
{
    scoped(free) char *path = entry_file(f, name);
    scoped(buf_done) struct buf text = BUF_INIT;
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(file_read(path, 4096, &text, &err), &err);
    assert_string_equal(buf_str(&text), want);
}

static void test_download_leaves_the_known_files(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *part = entry_file(f, "data.part");

    f->server.last_modified = "Mon, 20 Jul 2026 10:00:00 GMT";
    assert_get(f, f->digest, CACHE_DOWNLOADED, f->content);
    assert_entry_text(f, "url", f->url);
    assert_entry_text(f, "time", "Mon, 20 Jul 2026 10:00:00 GMT");
    assert_entry_text(f, "type", "application/octet-stream");
    assert_entry_text(f, "etag", "\"one\"");
    assert_entry_text(f, "sha256.digest", f->digest);
    assert_false(file_exists(part));
}

static void test_known_digest_needs_no_server(void **state)
{
    struct fixture *f = *state;

    assert_get(f, f->digest, CACHE_DOWNLOADED, f->content);
    assert_get(f, f->digest, CACHE_USED, f->content);
    assert_int_equal(f->server.gets, 1);
    assert_int_equal(f->server.heads, 0);
}

static void test_digest_of_older_data_is_computed_and_kept(void **state)
{
    struct fixture *f = *state;

    assert_get(f, "", CACHE_DOWNLOADED, f->content);
    assert_get(f, f->digest, CACHE_USED, f->content);
    assert_entry_text(f, "sha256.digest", f->digest);
}

static void test_cached_digest_mismatch_downloads_again(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *hex = digest_sha256_hex(f->other, CONTENT_LEN);
    scoped(free) char *digest = xasprintf("sha256:%s", hex);

    assert_get(f, f->digest, CACHE_DOWNLOADED, f->content);
    f->server.content = f->other;
    f->server.etag = "\"two\"";
    assert_get(f, digest, CACHE_DOWNLOADED, f->other);
    assert_entry_text(f, "sha256.digest", digest);
}

static void test_damaged_data_without_record_is_replaced(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *data = entry_file(f, "data");

    assert_get(f, "", CACHE_DOWNLOADED, f->content);
    assert_int_equal(truncate(data, 100), 0);
    assert_get(f, f->digest, CACHE_DOWNLOADED, f->content);
}

static void test_wrong_digest_of_a_download_fails_and_keeps_nothing(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(free) char *data = entry_file(f, "data");
    scoped(free) char *part = entry_file(f, "data.part");
    char *path = NULL;

    f->server.content = f->other;
    assert_fails(cache_get(f->dir, f->url, f->digest, "the image", &path, &err), &err, EBADMSG,
                 "sha256:");
    assert_false(file_exists(data));
    assert_false(file_exists(part));
}

static void test_unchanged_content_is_used_after_one_head(void **state)
{
    struct fixture *f = *state;

    assert_get(f, "", CACHE_DOWNLOADED, f->content);
    assert_get(f, "", CACHE_USED, f->content);
    assert_int_equal(f->server.heads, 1);
    assert_int_equal(f->server.gets, 1);
}

static void test_changed_etag_downloads_again(void **state)
{
    struct fixture *f = *state;

    f->server.last_modified = "Mon, 20 Jul 2026 10:00:00 GMT";
    assert_get(f, "", CACHE_DOWNLOADED, f->content);
    f->server.content = f->other;
    f->server.etag = "\"two\"";
    assert_get(f, "", CACHE_DOWNLOADED, f->other);
    assert_entry_text(f, "etag", "\"two\"");
}

static void test_changed_time_downloads_again(void **state)
{
    struct fixture *f = *state;

    f->server.etag = NULL;
    f->server.last_modified = "Mon, 20 Jul 2026 10:00:00 GMT";
    assert_get(f, "", CACHE_DOWNLOADED, f->content);
    assert_get(f, "", CACHE_USED, f->content);
    f->server.content = f->other;
    f->server.last_modified = "Mon, 20 Jul 2026 10:00:01 GMT";
    assert_get(f, "", CACHE_DOWNLOADED, f->other);
}

static void test_failed_refresh_leaves_the_record_of_old_data(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    char *path = NULL;

    assert_get(f, "", CACHE_DOWNLOADED, f->content);
    f->server.etag = "\"two\"";
    f->server.content = f->other;
    f->server.cut_after = 1000;
    f->server.cut_count = 1;
    f->server.wrong_range = true;
    assert_fails(cache_get(f->dir, f->url, "", "the image", &path, &err), &err, EPROTO, "part");
    assert_entry_text(f, "etag", "\"one\"");
    f->server.etag = "\"one\"";
    f->server.wrong_range = false;
    assert_get(f, "", CACHE_USED, f->content);
}

static void test_silent_server_leaves_the_cache_in_use(void **state)
{
    struct fixture *f = *state;

    assert_get(f, "", CACHE_DOWNLOADED, f->content);
    f->server.status = 503;
    assert_get(f, "", CACHE_USED, f->content);
}

static void test_missing_file_fails_at_once(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    char *path = NULL;

    f->server.status = 404;
    assert_fails(cache_get(f->dir, f->url, "", "the image", &path, &err), &err, ENOENT, "404");
    assert_int_equal(f->server.gets, 1);
}

static void test_refused_connection_fails_at_once(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    char *path = NULL;

    /* Port 1 of the loopback: nobody listens there. */
    assert_fails(cache_get(f->dir, "http://127.0.0.1:1/x", "", "the image", &path, &err), &err,
                 EHOSTUNREACH, "127.0.0.1");
}

static void test_digest_of_wrong_form_is_refused(void **state)
{
    struct fixture *f = *state;
    scoped(error_done) struct error err = ERROR_INIT;
    char *path = NULL;

    assert_fails(cache_get(f->dir, f->url, "sha256:12", "the image", &path, &err), &err, EINVAL,
                 "sha256");
    assert_int_equal(f->server.gets, 0);
}

static void test_broken_transfer_goes_on_where_it_stopped(void **state)
{
    struct fixture *f = *state;

    f->server.cut_after = 100000;
    f->server.cut_count = 2;
    assert_get(f, f->digest, CACHE_DOWNLOADED, f->content);
    assert_int_equal(f->server.gets, 3);
    assert_int_equal(f->server.last_start, 200000);
}

/* Leaves the first @len bytes as an interrupted download. */
static void leave_part(struct fixture *f, size_t len, const char *etag)
{
    scoped(free) char *dir = cache_entry(f->dir, f->url);
    scoped(free) char *part = path_join(dir, "data.part");
    scoped(free) char *tag = path_join(dir, "part.etag");

    assert_int_equal(file_mkdirs(dir, 0700, NULL), 0);
    assert_int_equal(file_write(part, f->content, len, 0600, NULL), 0);
    assert_int_equal(file_write_text(tag, etag, 0600, NULL), 0);
}

static void test_part_of_an_earlier_run_is_continued(void **state)
{
    struct fixture *f = *state;

    leave_part(f, 250000, "\"one\"");
    assert_get(f, f->digest, CACHE_DOWNLOADED, f->content);
    assert_int_equal(f->server.last_start, 250000);
}

static void test_part_of_older_content_is_dropped(void **state)
{
    struct fixture *f = *state;

    leave_part(f, 250000, "\"old\"");
    f->server.content = f->other;
    assert_get(f, "", CACHE_DOWNLOADED, f->other);
    assert_int_equal(f->server.last_start, 0);
}

static void test_part_without_validator_is_not_continued(void **state)
{
    struct fixture *f = *state;

    leave_part(f, 250000, "W/\"weak\"");
    assert_get(f, f->digest, CACHE_DOWNLOADED, f->content);
    assert_int_equal(f->server.last_start, 0);
}

static void test_part_longer_than_the_content_is_dropped(void **state)
{
    struct fixture *f = *state;
    scoped(free) char *dir = cache_entry(f->dir, f->url);
    scoped(free) char *part = path_join(dir, "data.part");

    leave_part(f, CONTENT_LEN, "\"one\"");
    assert_int_equal(truncate(part, CONTENT_LEN + 5), 0);
    assert_get(f, f->digest, CACHE_DOWNLOADED, f->content);
}

static void test_server_without_ranges_starts_anew(void **state)
{
    struct fixture *f = *state;

    f->server.no_range = true;
    leave_part(f, 250000, "\"one\"");
    assert_get(f, f->digest, CACHE_DOWNLOADED, f->content);
}

static void test_server_without_head_leaves_the_cache_in_use(void **state)
{
    struct fixture *f = *state;

    f->server.no_head = true;
    assert_get(f, "", CACHE_DOWNLOADED, f->content);
    assert_get(f, "", CACHE_USED, f->content);
}

#define CASE(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(test_download_leaves_the_known_files),
        CASE(test_known_digest_needs_no_server),
        CASE(test_digest_of_older_data_is_computed_and_kept),
        CASE(test_cached_digest_mismatch_downloads_again),
        CASE(test_damaged_data_without_record_is_replaced),
        CASE(test_wrong_digest_of_a_download_fails_and_keeps_nothing),
        CASE(test_unchanged_content_is_used_after_one_head),
        CASE(test_changed_etag_downloads_again),
        CASE(test_changed_time_downloads_again),
        CASE(test_failed_refresh_leaves_the_record_of_old_data),
        CASE(test_silent_server_leaves_the_cache_in_use),
        CASE(test_missing_file_fails_at_once),
        CASE(test_refused_connection_fails_at_once),
        CASE(test_digest_of_wrong_form_is_refused),
        CASE(test_broken_transfer_goes_on_where_it_stopped),
        CASE(test_part_of_an_earlier_run_is_continued),
        CASE(test_part_of_older_content_is_dropped),
        CASE(test_part_without_validator_is_not_continued),
        CASE(test_part_longer_than_the_content_is_dropped),
        CASE(test_server_without_ranges_starts_anew),
        CASE(test_server_without_head_leaves_the_cache_in_use),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
