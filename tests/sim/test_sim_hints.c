/* What brokers tell clients of the others: who leads, in every answer, and who is in sync, which only a leader knows.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "broker/catalog.h"
#include "sim_trio.h"

#define ANSWER_US 3000000u
#define START_US  20000000u

static struct trio t;

/* The memory of jobs under way goes with a process that dies: not to be looked for as a leak. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

static int tear_down(void **state)
{
    (void)state;
    trio_close(&t);
    return 0;
}

/* --- questions --- */

static uint64_t leader_by_produce(uint64_t id)
{
    uint8_t batch[512];
    const ProduceRequest request = {.group = trio_group(0), .acks = -1, .timeout_ms = 1000};
    uint32_t size = trio_batch(batch, sizeof batch, 7);
    const union codec_message *answer = trio_ask(&t, id, FRAME_PRODUCE, &request, batch, size, ANSWER_US);
    assert_non_null(answer);
    return answer->as_ProduceReply.leader;
}

static uint64_t leader_by_fetch(uint64_t id)
{
    const FetchRequest request = {.group = trio_group(0), .bytes_max = 1000};
    const union codec_message *answer = trio_ask(&t, id, FRAME_FETCH, &request, NULL, 0, ANSWER_US);
    assert_non_null(answer);
    return answer->as_FetchReply.leader;
}

static uint64_t leader_by_list(uint64_t id, int64_t timestamp)
{
    const ListOffsetsRequest request = {.group = trio_group(0), .timestamp = timestamp};
    const union codec_message *answer = trio_ask(&t, id, FRAME_LIST_OFFSETS, &request, NULL, 0, ANSWER_US);
    assert_non_null(answer);
    return answer->as_ListOffsetsReply.leader;
}

/* The row of the topic's first partition, as broker `id` tells it. */
static PartitionRow row_of(uint64_t id)
{
    const MetadataRequest request = {.topic = "t"};
    const union codec_message *answer = trio_ask(&t, id, FRAME_METADATA, &request, NULL, 0, ANSWER_US);
    assert_non_null(answer);
    assert_int_equal(answer->as_MetadataReply.status, OK);
    struct codec_cursor cursor;
    BrokerRow broker;
    TopicRow topic;
    PartitionRow row;
    uint32_t size;
    const uint8_t *payload = trio_payload(&size);
    cursor = (struct codec_cursor){payload, size};
    for (uint32_t i = 0; i < answer->as_MetadataReply.broker_count; i++) {
        assert_int_equal(codec_next_row(&cursor, ROW_BROKER, &broker), OK);
    }
    assert_int_equal(codec_next_row(&cursor, ROW_TOPIC, &topic), OK);
    assert_int_equal(codec_next_row(&cursor, ROW_PARTITION, &row), OK);
    return row;
}

static bool is_in_sync(const PartitionRow *row, uint64_t id)
{
    bool is = false;
    for (uint32_t i = 0; i < row->in_sync_count; i++) {
        is = is || row->in_sync[i] == id;
    }
    return is;
}

/* --- who leads --- */

static void all_name(uint64_t leader)
{
    for (uint64_t id = 1; id <= 3; id++) {
        if (t.broker[id].broker == NULL)
            continue;
        assert_int_equal(leader_by_produce(id), leader);
        assert_int_equal(leader_by_fetch(id), leader);
        assert_int_equal(leader_by_list(id, -1), leader);
        assert_int_equal(leader_by_list(id, -2), leader);
        assert_int_equal(row_of(id).leader, leader);
    }
}

static void every_answer_names_the_leader(void **state)
{
    (void)state;
    trio_open(&t, 11, 3, 1);
    uint64_t first = trio_leader(&t, trio_group(0), START_US);
    all_name(first);
    trio_crash(&t, first, false);
    trio_run(&t, 5000000);
    uint64_t second = trio_leader(&t, trio_group(0), START_US);
    assert_true(second != 0 && second != first);
    all_name(second);
}

static void who_lost_his_leader_names_nobody(void **state)
{
    (void)state;
    trio_open(&t, 12, 3, 1);
    uint64_t leader = trio_leader(&t, trio_group(0), START_US), left = leader % 3 + 1;
    trio_crash(&t, leader, false);
    trio_crash(&t, left % 3 + 1, false);
    trio_run(&t, 5000000);
    assert_int_equal(leader_by_fetch(left), 0);
}

static void who_gives_out_producer_ids_is_named(void **state)
{
    (void)state;
    trio_open(&t, 13, 3, 1);
    const InitProducerRequest request = {.name = "somebody", .timeout_ms = 1000};
    uint64_t giver = 0;
    for (int i = 0; giver == 0 && i < 50; i++) { /* the first one makes the topic */
        for (uint64_t id = 1; giver == 0 && id <= 3; id++) {
            const union codec_message *answer = trio_ask(&t, id, FRAME_INIT_PRODUCER, &request, NULL, 0, ANSWER_US);
            assert_non_null(answer);
            giver = answer->as_InitProducerReply.status == OK ? id : 0;
        }
        trio_run(&t, 200000);
    }
    assert_int_not_equal(giver, 0);
    for (uint64_t id = 1; id <= 3; id++) {
        const union codec_message *answer = trio_ask(&t, id, FRAME_INIT_PRODUCER, &request, NULL, 0, ANSWER_US);
        assert_non_null(answer);
        assert_int_equal(answer->as_InitProducerReply.status, id == giver ? OK : ERR_NOT_LEADER);
        assert_int_equal(answer->as_InitProducerReply.leader, giver);
    }
}

/* --- who is in sync --- */

static void only_a_leader_says_who_is_in_sync(void **state)
{
    (void)state;
    trio_open(&t, 14, 3, 1);
    assert_int_equal(trio_produce(&t, trio_group(0), START_US), 0);
    trio_run(&t, 1000000);
    uint64_t leader = trio_leader(&t, trio_group(0), 0);
    for (uint64_t id = 1; id <= 3; id++) {
        PartitionRow row = row_of(id);
        assert_int_equal(row.replicas_count, 3);
        assert_int_equal(row.in_sync_count, id == leader ? 3 : 0);
    }
}

static void who_is_away_is_not_in_sync(void **state)
{
    (void)state;
    trio_open(&t, 15, 3, 1);
    assert_int_equal(trio_produce(&t, trio_group(0), START_US), 0);
    uint64_t leader = trio_leader(&t, trio_group(0), 0), away = leader % 3 + 1;
    trio_crash(&t, away, false);
    assert_int_equal(trio_produce(&t, trio_group(0), START_US), 1);
    trio_run(&t, 3000000);
    PartitionRow row = row_of(leader);
    assert_int_equal(row.in_sync_count, 2);
    assert_true(is_in_sync(&row, leader));
    assert_false(is_in_sync(&row, away));
    trio_start(&t, away);
    assert_int_equal(trio_produce(&t, trio_group(0), START_US), 2);
    trio_run(&t, 5000000);
    row = row_of(leader);
    assert_int_equal(row.in_sync_count, 3);
    assert_true(is_in_sync(&row, away));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_teardown(name, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(every_answer_names_the_leader),       TEST(who_lost_his_leader_names_nobody),
        TEST(who_gives_out_producer_ids_is_named), TEST(only_a_leader_says_who_is_in_sync),
        TEST(who_is_away_is_not_in_sync),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
