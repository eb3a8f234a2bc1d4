/* A follower that was away too long: the others' logs no longer hold what it lacks, and it gets the picture of one of
 * them. Whoever dies or loses power on the way, at whatever step, it ends with the same bytes and no hole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/crc32c.h"
#include "base/point.h"
#include "base/rng.h"
#include "broker/impl.h"
#include "broker/state.h"
#include "sim_trio.h"

static struct trio t;

/* The memory of jobs under way goes with a process that dies: not to be looked for as a leak. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

static const struct snapshots_limits quick = {.held_bytes = SNAPSHOT_HELD_BYTES_MAX,
                                              .age_us = 60000000,
                                              .sweep_us = 1000000,
                                              .idle_us = 10000000,
                                              .silence_us = 3000000,
                                              .retry_us = 300000,
                                              .chunk_bytes = 777};
static struct snapshots_limits limits;
static uint64_t sent_total, installed_total, resumed_total, ignored_total, kills_total; /* of processes that are gone */

static int tear_down(void **state)
{
    (void)state;
    trio_close(&t);
    return 0;
}

/* --- brokers --- */

static void count(uint64_t id)
{
    const struct broker *b = t.broker[id].broker;
    if (b != NULL) {
        sent_total += b->counters.snapshots_sent_total;
        installed_total += b->counters.snapshots_installed_total;
        resumed_total += b->counters.snapshots_resumed_total;
        ignored_total += b->counters.snapshot_chunks_ignored_total;
    }
}

static void down(uint64_t id, bool power_cut)
{
    if (t.broker[id].broker != NULL) {
        count(id);
        trio_crash(&t, id, power_cut);
    }
}

static void up(uint64_t id)
{
    if (t.broker[id].broker == NULL) {
        trio_start(&t, id);
        snapshot_limit(t.broker[id].broker, &limits);
    }
}

static void open(uint64_t seed, uint32_t entries)
{
    limits = quick;
    sent_total = installed_total = resumed_total = ignored_total = 0;
    trio_open(&t, seed, 3, 1);
    for (uint64_t id = 1; id <= 3; id++) {
        t.broker[id].config.snapshot_entries = entries;
        snapshot_limit(t.broker[id].broker, &limits);
    }
}

static void produce(uint32_t records)
{
    for (uint32_t i = 0; i < records; i++) {
        assert_true(trio_produce(&t, trio_group(0), 30000000) >= 0);
    }
}

static struct partition *partition_of(uint64_t id)
{
    return groups_find(t.broker[id].broker, trio_group(0));
}

/* Applied entries leave memory with the process that held them, so that only the others' pictures go back so far. */
static void forget_entries(uint64_t except)
{
    for (uint64_t id = 1; id <= 3; id++) {
        if (id != except) {
            down(id, false);
            up(id);
            assert_true(trio_leader(&t, trio_group(0), 30000000) != 0);
        }
    }
}

static bool has_caught_up(uint64_t id, uint64_t limit_us)
{
    for (uint64_t end_us = t.world.now_us + limit_us; t.world.now_us < end_us; trio_run(&t, 100000)) {
        uint64_t leader = trio_leader(&t, trio_group(0), 0);
        if (leader != 0 && t.broker[id].broker != NULL && partition_of(id) != NULL && partition_of(id)->raft != NULL &&
            partition_of(id)->applied_index + 2 >= partition_of(leader)->applied_index) {
            return true;
        }
    }
    return false;
}

static uint64_t installed_by(uint64_t id)
{
    return t.broker[id].broker->counters.snapshots_installed_total;
}

/* Follower 3 lacks what the others have forgotten. */
static void prepare(uint64_t seed, uint32_t before, uint32_t after)
{
    open(seed, 20);
    produce(before);
    trio_run(&t, 3000000);
    down(3, false);
    produce(after);
    forget_entries(3);
    produce(5);
}

/* Dense offsets from the log start on, all here: what a reader would find, without asking anybody. */
static void check_all(void)
{
    trio_check(&t, trio_group(0));
    const struct partition *leader = partition_of(trio_leader(&t, trio_group(0), 0));
    for (uint64_t id = 1; id <= 3; id++) {
        const struct partition *p = partition_of(id);
        assert_int_equal(partition_high_watermark(p), partition_high_watermark(leader));
        assert_int_equal(partition_log_start(p), partition_log_start(leader));
        assert_int_equal(done_hash(p->done), done_hash(leader->done));
        assert_false(p->installing);
    }
}

/* --- one by one --- */

static void a_follower_that_was_away_too_long(void **state)
{
    (void)state;
    prepare(1, 30, 200);
    up(3);
    assert_true(has_caught_up(3, 20000000));
    assert_int_equal(installed_by(3), 1);
    produce(20);
    check_all();
}

static void an_empty_follower(void **state)
{
    (void)state;
    prepare(2, 0, 100);
    up(3);
    assert_true(has_caught_up(3, 20000000));
    assert_int_equal(installed_by(3), 1);
    check_all();
}

/* Several segments, of which it has the first: that is not sent again. */
static void only_what_is_lacking_is_sent(void **state)
{
    (void)state;
    prepare(3, 900, 1600);
    up(3);
    assert_true(has_caught_up(3, 60000000));
    assert_int_equal(installed_by(3), 1);
    const struct partition *p = partition_of(3);
    uint64_t received = t.broker[3].broker->counters.snapshot_received_bytes_total;
    assert_true(segment_log_bytes(p->log) > 2 * SEGMENT_BYTES_MIN);
    assert_true(received < segment_log_bytes(p->log) - SEGMENT_BYTES_MIN + SEGMENT_BYTES_MIN / 4);
    check_all();
}

static void it_survives_a_start_right_afterwards(void **state)
{
    (void)state;
    for (int power_cut = 0; power_cut <= 1; power_cut++) {
        if (power_cut > 0) {
            trio_close(&t);
        }
        prepare(4, 30, 200);
        up(3);
        while (installed_by(3) == 0) {
            trio_run(&t, 1000);
        }
        down(3, power_cut);
        up(3);
        assert_true(has_caught_up(3, 20000000));
        assert_int_equal(installed_by(3), 0); /* it had it */
        check_all();
    }
}

/* --- links --- */

static void a_broken_link_is_gone_on_from(void **state)
{
    (void)state;
    prepare(5, 30, 600);
    up(3);
    for (int i = 0; i < 5; i++) {
        uint64_t got = t.broker[3].broker->counters.snapshot_received_bytes_total;
        for (int n = 0; n < 200000 && t.broker[3].broker->counters.snapshot_received_bytes_total < got + 4000; n++) {
            trio_run(&t, 200);
        }
        sim_cables_break(t.cables, 3, 1);
        sim_cables_break(t.cables, 3, 2);
    }
    assert_true(has_caught_up(3, 30000000));
    const struct counters *counters = &t.broker[3].broker->counters;
    assert_int_equal(counters->snapshots_installed_total, 1);
    assert_true(counters->snapshots_resumed_total >= 3);
    /* Hardly anything came twice. */
    assert_true(counters->snapshot_received_bytes_total < segment_log_bytes(partition_of(3)->log) + 40000);
    check_all();
}

/* --- deaths within the steps --- */

static unsigned kill_at;     /* a point */
static struct rng *mischief; /* NULL: links and processes are left alone while a picture travels */

static void doom(uint64_t id)
{
    t.doomed = id;
    count(id);
    kills_total++;
}

/* Somewhere on the way a link breaks, or a process of either side ends. */
static void on_alarm(void *context, uint64_t argument)
{
    (void)context, (void)argument;
    for (uint64_t id = 1; id <= 3 && mischief != NULL && t.doomed == 0; id++) {
        struct snapshots_state state;
        uint64_t other = rng_between(mischief, 1, 3);
        if (t.broker[id].broker == NULL) {
            continue;
        }
        snapshot_state(t.broker[id].broker, &state);
        if (state.receiving == 0) {
            continue;
        }
        if (rng_below(mischief, 8) == 0 && t.broker[other].broker != NULL) {
            doom(other);
        } else if (other != id) {
            sim_cables_break(t.cables, id, other);
        }
    }
}

static void on_point(void *context, unsigned which)
{
    (void)context;
    if (which == POINT_SNAPSHOT_MADE && mischief != NULL) {
        for (uint64_t n = rng_below(mischief, 8); n > 0; n--) {
            world_at(&t.world, t.world.now_us + rng_between(mischief, 1, 100000), on_alarm, NULL, 0);
        }
    }
    if (which != kill_at || t.world.crashed || t.doomed != 0) {
        return;
    }
    for (uint64_t id = 1; id <= 3; id++) {
        struct snapshots_state state;
        if (t.broker[id].broker == NULL) {
            continue;
        }
        snapshot_state(t.broker[id].broker, &state);
        if (which == POINT_SNAPSHOT_MADE ? state.pictures > 0 : state.installing > 0) {
            doom(id);
            t.world.crashed = true;
            kill_at = POINTS;
            return;
        }
    }
}

static void a_death_at_every_step(void **state)
{
    (void)state;
    static const enum point steps[] = {POINT_SNAPSHOT_MADE, POINT_SNAPSHOT_PLACED, POINT_SNAPSHOT_COMMIT,
                                       POINT_SNAPSHOT_COMMITTED};
    for (uint32_t i = 0; i < 8; i++) {
        if (i > 0) {
            trio_close(&t);
        }
        prepare(10 + i, 300, 700);
        t.trace.point = on_point;
        t.doomed_by_power = i % 2 == 1;
        kill_at = steps[i / 2];
        up(3);
        for (int n = 0; n < 300 && kill_at != POINTS; n++) {
            trio_run(&t, 100000);
        }
        assert_int_equal(kill_at, POINTS);
        for (uint64_t id = 1; id <= 3; id++) {
            up(id);
        }
        assert_true(has_caught_up(3, 60000000));
        produce(10);
        check_all();
    }
}

/* --- what nobody needs any more --- */

static struct snapshots_state state_of(uint64_t id)
{
    struct snapshots_state state;
    snapshot_state(t.broker[id].broker, &state);
    return state;
}

static void count_name(void *context, const char *name)
{
    (void)name;
    (*(uint32_t *)context)++;
}

static uint32_t files_of(uint64_t id)
{
    uint32_t files = 0;
    struct disk *disk = sim_disk_port(t.broker[id].disk);
    assert_int_equal(disk->ops->list(disk, "snapshots", count_name, &files), OK);
    return files;
}

static void limit_all(void)
{
    for (uint64_t id = 1; id <= 3; id++) {
        if (t.broker[id].broker != NULL) {
            snapshot_limit(t.broker[id].broker, &limits);
        }
    }
}

static void cut_off(uint64_t id, bool cut)
{
    for (uint64_t other = 1; other <= 3; other++) {
        if (other != id) {
            sim_cables_cut(t.cables, id, other, cut);
            sim_cables_cut(t.cables, other, id, cut);
        }
    }
}

/* Follower 3 has got some of its snapshot, and then nobody hears from anybody. Returns who sends. */
static uint64_t stop_half_way(uint64_t seed)
{
    prepare(seed, 30, 600);
    uint64_t leader = trio_leader(&t, trio_group(0), 0);
    up(3);
    for (int n = 0; n < 200000 && t.broker[3].broker->counters.snapshot_received_bytes_total < 20000; n++) {
        trio_run(&t, 200);
    }
    cut_off(3, true);
    trio_run(&t, 100000);
    assert_int_equal(state_of(3).receiving, 1);
    assert_true(files_of(3) > 0 && files_of(leader) > 0 && state_of(leader).pictures > 0);
    return leader;
}

static void clean_1_leftovers_go_at_the_start(void **state)
{
    (void)state;
    for (int power_cut = 0; power_cut <= 1; power_cut++) {
        if (power_cut > 0) {
            trio_close(&t);
        }
        uint64_t leader = stop_half_way(20);
        down(3, power_cut);
        up(3);
        assert_int_equal(files_of(3), 0);
        down(leader, power_cut);
        up(leader);
        assert_int_equal(files_of(leader), 0);
        cut_off(3, false);
        assert_true(has_caught_up(3, 60000000));
        check_all();
    }
}

static void clean_2_a_group_that_is_gone_takes_all_along(void **state)
{
    (void)state;
    uint64_t leader = stop_half_way(21);
    assert_true(sim_registry_delete_topic(t.registry, "t"));
    for (int n = 0; n < 100 && (groups_find(t.broker[3].broker, trio_group(0)) != NULL ||
                                groups_find(t.broker[leader].broker, trio_group(0)) != NULL);
         n++) {
        trio_run(&t, 100000);
    }
    trio_run(&t, 500000); /* no sweep is needed for it */
    assert_null(groups_find(t.broker[3].broker, trio_group(0)));
    for (uint64_t id = 1; id <= 3; id++) {
        struct snapshots_state after = state_of(id);
        assert_int_equal(after.receiving + after.pictures + after.sending + after.waiting, 0);
        assert_int_equal(files_of(id), 0);
    }
}

static void clean_3_pictures_that_are_passed(void **state)
{
    (void)state;
    prepare(22, 30, 200);
    limits.idle_us = limits.age_us = limits.sweep_us = UINT64_MAX / 4;
    up(3);
    limit_all();
    assert_true(has_caught_up(3, 20000000));
    uint64_t leader = trio_leader(&t, trio_group(0), 0);
    produce(3); /* all have them, so the log lets them go */
    trio_run(&t, 2000000);
    assert_int_equal(state_of(leader).pictures, 1);
    limits.sweep_us = 1000000;
    limit_all();
    trio_run(&t, 2000000);
    assert_int_equal(state_of(leader).pictures, 0);
    assert_int_equal(files_of(leader), 0);
    check_all();
}

static void clean_3_pictures_that_are_too_old(void **state)
{
    (void)state;
    for (int is_old = 0; is_old <= 1; is_old++) {
        if (is_old > 0) {
            trio_close(&t);
        }
        uint64_t leader = stop_half_way(28); /* the log goes on to reach what that one needs */
        limits.idle_us = UINT64_MAX / 4;
        limits.age_us = is_old ? 5000000 : UINT64_MAX / 4;
        limit_all();
        trio_run(&t, 30000000);
        assert_int_equal(state_of(leader).pictures, is_old ? 0 : 1);
        assert_int_equal(files_of(leader), is_old ? 0 : 1);
        cut_off(3, false);
        assert_true(has_caught_up(3, 60000000));
        check_all();
    }
}

/* As its leader says, there is a picture of what is not even proposed. */
static uint64_t forge_offer(uint64_t leader, uint64_t ahead, uint64_t rows_bytes, uint32_t rows_crc)
{
    const struct partition *p = partition_of(leader);
    PeerSnapshot offer = {.kind = PEER_SNAPSHOT_OFFER,
                          .transfer = 4711,
                          .group = p->group,
                          .from = p->replica,
                          .to = partition_of(3)->replica,
                          .term = raft_term(p->raft),
                          .index = p->applied_index + ahead,
                          .index_term = raft_term(p->raft),
                          .rows_bytes = rows_bytes,
                          .rows_crc = rows_crc};
    assert_true(peers_send_snapshot(t.broker[leader].broker->peers, 3, &offer, (struct slice){0}));
    trio_run(&t, 20000);
    return offer.transfer;
}

static void forge_chunk(uint64_t leader, uint64_t transfer, uint64_t position, const uint8_t *bytes, uint32_t size)
{
    const struct partition *p = partition_of(leader);
    struct buf *buf = buf_new(size);
    memcpy(buf->data, bytes, size);
    PeerSnapshot chunk = {.kind = PEER_SNAPSHOT_CHUNK,
                          .transfer = transfer,
                          .group = p->group,
                          .from = p->replica,
                          .to = partition_of(3)->replica,
                          .position = position};
    assert_true(peers_send_snapshot(t.broker[leader].broker->peers, 3, &chunk, slice_of(buf, 0, size)));
    trio_run(&t, 20000);
    buf_unref(buf);
    buf_unref(buf);
}

/* A follower that is not 3 is of no use here. */
static uint64_t open_led_by_another(uint64_t seed)
{
    open(seed, 20);
    produce(30);
    trio_run(&t, 1000000);
    uint64_t leader = trio_leader(&t, trio_group(0), 10000000);
    if (leader == 3) {
        down(3, false);
        leader = trio_leader(&t, trio_group(0), 30000000);
        assert_true(leader != 0 && leader != 3);
        up(3);
        assert_true(has_caught_up(3, 20000000));
    }
    return leader;
}

static void clean_4_what_was_received_and_is_old_by_now(void **state)
{
    (void)state;
    static const uint8_t bytes[777] = {1};
    uint64_t leader = open_led_by_another(23);
    uint64_t transfer = forge_offer(leader, 10, 5000, 1);
    assert_int_equal(state_of(3).receiving, 1);
    forge_chunk(leader, transfer, 0, bytes, sizeof bytes);
    assert_int_equal(files_of(3), 1);
    produce(20);
    trio_run(&t, 500000);
    assert_int_equal(state_of(3).receiving, 0); /* what it brings is here already */
    assert_int_equal(files_of(3), 0);
    forge_offer(leader, 100, 5000, 1); /* and one that nobody goes on sending */
    forge_chunk(leader, transfer, 0, bytes, sizeof bytes);
    assert_int_equal(state_of(3).receiving, 1);
    trio_run(&t, 15000000);
    assert_int_equal(state_of(3).receiving, 0);
    assert_int_equal(files_of(3), 0);
    check_all();
}

/* --- hostile --- */

static void chunks_that_nobody_asked_for_are_ignored(void **state)
{
    (void)state;
    static const uint8_t bytes[777] = {1};
    uint64_t leader = open_led_by_another(24);
    const struct counters *counters = &t.broker[3].broker->counters;
    forge_chunk(leader, 1, 0, bytes, sizeof bytes); /* no transfer at all */
    assert_int_equal(counters->snapshot_chunks_ignored_total, 1);
    uint64_t transfer = forge_offer(leader, 100, 5000, 1);
    forge_chunk(leader, transfer + 1, 0, bytes, sizeof bytes);      /* of another one */
    forge_chunk(leader, transfer, 777, bytes, sizeof bytes);        /* too early */
    forge_chunk(leader, transfer, 0, bytes, sizeof bytes - 1);      /* too short */
    forge_chunk(leader, transfer, UINT32_MAX, bytes, sizeof bytes); /* behind the end */
    assert_int_equal(counters->snapshot_chunks_ignored_total, 5);
    assert_int_equal(files_of(3), 0);
    forge_chunk(leader, transfer, 0, bytes, sizeof bytes);
    forge_chunk(leader, transfer, 0, bytes, sizeof bytes); /* once more */
    assert_int_equal(counters->snapshot_chunks_ignored_total, 6);
    assert_int_equal(counters->snapshot_received_bytes_total, sizeof bytes);
    produce(5);
    trio_run(&t, 20000000);
    check_all();
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
        assert_int_equal(state_of(3).receiving, 1);
        forge_chunk(leader, transfer, 0, bytes, sizeof bytes);
        trio_run(&t, 100000);
        assert_int_equal(state_of(3).receiving, 0);
        assert_int_equal(files_of(3), 0);
    }
    assert_int_equal(installed_by(3), 0);
    produce(5);
    check_all();
}

/* --- without room --- */

static void an_install_without_room_waits_for_it(void **state)
{
    (void)state;
    prepare(26, 30, 200);
    up(3);
    sim_kv_set_full(t.broker[3].kv, true);
    trio_run(&t, 10000000);
    assert_int_equal(installed_by(3), 0);
    assert_int_equal(state_of(3).installing, 1);
    produce(5); /* the others go on */
    sim_kv_set_full(t.broker[3].kv, false);
    assert_true(has_caught_up(3, 20000000));
    assert_true(installed_by(3) > 0); /* perhaps one more: the others' logs went on meanwhile */
    check_all();
}

/* --- groups without segments --- */

static struct partition *state_group(uint64_t id, uint64_t group)
{
    return groups_find(t.broker[id].broker, group);
}

static void propose_producers(uint64_t group, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t leader = trio_leader(&t, group, 30000000);
        char name[32];
        snprintf(name, sizeof name, "producer-%u", i);
        partition_propose(state_group(leader, group), ENTRY_OPS, state_encode_init(name), NULL);
        trio_run(&t, 20000);
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
    open(27, 20);
    wish.config.segment_bytes = SEGMENT_BYTES_MIN;
    wish.config.max_batch_bytes = SEGMENT_BYTES_MIN;
    wish.config.segment_ms = wish.config.retention_bytes = wish.config.retention_ms = -1;
    strcpy(wish.name, "__producers");
    uint64_t group = sim_registry_create_topic(t.registry, &wish);
    assert_true(group != 0 && trio_leader(&t, group, 30000000) != 0);
    propose_producers(group, 10);
    down(3, false);
    propose_producers(group, 100);
    for (uint64_t id = 1; id <= 2; id++) {
        down(id, false);
        up(id);
        assert_true(trio_leader(&t, group, 30000000) != 0);
    }
    up(3);
    trio_run(&t, 10000000);
    assert_true(installed_by(3) >= 1);
    uint64_t leader = trio_leader(&t, group, 0);
    propose_producers(group, 101);
    trio_run(&t, 3000000);
    down(3, true); /* its rows are what it starts from */
    up(3);
    trio_run(&t, 5000000);
    assert_int_equal(state_count(state_group(3, group)->table), 101);
    assert_int_equal(rows_hash(state_group(3, group)), rows_hash(state_group(leader, group)));
}

/* --- any trouble --- */

static void trouble_step(struct rng *rng)
{
    uint64_t id = rng_between(rng, 1, 3), other = rng_between(rng, 1, 3);
    switch (rng_below(rng, 10)) {
    case 0:
    case 1:
    case 2:
        down(id, rng_below(rng, 2) == 0);
        break;
    case 3:
    case 4:
    case 5:
        up(id);
        break;
    case 6:
        sim_cables_cut(t.cables, id, other, id != other);
        break;
    case 7:
        sim_cables_cut(t.cables, id, other, false);
        break;
    case 8:
        sim_cables_break(t.cables, id, other);
        break;
    default:
        kill_at = POINT_SNAPSHOT_MADE + (unsigned)rng_below(rng, 4);
        t.doomed_by_power = rng_below(rng, 2) == 0;
        break;
    }
    for (uint64_t n = rng_below(rng, 25); n > 0; n--) {
        trio_produce(&t, trio_group(0), rng_between(rng, 1, 500000));
    }
    trio_run(&t, rng_between(rng, 1, 1500000));
}

static void trouble(uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    open(seed, (uint32_t)rng_between(&rng, 5, 40));
    limits.chunk_bytes = (uint32_t)rng_between(&rng, 50, 1500);
    limit_all();
    t.trace.point = on_point;
    kill_at = POINTS;
    mischief = &rng;
    for (int i = 0; i < 60; i++) {
        trouble_step(&rng);
    }
    kill_at = POINTS;
    mischief = NULL;
    for (uint64_t id = 1; id <= 3; id++) {
        up(id);
        cut_off(id, false);
    }
    assert_true(trio_produce(&t, trio_group(0), 60000000) >= 0);
    trio_run(&t, 15000000);
    for (uint64_t id = 1; id <= 3; id++) {
        assert_true(has_caught_up(id, 60000000));
    }
    check_all();
    for (uint64_t id = 1; id <= 3; id++) {
        count(id);
    }
}

static void no_trouble_leaves_a_hole(void **state)
{
    (void)state;
    const char *first = getenv("TRIO_FIRST"), *seeds = getenv("TRIO_SEEDS");
    uint64_t from = first != NULL ? strtoull(first, NULL, 10) : 1;
    uint64_t seeds_count = seeds != NULL ? strtoull(seeds, NULL, 10) : 40;
    uint64_t installed = 0, resumed = 0;
    kills_total = 0;
    for (uint64_t seed = from; seed < from + seeds_count; seed++) {
        if (seed != from) {
            trio_close(&t);
        }
        trouble(seed);
        installed += installed_total;
        resumed += resumed_total;
        if (seeds != NULL) {
            print_message("seed %lu: %u of %u acknowledged, %lu snapshots, %.0f s\n", (unsigned long)seed,
                          t.acknowledged, t.sent, (unsigned long)installed_total, (double)t.world.now_us / 1e6);
        }
    }
    print_message("%lu seeds: %lu snapshots installed, %lu transfers resumed, %lu deaths within their steps\n",
                  (unsigned long)seeds_count, (unsigned long)installed, (unsigned long)resumed,
                  (unsigned long)kills_total);
    assert_true(installed >= seeds_count / 2); /* or it proves nothing */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_follower_that_was_away_too_long),
        TEST(an_empty_follower),
        TEST(only_what_is_lacking_is_sent),
        TEST(it_survives_a_start_right_afterwards),
        TEST(a_broken_link_is_gone_on_from),
        TEST(a_death_at_every_step),
        TEST(clean_1_leftovers_go_at_the_start),
        TEST(clean_2_a_group_that_is_gone_takes_all_along),
        TEST(clean_3_pictures_that_are_passed),
        TEST(clean_3_pictures_that_are_too_old),
        TEST(clean_4_what_was_received_and_is_old_by_now),
        TEST(chunks_that_nobody_asked_for_are_ignored),
        TEST(rows_that_are_none_are_thrown_away),
        TEST(an_install_without_room_waits_for_it),
        TEST(a_group_of_operations),
        TEST(no_trouble_leaves_a_hole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
