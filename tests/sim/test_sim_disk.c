/* The simulated disk keeps exactly what the port promises: what was synced is there after a power cut, what was not may
 * be kept, lost or torn per sector; names need sync_dir; a failed sync loses its pages for good; a crash drops jobs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim_disk.h"

static const struct tree_cut lose_all = {0};
static const struct tree_cut keep_all = {.keep = 1, .name_keep = 1, .size_keep = 1};
static const struct tree_cut tear = {.keep = 0.4, .garbage = 0.4, .name_keep = 0.5, .size_keep = 0.5};

struct fixture {
    struct sim_world world;
    struct sim_disk *sim;
    struct disk *disk;
};

static void fixture_open(struct fixture *f, uint64_t seed, const struct tree_cut *cut)
{
    world_init(&f->world, seed);
    f->sim = sim_disk_new(&f->world, &(struct sim_disk_options){.job_us_max = 300, .cut = *cut});
    f->disk = sim_disk_port(f->sim);
}

static void fixture_close(struct fixture *f)
{
    sim_disk_free(f->sim);
    world_done(&f->world);
}

static void revive(struct fixture *f, bool power_cut)
{
    if (power_cut) {
        sim_disk_power_cut(f->sim);
    } else {
        sim_disk_process_death(f->sim);
    }
    f->world.crashed = false;
}

static struct disk_file *open_file(struct disk *disk, const char *path, unsigned flags)
{
    struct disk_file *file = NULL;
    assert_int_equal(disk->ops->open(disk, path, flags, &file), OK);
    return file;
}

static enum err write_fill(struct disk *disk, struct disk_file *file, int byte, size_t size, uint64_t offset)
{
    uint8_t *data = malloc(size);
    memset(data, byte, size);
    struct iovec part = {data, size};
    enum err error = disk->ops->write(disk, file, &part, 1, offset);
    free(data);
    return error;
}

static size_t read_all(struct disk *disk, const char *path, uint8_t *data, size_t size)
{
    struct disk_file *file = open_file(disk, path, DISK_READ);
    size_t got = 0;
    assert_int_equal(disk->ops->read(disk, file, data, size, 0, &got), OK);
    disk->ops->close(disk, file);
    return got;
}

static bool exists(struct disk *disk, const char *path)
{
    struct disk_file *file;
    enum err error = disk->ops->open(disk, path, DISK_READ, &file);
    if (error == OK) {
        disk->ops->close(disk, file);
    }
    return error == OK;
}

/* A durable file of 8 KiB of 'a' under a durable name. */
static struct disk_file *durable_file(struct fixture *f, const char *path)
{
    struct disk_file *file = open_file(f->disk, path, DISK_WRITE | DISK_CREATE);
    assert_int_equal(write_fill(f->disk, file, 'a', 8192, 0), OK);
    assert_int_equal(f->disk->ops->sync(f->disk, file), OK);
    assert_int_equal(f->disk->ops->sync_dir(f->disk, ""), OK);
    return file;
}

static void test_synced_bytes_survive_unsynced_do_not(void **state)
{
    struct fixture f;
    fixture_open(&f, 1, &lose_all);
    struct disk_file *file = durable_file(&f, "x");
    write_fill(f.disk, file, 'b', 512, 0);
    write_fill(f.disk, file, 'c', 4096, 8192); /* grows the file */
    uint8_t data[16384];
    assert_int_equal(read_all(f.disk, "x", data, sizeof data), 12288);
    assert_int_equal(data[0], 'b');
    assert_int_equal(read_all(sim_disk_shadow(f.sim), "x", data, sizeof data), 8192);
    assert_int_equal(data[0], 'a');
    revive(&f, true);
    assert_int_equal(read_all(f.disk, "x", data, sizeof data), 8192);
    for (int i = 0; i < 8192; i++) {
        assert_int_equal(data[i], 'a');
    }
    fixture_close(&f);
}

static void test_process_death_keeps_the_page_cache_until_a_power_cut(void **state)
{
    struct fixture f;
    fixture_open(&f, 2, &lose_all);
    struct disk_file *file = durable_file(&f, "x");
    write_fill(f.disk, file, 'b', 1024, 0);
    revive(&f, false);
    uint8_t data[8192];
    read_all(f.disk, "x", data, sizeof data);
    assert_int_equal(data[0], 'b');
    revive(&f, true);
    read_all(f.disk, "x", data, sizeof data);
    assert_int_equal(data[0], 'a');
    fixture_close(&f);
}

static void test_sync_after_death_makes_it_durable(void **state)
{
    struct fixture f;
    fixture_open(&f, 3, &lose_all);
    write_fill(f.disk, durable_file(&f, "x"), 'b', 1024, 0);
    revive(&f, false);
    struct disk_file *file = open_file(f.disk, "x", DISK_WRITE);
    assert_int_equal(f.disk->ops->sync(f.disk, file), OK);
    revive(&f, true);
    uint8_t data[8192];
    read_all(f.disk, "x", data, sizeof data);
    assert_int_equal(data[1023], 'b');
    fixture_close(&f);
}

static void test_sectors_are_kept_lost_or_garbage_one_by_one(void **state)
{
    int kept = 0, lost = 0, garbage = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct fixture f;
        fixture_open(&f, seed, &tear);
        write_fill(f.disk, durable_file(&f, "x"), 'b', 8192 - 512, 0);
        revive(&f, true);
        uint8_t data[8192];
        assert_int_equal(read_all(f.disk, "x", data, sizeof data), 8192);
        for (int sector = 0; sector < 15; sector++) {
            const uint8_t *at = data + sector * 512;
            bool even = memcmp(at, at + 1, 511) == 0; /* a whole sector of one kind */
            kept += even && at[0] == 'b';
            lost += even && at[0] == 'a';
            garbage += !even;
        }
        assert_int_equal(data[8191], 'a'); /* never written: never touched */
        fixture_close(&f);
    }
    assert_true(kept > 50 && lost > 50 && garbage > 25);
}

static void test_names_need_sync_dir(void **state)
{
    struct fixture f;
    fixture_open(&f, 4, &lose_all);
    struct disk_file *file = open_file(f.disk, "fresh", DISK_WRITE | DISK_CREATE);
    write_fill(f.disk, file, 'x', 512, 0);
    f.disk->ops->sync(f.disk, file); /* bytes durable, name not */
    durable_file(&f, "kept");
    assert_int_equal(f.disk->ops->unlink(f.disk, "kept"), OK);
    assert_false(exists(f.disk, "kept"));
    open_file(f.disk, "later", DISK_WRITE | DISK_CREATE);
    revive(&f, true);
    assert_true(exists(f.disk, "fresh")); /* the sync_dir of `kept` covered it */
    assert_true(exists(f.disk, "kept"));  /* the unlink was not synced */
    assert_false(exists(f.disk, "later"));
    uint8_t data[8192];
    assert_int_equal(read_all(f.disk, "kept", data, sizeof data), 8192);
    fixture_close(&f);
}

static void test_rename_is_all_or_nothing(void **state)
{
    int moved = 0;
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct fixture f;
        fixture_open(&f, seed, &tear);
        durable_file(&f, "old");
        assert_int_equal(f.disk->ops->rename(f.disk, "old", "new"), OK);
        revive(&f, true);
        assert_true(exists(f.disk, "old") != exists(f.disk, "new"));
        moved += exists(f.disk, "new");
        fixture_close(&f);
    }
    assert_in_range(moved, 5, 35);
}

static void test_sync_of_one_directory_settles_names_in_order(void **state)
{
    struct fixture f;
    fixture_open(&f, 13, &lose_all);
    assert_int_equal(f.disk->ops->make_dir(f.disk, "a"), OK);
    assert_int_equal(f.disk->ops->make_dir(f.disk, "b"), OK);
    durable_file(&f, "a/spare");
    f.disk->ops->sync_dir(f.disk, "a");
    open_file(f.disk, "b/x", DISK_WRITE | DISK_CREATE);
    assert_int_equal(f.disk->ops->unlink(f.disk, "b/x"), OK);
    assert_int_equal(f.disk->ops->rename(f.disk, "a/spare", "b/x"), OK);
    f.disk->ops->sync_dir(f.disk, "a"); /* the rename and what stood under the name before it */
    f.disk->ops->sync_dir(f.disk, "b");
    revive(&f, true);
    assert_true(exists(f.disk, "b/x"));
    assert_false(exists(f.disk, "a/spare"));
    fixture_close(&f);
}

static void test_lost_directory_takes_its_files_along(void **state)
{
    struct fixture f;
    fixture_open(&f, 5, &lose_all);
    assert_int_equal(f.disk->ops->make_dir(f.disk, "parts/7"), OK);
    struct disk_file *file = open_file(f.disk, "parts/7/a", DISK_WRITE | DISK_CREATE);
    f.disk->ops->sync(f.disk, file);
    f.disk->ops->sync_dir(f.disk, "parts/7");
    f.disk->ops->sync_dir(f.disk, ""); /* but not "parts" */
    revive(&f, true);
    assert_false(exists(f.disk, "parts/7/a"));
    struct inode *inode;
    assert_int_equal(tree_find(sim_disk_tree(f.sim), TREE_NOW, "parts", &inode), OK);
    fixture_close(&f);
}

static void test_failed_sync_loses_its_pages_though_the_next_one_succeeds(void **state)
{
    struct fixture f;
    fixture_open(&f, 6, &keep_all);
    struct disk_file *file = durable_file(&f, "x");
    write_fill(f.disk, file, 'b', 512, 0);
    sim_disk_plan_sync_error(f.sim, 1);
    assert_int_equal(f.disk->ops->sync(f.disk, file), ERR_IO);
    assert_true(sim_disk_broke(f.sim));
    assert_int_equal(f.disk->ops->sync(f.disk, file), OK); /* the lie */
    uint8_t data[8192];
    read_all(f.disk, "x", data, sizeof data);
    assert_int_equal(data[0], 'b');
    read_all(sim_disk_shadow(f.sim), "x", data, sizeof data);
    assert_int_equal(data[0], 'a');
    revive(&f, false);
    read_all(f.disk, "x", data, sizeof data);
    assert_int_equal(data[0], 'a');
    fixture_close(&f);
}

static void test_rewrite_after_failed_sync_can_be_synced(void **state)
{
    struct fixture f;
    fixture_open(&f, 7, &lose_all);
    struct disk_file *file = durable_file(&f, "x");
    write_fill(f.disk, file, 'b', 512, 0);
    sim_disk_plan_sync_error(f.sim, 1);
    f.disk->ops->sync(f.disk, file);
    write_fill(f.disk, file, 'c', 512, 0);
    assert_int_equal(f.disk->ops->sync(f.disk, file), OK);
    revive(&f, true);
    uint8_t data[8192];
    read_all(f.disk, "x", data, sizeof data);
    assert_int_equal(data[0], 'c');
    fixture_close(&f);
}

static void test_truncate_is_not_durable_without_sync(void **state)
{
    struct fixture f;
    fixture_open(&f, 8, &lose_all);
    struct disk_file *file = durable_file(&f, "x");
    assert_int_equal(f.disk->ops->truncate(f.disk, file, 100), OK);
    uint8_t data[8192];
    assert_int_equal(read_all(f.disk, "x", data, sizeof data), 100);
    revive(&f, true);
    assert_int_equal(read_all(f.disk, "x", data, sizeof data), 8192);
    assert_int_equal(data[8191], 'a');
    fixture_close(&f);
}

static void test_crash_at_kth_call(void **state)
{
    struct fixture f;
    fixture_open(&f, 9, &lose_all);
    struct disk_file *file = durable_file(&f, "x");
    world_plan_crash(&f.world, SIM_IO_WRITE, 2);
    assert_int_equal(write_fill(f.disk, file, 'b', 512, 0), OK);
    assert_int_equal(f.disk->ops->sync(f.disk, file), OK); /* other kinds do not count */
    assert_int_equal(write_fill(f.disk, file, 'c', 8192, 0), ERR_IO);
    assert_true(f.world.crashed);
    assert_int_equal(f.disk->ops->sync(f.disk, file), ERR_IO);
    revive(&f, true);
    uint8_t data[8192];
    read_all(f.disk, "x", data, sizeof data);
    assert_int_equal(data[0], 'b');
    fixture_close(&f);
}

/* --- lanes --- */

struct job {
    struct disk_job job; /* first */
    int id;
    int *log, *log_count;
};

static void job_run(struct disk_job *base)
{
    struct job *job = (struct job *)base;
    job->log[(*job->log_count)++] = job->id;
}

static void job_done(struct disk_job *base)
{
    struct job *job = (struct job *)base;
    job->log[(*job->log_count)++] = 100 + job->id;
}

static void test_lane_keeps_order_and_crash_drops_jobs(void **state)
{
    struct fixture f;
    fixture_open(&f, 10, &lose_all);
    int log[64], count = 0;
    struct job jobs[6];
    for (int i = 0; i < 6; i++) {
        jobs[i] = (struct job){{job_run, job_done, NULL}, i, log, &count};
        f.disk->ops->submit(f.disk, DISK_LANE_WAL, &jobs[i].job);
    }
    assert_int_equal(count, 0); /* never inside submit */
    while (world_step(&f.world)) {
    }
    assert_int_equal(count, 12);
    int runs = 0, dones = 0;
    for (int i = 0; i < count; i++) {
        if (log[i] < 100) {
            assert_int_equal(log[i], runs++);
        } else {
            assert_int_equal(log[i], 100 + dones++);
            assert_true(dones <= runs);
        }
    }
    assert_true(sim_disk_is_idle(f.sim));
    f.disk->ops->submit(f.disk, DISK_LANE_STORE, &jobs[0].job);
    f.world.crashed = true;
    while (world_step(&f.world)) {
    }
    assert_int_equal(count, 12);
    revive(&f, false);
    f.disk->ops->submit(f.disk, DISK_LANE_STORE, &jobs[1].job);
    while (world_step(&f.world)) {
    }
    assert_int_equal(count, 14);
    fixture_close(&f);
}

/* How long one job takes. */
static uint64_t job_us(struct fixture *f)
{
    int log[4], count = 0;
    uint64_t begin_us = f->world.now_us;
    struct job job = {{job_run, job_done, NULL}, 1, log, &count};
    f->disk->ops->submit(f->disk, DISK_LANE_WAL, &job.job);
    while (world_step(&f->world)) {
    }
    assert_int_equal(count, 2);
    return f->world.now_us - begin_us;
}

static void test_a_gray_disk_is_slow_or_stands_still_until_that_ends(void **state)
{
    struct fixture f;
    uint64_t slowest_us = 0;
    fixture_open(&f, 12, &lose_all);
    sim_disk_set_slow(f.sim, 1000000);
    for (int i = 0; i < 20; i++) {
        uint64_t us = job_us(&f);
        slowest_us = us > slowest_us ? us : slowest_us;
    }
    assert_true(slowest_us > 300000 && slowest_us <= 1251000);
    sim_disk_set_slow(f.sim, 0);
    assert_true(job_us(&f) <= 600);
    sim_disk_stand_still(f.sim, f.world.now_us + 5000000);
    assert_true(job_us(&f) >= 5000000);
    assert_true(job_us(&f) <= 600);
    sim_disk_stand_still(f.sim, f.world.now_us + 5000000);
    sim_disk_calm(f.sim);
    assert_true(job_us(&f) <= 600);
    fixture_close(&f);
}

static void test_a_wiped_disk_is_empty_in_both_views(void **state)
{
    struct fixture f;
    uint8_t data[8192];
    fixture_open(&f, 13, &lose_all);
    durable_file(&f, "x");
    uint64_t syncs = sim_disk_syncs(f.sim);
    revive(&f, false);
    sim_disk_wipe(f.sim);
    assert_true(sim_disk_syncs(f.sim) != syncs); /* who looks at the shadow looks again */
    assert_false(exists(f.disk, "x"));
    assert_false(exists(sim_disk_shadow(f.sim), "x"));
    assert_int_equal(sim_disk_bytes(f.sim), 0);
    durable_file(&f, "x");
    revive(&f, true);
    assert_int_equal(read_all(f.disk, "x", data, sizeof data), 8192);
    fixture_close(&f);
}

struct written {
    struct fixture *f;
    int calls;
};

static void spoil_written(void *context, const char *path, struct inode *inode, uint64_t offset, uint64_t size)
{
    struct written *written = context;
    assert_string_equal(path, "x");
    assert_true(offset == (written->calls == 0 ? 0 : 512) && size == (written->calls == 0 ? 8192 : 100));
    if (written->calls++ == 1) {
        inode_write(sim_disk_tree(written->f->sim), inode, "?", 1, offset);
    }
}

static void test_a_write_may_be_made_another_one(void **state)
{
    struct fixture f;
    uint8_t data[8192];
    struct written written = {&f, 0};
    world_init(&f.world, 14);
    f.sim = sim_disk_new(&f.world, &(struct sim_disk_options){.on_written = spoil_written, .context = &written});
    f.disk = sim_disk_port(f.sim);
    struct disk_file *file = durable_file(&f, "x");
    assert_int_equal(write_fill(f.disk, file, 'b', 100, 512), OK);
    read_all(f.disk, "x", data, sizeof data);
    assert_true(written.calls == 2 && data[512] == '?' && data[513] == 'b');
    fixture_close(&f);
}

static void test_equal_seeds_give_equal_runs(void **state)
{
    uint64_t hashes[3];
    for (int run = 0; run < 3; run++) {
        struct fixture f;
        fixture_open(&f, run == 2 ? 12 : 11, &tear);
        int log[64], count = 0;
        struct job job = {{job_run, job_done, NULL}, 1, log, &count};
        write_fill(f.disk, durable_file(&f, "x"), 'b', 4096, 0);
        f.disk->ops->submit(f.disk, DISK_LANE_WAL, &job.job);
        while (world_step(&f.world)) {
        }
        revive(&f, true);
        uint8_t data[8192];
        read_all(f.disk, "x", data, sizeof data);
        for (int i = 0; i < 8192; i++) {
            world_mix(&f.world, (uint64_t)i, data[i]);
        }
        hashes[run] = f.world.hash;
        fixture_close(&f);
    }
    assert_true(hashes[0] == hashes[1]);
    assert_true(hashes[0] != hashes[2]);
}

static void count_all(void *context, const char *path, const uint8_t *data, uint64_t offset, uint64_t size)
{
    *(unsigned *)context += path == NULL;
}

/* What became durable without a word of a file's sync, or went: told once. */
static void test_news_of_a_directory(void **state)
{
    struct fixture f;
    unsigned told = 0;
    world_init(&f.world, 13);
    f.sim = sim_disk_new(&f.world, &(struct sim_disk_options){
                                       .job_us_max = 300, .told_dir = "wal", .on_synced = count_all, .context = &told});
    f.disk = sim_disk_port(f.sim);
    assert_int_equal(f.disk->ops->make_dir(f.disk, "wal"), OK);
    struct disk_file *file = durable_file(&f, "wal/1"), *other = durable_file(&f, "x");
    assert_int_equal(f.disk->ops->sync_dir(f.disk, "wal"), OK);
    assert_true(sim_disk_take_news(f.sim));
    assert_false(sim_disk_take_news(f.sim));

    write_fill(f.disk, file, 'b', 4096, 0); /* its sync tells of it */
    assert_int_equal(f.disk->ops->sync(f.disk, file), OK);
    write_fill(f.disk, other, 'b', 4096, 0); /* elsewhere */
    assert_int_equal(f.disk->ops->sync_all(f.disk), OK);
    assert_int_equal(told, 0);
    assert_false(sim_disk_take_news(f.sim));

    write_fill(f.disk, file, 'c', 512, 0);
    assert_int_equal(f.disk->ops->sync_all(f.disk), OK);
    assert_int_equal(told, 1);
    assert_int_equal(f.disk->ops->sync_all(f.disk), OK);
    assert_int_equal(told, 1);
    open_file(f.disk, "wal/2", DISK_WRITE | DISK_CREATE); /* a name */
    assert_int_equal(f.disk->ops->sync_all(f.disk), OK);
    assert_int_equal(told, 2);

    write_fill(f.disk, file, 'd', 512, 0);
    revive(&f, false); /* what is durable stays what it is */
    assert_false(sim_disk_take_news(f.sim));
    revive(&f, true);
    assert_true(sim_disk_take_news(f.sim));
    assert_int_equal(f.disk->ops->unlink(f.disk, "wal/2"), OK);
    assert_true(sim_disk_take_news(f.sim));
    fixture_close(&f);

    fixture_open(&f, 14, &lose_all); /* no directory: always */
    assert_true(sim_disk_take_news(f.sim));
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_synced_bytes_survive_unsynced_do_not),
        cmocka_unit_test(test_process_death_keeps_the_page_cache_until_a_power_cut),
        cmocka_unit_test(test_sync_after_death_makes_it_durable),
        cmocka_unit_test(test_sectors_are_kept_lost_or_garbage_one_by_one),
        cmocka_unit_test(test_names_need_sync_dir),
        cmocka_unit_test(test_rename_is_all_or_nothing),
        cmocka_unit_test(test_sync_of_one_directory_settles_names_in_order),
        cmocka_unit_test(test_lost_directory_takes_its_files_along),
        cmocka_unit_test(test_failed_sync_loses_its_pages_though_the_next_one_succeeds),
        cmocka_unit_test(test_rewrite_after_failed_sync_can_be_synced),
        cmocka_unit_test(test_truncate_is_not_durable_without_sync),
        cmocka_unit_test(test_crash_at_kth_call),
        cmocka_unit_test(test_lane_keeps_order_and_crash_drops_jobs),
        cmocka_unit_test(test_a_gray_disk_is_slow_or_stands_still_until_that_ends),
        cmocka_unit_test(test_a_wiped_disk_is_empty_in_both_views),
        cmocka_unit_test(test_a_write_may_be_made_another_one),
        cmocka_unit_test(test_equal_seeds_give_equal_runs),
        cmocka_unit_test(test_news_of_a_directory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
