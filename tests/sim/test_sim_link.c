/* The simulated link keeps the port's contract: bytes in order however they are split, on_closed exactly once, nothing
 * after it; an abandoned connection still delivers what was sent, a broken one loses from some byte on; sent memory is
 * read late. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "sim_link.h"

#define STREAM_BYTES 5000

/* Both ends of one connection. */
struct ends {
    struct sim_world world;
    struct sim_net *net;
    struct sim_conn *conn; /* the client's; NULL when closed */
    struct link *link;     /* the broker's */
    uint8_t at_broker[STREAM_BYTES + 100], at_client[STREAM_BYTES + 100];
    size_t at_broker_size, at_client_size;
    int broker_closed, client_closed, drains, largest_read;
};

static void on_alloc(struct link *link, uint8_t **ret_data, size_t *ret_size)
{
    struct ends *e = link->owner;
    assert_int_equal(e->broker_closed, 0);
    *ret_data = e->at_broker + e->at_broker_size;
    *ret_size = sizeof e->at_broker - e->at_broker_size;
}

static void on_read(struct link *link, size_t size)
{
    struct ends *e = link->owner;
    e->at_broker_size += size;
    e->largest_read = (int)size > e->largest_read ? (int)size : e->largest_read;
}

static void on_drain(struct link *link)
{
    ((struct ends *)link->owner)->drains++;
}

static void on_link_closed(struct link *link, enum err reason)
{
    ((struct ends *)link->owner)->broker_closed++;
}

static const struct link_handler handler = {on_alloc, on_read, on_drain, on_link_closed};

static void on_accept(void *context, struct link *link)
{
    struct ends *e = context;
    e->link = link;
    link->handler = &handler;
    link->owner = e;
}

static size_t on_client_bytes(void *owner, const uint8_t *data, size_t size)
{
    struct ends *e = owner;
    memcpy(e->at_client + e->at_client_size, data, size);
    e->at_client_size += size;
    return size;
}

static void on_client_closed(void *owner)
{
    struct ends *e = owner;
    e->client_closed++;
    e->conn = NULL;
}

static const struct sim_conn_handler client_handler = {on_client_bytes, on_client_closed};

static void open_ends(struct ends *e, uint64_t seed)
{
    memset(e, 0, sizeof *e);
    world_init(&e->world, seed);
    e->net = sim_net_new(
        &e->world, &(struct sim_net_options){.delay_us_max = 500, .split = true, .context = e, .accept = on_accept});
    e->conn = sim_conn_open(e->net, &client_handler, e);
}

static void run(struct ends *e)
{
    while (world_step(&e->world)) {
    }
}

static void close_ends(struct ends *e)
{
    sim_net_free(e->net);
    world_done(&e->world);
}

static void fill(uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        data[i] = (uint8_t)(i * 7 + i / 251);
    }
}

static void send_stream(struct ends *e)
{
    uint8_t data[STREAM_BYTES];
    fill(data, sizeof data);
    for (size_t at = 0; at < sizeof data; at += 1000) {
        sim_conn_send(e->conn, data + at, 1000);
    }
}

static void test_bytes_arrive_in_order_in_pieces(void **state)
{
    uint8_t expected[STREAM_BYTES];
    fill(expected, sizeof expected);
    for (uint64_t seed = 1; seed < 30; seed++) {
        struct ends e;
        open_ends(&e, seed);
        send_stream(&e);
        run(&e);
        assert_int_equal(e.at_broker_size, STREAM_BYTES);
        assert_memory_equal(e.at_broker, expected, STREAM_BYTES);
        assert_true(e.largest_read <= STREAM_BYTES);
        assert_int_equal(e.broker_closed, 0);
        close_ends(&e);
    }
}

static void test_replies_are_read_from_their_memory_late(void **state)
{
    struct ends e;
    open_ends(&e, 31);
    run(&e);
    uint8_t head[24] = {[0] = 24}; /* a frame of 4 + 24 bytes */
    uint8_t payload[4] = {'o', 'l', 'd', '!'};
    struct slice part = {NULL, payload, sizeof payload};
    e.link->ops->send(e.link, head, sizeof head, &part, 1);
    assert_int_equal(e.link->ops->queued_bytes(e.link), 28);
    memset(head, 0xff, sizeof head); /* the head was copied, the part was not */
    memcpy(payload, "new!", 4);
    run(&e);
    assert_int_equal(e.at_client_size, 28);
    assert_int_equal(e.at_client[0], 24);
    assert_memory_equal(e.at_client + 24, "new!", 4);
    assert_int_equal(e.link->ops->queued_bytes(e.link), 0);
    assert_int_equal(e.drains, 1);
    close_ends(&e);
}

static void test_paused_link_reads_nothing_until_resumed(void **state)
{
    struct ends e;
    open_ends(&e, 32);
    run(&e);
    e.link->ops->pause(e.link);
    send_stream(&e);
    run(&e);
    assert_int_equal(e.at_broker_size, 0);
    e.link->ops->resume(e.link);
    run(&e);
    assert_int_equal(e.at_broker_size, STREAM_BYTES);
    close_ends(&e);
}

static void test_broken_connection_loses_a_suffix_and_tells_both_once(void **state)
{
    uint8_t expected[STREAM_BYTES];
    fill(expected, sizeof expected);
    int shorter = 0;
    for (uint64_t seed = 1; seed < 30; seed++) {
        struct ends e;
        open_ends(&e, seed);
        send_stream(&e);
        sim_conn_break(e.conn);
        run(&e);
        assert_memory_equal(e.at_broker, expected, e.at_broker_size);
        shorter += e.at_broker_size < STREAM_BYTES;
        assert_int_equal(e.broker_closed, 1);
        assert_int_equal(e.client_closed, 1);
        close_ends(&e);
    }
    assert_true(shorter > 20);
}

static void test_abandoned_connection_still_delivers(void **state)
{
    struct ends e;
    open_ends(&e, 33);
    send_stream(&e);
    sim_conn_abandon(e.conn, 1000000);
    run(&e);
    assert_int_equal(e.at_broker_size, STREAM_BYTES);
    assert_int_equal(e.broker_closed, 1);
    assert_int_equal(e.client_closed, 0);
    assert_true(e.world.now_us >= 1000000);
    close_ends(&e);
}

static void test_closing_link_sends_what_is_queued(void **state)
{
    struct ends e;
    open_ends(&e, 34);
    run(&e);
    const uint8_t head[24] = {[0] = 20};
    e.link->ops->send(e.link, head, sizeof head, NULL, 0);
    e.link->ops->close(e.link);
    assert_int_equal(e.broker_closed, 0); /* never inside close */
    run(&e);
    assert_int_equal(e.at_client_size, 24);
    assert_int_equal(e.broker_closed, 1);
    assert_int_equal(e.client_closed, 1);
    close_ends(&e);
}

static void test_dead_process_is_told_nothing(void **state)
{
    struct ends e;
    open_ends(&e, 35);
    send_stream(&e);
    run(&e);
    sim_net_kill(e.net);
    run(&e);
    assert_int_equal(e.broker_closed, 0);
    assert_int_equal(e.client_closed, 1);
    assert_int_equal(sim_net_links(e.net), 0);
    close_ends(&e);
}

static void test_frame_that_is_too_long_is_a_failure(void **state)
{
    struct ends e;
    open_ends(&e, 36);
    run(&e);
    const uint8_t head[24] = {[0] = 20}; /* says that nothing follows */
    struct slice part = {NULL, head, 1};
    e.link->ops->send(e.link, head, sizeof head, &part, 1);
    assert_true(e.world.failed);
    assert_string_equal(e.world.failed_check, "port");
    close_ends(&e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_arrive_in_order_in_pieces),
        cmocka_unit_test(test_replies_are_read_from_their_memory_late),
        cmocka_unit_test(test_paused_link_reads_nothing_until_resumed),
        cmocka_unit_test(test_broken_connection_loses_a_suffix_and_tells_both_once),
        cmocka_unit_test(test_abandoned_connection_still_delivers),
        cmocka_unit_test(test_closing_link_sends_what_is_queued),
        cmocka_unit_test(test_dead_process_is_told_nothing),
        cmocka_unit_test(test_frame_that_is_too_long_is_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
