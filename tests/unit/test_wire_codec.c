/* The codec: known bytes for known messages, every message back and forth at its fullest and emptiest, every prefix and
 * every flipped bit without harm, bounds of strings and lists, rows and stored messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "wire/codec.h"

static const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};

/* --- known bytes --- */

static void a_produce_request_has_these_bytes(void **state)
{
    ProduceRequest request = {.group = 300, .acks = -1, .timeout_ms = 5000, .term = 1};
    uint8_t out[CODEC_HEAD_BYTES_MAX];
    uint32_t size;
    assert_int_equal(codec_encode_frame(out, sizeof out, FRAME_PRODUCE, 1, &request, 100, &size), OK);
    static const uint8_t proto[] = {0x08, 0xac, 0x02, 0x10, 0x01, 0x18, 0x88, 0x27, 0x20, 0x01};
    assert_int_equal(size, FRAME_HEADER_BYTES + sizeof proto);
    assert_memory_equal(out + FRAME_HEADER_BYTES, proto, sizeof proto);

    /* 100 bytes of payload were announced; the head alone asks for them. */
    struct frame frame;
    uint64_t needed = 0;
    assert_int_equal(frame_parse(out, size, &limits, &frame, &needed), ERR_AGAIN);
    assert_int_equal(needed, size + 100);
}

static void unknown_fields_are_skipped(void **state)
{
    /* group = 7, field 100 varint, field 101 bytes, field 102 fixed32, field 103 fixed64, offset = -1 */
    static const uint8_t proto[] = {0x08, 0x07, 0xa0, 0x06, 0x01, 0xaa, 0x06, 0x03, 1,    2,    3,    0xb5, 0x06,
                                    1,    2,    3,    4,    0xb9, 0x06, 1,    2,    3,    4,    5,    6,    7,
                                    8,    0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01};
    FetchRequest request;
    assert_int_equal(codec_decode(FRAME_FETCH, proto, sizeof proto, &request), OK);
    assert_int_equal(request.group, 7);
    assert_true(request.offset == -1);
}

static void malformed_bytes_are_refused(void **state)
{
    static const struct {
        const char *bytes;
        uint32_t size;
    } cases[] = {
        {"\x08", 1},                                              /* tag without value */
        {"\x08\x80", 2},                                          /* unfinished varint */
        {"\x08\x07\x10", 3},                                      /* a good field, then a cut one */
        {"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12}, /* varint of 11 bytes */
        {"\x0a\x01x", 3},                                         /* wrong wire type for group */
        {"\x00\x01", 2},                                          /* field number 0 */
        {"\xa2\x06\xff\xff\xff\xff\x0f", 7},                      /* unknown field of 4 GiB */
        {"\xa3\x06", 2},                                          /* group wire type, gone from protobuf 3 */
        {"\x0f", 1},                                              /* wire type 7 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ProduceRequest request;
        memset(&request, 0x5a, sizeof request);
        assert_int_equal(codec_decode(FRAME_PRODUCE, (const uint8_t *)cases[i].bytes, cases[i].size, &request),
                         ERR_BAD_FRAME);
        static const ProduceRequest zero;
        assert_memory_equal(&request, &zero, sizeof zero);
    }
}

static void unknown_types_are_unsupported(void **state)
{
    union codec_message message;
    for (int type = 0; type < 300; type++) {
        bool known = (type >= 1 && type <= 16) || type == 65 || type == 66 || (type >= 68 && type <= 70) || type == 255;
        assert_int_equal(codec_decode((enum frame_type)type, NULL, 0, &message), known ? OK : ERR_UNSUPPORTED);
    }
}

/* --- every message, full and empty --- */

/* Full messages: strings at their bound, numbers at their longest encoding. */
static void fill_config(TopicConfig *config)
{
    *config =
        (TopicConfig){true, UINT64_MAX, true, INT64_MIN, true, INT64_MIN, true, -1, true, UINT32_MAX, true, UINT32_MAX};
}

#define FILL_STRING(array) (memset(array, 'x', sizeof array - 1), (array)[sizeof array - 1] = '\0')

static void fill_requests(enum frame_type type, union codec_message *m)
{
    switch (type) {
    case FRAME_HELLO:
        m->as_HelloRequest.version = UINT32_MAX;
        FILL_STRING(m->as_HelloRequest.client_id);
        break;
    case FRAME_METADATA:
        m->as_MetadataRequest.describe = true;
        FILL_STRING(m->as_MetadataRequest.topic);
        break;
    case FRAME_CREATE_TOPIC:
        m->as_CreateTopicRequest = (CreateTopicRequest){
            .partitions = UINT32_MAX, .replicas = UINT32_MAX, .has_config = true, .timeout_ms = UINT32_MAX};
        fill_config(&m->as_CreateTopicRequest.config);
        FILL_STRING(m->as_CreateTopicRequest.name);
        break;
    case FRAME_DELETE_TOPIC:
        m->as_DeleteTopicRequest.timeout_ms = UINT32_MAX;
        FILL_STRING(m->as_DeleteTopicRequest.name);
        break;
    case FRAME_PRODUCE:
        m->as_ProduceRequest = (ProduceRequest){UINT64_MAX, INT32_MIN, UINT32_MAX, UINT64_MAX};
        break;
    case FRAME_FETCH:
        m->as_FetchRequest = (FetchRequest){UINT64_MAX, INT64_MIN, UINT32_MAX, UINT32_MAX, UINT32_MAX};
        break;
    case FRAME_LIST_OFFSETS:
        m->as_ListOffsetsRequest = (ListOffsetsRequest){UINT64_MAX, INT64_MIN};
        break;
    case FRAME_INIT_PRODUCER:
        m->as_InitProducerRequest.timeout_ms = UINT32_MAX;
        FILL_STRING(m->as_InitProducerRequest.name);
        break;
    case FRAME_PEER_HELLO:
        m->as_PeerHello =
            (PeerHello){UINT32_MAX, {[15] = 1}, UINT64_MAX, {[15] = 2}, UINT64_MAX, UINT32_MAX, UINT64_MAX};
        break;
    case FRAME_PEER_PING:
        m->as_PeerPing = (PeerPing){UINT64_MAX, INT64_MIN, UINT32_MAX, UINT64_MAX};
        break;
    default:
        fail();
    }
}

static void fill_replies(enum frame_type type, union codec_message *m)
{
    switch (type) {
    case FRAME_HELLO_REPLY:
        m->as_HelloReply = (HelloReply){UINT32_MAX, UINT32_MAX, UINT64_MAX, {0xff, [15] = 1}};
        break;
    case FRAME_METADATA_REPLY:
        m->as_MetadataReply = (MetadataReply){UINT32_MAX, UINT32_MAX, UINT32_MAX, {[15] = 1}};
        break;
    case FRAME_CREATE_TOPIC_REPLY:
        m->as_CreateTopicReply.status = UINT32_MAX;
        FILL_STRING(m->as_CreateTopicReply.message);
        break;
    case FRAME_DELETE_TOPIC_REPLY:
        m->as_DeleteTopicReply.status = UINT32_MAX;
        FILL_STRING(m->as_DeleteTopicReply.message);
        break;
    case FRAME_PRODUCE_REPLY:
        m->as_ProduceReply = (ProduceReply){UINT32_MAX, INT64_MIN, UINT64_MAX, INT64_MIN, true};
        break;
    case FRAME_FETCH_REPLY:
        m->as_FetchReply = (FetchReply){UINT32_MAX, INT64_MIN, INT64_MIN, INT64_MIN, UINT64_MAX, UINT64_MAX};
        break;
    case FRAME_LIST_OFFSETS_REPLY:
        m->as_ListOffsetsReply = (ListOffsetsReply){UINT32_MAX, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, UINT64_MAX};
        break;
    case FRAME_INIT_PRODUCER_REPLY:
        m->as_InitProducerReply = (InitProducerReply){UINT32_MAX, INT64_MIN, INT32_MIN, UINT64_MAX};
        break;
    case FRAME_PEER_HELLO_REPLY:
        m->as_PeerHelloReply = (PeerHelloReply){UINT32_MAX, UINT32_MAX, UINT64_MAX, {[15] = 1}, UINT64_MAX};
        break;
    case FRAME_SNAPSHOT: /* an even number, and nothing but numbers */
        m->as_PeerSnapshot = (PeerSnapshot){UINT32_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX,
                                            UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX, INT64_MIN,
                                            UINT64_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX};
        break;
    case FRAME_PEER_PONG:
        m->as_PeerPong = (PeerPong){UINT64_MAX, INT64_MIN, true};
        break;
    case FRAME_ERROR:
        m->as_ErrorReply.status = UINT32_MAX;
        FILL_STRING(m->as_ErrorReply.message);
        break;
    default:
        fail();
    }
}

static void fill(enum frame_type type, union codec_message *message)
{
    memset(message, 0, sizeof *message);
    if (type % 2 == 1 && type != FRAME_ERROR)
        fill_requests(type, message);
    else
        fill_replies(type, message);
}

static const enum frame_type all_types[] = {
#define TYPE(type, message) type,
    CODEC_FRAME_TABLE(TYPE)
#undef TYPE
};

#define EACH_TYPE(i) (size_t i = 0; i < sizeof all_types / sizeof all_types[0]; i++)

static void full_messages_come_back(void **state)
{
    for
        EACH_TYPE(i)
        {
            union codec_message in, back;
            fill(all_types[i], &in);
            uint8_t out[CODEC_HEAD_BYTES_MAX];
            uint32_t size;
            assert_int_equal(codec_encode_frame(out, sizeof out, all_types[i], 9, &in, 0, &size), OK);
            struct frame frame;
            uint64_t needed;
            assert_int_equal(frame_parse(out, size, &limits, &frame, &needed), OK);
            assert_int_equal(frame.type, all_types[i]);
            memset(&back, 0, sizeof back);
            assert_int_equal(codec_decode(frame.type, frame.proto, frame.proto_size, &back), OK);
            assert_memory_equal(&in, &back, sizeof in);
        }
}

static void empty_messages_come_back(void **state)
{
    for
        EACH_TYPE(i)
        {
            union codec_message in, back;
            memset(&in, 0, sizeof in);
            memset(&back, 0, sizeof back);
            uint8_t out[CODEC_HEAD_BYTES_MAX];
            uint32_t size;
            assert_int_equal(codec_encode_frame(out, sizeof out, all_types[i], 9, &in, 0, &size), OK);
            assert_int_equal(codec_decode(all_types[i], out + FRAME_HEADER_BYTES, size - FRAME_HEADER_BYTES, &back),
                             OK);
            assert_memory_equal(&in, &back, sizeof in);
            memset(&back, 0x5a, sizeof back); /* absent fields are defaults, not what stood there before */
            assert_int_equal(codec_decode(all_types[i], NULL, 0, &back), OK);
            assert_true(((uint8_t *)&back)[0] == 0);
        }
}

static void too_little_room_is_said_at_every_capacity(void **state)
{
    for
        EACH_TYPE(i)
        {
            union codec_message in;
            fill(all_types[i], &in);
            uint8_t out[CODEC_HEAD_BYTES_MAX];
            uint32_t size = 0;
            assert_int_equal(codec_encode_frame(out, sizeof out, all_types[i], 9, &in, 0, &size), OK);
            for (uint32_t capacity = 0; capacity < size; capacity++) {
                uint8_t *exact = malloc(capacity + 1); /* so that a sanitizer sees one byte too many */
                uint32_t untouched = 77;
                assert_int_equal(codec_encode_frame(exact + 1, capacity, all_types[i], 9, &in, 0, &untouched),
                                 ERR_TOO_LARGE);
                assert_int_equal(untouched, 77);
                free(exact);
            }
        }
}

static void prefixes_and_flipped_bits_do_no_harm(void **state)
{
    for
        EACH_TYPE(i)
        {
            union codec_message in, back;
            fill(all_types[i], &in);
            uint8_t out[CODEC_HEAD_BYTES_MAX];
            uint32_t size;
            assert_int_equal(codec_encode_frame(out, sizeof out, all_types[i], 9, &in, 0, &size), OK);
            uint32_t proto_size = size - FRAME_HEADER_BYTES;
            for (uint32_t cut = 0; cut <= proto_size; cut++) {
                uint8_t *exact = malloc(cut + 1);
                memcpy(exact + 1, out + FRAME_HEADER_BYTES, cut);
                enum err error = codec_decode(all_types[i], exact + 1, cut, &back);
                assert_true(error == OK || error == ERR_BAD_FRAME);
                for (uint32_t bit = 0; bit < 8 * cut; bit += cut < proto_size ? 61 : 1) {
                    exact[1 + bit / 8] ^= (uint8_t)(1u << (bit % 8));
                    error = codec_decode(all_types[i], exact + 1, cut, &back);
                    assert_true(error == OK || error == ERR_BAD_FRAME);
                    exact[1 + bit / 8] ^= (uint8_t)(1u << (bit % 8));
                }
                free(exact);
            }
        }
}

static void strings_end_at_their_bound(void **state)
{
    uint8_t proto[3 + 250];
    MetadataRequest request;
    memset(proto, 'n', sizeof proto);
    proto[0] = 0x0a;
    proto[1] = 0xf9; /* 249 */
    proto[2] = 0x01;
    assert_int_equal(codec_decode(FRAME_METADATA, proto, 3 + 249, &request), OK);
    assert_int_equal(strlen(request.topic), 249);
    proto[1] = 0xfa; /* 250 */
    assert_int_equal(codec_decode(FRAME_METADATA, proto, 3 + 250, &request), ERR_BAD_FRAME);
    static const uint8_t nul[] = {0x0a, 3, 'a', '\0', 'b'};
    assert_int_equal(codec_decode(FRAME_METADATA, nul, sizeof nul, &request), OK);
    assert_string_equal(request.topic, "a");
}

/* --- rows --- */

static void rows_follow_one_another(void **state)
{
    static uint8_t out[64 * 1024];
    uint32_t size = 0;
    BrokerRow broker = {.id = 3, .host = "broker-3.example", .port = 9292, .rack = "r1"};
    TopicRow topic = {.name = "orders", .id = {1, [15] = 2}, .partition_count = 200, .has_config = true};
    fill_config(&topic.config);
    assert_int_equal(codec_append_row(out, sizeof out, ROW_BROKER, &broker, &size), OK);
    assert_int_equal(codec_append_row(out, sizeof out, ROW_TOPIC, &topic, &size), OK);
    for (uint32_t i = 0; i < 200; i++) {
        PartitionRow row = {.partition = i,
                            .group = (uint64_t)1 << 32 | i,
                            .replicas_count = 3,
                            .replicas = {1, 2, 3},
                            .in_sync_count = i % 8,
                            .in_sync = {9, 8, 7, 6, 5, 4, UINT64_MAX},
                            .high_watermark = INT64_MAX};
        memset(row.in_sync + row.in_sync_count, 0, (7 - row.in_sync_count) * sizeof row.in_sync[0]);
        assert_int_equal(codec_append_row(out, sizeof out, ROW_PARTITION, &row, &size), OK);
    }

    struct codec_cursor cursor = {out, size};
    BrokerRow broker_back;
    TopicRow topic_back;
    memset(&topic_back, 0, sizeof topic_back);
    assert_int_equal(codec_next_row(&cursor, ROW_BROKER, &broker_back), OK);
    assert_int_equal(broker_back.id, 3);
    assert_string_equal(broker_back.host, "broker-3.example");
    assert_string_equal(broker_back.rack, "r1");
    assert_int_equal(codec_next_row(&cursor, ROW_TOPIC, &topic_back), OK);
    assert_string_equal(topic_back.name, "orders");
    assert_memory_equal(topic_back.id, topic.id, 16);
    assert_int_equal(topic_back.config.retention_ms, -1);
    for (uint32_t i = 0; i < 200; i++) {
        PartitionRow row;
        assert_int_equal(codec_next_row(&cursor, ROW_PARTITION, &row), OK);
        assert_int_equal(row.partition, i);
        assert_true(row.group == ((uint64_t)1 << 32 | i));
        assert_int_equal(row.in_sync_count, i % 8);
        if (i % 8 == 7)
            assert_true(row.in_sync[6] == UINT64_MAX);
        assert_true(row.high_watermark == INT64_MAX);
    }
    assert_int_equal(cursor.size, 0);
    PartitionRow row;
    assert_int_equal(codec_next_row(&cursor, ROW_PARTITION, &row), ERR_BAD_FRAME);
}

static void rows_that_do_not_fit_leave_no_trace(void **state)
{
    uint8_t out[CODEC_ROW_BYTES_MAX];
    BrokerRow row = {.id = 1};
    FILL_STRING(row.host);
    FILL_STRING(row.rack);
    uint32_t whole = 0;
    assert_int_equal(codec_append_row(out, sizeof out, ROW_BROKER, &row, &whole), OK);
    for (uint32_t capacity = 0; capacity < whole; capacity++) {
        uint32_t size = 0;
        assert_int_equal(codec_append_row(out, capacity, ROW_BROKER, &row, &size), ERR_TOO_LARGE);
        assert_int_equal(size, 0);
    }
    for (uint32_t cut = 0; cut < whole; cut++) {
        struct codec_cursor cursor = {out, cut};
        assert_int_equal(codec_next_row(&cursor, ROW_BROKER, &row), ERR_BAD_FRAME);
        assert_ptr_equal(cursor.data, out);
        assert_int_equal(cursor.size, cut);
    }
}

static void lists_longer_than_their_bound_are_refused(void **state)
{
    static const uint8_t seven[] = {9, 0x2a, 7, 1, 2, 3, 4, 5, 6, 7};
    static const uint8_t eight[] = {10, 0x2a, 8, 1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t lying_length[] = {0xff, 0xff, 0xff, 0xff, 0x0f, 0x08, 0x01};
    PartitionRow row;
    struct codec_cursor cursor = {seven, sizeof seven};
    assert_int_equal(codec_next_row(&cursor, ROW_PARTITION, &row), OK);
    assert_int_equal(row.replicas_count, 7);
    cursor = (struct codec_cursor){eight, sizeof eight};
    assert_int_equal(codec_next_row(&cursor, ROW_PARTITION, &row), ERR_BAD_FRAME);
    cursor = (struct codec_cursor){lying_length, sizeof lying_length};
    assert_int_equal(codec_next_row(&cursor, ROW_PARTITION, &row), ERR_BAD_FRAME);
}

/* --- stored --- */

static void stored_messages_come_back(void **state)
{
    uint8_t out[CODEC_STORED_BYTES_MAX];
    uint32_t size;
    TopicRecord topic = {.id = {7, [15] = 9},
                         .name = "orders",
                         .state = 1,
                         .partitions = 12,
                         .first_group = (uint64_t)1 << 40,
                         .segment_ms = -1,
                         .retention_bytes = INT64_MIN,
                         .replicas = 3};
    TopicRecord topic_back;
    memset(&topic_back, 0, sizeof topic_back);
    assert_int_equal(codec_encode_stored(STORED_TOPIC, &topic, out, sizeof out, &size), OK);
    assert_int_equal(codec_decode_stored(STORED_TOPIC, out, size, &topic_back), OK);
    assert_string_equal(topic_back.name, "orders");
    assert_true(topic_back.first_group == (uint64_t)1 << 40);
    assert_true(topic_back.segment_ms == -1 && topic_back.retention_bytes == INT64_MIN);
    assert_int_equal(codec_decode_stored(STORED_TOPIC, out, size - 1, &topic_back), ERR_FORMAT);
    assert_int_equal(codec_encode_stored(STORED_TOPIC, &topic, out, size - 1, &size), ERR_TOO_LARGE);

    static const int64_t ids[] = {0, 127, 32767, (int64_t)1 << 31, (int64_t)1 << 32, INT64_MAX};
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        ProducerRow row = {ids[i], INT16_MAX}, row_back;
        assert_int_equal(codec_encode_stored(STORED_PRODUCER_ROW, &row, out, sizeof out, &size), OK);
        assert_int_equal(codec_decode_stored(STORED_PRODUCER_ROW, out, size, &row_back), OK);
        assert_true(row_back.producer_id == ids[i]);
        assert_int_equal(row_back.producer_epoch, INT16_MAX);
    }
    ProducerInit init = {""}, init_back;
    assert_int_equal(codec_encode_stored(STORED_PRODUCER_INIT, &init, out, sizeof out, &size), OK);
    assert_int_equal(size, 0);
    assert_int_equal(codec_decode_stored(STORED_PRODUCER_INIT, out, 0, &init_back), OK);
    assert_string_equal(init_back.name, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_produce_request_has_these_bytes),
        cmocka_unit_test(unknown_fields_are_skipped),
        cmocka_unit_test(malformed_bytes_are_refused),
        cmocka_unit_test(unknown_types_are_unsupported),
        cmocka_unit_test(full_messages_come_back),
        cmocka_unit_test(empty_messages_come_back),
        cmocka_unit_test(too_little_room_is_said_at_every_capacity),
        cmocka_unit_test(prefixes_and_flipped_bits_do_no_harm),
        cmocka_unit_test(strings_end_at_their_bound),
        cmocka_unit_test(rows_follow_one_another),
        cmocka_unit_test(rows_that_do_not_fit_leave_no_trace),
        cmocka_unit_test(lists_longer_than_their_bound_are_refused),
        cmocka_unit_test(stored_messages_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
