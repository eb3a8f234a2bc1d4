/* The plots, each a list of what happens. Files are changed by hand only between two lives of the broker. */
#include "plot.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/limits.h"
#include "meta/layout.h"
#include "wal/format.h"

#define SECOND_US 1000000u

static void pass(const struct script *s, unsigned world)
{
    s->world(world);
}

/* --- a calm life: first start, birth, produce, rolls, checkpoints, retention, reads, deletion, a clean stop, a start,
 * a kill, a recovery --- */

static void calm(struct script *s)
{
    const TopicConfig keep = {0}, size = {.has_retention_bytes = true, .retention_bytes = 48 << 10};
    s->config.snapshot_bytes = 64 << 10;
    s->config.scrub_period_ms = 3000;
    script_start(s);
    script_init_producer(s, &s->ann);
    uint32_t topics[] = {script_create_topic(s, "keep", &keep), script_create_topic(s, "size", &size)};
    uint32_t gone = script_create_topic(s, "gone", &keep);
    for (uint32_t i = 0; i < 48; i++) {
        script_produce(s, topics[i % 2], 1 + i % 12);
        if (i % 6 == 5) {
            script_idle(s, SECOND_US * 2 / 5);
        }
    }
    script_delete_topic(s, gone);
    script_end(s, true);
    script_start(s);
    script_read(s, topics[0]);
    script_find_time(s, topics[0], 2500);
    script_find_time(s, topics[1], 1500);
    script_init_producer(s, &s->ann);
    for (uint32_t i = 0; i < 8; i++) {
        script_produce(s, topics[i % 2], 1 + i);
    }
    script_end(s, false);
    script_start(s);
    script_read(s, topics[1]);
    script_produce(s, topics[0], 3); /* the last word: after one fault it goes on */
    script_produce(s, topics[1], 3);
    script_idle(s, 2 * SECOND_US);
    script_end(s, false);
}

/* --- crowded: large batches, files that are closed and opened again, spares used again, times and offsets looked up,
 * producers forgotten, a map that is too small --- */

static void look_around(struct script *s, uint32_t topic)
{
    for (int64_t offset = 2; offset < 130; offset += 18) {
        script_peek(s, topic, offset);
    }
    for (int64_t ago_ms = 500; ago_ms < 64000; ago_ms *= 2) {
        script_find_time(s, topic, ago_ms);
    }
}

static void crowded(struct script *s)
{
    const TopicConfig keep = {0}, size = {.has_retention_bytes = true, .retention_bytes = 8 << 10};
    const TopicConfig large = {
        .has_segment_bytes = true, .segment_bytes = 4 << 20, .has_max_batch_bytes = true, .max_batch_bytes = 2 << 20};
    s->config.open_files = 1;
    s->config.producer_expiry_ms = 4000;
    s->config.wal_budget_bytes = 8 * WAL_FILE_BYTES_MIN; /* the large batch is less than a quarter of it */
    s->config.scrub_period_ms = 1500;
    pass(s, FAULT_WORLD_DROPS_CACHE);
    script_start(s);
    s->bob.expires = true;
    script_init_producer(s, &s->ann);
    script_init_producer(s, &s->bob);
    uint32_t topics[] = {script_create_topic(s, "keep", &keep), script_create_topic(s, "size", &size)};
    uint32_t big = script_create_topic(s, "big", &large);
    script_produce_large(s, &s->bob, big, 1200 << 10);
    bool taken = script_offer(s, &s->bob, topics[0], 1);
    for (uint32_t i = 0; i < 40; i++) {
        if (i == 20 || i == 30) {
            pass(s, FAULT_WORLD_DROPS_CACHE | (i == 20 ? FAULT_WORLD_MAP_FULL : FAULT_WORLD_MAP_RESIZED));
        }
        script_produce(s, topics[i % 2], taken ? 8 : 1);
        script_idle(s, SECOND_US / 4);
    }
    script_end(s, true);
    script_start(s);
    look_around(s, topics[0]);
    look_around(s, topics[1]);
    script_read(s, big);
    for (uint32_t i = 0; i < 20; i++) {
        script_produce(s, topics[1], 8);
    }
    script_idle(s, 2 * SECOND_US);
    script_end(s, false);
}

/* --- shortage: a disk that is full, commits without room, no descriptors --- */

static void press_on(struct script *s, uint32_t topics, uint32_t most)
{
    uint32_t refused = 0;
    for (uint32_t i = 0; i < most && refused < 3; i++) {
        refused += !script_offer(s, &s->ann, i % topics, 8);
        script_idle(s, SECOND_US / 5);
    }
}

static void for_a_while(struct script *s, unsigned world, uint32_t topics, uint32_t batches)
{
    pass(s, world);
    press_on(s, topics, batches);
    script_idle(s, 3 * SECOND_US);
    pass(s, 0);
    script_idle(s, 2 * SECOND_US);
    script_produce(s, 0, 1);
}

static void shortage(struct script *s)
{
    const TopicConfig keep = {0}, size = {.has_retention_bytes = true, .retention_bytes = 8 << 10};
    s->config.open_files = 2;
    s->config.snapshot_entries = 8;
    script_start(s);
    script_init_producer(s, &s->ann);
    script_create_topic(s, "size", &size);
    script_create_topic(s, "keep", &keep);
    script_create_topic(s, "also", &keep);
    script_produce(s, 1, 1);
    script_produce(s, 2, 1);
    script_idle(s, SECOND_US);
    for (uint32_t i = 0; i < 28; i++) {
        script_produce(s, 0, 10);
    }
    script_idle(s, 3 * SECOND_US);
    for (uint32_t i = 0; i < 27; i++) { /* a checkpoint, which makes spares of what retention dropped */
        script_produce(s, i % 3, 1);
        script_idle(s, SECOND_US / 10);
    }
    script_produce(s, 1, 12); /* on their way to the segments when there is no more room */
    script_produce(s, 1, 12);
    for_a_while(s, FAULT_WORLD_FULL, 2, 40);
    script_end(s, false);
    pass(s, FAULT_WORLD_FULL);
    script_start(s);
    for_a_while(s, FAULT_WORLD_FULL, 2, 2);
    for_a_while(s, FAULT_WORLD_NO_FILES, 3, 6);
    for_a_while(s, FAULT_WORLD_NO_COMMIT, 3, 40);
    script_produce(s, 1, 2);
    script_end(s, false);
}

/* --- wounds: what heals, and what two topics do not survive --- */

/* What rot looks for (nftw carries no context), and which of its bytes it hits. */
static struct {
    uint8_t bytes[64];
    size_t size, hits;
} wanted;

static void overwrite(const char *path, off_t position, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t wrote = pwrite(fd, bytes, size, position);
    ASSERT(fd >= 0 && wrote == (ssize_t)size);
    close(fd);
}

static const char *suffix_of(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot != NULL ? dot : "";
}

static uint8_t *whole_file(const char *path, off_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *data = malloc((size_t)size + 1);
    ASSERT(fd >= 0 && data != NULL);
    ssize_t got = pread(fd, data, (size_t)size, 0);
    ASSERT(got == size);
    close(fd);
    return data;
}

/* The last, partial block of each segment, as a torn write could leave it; and a file that no manifest names. */
static int spoil_segment(const char *path, const struct stat *status, int type, struct FTW *at)
{
    static const uint8_t zeros[WAL_BLOCK_BYTES];
    char stray[4400];
    (void)at;
    if (type == FTW_F && strcmp(suffix_of(path), ".log") == 0 && status->st_size % WAL_BLOCK_BYTES > 0) {
        off_t size = status->st_size % WAL_BLOCK_BYTES;
        overwrite(path, status->st_size - size, zeros, (size_t)size);
        snprintf(stray, sizeof stray, "%.*s/stray", (int)(strrchr(path, '/') - path), path);
        close(open(stray, O_WRONLY | O_CREAT | O_CLOEXEC, 0640));
    }
    return 0;
}

/* The rows of a group, by their keys: on every page, also those that are no longer used. */
static int rot_rows(const char *path, const struct stat *status, int type, struct FTW *at)
{
    (void)at;
    if (type != FTW_F || strcmp(suffix_of(path), ".mdb") != 0)
        return 0;
    uint8_t *data = whole_file(path, status->st_size), *end = data + status->st_size;
    for (uint8_t *found = data; (found = memmem(found, (size_t)(end - found), wanted.bytes, wanted.size)) != NULL;) {
        found += wanted.size;
        uint8_t bad = *found ^ 1;
        overwrite(path, found - data, &bad, 1);
    }
    free(data);
    return 0;
}

/* The header of every file of the log that is in use; its first batch knows what stood there. */
static int spoil_header(const char *path, const struct stat *status, int type, struct FTW *at)
{
    static const uint8_t zeros[WAL_BLOCK_BYTES];
    (void)at;
    if (type == FTW_F && strcmp(suffix_of(path), ".wal") == 0 && status->st_size >= 2 * (off_t)WAL_BLOCK_BYTES) {
        uint8_t *data = whole_file(path, status->st_size);
        struct wal__file_header header;
        struct wal__batch_header batch;
        if (wal__file_header_decode(data, &header) == OK &&
            wal__batch_header_decode(data + WAL_BLOCK_BYTES, header.salt, header.base_lsn, &batch)) {
            overwrite(path, 0, zeros, sizeof zeros);
        }
        free(data);
    }
    return 0;
}

static int rot_file(const char *path, const struct stat *status, int type, struct FTW *at)
{
    (void)at;
    if (type != FTW_F)
        return 0;
    uint8_t *data = whole_file(path, status->st_size);
    uint8_t *found = memmem(data, (size_t)status->st_size, wanted.bytes, wanted.size);
    if (found != NULL) {
        uint8_t bad = found[wanted.hits] ^ 1;
        overwrite(path, found - data + (off_t)wanted.hits, &bad, 1);
    }
    free(data);
    return 0;
}

static void on_files(const struct script *s, const char *folder, __nftw_func_t visit)
{
    char path[4300];
    snprintf(path, sizeof path, "%s/%s", s->options.dir, folder);
    int failed = nftw(path, visit, 8, FTW_PHYS);
    ASSERT(failed == 0);
}

/* Flips a bit in each file of the folder where these bytes stand. */
static void rot(const struct script *s, const char *folder, const void *bytes, size_t size, size_t hits)
{
    ASSERT(size <= sizeof wanted.bytes && hits < size);
    memcpy(wanted.bytes, bytes, size);
    wanted.size = size;
    wanted.hits = hits;
    on_files(s, folder, rot_file);
}

/* So that nothing can be known of the group but its number. */
static void rot_group_row(const struct script *s, uint32_t topic)
{
    struct layout_key key;
    layout_group_key(&key, LAYOUT_GROUP, s->groups[topic]);
    ASSERT(key.size <= sizeof wanted.bytes);
    memcpy(wanted.bytes, key.bytes, key.size);
    wanted.size = key.size;
    on_files(s, "meta", rot_rows);
}

static void wounds(struct script *s)
{
    const TopicConfig keep = {0};
    const TopicConfig large = {
        .has_segment_bytes = true, .segment_bytes = 4 << 20, .has_max_batch_bytes = true, .max_batch_bytes = 2 << 20};
    uint8_t text[40];
    s->config.scrub_period_ms = 2000;
    script_start(s);
    script_init_producer(s, &s->ann);
    uint32_t sound = script_create_topic(s, "sound", &keep), hurt = script_create_topic(s, "hurt", &keep),
             rotten = script_create_topic(s, "rotten", &large), lost = script_create_topic(s, "lost", &keep);
    script_produce(s, sound, 3);
    script_produce(s, hurt, 3);
    script_going(s, hurt);
    script_going(s, rotten);
    script_going(s, lost);
    script_produce_large(s, &s->ann, rotten, 100 << 10); /* more than one look takes in */
    script_produce(s, rotten, 2);
    memcpy(text, s->offer.data + BATCH_PREFIX_BYTES, sizeof text);
    script_produce(s, rotten, 12);
    script_end(s, true);
    rot(s, "parts", text, sizeof text, 15); /* a timestamp: only the CRC can tell, and the chain of the headers */
    rot_group_row(s, lost);
    on_files(s, "parts", spoil_segment);
    script_start(s);
    for (uint32_t i = 0; i < 7; i++) {
        script_produce(s, sound, 12); /* a roll, before which strays are swept away */
    }
    script_peek(s, rotten, 0);
    script_peek(s, rotten, 5);
    script_idle(s, 3 * SECOND_US);
    snprintf((char *)text, sizeof text, "batch %u record 0", s->batches);
    script_produce(s, hurt, 1);
    script_produce(s, sound, 1);
    script_idle(s, SECOND_US / 10);
    script_end(s, false);
    rot(s, "wal", text, strlen((const char *)text), 0);
    on_files(s, "wal", spoil_header);
    script_start(s);
    script_peek(s, hurt, 0);
    script_delete_topic(s, hurt);
    script_delete_topic(s, rotten);
    script_delete_topic(s, lost);
    script_idle(s, SECOND_US);
    script_read(s, sound);
    script_produce(s, sound, 1);
    script_end(s, false);
}

const struct plot plots[] = {
    {"calm", calm, false, 0},
    {"crowded", crowded, false, 1},
    {"shortage", shortage, false, 1},
    {"wounds", wounds, true, 1},
};
const uint32_t plots_count = sizeof plots / sizeof plots[0];
