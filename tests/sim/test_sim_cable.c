/* Cables with a wire: each thing that may become of a frame really does, alone, and nothing else with it. Brokers here
 * are no more than a number each: one dials and sends rows that count up, others take them apart as the product does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "sim_cable.h"
#include "wire/peer.h"

#define PAYLOAD_BYTES 100u
#define GROUP         7u
#define OTHER_GROUP   8u
#define STREAM_BYTES  (1u << 20)
#define ROWS_MAX      20000u
#define EVERY_US      1000u

struct seen {
    uint64_t number, group, at_us;
    uint32_t connection; /* on which it came */
};

/* One end of the current connection of a broker. */
struct side {
    struct link *link; /* NULL: closed */
    uint64_t broker;
    uint32_t closed;
    enum err reason, error; /* of the last close; of the first bytes that were no good frame */
    size_t size;
    uint8_t bytes[STREAM_BYTES];
};

static struct {
    struct sim_world world;
    struct sim_cables *cables;
    struct sim_wire *wire;
    bool faults[FAULT_CLASSES_ALL];
    struct sim_wire_options options;
    struct side dialler, taker;
    uint32_t connections;
    uint64_t sent; /* the numbers up to it */
    uint64_t sent_on[ROWS_MAX + 1], sent_us[ROWS_MAX + 1];
    struct seen seen[ROWS_MAX];
    uint32_t seen_count;
} t;

/* --- a broker of sorts --- */

static void on_alloc(struct link *link, uint8_t **ret_data, size_t *ret_size)
{
    struct side *side = link->owner;
    *ret_data = side->bytes + side->size;
    *ret_size = sizeof side->bytes - side->size;
    assert_true(*ret_size > 0);
}

static enum err take_rows(const struct frame *frame)
{
    struct peer_reader reader;
    enum err error = OK;
    for (peer_reader_begin(&reader, frame); error == OK && !peer_reader_is_done(&reader);) {
        RaftRow row;
        const uint8_t *payload;
        error = peer_reader_next(&reader, &row, &payload);
        if (error == OK) {
            assert_true(t.seen_count < ROWS_MAX && row.index >= 1 && row.index <= t.sent);
            for (uint32_t i = 0; i < PAYLOAD_BYTES; i++) {
                assert_int_equal(payload[i], (uint8_t)(row.index + i));
            }
            t.seen[t.seen_count++] = (struct seen){row.index, row.group, t.world.now_us, t.connections};
        }
    }
    return error;
}

static void on_read(struct link *link, size_t size)
{
    static const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};
    struct side *side = link->owner;
    enum err error = OK;
    side->size += size;
    while (error == OK && side->size > 0) {
        struct frame frame;
        uint64_t needed;
        error = frame_parse(side->bytes, side->size, &limits, &frame, &needed);
        if (error == OK) {
            error = take_rows(&frame);
            side->size -= frame.size_bytes;
            memmove(side->bytes, side->bytes + frame.size_bytes, side->size);
        }
    }
    if (error != OK && error != ERR_AGAIN) {
        side->error = error;
        side->size = 0;
        link->ops->close(link);
    }
}

static void on_drain(struct link *link)
{
    (void)link;
}

static void on_closed(struct link *link, enum err reason)
{
    struct side *side = link->owner;
    side->link = NULL;
    side->closed++;
    side->reason = reason;
    side->size = 0;
}

static const struct link_handler handler = {on_alloc, on_read, on_drain, on_closed};

static void on_accept(void *context, struct link *link)
{
    t.taker.link = link;
    t.taker.broker = *(uint64_t *)context;
    link->handler = &handler;
    link->owner = &t.taker;
}

static void on_connected(struct link *link)
{
    (void)link;
    t.connections++;
}

/* --- the scene --- */

static uint64_t ids[] = {0, 1, 2, 3};

static void open_scene(enum sim_fault fault, const struct sim_wire_options *options)
{
    memset(&t, 0, sizeof t);
    world_init(&t.world, 42);
    t.options = *options;
    t.faults[fault] = true;
    t.cables = sim_cables_new(&t.world, 10);
    t.wire = sim_wire_new(&t.world, &t.options, t.faults);
    sim_cables_set_wire(t.cables, t.wire, sim_wire_send);
    sim_wire_begin(t.wire);
    for (uint64_t id = 1; id <= 3; id++) {
        sim_cables_listen(t.cables, id, on_accept, &ids[id]);
    }
}

static int close_scene(void **state)
{
    (void)state;
    world_done(&t.world);
    sim_cables_free(t.cables);
    sim_wire_free(t.wire);
    return 0;
}

static void on_over(void *context, uint64_t argument)
{
    (void)argument;
    *(bool *)context = true;
}

static void run_until(uint64_t until_us)
{
    bool is_over = false;
    world_at(&t.world, until_us, on_over, &is_over, 0);
    while (!is_over && world_step(&t.world)) {
    }
}

static void dial(uint64_t to)
{
    struct dialer *dialer = sim_cables_dialer(t.cables, 1);
    enum err error = dialer->ops->dial(dialer, sim_cables_address(t.cables, to), &handler, &t.dialler, on_connected,
                                       &t.dialler.link);
    assert_int_equal(error, OK);
    run_until(t.world.now_us + 1000);
}

static void send_row(uint64_t group)
{
    static uint8_t head[CODEC_ROW_BYTES_MAX + FRAME_HEADER_BYTES];
    static struct peer_builder b;
    uint8_t payload[PAYLOAD_BYTES];
    uint64_t number = ++t.sent;
    RaftRow row = {.type = 1,
                   .group = group,
                   .from = 11,
                   .to = 12,
                   .index = number,
                   .run_terms_count = 1,
                   .run_terms = {1},
                   .run_counts_count = 1,
                   .run_counts = {1},
                   .entry_types = {.size = 1, .bytes = {1}}};
    struct slice part = {.data = payload, .size = sizeof payload};
    for (uint32_t i = 0; i < PAYLOAD_BYTES; i++) {
        payload[i] = (uint8_t)(number + i);
    }
    assert_true(number <= ROWS_MAX);
    peer_builder_begin(&b, head, sizeof head);
    assert_true(peer_builder_add(&b, &row, &part, 1));
    peer_builder_finish(&b);
    t.sent_on[number] = t.connections;
    t.sent_us[number] = t.world.now_us;
    t.dialler.link->ops->send(t.dialler.link, b.head, b.size, b.parts, b.parts_count);
}

/* So many rows, one after the other, over new connections where one ends. */
static void send_rows(uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (t.dialler.link == NULL) {
            dial(2);
        }
        send_row(GROUP);
        run_until(t.world.now_us + EVERY_US);
    }
}

static uint32_t times(enum sim_fault fault)
{
    return t.world.tally.faults[fault];
}

/* Each row once and in order, on one connection. */
static void check_all_came(void)
{
    assert_int_equal(t.seen_count, t.sent);
    for (uint32_t i = 0; i < t.seen_count; i++) {
        assert_int_equal(t.seen[i].number, i + 1);
        assert_int_equal(t.seen[i].group, GROUP);
        assert_int_equal(t.seen[i].connection, 1);
    }
}

/* --- what becomes of frames --- */

static void nothing_goes_wrong_on_a_healed_wire(void **state)
{
    (void)state;
    open_scene(FAULT_LOSS, &(struct sim_wire_options){.loss = 1});
    sim_wire_heal(t.wire, 1, 2);
    send_rows(500);
    run_until(t.world.now_us + 1000000);
    check_all_came();
    assert_int_equal(times(FAULT_LOSS), 0);
}

static void a_class_that_is_off_does_nothing(void **state)
{
    (void)state;
    open_scene(FAULT_LATE, &(struct sim_wire_options){.loss = 1,
                                                      .twice = 1,
                                                      .replay = 1,
                                                      .flip = 1,
                                                      .sever = 1,
                                                      .astray = 1,
                                                      .clog = 1,
                                                      .queue_frames_max = 1,
                                                      .bytes_per_s = 1,
                                                      .late_mean_us = 10});
    send_rows(500);
    run_until(t.world.now_us + 1000000);
    check_all_came();
}

static void frames_are_lost(void **state)
{
    (void)state;
    open_scene(FAULT_LOSS, &(struct sim_wire_options){.loss = 0.3});
    send_rows(2000);
    run_until(t.world.now_us + 1000000);
    assert_int_equal(t.seen_count, t.sent - times(FAULT_LOSS));
    assert_in_range(times(FAULT_LOSS), 500, 700);
    assert_int_equal(t.dialler.closed + t.taker.closed, 0);
}

static void frames_come_twice(void **state)
{
    (void)state;
    open_scene(FAULT_TWICE, &(struct sim_wire_options){.twice = 0.5});
    send_rows(2000);
    run_until(t.world.now_us + 1000000);
    assert_int_equal(t.seen_count, t.sent + times(FAULT_TWICE));
    assert_in_range(times(FAULT_TWICE), 900, 1100);
}

static void frames_of_earlier_connections_and_lives_come_again(void **state)
{
    uint32_t of_earlier = 0, minutes_old = 0;
    (void)state;
    open_scene(FAULT_REPLAY, &(struct sim_wire_options){.replay = 0.2});
    send_rows(500);
    sim_cables_break(t.cables, 1, 2);
    run_until(t.world.now_us + 150000000);
    send_rows(500);
    sim_cables_kill(t.cables, 1); /* the sender's process */
    t.dialler.link = NULL;
    run_until(t.world.now_us + 1000000);
    send_rows(500);
    run_until(t.world.now_us + 1000000);
    assert_int_equal(t.connections, 3);
    for (uint32_t i = 0; i < t.seen_count; i++) {
        of_earlier += t.sent_on[t.seen[i].number] < t.seen[i].connection;
        minutes_old += t.seen[i].at_us - t.sent_us[t.seen[i].number] > 120000000;
    }
    assert_in_range(of_earlier, 20, 300);
    assert_in_range(minutes_old, 10, 300);
    assert_in_range(times(FAULT_REPLAY), 200, 400);
}

static void frames_are_late(void **state)
{
    uint64_t sum_us = 0, most_us = 0;
    (void)state;
    open_scene(FAULT_LATE, &(struct sim_wire_options){.late_least_us = 20000, .late_mean_us = 50000});
    for (int i = 0; i < 300; i++) {
        send_rows(1);
        run_until(t.world.now_us + 1000000);
    }
    check_all_came();
    for (uint32_t i = 0; i < t.seen_count; i++) {
        uint64_t late_us = t.seen[i].at_us - t.sent_us[t.seen[i].number];
        assert_true(late_us >= 20000);
        sum_us += late_us;
        most_us = late_us > most_us ? late_us : most_us;
    }
    assert_in_range(sum_us / 300, 60000, 80000);
    assert_true(most_us > 200000);
}

static void queues_are_short(void **state)
{
    (void)state;
    open_scene(FAULT_QUEUE, &(struct sim_wire_options){.queue_frames_max = 3});
    dial(2);
    for (int i = 0; i < 10; i++) {
        send_row(GROUP);
    }
    run_until(t.world.now_us + 1000000);
    assert_int_equal(t.seen_count, 3);
    assert_int_equal(times(FAULT_QUEUE), 7);
}

static void a_clog_holds_everything_up_for_a_while(void **state)
{
    uint64_t latest_us = 0;
    (void)state;
    open_scene(FAULT_CLOG, &(struct sim_wire_options){.clog_us_max = 5000000});
    sim_wire_strike(t.wire, FAULT_CLOG);
    assert_true(sim_wire_is_due(t.wire, FAULT_CLOG));
    send_rows(100);
    assert_false(sim_wire_is_due(t.wire, FAULT_CLOG));
    run_until(t.world.now_us + 6000000);
    check_all_came();
    for (uint32_t i = 0; i < t.seen_count; i++) {
        uint64_t late_us = t.seen[i].at_us - t.sent_us[t.seen[i].number];
        latest_us = late_us > latest_us ? late_us : latest_us;
    }
    assert_in_range(latest_us, 1000, 5000000);
    assert_int_equal(times(FAULT_CLOG), 1);
}

static void links_are_slow(void **state)
{
    uint64_t slow = 0;
    (void)state;
    for (uint64_t to = 2; to <= 3; to++) { /* one direction of three is: some seed of this world has one */
        for (uint64_t seed = 0; seed < 8; seed++) {
            open_scene(FAULT_SLOW_LINK, &(struct sim_wire_options){.bytes_per_s = 10000});
            rng_seed(&t.world.link, seed);
            sim_wire_begin(t.wire);
            dial(to);
            for (int i = 0; i < 20; i++) {
                send_row(GROUP);
            }
            run_until(t.world.now_us + 10000000);
            check_all_came();
            uint64_t late_us = t.seen[19].at_us - t.sent_us[20];
            assert_true(late_us < 1000 || late_us > 200000); /* 20 frames of more than 100 bytes */
            slow += late_us > 200000;
            close_scene(NULL);
        }
    }
    assert_in_range(slow, 1, 15);
    open_scene(FAULT_LOSS, &(struct sim_wire_options){0});
}

/* Wherever the bit is, nothing of that frame and what follows it is taken, and the connection ends. */
static void a_flipped_bit_ends_the_connection(void **state)
{
    (void)state;
    open_scene(FAULT_FLIP, &(struct sim_wire_options){0});
    for (uint32_t round = 1; round <= 300; round++) {
        uint32_t before = t.taker.closed;
        sim_wire_strike(t.wire, FAULT_FLIP);
        for (uint32_t i = 0; t.taker.closed == before; i++) { /* a length may wait for more bytes first */
            assert_true(i < 1000);
            send_rows(1);
        }
        run_until(t.world.now_us + 10000);
        assert_null(t.dialler.link);
        assert_int_equal(times(FAULT_FLIP), round);
        for (uint32_t i = 1; i < t.seen_count; i++) {
            assert_true(t.seen[i].number > t.seen[i - 1].number);
        }
        t.sent = t.seen_count = 0;
    }
}

static void a_connection_breaks_in_the_middle_of_a_frame(void **state)
{
    (void)state;
    open_scene(FAULT_SEVER, &(struct sim_wire_options){0});
    for (uint32_t round = 1; round <= 50; round++) {
        send_rows(5);
        sim_wire_strike(t.wire, FAULT_SEVER);
        send_rows(1);
        run_until(t.world.now_us + 10000);
        assert_int_equal(t.seen_count, 5 * round); /* what came before, nothing of it */
        assert_int_equal(t.taker.closed, round);
        assert_int_equal(t.dialler.closed, round);
        assert_int_equal(t.taker.reason, ERR_IO);
        assert_int_equal(t.dialler.reason, ERR_IO);
        assert_int_equal(times(FAULT_SEVER), round);
    }
}

static void a_row_names_another_group(void **state)
{
    (void)state;
    open_scene(FAULT_ASTRAY, &(struct sim_wire_options){0});
    dial(2);
    sim_wire_strike(t.wire, FAULT_ASTRAY);
    send_row(GROUP); /* there is no other yet */
    send_row(OTHER_GROUP);
    send_row(GROUP);
    run_until(t.world.now_us + 1000000);
    assert_int_equal(times(FAULT_ASTRAY), 1);
    assert_int_equal(t.seen_count, 3);
    assert_int_equal(t.seen[0].group, GROUP);
    assert_int_equal(t.seen[1].group, GROUP);
    assert_int_equal(t.seen[2].group, GROUP);
    assert_int_equal(t.taker.error, OK); /* every CRC is right */
}

/* --- who answers --- */

static void another_broker_answers_at_the_address(void **state)
{
    (void)state;
    open_scene(FAULT_LOSS, &(struct sim_wire_options){0});
    sim_cables_swap(t.cables, 2, 3);
    dial(2);
    assert_int_equal(t.taker.broker, 3);
    assert_int_equal(sim_cables_misled(t.cables), 1);
    assert_int_equal(sim_cables_count(t.cables, 3), 1);
    assert_int_equal(sim_cables_count(t.cables, 2), 0);
    sim_cables_break(t.cables, 1, 3);
    run_until(t.world.now_us + 1000);
    sim_cables_swap(t.cables, 2, 2);
    dial(2);
    assert_int_equal(t.taker.broker, 2);
    assert_int_equal(sim_cables_misled(t.cables), 1);
}

static void what_is_under_way_waits_at_a_cut(void **state)
{
    (void)state;
    open_scene(FAULT_LATE, &(struct sim_wire_options){.late_least_us = 1000, .late_mean_us = 1000});
    send_rows(20);
    sim_cables_cut(t.cables, 1, 2, true);
    uint32_t before = t.seen_count;
    send_rows(20);
    run_until(t.world.now_us + 1000000);
    assert_int_equal(t.seen_count, before);
    sim_cables_cut(t.cables, 1, 2, false);
    run_until(t.world.now_us + 1000000);
    check_all_came();
}

/* The first frame of a connection stands for its greeting. */
static void a_connection_of_who_is_dead_is_accepted_late(void **state)
{
    (void)state;
    for (int is_taker_dead = 0; is_taker_dead < 2; is_taker_dead++) {
        open_scene(FAULT_REPLAY, &(struct sim_wire_options){0});
        dial(2);
        send_row(GROUP);
        send_row(GROUP);
        run_until(t.world.now_us + 1000);
        assert_int_equal(t.seen_count, 2);
        sim_cables_echo(t.cables, 1, 1000000);
        sim_cables_kill(t.cables, 1);
        run_until(t.world.now_us + 500000);
        assert_int_equal(t.taker.closed, 1);
        if (is_taker_dead) {
            sim_cables_kill(t.cables, 2);
            sim_cables_listen(t.cables, 2, on_accept, &ids[2]);
        }
        run_until(t.world.now_us + 1000000);
        assert_int_equal(t.seen_count, is_taker_dead ? 2 : 3);
        assert_int_equal(t.taker.closed, is_taker_dead ? 1 : 2);
        assert_true(is_taker_dead || t.seen[2].number == 1);
        close_scene(state);
    }
    open_scene(FAULT_REPLAY, &(struct sim_wire_options){0});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(nothing_goes_wrong_on_a_healed_wire, close_scene),
        cmocka_unit_test_teardown(a_class_that_is_off_does_nothing, close_scene),
        cmocka_unit_test_teardown(frames_are_lost, close_scene),
        cmocka_unit_test_teardown(frames_come_twice, close_scene),
        cmocka_unit_test_teardown(frames_of_earlier_connections_and_lives_come_again, close_scene),
        cmocka_unit_test_teardown(frames_are_late, close_scene),
        cmocka_unit_test_teardown(queues_are_short, close_scene),
        cmocka_unit_test_teardown(a_clog_holds_everything_up_for_a_while, close_scene),
        cmocka_unit_test_teardown(links_are_slow, close_scene),
        cmocka_unit_test_teardown(a_flipped_bit_ends_the_connection, close_scene),
        cmocka_unit_test_teardown(a_connection_breaks_in_the_middle_of_a_frame, close_scene),
        cmocka_unit_test_teardown(a_row_names_another_group, close_scene),
        cmocka_unit_test_teardown(another_broker_answers_at_the_address, close_scene),
        cmocka_unit_test_teardown(what_is_under_way_waits_at_a_cut, close_scene),
        cmocka_unit_test_teardown(a_connection_of_who_is_dead_is_accepted_late, close_scene),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
