/* The embedded registry over the simulated store, with a lane that runs its jobs when the test says so. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../sim/sim_kv.h"
#include "base/assert.h"
#include "base/crc32c.h"
#include "base/endian.h"
#include "broker/registry_embedded.h"
#include "meta/row.h"

#define BYTES(literal) ((struct kv_bytes){(literal), sizeof(literal) - 1})

/* ---- a lane that waits, and one broker's life ---- */

struct lane {
    struct disk base; /* first */
    struct disk_job *first;
    size_t jobs_count;
};

static void lane_submit(struct disk *disk, enum disk_lane which, struct disk_job *job)
{
    struct lane *lane = (struct lane *)disk;
    struct disk_job **at = &lane->first;
    assert_int_equal(which, DISK_LANE_STORE);
    while (*at != NULL) {
        at = &(*at)->next;
    }
    job->next = NULL;
    *at = job;
    lane->jobs_count++;
}

static bool lane_step(struct lane *lane)
{
    struct disk_job *job = lane->first;
    if (job == NULL) {
        return false;
    }
    lane->first = job->next;
    job->run(job);
    job->done(job);
    return true;
}

static void lane_drain(struct lane *lane)
{
    while (lane_step(lane)) {
    }
}

static const struct disk_ops lane_ops = {.submit = lane_submit};

struct life {
    struct kv *kv;
    struct lane lane;
    struct registry *registry;
    bool (*fault)(const char *point);
};

static bool life_fault(void *context, const char *point)
{
    const struct life *life = context;
    return life->fault != NULL && life->fault(point);
}

static void life_start(struct life *life)
{
    life->lane = (struct lane){.base = {.ops = &lane_ops}};
    life->registry = registry_embedded_new(life->kv, &life->lane.base, NULL);
}

static struct life *life_new(void)
{
    struct life *life = calloc(1, sizeof *life);
    struct sim_kv_options options = {.fault = life_fault, .context = life};
    assert_non_null(life);
    life->kv = sim_kv_new(&options);
    life_start(life);
    return life;
}

static void life_restart(struct life *life)
{
    lane_drain(&life->lane);
    assert_false(registry_embedded_is_busy(life->registry));
    registry_embedded_free(life->registry);
    sim_kv_crash(life->kv, false);
    sim_kv_restart(life->kv);
    life_start(life);
}

static void life_free(struct life *life)
{
    lane_drain(&life->lane);
    registry_embedded_free(life->registry);
    sim_kv_free(life->kv);
    free(life);
}

struct answer {
    int count;
    enum err error;
};

static void take_answer(void *context, enum err error)
{
    struct answer *answer = context;
    answer->count++;
    answer->error = error;
}

static struct registry_topic topic_of(const char *name, uint8_t id, uint32_t partitions, uint64_t first_group)
{
    struct registry_topic topic = {
        .id = {id, [15] = 0xee},
        .state = TOPIC_LIVE,
        .kind = TOPIC_DATA,
        .partitions_count = partitions,
        .first_group = first_group,
        .first_replica = first_group + 1000,
        .config = {.segment_bytes = 1 << 20,
                   .segment_ms = -1,
                   .retention_bytes = -1,
                   .retention_ms = 604800000,
                   .max_batch_bytes = 1 << 20,
                   .replicas = 3},
    };
    snprintf(topic.name, sizeof topic.name, "%s", name);
    return topic;
}

static enum err put_topic(struct life *life, struct registry_topic topic)
{
    struct answer answer = {0};
    life->registry->ops->put_topic(life->registry, &topic, take_answer, &answer);
    memset(&topic, 0x55, sizeof topic); /* the caller's memory is its own again */
    assert_int_equal(answer.count, 0);  /* only in a later turn */
    lane_drain(&life->lane);
    assert_int_equal(answer.count, 1);
    return answer.error;
}

static enum err delete_topic(struct life *life, struct registry_topic topic)
{
    struct answer answer = {0};
    life->registry->ops->delete_topic(life->registry, &topic, take_answer, &answer);
    lane_drain(&life->lane);
    assert_int_equal(answer.count, 1);
    return answer.error;
}

struct loaded {
    struct answer answer;
    struct registry_topic topics[8];
    size_t topics_count;
    uint64_t deleted[16];
    size_t deleted_count;
};

static void take_topic(void *context, const struct registry_topic *topic)
{
    struct loaded *loaded = context;
    assert_int_equal(loaded->answer.count, 0);
    assert_int_equal(loaded->deleted_count, 0);
    assert_true(loaded->topics_count < 8);
    loaded->topics[loaded->topics_count++] = *topic;
}

static void take_deleted(void *context, uint64_t group)
{
    struct loaded *loaded = context;
    assert_int_equal(loaded->answer.count, 0);
    assert_true(loaded->deleted_count < 16);
    loaded->deleted[loaded->deleted_count++] = group;
}

static void load(struct life *life, struct loaded *loaded)
{
    struct registry_visitor visitor = {.topic = take_topic, .deleted = take_deleted};
    memset(loaded, 0, sizeof *loaded);
    life->registry->ops->load(life->registry, &(struct registry_self){.broker = 1}, &visitor, take_answer, loaded);
    visitor = (struct registry_visitor){0};
    assert_int_equal(loaded->answer.count, 0);
    assert_int_equal(loaded->topics_count, 0);
    lane_drain(&life->lane);
    assert_int_equal(loaded->answer.count, 1);
}

static void assert_same_topic(const struct registry_topic *a, const struct registry_topic *b)
{
    assert_memory_equal(a->id, b->id, sizeof a->id);
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->state, b->state);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->partitions_count, b->partitions_count);
    assert_int_equal(a->first_group, b->first_group);
    assert_int_equal(a->first_replica, b->first_replica);
    assert_int_equal(a->config.segment_bytes, b->config.segment_bytes);
    assert_int_equal(a->config.segment_ms, b->config.segment_ms);
    assert_int_equal(a->config.retention_bytes, b->config.retention_bytes);
    assert_int_equal(a->config.retention_ms, b->config.retention_ms);
    assert_int_equal(a->config.max_batch_bytes, b->config.max_batch_bytes);
    assert_int_equal(a->config.replicas, b->config.replicas);
}

/* ---- topics ---- */

static void test_topics_there_and_back(void **state)
{
    struct life *life = life_new();
    struct loaded loaded;
    load(life, &loaded);
    assert_int_equal(loaded.answer.error, OK);
    assert_int_equal(loaded.topics_count, 0);

    char longest[TOPIC_NAME_BYTES_MAX + 1];
    memset(longest, 'z', TOPIC_NAME_BYTES_MAX);
    longest[TOPIC_NAME_BYTES_MAX] = 0;
    struct registry_topic first = topic_of(longest, 1, 1, 1);
    struct registry_topic second = topic_of("a", 2, PARTITIONS_PER_TOPIC_MAX, 100);
    second.kind = TOPIC_STATE;
    second.state = TOPIC_CREATING;
    second.config.retention_bytes = INT64_MAX;
    second.config.replicas = RAFT_VOTERS_MAX;
    assert_int_equal(put_topic(life, first), OK);
    assert_int_equal(put_topic(life, second), OK);
    second.state = TOPIC_LIVE; /* replaces the row */
    assert_int_equal(put_topic(life, second), OK);
    life_restart(life);
    load(life, &loaded);
    assert_int_equal(loaded.answer.error, OK);
    assert_int_equal(loaded.topics_count, 2);
    assert_int_equal(loaded.deleted_count, 0);
    assert_same_topic(&loaded.topics[0], &first);
    assert_same_topic(&loaded.topics[1], &second);
    life_free(life);
}

/* Names are never glued to anything: a + bc is not ab + c, and a name is no prefix of another. */
static void test_names_do_not_run_together(void **state)
{
    struct life *life = life_new();
    struct loaded loaded;
    static const char *names[] = {"a", "ab", "abc", "b", "bc", "c"};
    for (uint8_t i = 0; i < 6; i++) {
        assert_int_equal(put_topic(life, topic_of(names[i], i, 2, 10 + 2u * i)), OK);
    }
    assert_int_equal(delete_topic(life, topic_of("a", 0, 2, 10)), OK);
    assert_int_equal(delete_topic(life, topic_of("bc", 4, 2, 18)), OK);
    load(life, &loaded);
    assert_int_equal(loaded.topics_count, 4);
    assert_string_equal(loaded.topics[0].name, "ab");
    assert_string_equal(loaded.topics[1].name, "abc");
    assert_string_equal(loaded.topics[2].name, "b");
    assert_string_equal(loaded.topics[3].name, "c");
    assert_int_equal(loaded.topics[3].first_group, 20);
    assert_int_equal(loaded.deleted_count, 4);
    life_free(life);
}

static void test_delete_marks_groups(void **state)
{
    struct life *life = life_new();
    struct loaded loaded;
    assert_int_equal(put_topic(life, topic_of("orders", 1, 3, 256)), OK);
    assert_int_equal(put_topic(life, topic_of("other", 2, 1, 259)), OK);
    assert_int_equal(delete_topic(life, topic_of("orders", 1, 3, 256)), OK);
    life_restart(life);
    load(life, &loaded);
    assert_int_equal(loaded.topics_count, 1);
    assert_string_equal(loaded.topics[0].name, "other");
    assert_int_equal(loaded.deleted_count, 3);
    for (uint64_t p = 0; p < 3; p++) {
        assert_int_equal(loaded.deleted[p], 256 + p);
    }
    /* Again, and a topic that never had a row: only marks. */
    assert_int_equal(delete_topic(life, topic_of("orders", 1, 3, 256)), OK);
    assert_int_equal(delete_topic(life, topic_of("unborn", 3, 1, 300)), OK);
    /* The name has a new owner by now, whose row stays. */
    assert_int_equal(put_topic(life, topic_of("orders", 4, 1, 400)), OK);
    assert_int_equal(delete_topic(life, topic_of("orders", 1, 3, 256)), OK);
    load(life, &loaded);
    assert_int_equal(loaded.topics_count, 2);
    assert_string_equal(loaded.topics[1].name, "orders");
    assert_int_equal(loaded.topics[1].first_group, 400);
    assert_int_equal(loaded.deleted_count, 4);
    life_free(life);
}

static bool dies_at_second_put(const char *point)
{
    static int puts;
    return strcmp(point, "kv.put") == 0 && ++puts == 2;
}
static bool dies_before_commit(const char *point)
{
    return strcmp(point, "kv.commit.before") == 0;
}
static bool dies_after_commit(const char *point)
{
    return strcmp(point, "kv.commit.after") == 0;
}

static void test_delete_is_one_transaction(void **state)
{
    static bool (*const faults[])(const char *point) = {dies_at_second_put, dies_before_commit, dies_after_commit};
    for (size_t i = 0; i < 3; i++) {
        struct life *life = life_new();
        struct loaded loaded;
        assert_int_equal(put_topic(life, topic_of("orders", 1, 3, 7)), OK);
        life->fault = faults[i];
        assert_int_equal(delete_topic(life, topic_of("orders", 1, 3, 7)), ERR_IO);
        load(life, &loaded);
        assert_int_equal(loaded.answer.error, ERR_IO);
        assert_int_equal(loaded.topics_count + loaded.deleted_count, 0);
        life->fault = NULL;
        life_restart(life);
        load(life, &loaded);
        bool gone = faults[i] == dies_after_commit;
        assert_int_equal(loaded.topics_count, gone ? 0 : 1);
        assert_int_equal(loaded.deleted_count, gone ? 3 : 0);
        life_free(life);
    }
}

/* The key that the topic's row has; bytes has room for it. */
static struct kv_bytes topic_key(const struct registry_topic *topic, uint8_t bytes[KV_KEY_BYTES_MAX])
{
    size_t size = strlen(topic->name);
    memcpy(bytes, "Rt", 2);
    store_be64(bytes + 2, topic->first_group);
    store_be32(bytes + 10, topic->partitions_count);
    memcpy(bytes + 14, topic->name, size);
    store_be32(bytes + 14 + size, crc32c(0, bytes, 14 + size));
    return (struct kv_bytes){bytes, 18 + size};
}

static void put_row(struct life *life, struct kv_bytes key, struct kv_bytes value)
{
    struct kv_txn *txn;
    assert_int_equal(life->kv->ops->begin(life->kv, true, &txn), OK);
    assert_int_equal(row_put(life->kv, txn, key, value), OK);
    assert_int_equal(life->kv->ops->commit(life->kv, txn), OK);
}

static void delete_row(struct life *life, struct kv_bytes key)
{
    struct kv_txn *txn;
    assert_int_equal(life->kv->ops->begin(life->kv, true, &txn), OK);
    assert_int_equal(life->kv->ops->del(life->kv, txn, key), OK);
    assert_int_equal(life->kv->ops->commit(life->kv, txn), OK);
}

/* Topic a is itself, of b only its name and its groups are known. */
static void assert_b_is_unreadable(struct life *life)
{
    struct loaded loaded;
    load(life, &loaded);
    assert_int_equal(loaded.answer.error, OK);
    assert_int_equal(loaded.topics_count, 2);
    assert_string_equal(loaded.topics[0].name, "a");
    assert_int_equal(loaded.topics[0].state, TOPIC_LIVE);
    assert_string_equal(loaded.topics[1].name, "b");
    assert_int_equal(loaded.topics[1].state, TOPIC_UNREADABLE);
    assert_int_equal(loaded.topics[1].first_group, 2);
    assert_int_equal(loaded.topics[1].partitions_count, 3);
}

static void test_rot_of_a_topic_is_its_own(void **state)
{
    struct life *life = life_new();
    struct loaded loaded;
    struct registry_topic b = topic_of("b", 2, 3, 2);
    uint8_t bytes[KV_KEY_BYTES_MAX], copy[600], bytes_of_a[KV_KEY_BYTES_MAX];
    struct kv_bytes key = topic_key(&b, bytes), value;
    struct registry_topic a = topic_of("a", 1, 1, 1);
    assert_int_equal(put_topic(life, a), OK);
    assert_int_equal(put_topic(life, b), OK);
    for (size_t bit = 0; sim_kv_flip_bit(life->kv, key, bit); bit++) {
        assert_b_is_unreadable(life);
        assert_true(sim_kv_flip_bit(life->kv, key, bit));
    }
    /* It can be deleted, and its groups are marked. */
    assert_true(sim_kv_flip_bit(life->kv, key, 0));
    load(life, &loaded);
    assert_int_equal(delete_topic(life, loaded.topics[1]), OK);
    load(life, &loaded);
    assert_int_equal(loaded.topics_count, 1);
    assert_int_equal(loaded.deleted_count, 3);

    /* A good row under another key, and rows that no writer makes, with good CRCs. */
    struct kv_txn *txn;
    assert_int_equal(life->kv->ops->begin(life->kv, true, &txn), OK);
    assert_int_equal(row_get(life->kv, txn, topic_key(&a, bytes_of_a), &value), OK);
    assert_true(value.size <= sizeof copy);
    memcpy(copy, value.data, value.size);
    life->kv->ops->abort(life->kv, txn);
    const struct kv_bytes bad[] = {{copy, value.size}, {"", 0}, {"\xff\xff\xff", 3}, {copy, sizeof copy}};
    for (size_t i = 0; i < 4; i++) {
        put_row(life, key, bad[i]);
        assert_b_is_unreadable(life);
    }
    life_free(life);
}

/* Whose row it is cannot be said when the key is no key: nothing is shown of such a registry. */
static void test_rot_of_a_key_is_everybodys(void **state)
{
    struct life *life = life_new();
    struct registry_topic b = topic_of("b", 2, 3, 2);
    uint8_t bytes[KV_KEY_BYTES_MAX];
    struct kv_bytes key = topic_key(&b, bytes);
    assert_int_equal(put_topic(life, topic_of("a", 1, 1, 1)), OK);
    for (size_t bit = 16; bit < key.size * 8; bit++) {
        struct loaded loaded;
        bytes[bit / 8] ^= 1u << bit % 8;
        put_row(life, key, BYTES("whatever"));
        load(life, &loaded);
        assert_int_equal(loaded.answer.error, ERR_FORMAT);
        assert_int_equal(loaded.topics_count, 0);
        delete_row(life, key);
        bytes[bit / 8] ^= 1u << bit % 8;
    }
    memcpy(bytes + 14, "b", 2); /* a name that ends early */
    store_be32(bytes + 16, crc32c(0, bytes, 16));
    put_row(life, (struct kv_bytes){bytes, 20}, BYTES("whatever"));
    struct loaded loaded;
    load(life, &loaded);
    assert_int_equal(loaded.answer.error, ERR_FORMAT);
    life_free(life);
}

/* The group that the key names now may be one that lives. */
static void test_a_rotten_mark_deletes_nothing(void **state)
{
    struct life *life = life_new();
    struct loaded loaded;
    uint8_t key[10] = {'R', 'd'};
    assert_int_equal(put_topic(life, topic_of("t", 1, 2, 50)), OK);
    assert_int_equal(delete_topic(life, topic_of("t", 1, 2, 50)), OK);
    store_be64(key + 2, 50);
    assert_true(sim_kv_flip_bit(life->kv, (struct kv_bytes){key, sizeof key}, 77));
    load(life, &loaded);
    assert_int_equal(loaded.answer.error, OK);
    assert_int_equal(loaded.deleted_count, 1);
    assert_int_equal(loaded.deleted[0], 51);
    life_free(life);
}

/* ---- ids ---- */

struct reservation {
    struct answer answer;
    uint64_t first;
};

static void reserve(struct life *life, uint64_t count, struct reservation *reservation)
{
    *reservation = (struct reservation){.first = 4711};
    life->registry->ops->reserve_ids(life->registry, count, &reservation->first, take_answer, reservation);
    assert_int_equal(reservation->answer.count, 0);
}

static void test_ids_are_never_reused(void **state)
{
    struct life *life = life_new();
    struct reservation a, b, c;
    reserve(life, 10, &a);
    reserve(life, 1, &b); /* asked before the first is answered */
    lane_drain(&life->lane);
    assert_int_equal(a.answer.error, OK);
    assert_int_equal(a.first, 1);
    assert_int_equal(b.first, 11);
    life_restart(life);
    reserve(life, 3, &c);
    lane_drain(&life->lane);
    assert_int_equal(c.first, 12);

    /* Deleting gives nothing back. */
    assert_int_equal(put_topic(life, topic_of("t", 1, 3, c.first)), OK);
    assert_int_equal(delete_topic(life, topic_of("t", 1, 3, c.first)), OK);
    life_restart(life);
    reserve(life, 1, &a);
    lane_drain(&life->lane);
    assert_int_equal(a.first, 15);

    /* A reservation whose outcome its asker never learned is spent; one that failed gave nothing. */
    life->fault = dies_after_commit;
    reserve(life, 5, &a);
    lane_drain(&life->lane);
    assert_int_equal(a.answer.error, ERR_IO);
    assert_int_equal(a.first, 4711);
    life->fault = NULL;
    life_restart(life);
    reserve(life, 1, &b);
    lane_drain(&life->lane);
    assert_int_equal(b.first, 21);
    life->fault = dies_before_commit;
    reserve(life, 5, &a);
    lane_drain(&life->lane);
    assert_int_equal(a.answer.error, ERR_IO);
    life->fault = NULL;
    life_restart(life);

    /* A counter that cannot be read ends it all; never does it start from 1. */
    assert_true(sim_kv_flip_bit(life->kv, BYTES("Rn"), 70));
    reserve(life, 1, &a);
    lane_drain(&life->lane);
    assert_int_equal(a.answer.error, ERR_FORMAT);
    assert_true(sim_kv_flip_bit(life->kv, BYTES("Rn"), 70));
    reserve(life, UINT64_MAX, &a);
    lane_drain(&life->lane);
    assert_int_not_equal(a.answer.error, OK);
    reserve(life, 1, &a);
    lane_drain(&life->lane);
    assert_int_equal(a.first, 22);
    life_free(life);
}

/* ---- leaders ---- */

struct leader {
    enum err error;
    uint64_t broker, term;
};

static struct leader leader_of(struct life *life, uint64_t group)
{
    uint8_t key[10] = {'R', 'l'};
    struct leader leader = {0};
    struct kv_txn *txn;
    struct kv_bytes value;
    store_be64(key + 2, group);
    assert_int_equal(life->kv->ops->begin(life->kv, false, &txn), OK);
    leader.error = row_get(life->kv, txn, (struct kv_bytes){key, sizeof key}, &value);
    if (leader.error == OK) {
        assert_int_equal(value.size, 24);
        leader.broker = load_le64((const uint8_t *)value.data + 8);
        leader.term = load_le64((const uint8_t *)value.data + 16);
    }
    life->kv->ops->abort(life->kv, txn);
    return leader;
}

static void publish(struct life *life, uint64_t group, uint64_t broker, uint64_t term)
{
    life->registry->ops->publish_leader(life->registry, group, broker, term);
}

static void test_leader_term_never_falls(void **state)
{
    struct life *life = life_new();
    publish(life, 5, 1, 10);
    lane_drain(&life->lane);
    publish(life, 5, 2, 9);
    lane_drain(&life->lane);
    assert_int_equal(leader_of(life, 5).broker, 1);
    assert_int_equal(leader_of(life, 5).term, 10);
    life_restart(life); /* compared with the stored row, not with memory */
    publish(life, 5, 2, 9);
    publish(life, 5, 3, 10);
    lane_drain(&life->lane);
    assert_int_equal(leader_of(life, 5).broker, 1);
    publish(life, 5, 3, 11);
    lane_drain(&life->lane);
    assert_int_equal(leader_of(life, 5).broker, 3);
    assert_int_equal(leader_of(life, 5).term, 11);
    assert_int_equal(leader_of(life, 6).error, ERR_NO_FILE);
    life_free(life);
}

static void test_leaders_are_coalesced(void **state)
{
    struct life *life = life_new();
    for (uint64_t group = 1; group <= 100; group++) {
        publish(life, group, 1, 2);
        publish(life, group, 2, 5);
        publish(life, group, 1, 3); /* lower, and never seen by the store */
    }
    assert_int_equal(life->lane.jobs_count, 1); /* the first notice went at once, the rest waits for it */
    assert_true(registry_embedded_is_busy(life->registry));
    lane_drain(&life->lane);
    assert_int_equal(life->lane.jobs_count, 2);
    assert_false(registry_embedded_is_busy(life->registry));
    assert_int_equal(sim_kv_commits_count(life->kv), 2);
    for (uint64_t group = 1; group <= 100; group++) {
        assert_int_equal(leader_of(life, group).broker, 2);
        assert_int_equal(leader_of(life, group).term, 5);
    }
    life_free(life);
}

static void test_leaders_are_retried(void **state)
{
    struct life *life = life_new();
    sim_kv_set_full(life->kv, true);
    publish(life, 1, 1, 2);
    lane_drain(&life->lane);
    assert_false(registry_embedded_is_busy(life->registry)); /* no loop while the disk is full */
    assert_int_equal(life->lane.jobs_count, 1);
    assert_int_equal(leader_of(life, 1).error, ERR_NO_FILE);
    sim_kv_set_full(life->kv, false);
    /* Any write that succeeds takes it along, and so does the next notice. */
    assert_int_equal(put_topic(life, topic_of("t", 1, 1, 1)), OK);
    assert_int_equal(leader_of(life, 1).term, 2);

    sim_kv_set_full(life->kv, true);
    publish(life, 1, 1, 3);
    publish(life, 2, 1, 3);
    publish(life, 1, 2, 4); /* while the first is on its way: the newer one wins in the end */
    lane_drain(&life->lane);
    sim_kv_set_full(life->kv, false);
    publish(life, 3, 1, 1);
    lane_drain(&life->lane);
    assert_int_equal(leader_of(life, 1).term, 4);
    assert_int_equal(leader_of(life, 1).broker, 2);
    assert_int_equal(leader_of(life, 2).term, 3);
    assert_int_equal(leader_of(life, 3).term, 1);

    /* One that never came through does not keep the registry. */
    sim_kv_set_full(life->kv, true);
    publish(life, 1, 1, 30);
    life_free(life);
}

static void test_deleted_groups_have_no_leader(void **state)
{
    struct life *life = life_new();
    assert_int_equal(put_topic(life, topic_of("t", 1, 2, 50)), OK);
    publish(life, 50, 1, 2);
    publish(life, 52, 1, 2);
    lane_drain(&life->lane);
    assert_int_equal(delete_topic(life, topic_of("t", 1, 2, 50)), OK);
    publish(life, 50, 2, 3); /* late */
    publish(life, 51, 2, 3);
    publish(life, 52, 2, 3);
    lane_drain(&life->lane);
    assert_int_equal(leader_of(life, 50).error, ERR_NO_FILE);
    assert_int_equal(leader_of(life, 51).error, ERR_NO_FILE);
    assert_int_equal(leader_of(life, 52).term, 3);
    life_free(life);
}

static void test_marks_are_forgotten(void **state)
{
    struct life *life = life_new();
    struct loaded loaded;
    struct answer answer = {0};
    uint64_t groups[2] = {50, 51};
    assert_int_equal(put_topic(life, topic_of("t", 1, 3, 50)), OK);
    assert_int_equal(delete_topic(life, topic_of("t", 1, 3, 50)), OK);
    sim_kv_set_full(life->kv, true);
    publish(life, 50, 1, 9); /* late, and waiting for room */
    publish(life, 60, 1, 9);
    lane_drain(&life->lane);
    sim_kv_set_full(life->kv, false);
    life->registry->ops->forget_deleted(life->registry, groups, 2, take_answer, &answer);
    memset(groups, 0x55, sizeof groups);
    lane_drain(&life->lane);
    assert_int_equal(answer.count, 1);
    assert_int_equal(answer.error, OK);
    assert_int_equal(leader_of(life, 50).error, ERR_NO_FILE);
    assert_int_equal(leader_of(life, 60).term, 9);
    load(life, &loaded);
    assert_int_equal(loaded.deleted_count, 1);
    assert_int_equal(loaded.deleted[0], 52);
    life_free(life);
}

/* ---- life ---- */

struct ender {
    struct life *life;
    bool ended;
};

static void end_registry(void *context, enum err error)
{
    struct ender *ender = context;
    assert_int_equal(error, OK);
    assert_false(registry_embedded_is_busy(ender->life->registry));
    registry_embedded_free(ender->life->registry);
    ender->life->registry = NULL;
    ender->ended = true;
}

static void test_callback_may_end_it(void **state)
{
    struct life *life = life_new();
    struct ender ender = {.life = life};
    struct registry_topic topic = topic_of("t", 1, 1, 1);
    life->registry->ops->put_topic(life->registry, &topic, end_registry, &ender);
    assert_true(registry_embedded_is_busy(life->registry));
    lane_drain(&life->lane);
    assert_true(ender.ended);
    life_free(life);
}

static bool dies_at_begin(const char *point)
{
    return strcmp(point, "kv.begin") == 0;
}

static void count_failure(void *context)
{
    (*(int *)context)++;
}

/* After a failed commit nobody knows what the disk holds: no client is told anything, the owner ends the process. */
static void test_a_failed_store_is_told_to_the_owner_only(void **state)
{
    struct life *life = life_new();
    struct answer answer = {0};
    struct registry_topic topic = topic_of("t", 1, 1, 1);
    int failures = 0;
    (void)state;
    registry_embedded_on_failed(life->registry, count_failure, &failures);
    life->fault = dies_at_begin;
    life->registry->ops->put_topic(life->registry, &topic, take_answer, &answer);
    lane_drain(&life->lane);
    assert_int_equal(failures, 1);
    assert_int_equal(answer.count, 0);
    life->fault = NULL;
    life_free(life);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topics_there_and_back),
        cmocka_unit_test(test_names_do_not_run_together),
        cmocka_unit_test(test_delete_marks_groups),
        cmocka_unit_test(test_delete_is_one_transaction),
        cmocka_unit_test(test_rot_of_a_topic_is_its_own),
        cmocka_unit_test(test_rot_of_a_key_is_everybodys),
        cmocka_unit_test(test_a_rotten_mark_deletes_nothing),
        cmocka_unit_test(test_ids_are_never_reused),
        cmocka_unit_test(test_leader_term_never_falls),
        cmocka_unit_test(test_leaders_are_coalesced),
        cmocka_unit_test(test_leaders_are_retried),
        cmocka_unit_test(test_deleted_groups_have_no_leader),
        cmocka_unit_test(test_marks_are_forgotten),
        cmocka_unit_test(test_callback_may_end_it),
        cmocka_unit_test(test_a_failed_store_is_told_to_the_owner_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
