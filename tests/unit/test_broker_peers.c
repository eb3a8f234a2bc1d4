/* Brokers that find one another, greet, talk in rows, lose one another and find together again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/limits.h"
#include "peers_net.h"

static struct net *net;
static struct node *nodes[NET_NODES_MAX + 1];

static int set_up(void **state)
{
    (void)state;
    net = net_new();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    net_free(net);
    return 0;
}

static void start(uint64_t count)
{
    for (uint64_t id = 1; id <= count; id++) {
        nodes[id] = net_start(net, id);
        for (uint64_t other = 1; other <= count; other++) {
            if (other != id) {
                net_know(net, id, other);
            }
        }
    }
    net_pass(net, 50);
}

/* A new life of a broker. */
static void start_again(uint64_t id, uint64_t count)
{
    net_start(net, id);
    for (uint64_t other = 1; other <= count; other++) {
        if (other != id) {
            net_know(net, id, other);
        }
    }
}

static RaftRow beat(uint64_t group)
{
    return (RaftRow){.type = 5, .group = group, .from = 1, .to = 2, .term = 3};
}

static RaftRow append(uint64_t group, uint32_t entries)
{
    RaftRow row = {.type = 3, .group = group, .from = 1, .to = 2, .term = 3, .run_terms_count = 1};
    row.run_counts_count = 1;
    row.run_terms[0] = 3;
    row.run_counts[0] = entries;
    row.entry_types.size = (pb_size_t)entries;
    return row;
}

/* `size` bytes of one value. */
static struct slice bytes(uint8_t value, uint32_t size)
{
    struct buf *buf = buf_new(size);
    memset(buf->data, value, size);
    struct slice slice = slice_of(buf, 0, size);
    buf_unref(buf);
    return slice;
}

static bool send(struct node *node, uint64_t to, enum peer_lane lane, RaftRow row, struct slice *parts, uint32_t count)
{
    bool sent = peers_send(node->peers, to, lane, &row, parts, count);
    for (uint32_t i = 0; i < count; i++) {
        slice_unref(&parts[i]); /* whatever happens, the sender keeps nothing */
    }
    return sent;
}

static struct peers_state state_of(struct node *node, uint32_t i)
{
    struct peers_state state;
    assert_true(peers_state(node->peers, i, &state));
    return state;
}

static void brokers_find_one_another(void **state)
{
    (void)state;
    start(3);
    assert_int_equal(net_links(net), 9); /* three pairs, three lanes */
    assert_int_equal(net_dials(net), 9);
    for (uint64_t id = 1; id <= 3; id++) {
        for (uint64_t other = 1; other <= 3; other++) {
            assert_int_equal(nodes[id]->ups[other], id != other);
            assert_int_equal(peers_is_up(nodes[id]->peers, other), id != other);
        }
    }
}

static void rows_arrive_with_their_payload(void **state)
{
    (void)state;
    net_set_piece(net, 1000);
    start(2);
    struct node *one = nodes[1], *two = nodes[2];
    uint64_t frames = state_of(one, 0).sent_frames;
    struct slice parts[] = {bytes('a', 70000), bytes('b', 3)};
    assert_true(send(one, 2, PEER_LANE_APPEND, append(7, 2), parts, 2));
    assert_true(send(one, 2, PEER_LANE_APPEND, beat(8), NULL, 0));
    assert_int_equal(two->rows_count, 0);
    net_run(net);
    assert_int_equal(state_of(one, 0).sent_frames, frames + 1); /* one turn, one frame */
    assert_int_equal(two->rows_count, 2);
    assert_int_equal(two->rows[0].group, 7);
    assert_int_equal(two->rows[1].group, 8);
    assert_int_equal(two->payloads[0].size, 70003);
    net_pass(net, 3000); /* what is kept stays what it was, whatever else arrives */
    struct slice more = bytes('c', 900000);
    assert_true(send(one, 2, PEER_LANE_APPEND, append(9, 1), &more, 1));
    net_run(net);
    assert_int_equal(two->payloads[0].data[0], 'a');
    assert_int_equal(two->payloads[0].data[70002], 'b');
    assert_int_equal(two->payloads[2].data[899999], 'c');
}

/* What the one has sent is kept, and so is the memory that it came into: the other does not wait for that. */
static void who_has_all_that_came_leaves_room_for_others(void **state)
{
    (void)state;
    net_set_piece(net, 9000);
    net_set_memory(net, RECEIVE_CHUNK_BYTES);
    start(3);
    for (uint64_t id = 1; id <= 2; id++) {
        struct slice part = bytes((uint8_t)id, 70000);
        RaftRow row = append(id, 1);
        row.from = id;
        assert_true(send(nodes[id], 3, PEER_LANE_APPEND, row, &part, 1));
        net_pass(net, 500);
        assert_int_equal(nodes[3]->rows_count, id);
        assert_int_equal(nodes[3]->payloads[id - 1].size, 70000);
    }
    assert_int_equal(nodes[3]->payloads[0].data[69999], 1);
    assert_int_equal(nodes[3]->payloads[1].data[69999], 2);
}

/* Each has a part of the memory that the other one waits for. */
static void two_that_wait_for_each_other_do_not_for_ever(void **state)
{
    (void)state;
    net_set_memory(net, 2 * RECEIVE_CHUNK_BYTES);
    net_set_piece(net, 1000);
    start(3);
    uint32_t downs = nodes[1]->downs[2] + nodes[1]->downs[3];
    for (uint64_t id = 2; id <= 3; id++) {
        struct slice part = bytes('a', 3 * RECEIVE_CHUNK_BYTES);
        assert_true(send(nodes[id], 1, PEER_LANE_APPEND, append(id, 1), &part, 1));
        peers_flush(nodes[id]->peers);
    }
    net_pass(net, 100);
    assert_int_equal(nodes[1]->rows_count, 0);
    net_pass(net, PEER_SILENCE_US / 1000 + 200);
    assert_int_equal(nodes[1]->rows_count, 1); /* one had to go */
    assert_int_equal(nodes[1]->downs[2] + nodes[1]->downs[3], downs + 1);
}

static void lost_links_are_told_and_made_again(void **state)
{
    (void)state;
    start(2);
    struct node *one = nodes[1];
    uint32_t ups = one->ups[2], downs = one->downs[2];
    assert_true(peers_is_up(one->peers, 2));
    net_break(net, 1, 2, PEER_LANE_APPEND);
    net_run(net);
    assert_int_equal(one->downs[2], downs + 1);
    assert_false(peers_is_up(one->peers, 2));
    assert_false(send(one, 2, PEER_LANE_CONTROL, beat(1), NULL, 0));
    assert_int_equal(state_of(one, 0).dropped_rows, 1);
    net_pass(net, 300);
    assert_int_equal(one->ups[2], ups + 1);
    assert_true(send(one, 2, PEER_LANE_CONTROL, beat(1), NULL, 0));

    net_break(net, 1, 2, PEER_LANE_CONTROL); /* in the order of dialling: the snapshot link is the oldest now */
    net_pass(net, 300);
    assert_int_equal(one->ups[2], ups + 1);
    assert_int_equal(one->downs[2], downs + 1); /* it comes and goes by itself */
    assert_int_equal(net_links(net), 3);
}

static void a_new_life_ends_the_old_links(void **state)
{
    (void)state;
    start(2);
    struct node *one = nodes[1], *two = nodes[2];
    start_again(2, 2); /* 1 dials; its old links are silent now */
    net_pass(net, 100);
    assert_false(peers_is_up(two->peers, 1));
    net_pass(net, 6000);
    assert_true(peers_is_up(two->peers, 1));
    assert_int_equal(two->boots[1], 1);
    uint32_t downs = two->downs[1];
    start_again(1, 2); /* dials at once, before 2 has noticed anything */
    net_pass(net, 50);
    assert_int_equal(two->downs[1], downs + 1);
    assert_int_equal(two->boots[1], 2);
    assert_true(peers_is_up(two->peers, 1) && peers_is_up(one->peers, 2));
    assert_int_equal(net_links(net), 3);
}

static void silence_ends_a_link(void **state)
{
    (void)state;
    start(2);
    struct node *one = nodes[1];
    assert_true(peers_is_up(one->peers, 2));
    assert_true(state_of(one, 0).heard_us > 0);
    uint32_t downs = one->downs[2];
    net_pass(net, 60000); /* idle, not silent */
    assert_int_equal(one->downs[2], downs);
    net_cut(net, true);
    net_pass(net, PEER_SILENCE_US / 1000 - PEER_PING_US / 1000 - 100);
    assert_int_equal(one->downs[2], downs);
    net_pass(net, PEER_PING_US / 1000 + 200);
    assert_int_equal(one->downs[2], downs + 1);
    net_cut(net, false);
    net_pass(net, 2 * PEER_RETRY_US_MAX / 1000 + PEER_HELLO_US / 1000);
    assert_true(peers_is_up(one->peers, 2));
}

static void refusals_are_three(void **state)
{
    (void)state;
    struct node *one = net_start(net, 1), *two = net_start(net, 2);
    two->joins[1] = ERR_UNKNOWN_BROKER;
    net_know(net, 1, 2);
    net_pass(net, 1000);
    assert_false(peers_is_up(one->peers, 2));
    assert_true(state_of(one, 0).refusals > 3);
    assert_int_equal(one->removals, 0);

    two->joins[1] = OK;
    net_know(net, 2, 1);
    net_pass(net, PEER_RETRY_US_MAX / 1000);
    assert_true(peers_is_up(one->peers, 2));

    two->joins[1] = ERR_REMOVED_BROKER;
    net_break(net, 1, 2, PEER_LANE_CONTROL);
    net_pass(net, 2 * PEER_RETRY_US_MAX / 1000);
    assert_int_equal(one->removals, 1);
    uint32_t dials = net_dials(net);
    net_pass(net, 60000);
    assert_int_equal(net_dials(net), dials); /* final */
}

static void another_cluster_is_refused(void **state)
{
    (void)state;
    struct node *one = net_start(net, 1), *two = net_start(net, 2);
    (void)two;
    struct stranger *s = net_stranger(net, 2);
    PeerHello hello = {.version = 1, .cluster_id = {9}, .broker = 1, .lane = PEER_LANE_CONTROL, .expected = 2};
    uint8_t head[CODEC_HEAD_BYTES_MAX];
    uint32_t size;
    struct frame frame;
    PeerHelloReply reply;
    (void)one;
    assert_int_equal(codec_encode_frame(head, sizeof head, FRAME_PEER_HELLO, 0, &hello, 0, &size), OK);
    stranger_say(s, head, size);
    assert_true(stranger_heard(s, &frame));
    assert_int_equal(codec_decode(frame.type, frame.proto, frame.proto_size, &reply), OK);
    assert_int_equal(reply.status, ERR_OTHER_CLUSTER);
    assert_true(stranger_is_thrown_out(s));
}

/* Each a reason of its own to end the connection, and no other effect. */
static void nonsense_ends_the_connection(void **state)
{
    (void)state;
    start(2);
    static const char http[] = "GET / HTTP/1.1\r\n\r\n";
    struct stranger *s = net_stranger(net, 2);
    stranger_say(s, http, sizeof http - 1);
    assert_true(stranger_is_thrown_out(s));

    uint8_t head[CODEC_HEAD_BYTES_MAX];
    uint32_t size;
    PeerPing ping = {.sent_us = 1};
    s = net_stranger(net, 2); /* a good frame, before any greeting */
    assert_int_equal(codec_encode_frame(head, sizeof head, FRAME_PEER_PING, 0, &ping, 0, &size), OK);
    stranger_say(s, head, size);
    assert_true(stranger_is_thrown_out(s));

    PeerHello hello = {.version = 1, .broker = 2, .lane = PEER_LANE_CONTROL, .expected = 2}; /* it dials itself */
    s = net_stranger(net, 2);
    assert_int_equal(codec_encode_frame(head, sizeof head, FRAME_PEER_HELLO, 0, &hello, 0, &size), OK);
    stranger_say(s, head, size);
    assert_true(stranger_is_thrown_out(s));

    s = net_stranger(net, 2); /* says nothing */
    net_pass(net, PEER_HELLO_US / 1000 - 100);
    assert_false(stranger_is_thrown_out(s));
    net_pass(net, 200);
    assert_true(stranger_is_thrown_out(s));
    assert_int_equal(net_links(net), 3); /* the honest ones */
}

static void dials_back_off(void **state)
{
    (void)state;
    net_refuse(net, true);
    struct node *one = net_start(net, 1);
    net_start(net, 2);
    net_know(net, 1, 2);
    net_pass(net, 1000);
    uint32_t early = net_dials(net) / PEER_LANES;
    assert_in_range(early, 4, 5); /* 0, 0.1, 0.3, 0.7 s and a little earlier */
    net_pass(net, 60000);
    uint32_t late = net_dials(net) / PEER_LANES - early;
    assert_in_range(late, 60 / 5, 60 * 3 / 10 + 4);
    net_refuse(net, false);
    net_know(net, 2, 1);
    net_pass(net, PEER_RETRY_US_MAX / 1000);
    assert_true(peers_is_up(one->peers, 2));
}

static void queues_are_bounded(void **state)
{
    (void)state;
    start(2);
    struct node *one = nodes[1];
    net_stop_taking(net, true);
    uint32_t sent = 0;
    for (; sent < 100; sent++) {
        struct slice part = bytes('x', 1u << 20);
        if (!send(one, 2, PEER_LANE_APPEND, append(1, 1), &part, 1)) {
            break;
        }
    }
    assert_int_equal(sent, PEER_QUEUE_BYTES_MAX >> 20);
    assert_true(send(one, 2, PEER_LANE_CONTROL, beat(1), NULL, 0)); /* another lane, another queue */
    assert_int_equal(state_of(one, 0).dropped_rows, 1);
}

static void pings_tell_whether_both_think_the_same(void **state)
{
    (void)state;
    start(2);
    struct node *one = nodes[1];
    assert_int_equal(one->differs, 0);
    one->quiet = (struct peers_quiet){2, 99};
    net_pass(net, PEER_PING_US / 1000 + 20);
    assert_int_equal(one->differs, 1);
    assert_true(state_of(one, 0).rtt_us < 1000);
}

static void who_is_watched_is_pinged_often_and_missed_soon(void **state)
{
    (void)state;
    start(2);
    struct node *one = nodes[1];
    net_pass(net, 5000);
    net_cut(net, true);
    net_pass(net, 2000);
    assert_int_equal(one->silences[2], 0); /* nobody asked for it */
    net_cut(net, false);
    net_pass(net, 2000);
    assert_true(peers_is_heard(one->peers, 2));
    peers_watch(one->peers, 2, true);
    uint64_t asked_us = one->asked_us;
    net_pass(net, NET_WATCH_PING_US / 1000 + 20);
    assert_true(one->asked_us > asked_us);
    net_pass(net, 5000);
    assert_int_equal(one->silences[2], 0);
    net_cut(net, true);
    net_pass(net, (NET_SILENT_US - NET_WATCH_PING_US) / 1000 - 20);
    assert_int_equal(one->silences[2], 0);
    assert_true(peers_is_heard(one->peers, 2));
    net_pass(net, NET_WATCH_PING_US / 1000 + 40);
    assert_int_equal(one->silences[2], 1);
    assert_false(peers_is_heard(one->peers, 2));
    assert_true(peers_is_up(one->peers, 2));
    net_pass(net, 1000);
    assert_int_equal(one->silences[2], 1); /* said once */
    net_cut(net, false);
    net_pass(net, 1500);
    assert_true(peers_is_heard(one->peers, 2));
    net_cut(net, true);
    net_pass(net, NET_SILENT_US / 1000 + NET_WATCH_PING_US / 1000);
    assert_int_equal(one->silences[2], 2);
}

/* What others said while a process stood still is read after its timers: no silence of theirs. */
static void who_stood_still_missed_nobody(void **state)
{
    (void)state;
    start(2);
    struct node *one = nodes[1];
    peers_watch(one->peers, 2, true);
    net_pass(net, 3000);
    uint32_t downs = one->downs[2];
    net_stand_still(net, 30000);
    net_pass(net, 2000);
    assert_int_equal(one->silences[2], 0);
    assert_int_equal(one->downs[2], downs);
    assert_true(peers_is_heard(one->peers, 2));
}

static void a_broker_that_is_gone_for_good_is_forgotten(void **state)
{
    (void)state;
    start(3);
    struct node *one = nodes[1];
    uint32_t downs = one->downs[2];
    peers_forget(one->peers, 2);
    net_pass(net, 1000);
    assert_int_equal(one->downs[2], downs + 1);
    assert_int_equal(state_of(one, 0).broker, 3);
    assert_false(peers_state(one->peers, 1, &(struct peers_state){0}));
    assert_true(peers_is_up(one->peers, 3));
    net_know(net, 1, 2);
    net_pass(net, 1000);
    assert_true(peers_is_up(one->peers, 2));
}

static void one_that_stops_closes_everything(void **state)
{
    (void)state;
    start(2);
    struct node *one = nodes[1];
    uint32_t downs = one->downs[2];
    peers_close(one->peers);
    net_run(net);
    assert_true(peers_are_closed(one->peers));
    assert_int_equal(one->downs[2], downs + 1);
    assert_int_equal(net_links(net), 0);
    net_pass(net, 10000);
    assert_true(peers_are_closed(one->peers)); /* and stays so */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(brokers_find_one_another),
        TEST(rows_arrive_with_their_payload),
        TEST(who_has_all_that_came_leaves_room_for_others),
        TEST(two_that_wait_for_each_other_do_not_for_ever),
        TEST(lost_links_are_told_and_made_again),
        TEST(a_new_life_ends_the_old_links),
        TEST(silence_ends_a_link),
        TEST(refusals_are_three),
        TEST(another_cluster_is_refused),
        TEST(nonsense_ends_the_connection),
        TEST(dials_back_off),
        TEST(queues_are_bounded),
        TEST(pings_tell_whether_both_think_the_same),
        TEST(who_is_watched_is_pinged_often_and_missed_soon),
        TEST(who_stood_still_missed_nobody),
        TEST(a_broker_that_is_gone_for_good_is_forgotten),
        TEST(one_that_stops_closes_everything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
