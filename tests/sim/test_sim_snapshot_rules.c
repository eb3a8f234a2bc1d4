/* What of snapshots nobody needs any more goes, by four rules; what hostile brokers send is refused; groups without
 * segments, and disks without room. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/crc32c.h"
#include "base/endian.h"
#include "broker/state.h"
#include "meta/picture.h"
#include "snapshot_kit.h"

/* The memory of jobs under way goes with a process that dies: not to be looked for as a leak. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

static int tear_down(void **state)
{
    (void)state;
    trio_close(&kit_trio);
    return 0;
}

/* --- what nobody needs any more --- */

/* Follower 3 has got some of its snapshot, and then nobody hears from anybody. Returns who sends. */
static uint64_t stop_half_way_of(uint64_t seed, uint32_t records)
{
    kit_prepare(seed, 30, records);
    uint64_t leader = trio_leader(&kit_trio, trio_group(0), 0);
    kit_up(3);
    for (int n = 0; n < 200000 && kit_trio.broker[3].broker->counters.snapshot_received_bytes_total < 20000; n++) {
        trio_run(&kit_trio, 200);
    }
    kit_cut_off(3, true);
    trio_run(&kit_trio, 100000);
    assert_int_equal(kit_state(3).receiving, 1);
    assert_true(kit_files(3) > 0 && kit_files(leader) > 0 && kit_state(leader).pictures > 0);
    return leader;
}

static uint64_t stop_half_way(uint64_t seed)
{
    return stop_half_way_of(seed, 600);
}

static void clean_1_leftovers_go_at_the_start(void **state)
{
    (void)state;
    for (int power_cut = 0; power_cut <= 1; power_cut++) {
        if (power_cut > 0) {
            trio_close(&kit_trio);
        }
        uint64_t leader = stop_half_way(20);
        kit_down(3, power_cut);
        kit_up(3);
        assert_int_equal(kit_files(3), 0);
        kit_down(leader, power_cut);
        kit_up(leader);
        assert_int_equal(kit_files(leader), 0);
        kit_cut_off(3, false);
        assert_true(kit_has_caught_up(3, 60000000));
        kit_check();
    }
}

static void clean_2_a_group_that_is_gone_takes_all_along(void **state)
{
    (void)state;
    uint64_t leader = stop_half_way(21);
    assert_true(sim_registry_delete_topic(kit_trio.registry, "t"));
    for (int n = 0; n < 100 && (groups_find(kit_trio.broker[3].broker, trio_group(0)) != NULL ||
                                groups_find(kit_trio.broker[leader].broker, trio_group(0)) != NULL);
         n++) {
        trio_run(&kit_trio, 100000);
    }
    trio_run(&kit_trio, 500000); /* no sweep is needed for it */
    assert_null(groups_find(kit_trio.broker[3].broker, trio_group(0)));
    for (uint64_t id = 1; id <= 3; id++) {
        struct snapshots_state after = kit_state(id);
        assert_int_equal(after.receiving + after.pictures + after.sending + after.waiting, 0);
        assert_int_equal(kit_files(id), 0);
    }
}

static void clean_3_pictures_that_are_passed(void **state)
{
    (void)state;
    kit_prepare(22, 30, 200);
    kit_limits.idle_us = kit_limits.age_us = kit_limits.sweep_us = UINT64_MAX / 4;
    kit_up(3);
    kit_limit_all();
    assert_true(kit_has_caught_up(3, 20000000));
    uint64_t leader = trio_leader(&kit_trio, trio_group(0), 0);
    kit_produce(3); /* all have them, so the log lets them go */
    trio_run(&kit_trio, 2000000);
    assert_int_equal(kit_state(leader).pictures, 1);
    kit_limits.sweep_us = 1000000;
    kit_limit_all();
    trio_run(&kit_trio, 2000000);
    assert_int_equal(kit_state(leader).pictures, 0);
    assert_int_equal(kit_files(leader), 0);
    kit_check();
}

static void clean_3_pictures_that_are_too_old(void **state)
{
    (void)state;
    for (int is_old = 0; is_old <= 1; is_old++) {
        if (is_old > 0) {
            trio_close(&kit_trio);
        }
        uint64_t leader = stop_half_way(28); /* the log goes on to reach what that one needs */
        kit_limits.idle_us = UINT64_MAX / 4;
        kit_limits.age_us = is_old ? 5000000 : UINT64_MAX / 4;
        kit_limit_all();
        trio_run(&kit_trio, 30000000);
        assert_int_equal(kit_state(leader).pictures, is_old ? 0 : 1);
        assert_int_equal(kit_files(leader), is_old ? 0 : 1);
        kit_cut_off(3, false);
        assert_true(kit_has_caught_up(3, 60000000));
        kit_check();
    }
}

/* The picture that 3 waits for names segments that retention has dropped meanwhile. Returns who has it. */
static uint64_t hold_what_is_dropped(uint64_t seed)
{
    uint64_t leader = stop_half_way_of(seed, 1500);
    kit_limits.idle_us = kit_limits.age_us = UINT64_MAX / 4;
    kit_limit_all();
    struct entry_config config = kit_partition(leader)->config;
    config.retention_bytes = 1;
    partition_propose(kit_partition(leader), ENTRY_CONFIG_TOPIC, entry_encode_config(&config), NULL);
    kit_produce(20);
    trio_run(&kit_trio, 5000000);
    assert_int_equal(trio_leader(&kit_trio, trio_group(0), 0), leader);
    assert_true(partition_log_start(kit_partition(leader)) > 0);
    assert_true(kit_state(leader).pictures == 1 && kit_state(leader).held_bytes >= SEGMENT_BYTES_MIN / 2);
    return leader;
}

/* Nothing is held there any more, and 3 gets what a newer picture has. */
static void expect_a_newer_picture(uint64_t holder)
{
    struct snapshots_state after = kit_state(holder);
    assert_true(after.pictures == 0 && after.held_bytes == 0);
    assert_int_equal(kit_files(holder), 0);
    kit_cut_off(3, false);
    assert_true(kit_has_caught_up(3, 60000000));
    assert_int_equal(kit_installed_by(3), 1);
    kit_produce(5);
    trio_run(&kit_trio, 3000000);
    assert_true(partition_log_start(kit_partition(3)) > 0);
    assert_int_equal(partition_log_start(kit_partition(3)), partition_log_start(kit_partition(holder)));
    assert_int_equal(partition_high_watermark(kit_partition(3)), partition_high_watermark(kit_partition(holder)));
}

static void clean_3_pictures_that_hold_too_much(void **state)
{
    (void)state;
    uint64_t leader = hold_what_is_dropped(33);
    kit_limits.held_bytes = kit_state(leader).held_bytes;
    kit_limit_all();
    trio_run(&kit_trio, 5000000);
    assert_int_equal(kit_state(leader).pictures, 1);
    kit_limits.held_bytes--;
    kit_limit_all();
    trio_run(&kit_trio, 2000000);
    kit_limits.held_bytes = SNAPSHOT_HELD_BYTES_MAX;
    kit_limit_all();
    expect_a_newer_picture(leader);
}

static void clean_3_pictures_on_a_full_disk(void **state)
{
    (void)state;
    uint64_t holder = hold_what_is_dropped(34);
    sim_kv_set_full(kit_trio.broker[holder].kv, true);
    kit_produce(30); /* a checkpoint finds out */
    trio_run(&kit_trio, 5000000);
    assert_true(broker__disk_full(kit_trio.broker[holder].broker));
    sim_kv_set_full(kit_trio.broker[holder].kv, false);
    expect_a_newer_picture(holder);
}

/* As its leader says, there is a picture of what is not even proposed. */
static uint64_t forge_offer(uint64_t leader, uint64_t ahead, uint64_t rows_bytes, uint32_t rows_crc)
{
    const struct partition *p = kit_partition(leader);
    PeerSnapshot offer = {.kind = PEER_SNAPSHOT_OFFER,
                          .transfer = 4711,
                          .group = p->group,
                          .from = p->replica,
                          .to = kit_partition(3)->replica,
                          .term = raft_term(p->raft),
                          .index = p->applied_index + ahead,
                          .index_term = raft_term(p->raft),
                          .rows_bytes = rows_bytes,
                          .rows_crc = rows_crc};
    assert_true(peers_send_snapshot(kit_trio.broker[leader].broker->peers, 3, &offer, (struct slice){0}));
    trio_run(&kit_trio, 20000);
    return offer.transfer;
}

static void forge_chunk(uint64_t leader, uint64_t transfer, uint64_t position, const uint8_t *bytes, uint32_t size)
{
    const struct partition *p = kit_partition(leader);
    struct buf *buf = buf_new(size);
    memcpy(buf->data, bytes, size);
    PeerSnapshot chunk = {.kind = PEER_SNAPSHOT_CHUNK,
                          .transfer = transfer,
                          .group = p->group,
                          .from = p->replica,
                          .to = kit_partition(3)->replica,
                          .position = position};
    assert_true(peers_send_snapshot(kit_trio.broker[leader].broker->peers, 3, &chunk, slice_of(buf, 0, size)));
    trio_run(&kit_trio, 20000);
    buf_unref(buf);
    buf_unref(buf);
}

/* A follower that is not 3 is of no use here. */
static uint64_t open_led_by_another(uint64_t seed)
{
    kit_open(seed, 20);
    kit_produce(30);
    trio_run(&kit_trio, 1000000);
    uint64_t leader = trio_leader(&kit_trio, trio_group(0), 10000000);
    if (leader == 3) {
        kit_down(3, false);
        leader = trio_leader(&kit_trio, trio_group(0), 30000000);
        assert_true(leader != 0 && leader != 3);
        kit_up(3);
        assert_true(kit_has_caught_up(3, 20000000));
    }
    return leader;
}

static void clean_4_what_was_received_and_is_old_by_now(void **state)
{
    (void)state;
    static const uint8_t bytes[777] = {1};
    uint64_t leader = open_led_by_another(23);
    uint64_t transfer = forge_offer(leader, 10, 5000, 1);
    assert_int_equal(kit_state(3).receiving, 1);
    forge_chunk(leader, transfer, 0, bytes, sizeof bytes);
    assert_int_equal(kit_files(3), 1);
    kit_produce(20);
    trio_run(&kit_trio, 500000);
    assert_int_equal(kit_state(3).receiving, 0); /* what it brings is here already */
    assert_int_equal(kit_files(3), 0);
    forge_offer(leader, 100, 5000, 1); /* and one that nobody goes on sending */
    forge_chunk(leader, transfer, 0, bytes, sizeof bytes);
    assert_int_equal(kit_state(3).receiving, 1);
    trio_run(&kit_trio, 15000000);
    assert_int_equal(kit_state(3).receiving, 0);
    assert_int_equal(kit_files(3), 0);
    kit_check();
}

/* --- hostile --- */

static void chunks_that_nobody_asked_for_are_ignored(void **state)
{
    (void)state;
    static const uint8_t bytes[777] = {1};
    uint64_t leader = open_led_by_another(24);
    const struct counters *counters = &kit_trio.broker[3].broker->counters;
    forge_chunk(leader, 1, 0, bytes, sizeof bytes); /* no transfer at all */
    assert_int_equal(counters->snapshot_chunks_ignored_total, 1);
    uint64_t transfer = forge_offer(leader, 100, 5000, 1);
    forge_chunk(leader, transfer + 1, 0, bytes, sizeof bytes);      /* of another one */
    forge_chunk(leader, transfer, 777, bytes, sizeof bytes);        /* too early */
    forge_chunk(leader, transfer, 0, bytes, sizeof bytes - 1);      /* too short */
    forge_chunk(leader, transfer, UINT32_MAX, bytes, sizeof bytes); /* behind the end */
    assert_int_equal(counters->snapshot_chunks_ignored_total, 5);
    assert_int_equal(kit_files(3), 0);
    forge_chunk(leader, transfer, 0, bytes, sizeof bytes);
    forge_chunk(leader, transfer, 0, bytes, sizeof bytes); /* once more */
    assert_int_equal(counters->snapshot_chunks_ignored_total, 6);
    assert_int_equal(counters->snapshot_received_bytes_total, sizeof bytes);
    kit_produce(5);
    trio_run(&kit_trio, 20000000);
    kit_check();
}

static void rows_that_are_none_are_thrown_away(void **state)
{
    (void)state;
    uint8_t bytes[700];
    uint64_t leader = open_led_by_another(25);
    for (int is_crc_right = 0; is_crc_right <= 1; is_crc_right++) {
        memset(bytes, 7 + is_crc_right, sizeof bytes);
        uint32_t crc = crc32c(0, bytes, sizeof bytes);
        uint64_t transfer = forge_offer(leader, 100, sizeof bytes, is_crc_right ? crc : crc + 1);
        assert_int_equal(kit_state(3).receiving, 1);
        forge_chunk(leader, transfer, 0, bytes, sizeof bytes);
        trio_run(&kit_trio, 100000);
        assert_int_equal(kit_state(3).receiving, 0);
        assert_int_equal(kit_files(3), 0);
    }
    assert_int_equal(kit_installed_by(3), 0);
    kit_produce(5);
    kit_check();
}

static void ignore_segment(void *context, const struct meta_segment *segment)
{
    (void)context, (void)segment;
}

/* A picture that nobody has, of what comes `ahead` of what is applied, with two producers; as bytes. */
static size_t forge_picture(uint64_t leader, uint64_t ahead, uint8_t *bytes, size_t capacity, struct meta_export *out)
{
    static const struct done_row producers[] = {{.producer_id = 1}, {.producer_id = 2}};
    struct meta_picture picture = {.done = producers, .done_count = 2};
    struct kv *scratch = sim_kv_new(&(struct sim_kv_options){0});
    struct disk *disk = sim_disk_port(kit_trio.broker[leader].disk);
    struct disk_file *file;
    struct kv_txn *txn;
    struct kv *kv = kit_trio.broker[leader].kv;
    size_t size = 0;
    assert_int_equal(kv->ops->begin(kv, false, &txn), OK);
    assert_int_equal(meta_get_group(kv, txn, trio_group(0), &picture.group), OK);
    kv->ops->abort(kv, txn);
    picture.group.applied_index = kit_partition(leader)->applied_index + ahead;
    picture.group.applied_term = raft_term(kit_partition(leader)->raft);
    picture.group.next_offset = picture.group.log_start = 0;
    assert_int_equal(scratch->ops->begin(scratch, true, &txn), OK);
    assert_int_equal(meta_put_picture(scratch, txn, &picture), OK);
    assert_int_equal(scratch->ops->commit(scratch, txn), OK);
    assert_int_equal(meta_export(scratch, disk, "forged", trio_group(0), capacity, ignore_segment, NULL, out), OK);
    assert_int_equal(disk->ops->open(disk, "forged", DISK_READ, &file), OK);
    assert_int_equal(disk->ops->read(disk, file, bytes, capacity, 0, &size), OK);
    disk->ops->close(disk, file);
    sim_kv_free(scratch);
    return size;
}

/* Every row is whole, but one is missing: only the CRC over all of them tells. */
static void rows_that_are_not_all_are_thrown_away(void **state)
{
    (void)state;
    static uint8_t bytes[5000];
    struct meta_export out;
    uint64_t leader = open_led_by_another(32);
    checkpoint_want(kit_partition(leader));
    trio_run(&kit_trio, 2000000);
    size_t size = forge_picture(leader, 100, bytes, sizeof bytes, &out);
    size_t last = 16;
    for (size_t at = 16; at < size; at += 6u + load_le16(bytes + at) + load_le32(bytes + at + 2)) {
        last = at;
    }
    assert_int_equal(bytes[last + 6], 'D');
    kit_limits.chunk_bytes = SNAPSHOT_CHUNK_BYTES_MAX;
    kit_limit_all();
    uint64_t transfer = forge_offer(leader, 100, last, out.crc);
    forge_chunk(leader, transfer, 0, bytes, (uint32_t)last);
    trio_run(&kit_trio, 500000);
    assert_int_equal(kit_installed_by(3), 0);
    assert_int_equal(kit_state(3).receiving, 0);
    kit_produce(5);
    kit_check();
}

/* --- without room --- */

/* Follower 3 has all of its snapshot, and no room to put it in place. */
static void without_room(uint64_t seed)
{
    kit_prepare(seed, 30, 200);
    kit_up(3);
    sim_kv_set_full(kit_trio.broker[3].kv, true);
    trio_run(&kit_trio, 10000000);
    assert_int_equal(kit_installed_by(3), 0);
    assert_int_equal(kit_state(3).receiving, 1);
    assert_int_equal(kit_state(3).installing, 0);
    assert_false(kit_partition(3)->installing);
}

static void an_install_without_room_waits_for_it(void **state)
{
    (void)state;
    without_room(26);
    kit_produce(5); /* the others go on */
    uint64_t leader = trio_leader(&kit_trio, trio_group(0), 0), other = 3 - leader;
    kit_down(leader, false); /* and the third one votes */
    for (int n = 0; n < 100 && raft_role(kit_partition(other)->raft) != RAFT_LEADER; n++) {
        trio_run(&kit_trio, 100000);
    }
    assert_int_equal(raft_role(kit_partition(other)->raft), RAFT_LEADER);
    kit_up(leader);
    kit_produce(5);
    assert_int_equal(kit_installed_by(3), 0);
    sim_kv_set_full(kit_trio.broker[3].kv, false);
    assert_true(kit_has_caught_up(3, 20000000));
    assert_true(kit_installed_by(3) > 0); /* perhaps one more: the others' logs went on meanwhile */
    kit_check();
}

/* It was away while retention dropped most of the log, and has nothing but that to make room with. */
static void a_full_follower_drops_what_is_dropped_elsewhere(void **state)
{
    (void)state;
    kit_open(35, 20);
    kit_produce(2900);
    trio_run(&kit_trio, 3000000);
    kit_down(3, false);
    uint64_t leader = trio_leader(&kit_trio, trio_group(0), 30000000);
    struct entry_config config = kit_partition(leader)->config;
    config.retention_bytes = 1;
    partition_propose(kit_partition(leader), ENTRY_CONFIG_TOPIC, entry_encode_config(&config), NULL);
    kit_produce(900);
    trio_run(&kit_trio, 3000000);
    kit_forget_entries(3);
    kit_produce(5);
    leader = trio_leader(&kit_trio, trio_group(0), 30000000);
    int64_t start = partition_log_start(kit_partition(leader));
    kit_up(3);
    sim_disk_set_room(kit_trio.broker[3].disk, 0);
    uint64_t before = segment_log_bytes(kit_partition(3)->log);
    assert_true(segment_log_base_below(kit_partition(3)->log, start) > 0);
    assert_true(kit_has_caught_up(3, 60000000));
    assert_int_equal(kit_installed_by(3), 1);
    assert_true(segment_log_bytes(kit_partition(3)->log) < before);
    sim_disk_set_room(kit_trio.broker[3].disk, UINT64_MAX);
    kit_produce(5);
    trio_run(&kit_trio, 3000000);
    assert_false(kit_partition(3)->is_ahead);
    assert_int_equal(partition_log_start(kit_partition(3)), partition_log_start(kit_partition(leader)));
    assert_int_equal(partition_high_watermark(kit_partition(3)), partition_high_watermark(kit_partition(leader)));
}

/* The last picture has records that rotted, and that retention has dropped since. */
static void what_rotted_and_is_dropped_is_not_sent(void **state)
{
    (void)state;
    char path[64];
    struct inode *inode;
    kit_open(36, 500);
    kit_produce(500);
    kit_down(3, false);
    kit_produce(2900);
    kit_forget_entries(3);
    uint64_t leader = trio_leader(&kit_trio, trio_group(0), 30000000);
    struct entry_config config = kit_partition(leader)->config;
    uint64_t picture = kit_partition(leader)->checkpoint_index;
    const struct segment_log *log = kit_partition(leader)->log;
    int64_t base = segment_log_base_below(log, segment_log_base_below(log, INT64_MAX) - 1); /* the last one stays */
    assert_true(base > 500);
    snprintf(path, sizeof path, "parts/%lu/%020ld.log", trio_group(0), (long)base);
    enum err error = tree_find(sim_disk_tree(kit_trio.broker[leader].disk), TREE_NOW, path, &inode);
    assert_int_equal(error, OK);
    judge_doubts_segments(kit_trio.judge, leader);
    inode_flip_bit(inode, 100, 1);
    config.retention_bytes = 1;
    partition_propose(kit_partition(leader), ENTRY_CONFIG_TOPIC, entry_encode_config(&config), NULL);
    kit_produce(5);
    trio_run(&kit_trio, 3000000);
    assert_int_equal(trio_leader(&kit_trio, trio_group(0), 0), leader);
    assert_int_equal(kit_partition(leader)->checkpoint_index, picture);
    assert_true(partition_log_start(kit_partition(leader)) > base);
    kit_up(3);
    assert_true(kit_has_caught_up(3, 60000000));
    assert_int_equal(kit_installed_by(3), 1);
    assert_int_equal(partition_log_start(kit_partition(3)), partition_log_start(kit_partition(leader)));
    assert_int_equal(partition_high_watermark(kit_partition(3)), partition_high_watermark(kit_partition(leader)));
}

static void note_newest(void *context, const char *name)
{
    int64_t *newest = context, base = strtoll(name, NULL, 10);
    *newest = base > *newest ? base : *newest;
}

static int64_t newest_file(uint64_t id)
{
    int64_t newest = 0;
    struct disk *disk = sim_disk_port(kit_trio.broker[id].disk);
    assert_int_equal(disk->ops->list(disk, "parts/1", note_newest, &newest), OK);
    return newest;
}

/* It makes room, dies before the snapshot comes, and then somebody leads whose log reaches back: that goes as well. */
static void a_log_that_begins_further_on_takes_entries(void **state)
{
    (void)state;
    kit_open(36, 20);
    kit_produce(1900);
    trio_run(&kit_trio, 3000000);
    struct partition *p = kit_partition(3);
    int64_t base = segment_log_base_below(p->log, segment_log_next(p->log));
    assert_true(base > 0 && raft_role(p->raft) != RAFT_LEADER);
    world_enter(&kit_trio.world);
    segment_log_set_start(p->log, base); /* as receipt__make_room does */
    p->is_ahead = true;
    checkpoint_want(p);
    world_leave(&kit_trio.world);
    trio_run(&kit_trio, 2000000);
    kit_down(3, true);
    kit_up(3);
    assert_int_equal(partition_log_start(kit_partition(3)), base);
    kit_produce(300);
    assert_true(kit_has_caught_up(3, 30000000));
    trio_run(&kit_trio, 2000000);
    assert_int_equal(newest_file(3), newest_file(1)); /* the same rolls */
    assert_int_equal(newest_file(2), newest_file(1));
}

/* --- groups without segments --- */

static struct partition *state_group(uint64_t id, uint64_t group)
{
    return groups_find(kit_trio.broker[id].broker, group);
}

static void propose_producers(uint64_t group, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t leader = trio_leader(&kit_trio, group, 30000000);
        char name[32];
        snprintf(name, sizeof name, "producer-%u", i);
        partition_propose(state_group(leader, group), ENTRY_OPS, state_encode_init(name), NULL);
        trio_run(&kit_trio, 20000);
    }
}

/* Of all its rows, whatever their order. */
static uint64_t rows_hash(const struct partition *p)
{
    struct meta_state_row *rows;
    uint64_t hash = 0;
    state_mark_all_dirty(p->table);
    uint32_t count_rows = state_take_dirty(p->table, &rows);
    for (uint32_t i = 0; i < count_rows; i++) {
        hash += crc32c(crc32c(0, rows[i].key, rows[i].key_size), rows[i].value, rows[i].value_size);
    }
    free(rows);
    state_mark_all_dirty(p->table);
    return hash;
}

static void a_group_of_operations(void **state)
{
    (void)state;
    struct registry_topic wish = {.kind = TOPIC_STATE, .partitions_count = 1, .config = {.replicas = 3}};
    kit_open(27, 20);
    wish.config.segment_bytes = SEGMENT_BYTES_MIN;
    wish.config.max_batch_bytes = SEGMENT_BYTES_MIN;
    wish.config.segment_ms = wish.config.retention_bytes = wish.config.retention_ms = -1;
    strcpy(wish.name, "__producers");
    uint64_t group = sim_registry_create_topic(kit_trio.registry, &wish);
    assert_true(group != 0 && trio_leader(&kit_trio, group, 30000000) != 0);
    propose_producers(group, 10);
    kit_down(3, false);
    propose_producers(group, 100);
    for (uint64_t id = 1; id <= 2; id++) {
        kit_down(id, false);
        kit_up(id);
        assert_true(trio_leader(&kit_trio, group, 30000000) != 0);
    }
    kit_up(3);
    trio_run(&kit_trio, 10000000);
    assert_true(kit_installed_by(3) >= 1);
    uint64_t leader = trio_leader(&kit_trio, group, 0);
    propose_producers(group, 101);
    trio_run(&kit_trio, 3000000);
    kit_down(3, true); /* its rows are what it starts from */
    kit_up(3);
    trio_run(&kit_trio, 5000000);
    assert_int_equal(state_count(state_group(3, group)->table), 101);
    assert_int_equal(rows_hash(state_group(3, group)), rows_hash(state_group(leader, group)));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(clean_1_leftovers_go_at_the_start),
        TEST(clean_2_a_group_that_is_gone_takes_all_along),
        TEST(clean_3_pictures_that_are_passed),
        TEST(clean_3_pictures_that_are_too_old),
        TEST(clean_3_pictures_that_hold_too_much),
        TEST(clean_3_pictures_on_a_full_disk),
        TEST(clean_4_what_was_received_and_is_old_by_now),
        TEST(chunks_that_nobody_asked_for_are_ignored),
        TEST(rows_that_are_none_are_thrown_away),
        TEST(rows_that_are_not_all_are_thrown_away),
        TEST(an_install_without_room_waits_for_it),
        TEST(a_full_follower_drops_what_is_dropped_elsewhere),
        TEST(what_rotted_and_is_dropped_is_not_sent),
        TEST(a_log_that_begins_further_on_takes_entries),
        TEST(a_group_of_operations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
