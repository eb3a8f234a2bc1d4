/* Frames of Raft rows: what is added is read back in place; what does not fit waits for the next frame; rows and
 * payloads that contradict each other are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/crc32c.h"
#include "wire/peer.h"

static const struct frame_limits limits = {.proto_bytes_max = FRAME_PROTO_BYTES_MAX,
                                           .payload_bytes_max = FRAME_PAYLOAD_BYTES_MAX};
static uint8_t head[PEER_HEAD_BYTES];
static uint8_t bytes[PEER_HEAD_BYTES + (1u << 20)];

/* The frame as a receiver has it, in one piece. */
static struct frame finish(struct peer_builder *b)
{
    struct frame frame;
    uint64_t needed;
    peer_builder_finish(b);
    uint32_t size = b->size;
    memcpy(bytes, b->head, size);
    for (uint32_t i = 0; i < b->parts_count; i++) {
        memcpy(bytes + size, b->parts[i].data, b->parts[i].size);
        size += b->parts[i].size;
    }
    assert_int_equal(frame_parse(bytes, size, &limits, &frame, &needed), OK);
    assert_int_equal(frame.type, FRAME_RAFT);
    assert_int_equal(frame.size_bytes, size);
    return frame;
}

static struct slice text(const char *words)
{
    return (struct slice){.data = (uint8_t *)(uintptr_t)words, .size = (uint32_t)strlen(words)};
}

/* An append of as many entries as there are words. */
static RaftRow append_row(uint64_t group, uint32_t entries)
{
    RaftRow row = {.type = 3, .group = group, .from = 5, .to = 6, .term = 7, .index = UINT64_MAX / 2, .flags = 63};
    row.run_terms_count = row.run_counts_count = entries > 0;
    row.run_terms[0] = entries > 0 ? 7 : 0;
    row.run_counts[0] = entries;
    row.entry_types.size = (pb_size_t)entries;
    for (uint32_t i = 0; i < entries; i++) {
        row.entry_types.bytes[i] = (uint8_t)(i + 1);
    }
    return row;
}

static void rows_and_payloads_come_back_in_place(void **state)
{
    (void)state;
    struct slice first[] = {text("alpha"), text(""), text("gamma")};
    struct slice second[] = {text("delta")};
    RaftRow rows[] = {append_row(1, 3), append_row(2, 0), append_row(3, 1)};
    struct peer_builder b;
    peer_builder_begin(&b, head, sizeof head);
    assert_true(peer_builder_add(&b, &rows[0], first, 3));
    assert_true(peer_builder_add(&b, &rows[1], NULL, 0));
    assert_true(peer_builder_add(&b, &rows[2], second, 1));
    assert_int_equal(b.parts_count, 3); /* the empty one is not sent */

    struct frame frame = finish(&b);
    struct peer_reader reader;
    const char *payloads[] = {"alphagamma", "", "delta"};
    const uint8_t *at = frame.payload;
    peer_reader_begin(&reader, &frame);
    for (int i = 0; i < 3; i++) {
        RaftRow row = {0}; /* arrays are read up to their counts */
        const uint8_t *payload;
        assert_false(peer_reader_is_done(&reader));
        assert_int_equal(peer_reader_next(&reader, &row, &payload), OK);
        assert_memory_equal(&row, &rows[i], sizeof row);
        assert_ptr_equal(payload, at);
        assert_memory_equal(payload, payloads[i], strlen(payloads[i]));
        at += strlen(payloads[i]);
    }
    assert_true(peer_reader_is_done(&reader));
}

static void what_does_not_fit_waits_for_the_next_frame(void **state)
{
    (void)state;
    static uint8_t large[FRAME_PAYLOAD_BYTES_MAX];
    struct slice whole = {.data = large, .size = sizeof large};
    struct slice byte = {.data = large, .size = 1};
    struct peer_builder b;
    RaftRow row = append_row(1, 1);
    peer_builder_begin(&b, head, sizeof head);
    assert_true(peer_builder_add(&b, &row, &whole, 1)); /* the largest payload there is */
    assert_false(peer_builder_add(&b, &row, &byte, 1));
    assert_int_equal(b.rows, 1);

    uint32_t rows = 0;
    row = append_row(1, 0);
    peer_builder_begin(&b, head, sizeof head);
    while (peer_builder_add(&b, &row, NULL, 0)) {
        rows++;
    }
    assert_true(rows > 1500); /* heartbeats of so many groups share a frame */
    struct frame frame = finish(&b);
    struct peer_reader reader;
    for (peer_reader_begin(&reader, &frame); !peer_reader_is_done(&reader); rows--) {
        const uint8_t *payload;
        assert_int_equal(peer_reader_next(&reader, &row, &payload), OK);
    }
    assert_int_equal(rows, 0);

    struct slice parts[RAFT_APPEND_ENTRIES_MAX];
    row = append_row(1, RAFT_APPEND_ENTRIES_MAX);
    for (uint32_t i = 0; i < RAFT_APPEND_ENTRIES_MAX; i++) {
        parts[i] = byte;
    }
    peer_builder_begin(&b, head, sizeof head);
    while (peer_builder_add(&b, &row, parts, RAFT_APPEND_ENTRIES_MAX)) {
        rows++;
    }
    assert_int_equal(rows, SEND_PARTS_MAX / RAFT_APPEND_ENTRIES_MAX); /* one call to the kernel takes no more */
}

/* One row as it is, with this payload behind it. */
static enum err read_one(const RaftRow *row, const char *payload)
{
    RaftRow read;
    const uint8_t *at;
    uint8_t row_bytes[CODEC_ROW_BYTES_MAX];
    uint32_t size = 0;
    assert_int_equal(codec_append_row(row_bytes, sizeof row_bytes, ROW_RAFT, row, &size), OK);
    struct frame frame = {.proto = row_bytes,
                          .proto_size = size,
                          .payload = (const uint8_t *)payload,
                          .payload_size = (uint32_t)strlen(payload)};
    struct peer_reader reader;
    peer_reader_begin(&reader, &frame);
    return peer_reader_next(&reader, &read, &at);
}

static void contradictions_are_refused(void **state)
{
    (void)state;
    RaftRow good = append_row(1, 2);
    good.entry_sizes_count = 2;
    good.entry_sizes[0] = 2;
    good.entry_sizes[1] = 1;
    good.payload_crc = crc32c(0, "abc", 3);
    assert_int_equal(read_one(&good, "abc"), OK);
    assert_int_equal(read_one(&good, "abd"), ERR_CORRUPT);
    assert_int_equal(read_one(&good, "ab"), ERR_BAD_FRAME);   /* it is cut off */
    assert_int_equal(read_one(&good, "abcd"), ERR_BAD_FRAME); /* or there is something over */

    RaftRow row = good;
    row.run_counts[0] = 3;
    assert_int_equal(read_one(&row, "abc"), ERR_BAD_FRAME);
    row = good;
    row.run_terms_count = 2;
    assert_int_equal(read_one(&row, "abc"), ERR_BAD_FRAME);
    row = good;
    row.entry_types.size = 1;
    assert_int_equal(read_one(&row, "abc"), ERR_BAD_FRAME);
    row = good;
    row.run_counts_count = row.run_terms_count = 2; /* a sum that does not fit 32 bits */
    row.run_counts[0] = row.run_counts[1] = UINT32_MAX;
    assert_int_equal(read_one(&row, "abc"), ERR_BAD_FRAME);
    row = good;
    row.entry_sizes[0] = UINT32_MAX;
    row.entry_sizes[1] = 4;
    assert_int_equal(read_one(&row, "abc"), ERR_BAD_FRAME);
}

static void every_cut_of_the_rows_is_refused(void **state)
{
    (void)state;
    RaftRow row = append_row(1, 0);
    uint8_t row_bytes[CODEC_ROW_BYTES_MAX];
    uint32_t size = 0;
    assert_int_equal(codec_append_row(row_bytes, sizeof row_bytes, ROW_RAFT, &row, &size), OK);
    for (uint32_t cut = 1; cut < size; cut++) {
        struct frame frame = {.proto = row_bytes, .proto_size = cut};
        struct peer_reader reader;
        const uint8_t *payload;
        peer_reader_begin(&reader, &frame);
        assert_int_equal(peer_reader_next(&reader, &row, &payload), ERR_BAD_FRAME);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_and_payloads_come_back_in_place),
        cmocka_unit_test(what_does_not_fit_waits_for_the_next_frame),
        cmocka_unit_test(contradictions_are_refused),
        cmocka_unit_test(every_cut_of_the_rows_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
