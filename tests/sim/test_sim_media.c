/* A running disk errs as it is told: which files, which calls, how long; and it never changes what is stored. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "sim_disk.h"

#define FILE_BYTES 8192u

struct fixture {
    struct sim_world world;
    struct sim_disk *sim;
    struct disk *disk;
};

static void fixture_open(struct fixture *f, enum sim_fault fault)
{
    world_init(&f->world, 4);
    f->sim = sim_disk_new(&f->world, &(struct sim_disk_options){.job_us_max = 100});
    f->disk = sim_disk_port(f->sim);
    uint8_t data[FILE_BYTES];
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)(i / 512 + 1);
    }
    struct iovec part = {data, sizeof data};
    static const char *const paths[] = {"parts/1/s.log", "wal/w.wal"};
    assert_int_equal(f->disk->ops->make_dir(f->disk, "parts/1"), OK);
    assert_int_equal(f->disk->ops->make_dir(f->disk, "wal"), OK);
    for (int i = 0; i < 2; i++) {
        struct disk_file *file;
        assert_int_equal(f->disk->ops->open(f->disk, paths[i], DISK_WRITE | DISK_CREATE, &file), OK);
        assert_int_equal(f->disk->ops->write(f->disk, file, &part, 1, 0), OK);
        assert_int_equal(f->disk->ops->sync(f->disk, file), OK);
        f->disk->ops->close(f->disk, file);
    }
    bool faults[FAULT_CLASSES] = {false};
    faults[fault] = true;
    sim_disk_set_faults(f->sim, faults);
}

static void fixture_close(struct fixture *f)
{
    sim_disk_free(f->sim);
    world_done(&f->world);
}

static enum err read_file(struct fixture *f, const char *path, bool *ret_right)
{
    struct disk_file *file;
    uint8_t data[FILE_BYTES];
    size_t got = 0;
    assert_int_equal(f->disk->ops->open(f->disk, path, DISK_READ, &file), OK);
    enum err error = f->disk->ops->read(f->disk, file, data, sizeof data, 0, &got);
    f->disk->ops->close(f->disk, file);
    *ret_right = error == OK && got == sizeof data;
    for (size_t i = 0; *ret_right && i < sizeof data; i++) {
        *ret_right = data[i] == (uint8_t)(i / 512 + 1);
    }
    return error;
}

/* Counts errors and wrong bytes in so many reads of a file. */
static void read_often(struct fixture *f, const char *path, int times, int *ret_errors, int *ret_wrong)
{
    *ret_errors = *ret_wrong = 0;
    for (int i = 0; i < times; i++) {
        bool right;
        enum err error = read_file(f, path, &right);
        *ret_errors += error != OK;
        *ret_wrong += error == OK && !right;
    }
}

static void test_read_errors_pass(void **state)
{
    struct fixture f;
    int errors, wrong;
    fixture_open(&f, FAULT_READ_ERROR);
    read_often(&f, "parts/1/s.log", 5000, &errors, &wrong);
    assert_true(errors > 0 && errors < 5000);
    assert_int_equal(wrong, 0);
    assert_false(sim_disk_broke(f.sim)); /* of one partition only */
    assert_true(f.world.corrupt_until_us > f.world.now_us);
    read_often(&f, "wal/w.wal", 100000, &errors, &wrong);
    assert_true(errors > 0 && sim_disk_broke(f.sim));
    sim_disk_calm(f.sim);
    read_often(&f, "parts/1/s.log", 1000, &errors, &wrong);
    assert_int_equal(errors + wrong, 0);
    fixture_close(&f);
}

static void test_misreads_are_of_segments_and_pass(void **state)
{
    struct fixture f;
    int errors, wrong;
    fixture_open(&f, FAULT_MISREAD);
    read_often(&f, "parts/1/s.log", 5000, &errors, &wrong);
    assert_true(wrong > 0 && wrong < 5000);
    assert_int_equal(errors, 0);
    read_often(&f, "wal/w.wal", 5000, &errors, &wrong);
    assert_int_equal(errors + wrong, 0);
    sim_disk_calm(f.sim);
    read_often(&f, "parts/1/s.log", 1000, &errors, &wrong);
    assert_int_equal(errors + wrong, 0);
    fixture_close(&f);
}

static void test_a_latent_error_stays_until_it_is_written(void **state)
{
    struct fixture f;
    bool right;
    fixture_open(&f, FAULT_LATENT);
    for (int i = 0; i < 10000 && read_file(&f, "parts/1/s.log", &right) == OK; i++) {
    }
    for (int i = 0; i < 10; i++) {
        assert_int_equal(read_file(&f, "parts/1/s.log", &right), ERR_IO);
    }
    uint8_t data[FILE_BYTES];
    memset(data, 1, sizeof data);
    struct iovec part = {data, sizeof data};
    struct disk_file *file;
    assert_int_equal(f.disk->ops->open(f.disk, "parts/1/s.log", DISK_WRITE, &file), OK);
    assert_int_equal(f.disk->ops->write(f.disk, file, &part, 1, 0), OK);
    f.disk->ops->close(f.disk, file);
    int errors, wrong;
    read_often(&f, "parts/1/s.log", 1, &errors, &wrong);
    assert_int_equal(errors, 0);
    fixture_close(&f);
}

static void test_opens_run_out_of_descriptors(void **state)
{
    struct fixture f;
    struct disk_file *file;
    int refused = 0;
    fixture_open(&f, FAULT_FILES);
    for (int i = 0; i < 5000; i++) {
        enum err error = f.disk->ops->open(f.disk, "parts/1/s.log", DISK_READ, &file);
        refused += error == ERR_TOO_MANY_FILES;
        if (error == OK) {
            f.disk->ops->close(f.disk, file);
        }
    }
    assert_true(refused > 0 && refused < 5000);
    fixture_close(&f);
}

static void test_failed_writes_break_the_process_only_in_the_log(void **state)
{
    struct fixture f;
    uint8_t data[512] = {0};
    struct iovec part = {data, sizeof data};
    static const char *const paths[] = {"parts/1/s.log", "wal/w.wal"};
    fixture_open(&f, FAULT_WRITE_ERROR);
    for (int i = 0; i < 2; i++) {
        struct disk_file *file;
        int errors = 0;
        assert_int_equal(f.disk->ops->open(f.disk, paths[i], DISK_WRITE, &file), OK);
        for (int k = 0; k < 100000; k++) {
            errors += f.disk->ops->write(f.disk, file, &part, 1, 0) != OK;
        }
        f.disk->ops->close(f.disk, file);
        assert_true(errors > 0 && errors < 100000);
        assert_true(sim_disk_broke(f.sim) == (i == 1));
        assert_true(sim_disk_erred(f.sim));
    }
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read_errors_pass),
        cmocka_unit_test(test_misreads_are_of_segments_and_pass),
        cmocka_unit_test(test_a_latent_error_stays_until_it_is_written),
        cmocka_unit_test(test_opens_run_out_of_descriptors),
        cmocka_unit_test(test_failed_writes_break_the_process_only_in_the_log),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
