/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/journal.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include "test.h"
#include "util/file.h"
#include "util/path.h"

static const uint8_t id[JOURNAL_ID_LEN] = {1, 2, 3};
static const uint8_t other_id[JOURNAL_ID_LEN] = {4, 5, 6};

struct seen {
    char *dir, *path;
    struct journal *journal;
    int sessions, nodes;
    struct journal_node last;
    char name[JOURNAL_NAME_MAX + 1];
    int64_t lookups;
};

static void on_session(const struct journal_session *session, void *arg)
{
    ((struct seen *)arg)->sessions++;
}

static void on_node(const struct journal_node *node, void *arg)
{
    struct seen *seen = arg;

    seen->nodes++;
    seen->last = *node;
    strcpy(seen->name, node->name);
}

static void on_lookups(uint64_t node, int64_t change, void *arg)
{
    ((struct seen *)arg)->lookups += change;
}

static const struct journal_events events = {
    .session = on_session, .node = on_node, .lookups = on_lookups};

static int setup(void **state)
{
    struct seen *seen = xnew(struct seen);

    seen->dir = xstrdup("/tmp/test-journal-XXXXXX");
    assert_non_null(mkdtemp(seen->dir));
    seen->path = path_join(seen->dir, "state");
    *state = seen;
    return 0;
}

static int teardown(void **state)
{
    struct seen *seen = *state;

    journal_free(seen->journal);
    file_remove_tree(seen->dir, NULL);
    free(seen->path);
    free(seen->dir);
    free(seen);
    return 0;
}

static int reopen(struct seen *seen, const uint8_t *as, struct error *err)
{
    journal_free(seen->journal);
    seen->journal = NULL;
    seen->sessions = seen->nodes = 0;
    seen->lookups = 0;
    return journal_open(seen->path, as, &events, seen, &seen->journal, err);
}

static void fill(struct seen *seen)
{
    scoped(error_done) struct error err = ERROR_INIT;

    assert_works(reopen(seen, id, &err), &err);
    journal_put_session(seen->journal, &(struct journal_session){.minor = 38});
    journal_put_node(
        seen->journal,
        &(struct journal_node){
            .id = 2, .generation = 9, .parent = 1, .ino = 77, .lookups = 3, .name = "name"});
    journal_put_lookups(seen->journal, 2, -1);
    journal_put_begun(seen->journal, 100);
    journal_put_done(seen->journal, 102, "answer", 6);
    assert_int_equal(journal_flush(seen->journal), 0);
}

static void test_another_process_knows_what_was_written(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct seen *seen = *state;
    uint8_t read_id[JOURNAL_ID_LEN];
    const void *reply;
    size_t len;

    fill(seen);
    assert_works(reopen(seen, id, &err), &err);
    assert_int_equal(seen->sessions, 1);
    assert_int_equal(seen->nodes, 1);
    assert_string_equal(seen->name, "name");
    assert_int_equal(seen->last.generation, 9);
    assert_int_equal(seen->last.ino, 77);
    assert_int_equal(seen->lookups, 2);
    assert_int_equal(journal_look(seen->journal, 100, &reply, &len), JOURNAL_BEGUN);
    assert_int_equal(journal_look(seen->journal, 102, &reply, &len), JOURNAL_DONE);
    assert_int_equal(len, 6);
    assert_memory_equal(reply, "answer", 6);
    assert_int_equal(journal_look(seen->journal, 104, &reply, &len), JOURNAL_NEW);
    assert_int_equal(journal_look(seen->journal, 0, &reply, &len), JOURNAL_NEW);
    assert_int_equal(journal_read_id(seen->path, read_id), 0);
    assert_memory_equal(read_id, id, sizeof(id));
}

static void test_that_of_another_mount_is_begun_anew(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct seen *seen = *state;

    fill(seen);
    assert_works(reopen(seen, other_id, &err), &err);
    assert_int_equal(seen->sessions, 0);
    assert_works(reopen(seen, other_id, &err), &err);
    assert_int_equal(seen->nodes, 0);
}

/* Killed while it wrote: what is whole counts, and the next process goes on behind it. */
static void test_a_file_cut_anywhere_is_read_up_to_there(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(buf_done) struct buf whole = BUF_INIT;
    struct seen *seen = *state;
    const void *reply;
    size_t len;

    fill(seen);
    assert_works(file_read(seen->path, 1 << 20, &whole, &err), &err);
    for (size_t cut = 0; cut < whole.len; cut++) {
        assert_works(file_write(seen->path, whole.data, cut, 0600, &err), &err);
        assert_works(reopen(seen, id, &err), &err);
        journal_put_done(seen->journal, 200, "x", 1);
        assert_int_equal(journal_flush(seen->journal), 0);
        assert_works(reopen(seen, id, &err), &err);
        assert_int_equal(journal_look(seen->journal, 200, &reply, &len), JOURNAL_DONE);
    }
}

static void test_a_broken_file_is_refused_or_read_but_never_more(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    scoped(buf_done) struct buf whole = BUF_INIT;
    struct seen *seen = *state;

    fill(seen);
    assert_works(file_read(seen->path, 1 << 20, &whole, &err), &err);
    for (size_t i = 0; i < whole.len; i++) {
        whole.data[i] ^= 0x55;
        assert_works(file_write(seen->path, whole.data, whole.len, 0600, &err), &err);
        if (reopen(seen, id, &err) < 0) {
            assert_int_equal(err.code, EBADMSG);
            error_done(&err);
        }
        whole.data[i] ^= 0x55;
    }
}

static void test_only_so_many_requests_are_remembered(void **state)
{
    struct seen *seen = *state;
    const void *reply;
    size_t len;

    fill(seen);
    for (uint64_t i = 1; i <= JOURNAL_RECENT; i++) {
        journal_put_done(seen->journal, 1000 + i, &i, sizeof(i));
    }
    assert_int_equal(journal_look(seen->journal, 102, &reply, &len), JOURNAL_NEW);
    assert_int_equal(journal_look(seen->journal, 1001, &reply, &len), JOURNAL_DONE);
}

static void test_a_long_file_is_written_anew(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct seen *seen = *state;
    const void *reply;
    size_t len;
    struct stat before, after;

    fill(seen);
    while (!journal_is_long(seen->journal, 1)) {
        journal_put_lookups(seen->journal, 2, 1);
        journal_put_lookups(seen->journal, 2, -1);
        assert_int_equal(journal_flush(seen->journal), 0);
    }
    assert_int_equal(stat(seen->path, &before), 0);
    journal_rewrite_begin(seen->journal);
    journal_put_node(seen->journal,
                     &(struct journal_node){.id = 2, .parent = 1, .lookups = 2, .name = "n"});
    assert_int_equal(journal_rewrite_end(seen->journal), 0);
    assert_int_equal(stat(seen->path, &after), 0);
    assert_true(after.st_size < before.st_size / 100);
    journal_put_lookups(seen->journal, 2, 5);
    assert_int_equal(journal_flush(seen->journal), 0);
    assert_works(reopen(seen, id, &err), &err);
    assert_int_equal(seen->sessions, 1);
    assert_int_equal(seen->lookups, 7);
    assert_int_equal(journal_look(seen->journal, 102, &reply, &len), JOURNAL_DONE);
}

/* As on a disk that is full. */
static void test_one_that_cannot_be_written_anew_leaves_nothing_that_is_old(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct seen *seen = *state;
    struct rlimit limit, tiny;

    fill(seen);
    journal_put_done(seen->journal, 104, "later", 5);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &limit), 0);
    tiny = (struct rlimit){.rlim_cur = 16, .rlim_max = limit.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tiny), 0);
    journal_rewrite_begin(seen->journal);
    assert_int_equal(journal_rewrite_end(seen->journal), -EFBIG);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    assert_int_equal(access(seen->path, F_OK), -1);
    assert_works(reopen(seen, id, &err), &err);
    assert_int_equal(seen->nodes, 0);
}

static void test_one_that_is_larger_than_any_is_broken(void **state)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct seen *seen = *state;

    fill(seen);
    assert_int_equal(truncate(seen->path, (off_t)(1u << 30) + 1), 0);
    assert_fails(reopen(seen, id, &err), &err, EBADMSG, "larger than any");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_another_process_knows_what_was_written),
        T(test_that_of_another_mount_is_begun_anew),
        T(test_a_file_cut_anywhere_is_read_up_to_there),
        T(test_a_broken_file_is_refused_or_read_but_never_more),
        T(test_only_so_many_requests_are_remembered),
        T(test_a_long_file_is_written_anew),
        T(test_one_that_cannot_be_written_anew_leaves_nothing_that_is_old),
        T(test_one_that_is_larger_than_any_is_broken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
