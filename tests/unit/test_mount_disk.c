/* SPDX-License-Identifier: Apache-2.0 */
#include "mount/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "base/alloc.h"
#include "test.h"
#include "util/file.h"

static struct disk *start(void)
{
    scoped(error_done) struct error err = ERROR_INIT;
    struct disk *disk;

    assert_int_equal(disk_new(&disk, &err), 0);
    assert_false(disk_has_room(disk)); /* without threads */
    assert_int_equal(disk_start(disk, &err), 0);
    return disk;
}

static struct disk_job *job_new(enum disk_kind kind, uint64_t id, int take_fd, size_t size)
{
    struct disk_job *job = xnew(struct disk_job);

    *job = (struct disk_job){
        .kind = kind, .id = id, .fd = take_fd, .size = size, .data = size ? xmalloc(size) : NULL};
    return job;
}

static int file_of(const char *text)
{
    int fd = memfd_create("test", MFD_CLOEXEC);

    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    return fd;
}

/* Waits for the next one that is done. */
static struct disk_job *take(struct disk *disk)
{
    struct pollfd ready = {.fd = disk_fd(disk), .events = POLLIN};
    struct disk_job *job;

    while (!(job = disk_take(disk))) {
        assert_int_equal(poll(&ready, 1, 10000), 1);
    }
    return job;
}

static void test_read(void **state)
{
    scoped(disk_free) struct disk *disk = start();
    scoped(disk_job_free) struct disk_job *job = job_new(DISK_READ, 7, file_of("hello"), 100);

    job->offset = 1;
    disk_put(disk, steal(job));
    job = take(disk);
    assert_int_equal(job->id, 7);
    assert_int_equal(job->result, 4);
    assert_memory_equal(job->data, "ello", 4);
    assert_null(disk_take(disk));
}

static void test_failures_are_results(void **state)
{
    scoped(disk_free) struct disk *disk = start();
    int pipes[2];

    assert_int_equal(pipe(pipes), 0);
    disk_put(disk, job_new(DISK_FSYNC, 1, pipes[0], 0));
    disk_put(disk, job_new(DISK_READ, 2, pipes[1], 8));
    for (int i = 0; i < 2; i++) {
        scoped(disk_job_free) struct disk_job *job = take(disk);

        assert_int_equal(job->result, job->id == 1 ? -EINVAL : -ESPIPE);
    }
}

static void test_room_is_bounded(void **state)
{
    scoped(disk_free) struct disk *disk = start();
    size_t count = 0;

    while (disk_has_room(disk)) {
        disk_put(disk, job_new(DISK_FDATASYNC, ++count, file_of("x"), 0));
        assert_true(count <= DISK_JOBS_MAX);
    }
    assert_int_equal(count, DISK_JOBS_MAX);
    disk_job_free(take(disk));
    assert_true(disk_has_room(disk));
    while (--count) {
        disk_job_free(take(disk));
    }
    assert_null(disk_take(disk));
}

static void test_an_orphan_waits_for_its_id(void **state)
{
    scoped(disk_free) struct disk *disk = start();
    scoped(disk_job_free) struct disk_job *job = NULL;

    disk_put(disk, job_new(DISK_READ, 5, file_of("five"), 10));
    disk_orphan(disk);
    disk_put(disk, job_new(DISK_READ, 6, file_of("six"), 10));
    job = take(disk);
    assert_int_equal(job->id, 6);
    assert_null(disk_take(disk));
    assert_false(disk_adopt(disk, 6));
    assert_true(disk_adopt(disk, 5));
    assert_false(disk_adopt(disk, 5)); /* it is nobody's orphan any more */
    disk_job_free(steal(job));
    job = take(disk);
    assert_int_equal(job->id, 5);
    assert_memory_equal(job->data, "five", 4);
}

static void test_orphans_keep_their_places(void **state)
{
    scoped(disk_free) struct disk *disk = start();

    for (uint64_t id = 1; id <= DISK_JOBS_MAX; id++) {
        disk_put(disk, job_new(DISK_FSYNC, id, file_of("x"), 0));
    }
    disk_orphan(disk);
    assert_false(disk_has_room(disk));
    for (uint64_t id = 1; id <= DISK_JOBS_MAX; id++) {
        assert_true(disk_adopt(disk, id));
        disk_job_free(take(disk));
        assert_true(disk_has_room(disk));
    }
}

static void test_what_is_abandoned_never_comes(void **state)
{
    scoped(disk_free) struct disk *disk = start();
    scoped(disk_job_free) struct disk_job *job = NULL;

    for (uint64_t i = 1; i <= DISK_JOBS_MAX; i++) {
        disk_put(disk, job_new(DISK_FSYNC, i, file_of("x"), 0));
    }
    disk_abandon(disk);
    assert_false(disk_adopt(disk, 1));
    assert_true(disk_has_room(disk)); /* not all can have begun */
    disk_put(disk, job_new(DISK_FSYNC, 100, file_of("x"), 0));
    job = take(disk);
    assert_int_equal(job->id, 100);
    assert_null(disk_take(disk));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_failures_are_results),
        cmocka_unit_test(test_room_is_bounded),
        cmocka_unit_test(test_an_orphan_waits_for_its_id),
        cmocka_unit_test(test_orphans_keep_their_places),
        cmocka_unit_test(test_what_is_abandoned_never_comes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
