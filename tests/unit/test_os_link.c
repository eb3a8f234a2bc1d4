/* Real sockets on 127.0.0.1: two links that talk to each other, or one link and a plain socket that behaves badly. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/limits.h"
#include "os/address.h"
#include "os/link.h"
#include "os/listener.h"

#define CHUNK_BYTES     (128u << 10)
#define HIGH_MARK_BYTES (1u << 20)

/* One side of a connection. What it receives must be the pattern, from `received` on. */
struct side {
    struct fixture *f;
    struct link *link;
    struct buf *chunk; /* owned; the next read lands here */
    uint64_t received;
    uint64_t sent;
    uint64_t to_send; /* sent by pump, as the queue allows */
    bool echo;        /* sends back what it receives */
    bool no_memory;
    bool connected;
    bool close_on_read;
    int closed;
    int drains;
    enum err reason;
};

struct fixture {
    struct os_loop *loop;
    struct os_listener *listener;
    struct side server; /* the last accepted */
    struct side client;
    bool refuse;
    int refused[2]; /* by why */
    int accepted;
    int turns;
    uint64_t received_before; /* this turn, by the server */
    uint64_t received_in_turn_max;
    int bufs_out;
};

static uint8_t pattern(uint64_t at)
{
    return (uint8_t)(at * 31 + (at >> 8) * 7 + (at >> 16));
}

static struct buf *counted_buf(struct fixture *f, uint32_t size);

static void counted_release(struct buf *b)
{
    struct fixture *f = b->owner;
    f->bufs_out--;
    free(b->data);
    free(b);
}

static struct buf *counted_buf(struct fixture *f, uint32_t size)
{
    struct buf *b = malloc(sizeof *b);
    *b = (struct buf){.refs = 1, .size = size, .data = malloc(size), .release = counted_release, .owner = f};
    f->bufs_out++;
    return b;
}

/* Sends the next `size` bytes of the pattern: a head of up to 60 bytes, and two parts. */
static void send_pattern(struct side *side, uint32_t size)
{
    uint8_t head[60];
    uint32_t head_size = size < sizeof head ? size : (uint32_t)(side->sent % sizeof head);
    struct buf *b = counted_buf(side->f, size);
    for (uint32_t i = 0; i < size; i++) {
        b->data[i] = pattern(side->sent + i);
    }
    memcpy(head, b->data, head_size);
    uint32_t half = (size - head_size) / 2;
    struct slice parts[] = {{b, b->data + head_size, half}, {b, b->data + head_size + half, size - head_size - half}};
    side->link->ops->send(side->link, head, head_size, parts, 2);
    buf_unref(b);
    side->sent += size;
}

/* Sizes that fit nothing: from 1 byte to 200 KB. */
static void pump(struct side *side)
{
    while (side->to_send > 0 && side->link->ops->queued_bytes(side->link) < HIGH_MARK_BYTES) {
        uint64_t size = 1 + (side->sent * 2654435761u >> 7) % (side->sent % 5 == 0 ? 200000 : 700);
        size = size < side->to_send ? size : side->to_send;
        side->to_send -= size;
        send_pattern(side, (uint32_t)size);
    }
}

static void on_alloc(struct link *link, uint8_t **ret_data, size_t *ret_size)
{
    struct side *side = link->owner;
    if (side->no_memory) {
        *ret_size = 0;
        return;
    }
    if (side->chunk == NULL) {
        side->chunk = counted_buf(side->f, CHUNK_BYTES);
    }
    *ret_data = side->chunk->data;
    *ret_size = side->received % 3 == 0 ? 1000 : CHUNK_BYTES;
}

static void on_read(struct link *link, size_t size)
{
    struct side *side = link->owner;
    assert_true(size <= CHUNK_BYTES);
    for (size_t i = 0; i < size; i++) {
        if (side->chunk->data[i] != pattern(side->received + i)) {
            fail_msg("byte %llu is wrong", (unsigned long long)(side->received + i));
        }
    }
    side->received += size;
    if (side->close_on_read) {
        link->ops->close(link);
        return;
    }
    if (side->echo && size > 0) {
        struct slice part = {side->chunk, side->chunk->data, (uint32_t)size};
        link->ops->send(link, NULL, 0, &part, 1);
        buf_unref(side->chunk); /* the queue has its own reference now */
        side->chunk = NULL;
        if (link->ops->queued_bytes(link) > HIGH_MARK_BYTES) {
            link->ops->pause(link);
        }
    }
}

static void on_drain(struct link *link)
{
    struct side *side = link->owner;
    assert_int_equal(side->closed, 0);
    side->drains++;
    if (side->echo && link->ops->queued_bytes(link) < HIGH_MARK_BYTES / 2) {
        link->ops->resume(link);
    }
    pump(side);
}

static void on_closed(struct link *link, enum err reason)
{
    struct side *side = link->owner;
    side->closed++;
    side->reason = reason;
    side->link = NULL;
    buf_unref(side->chunk);
    side->chunk = NULL;
}

static const struct link_handler handler = {on_alloc, on_read, on_drain, on_closed};

static void on_connected(struct link *link)
{
    struct side *side = link->owner;
    side->connected = true;
    pump(side);
}

static void on_accept(void *context, struct link *link)
{
    struct fixture *f = context;
    f->accepted++;
    assert_string_equal(link->listener, "test");
    if (f->refuse) {
        link->ops->close(link);
        return;
    }
    f->server.link = link;
    f->server.f = f;
    link->handler = &handler;
    link->owner = &f->server;
}

static void on_turn(void *context)
{
    struct fixture *f = context;
    uint64_t in_turn = f->server.received - f->received_before;
    f->received_in_turn_max = in_turn > f->received_in_turn_max ? in_turn : f->received_in_turn_max;
    f->received_before = f->server.received;
    f->turns++;
}

static const struct os_loop_handler loop_handler = {.turn = on_turn};

static void listen_on(struct fixture *f, uint32_t connections_max)
{
    os_listener_close(f->listener);
    assert_int_equal(os_listen(f->loop, "127.0.0.1:0", "test", connections_max, on_accept, f, &f->listener), OK);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_int_equal(os_loop_open(NULL, NULL, &f->loop), OK);
    os_loop_set_handler(f->loop, &loop_handler, f);
    listen_on(f, 100);
    f->server.f = f->client.f = f;
    *state = f;
    return 0;
}

/* Waits for `condition`, turn by turn; meson's timeout ends a wait in vain. */
#define AWAIT(f, condition)                                                                                            \
    while (!(condition)) {                                                                                             \
        os_loop_run_once((f)->loop);                                                                                   \
    }

static int teardown(void **state)
{
    struct fixture *f = *state;
    struct side *sides[] = {&f->client, &f->server};
    for (int i = 0; i < 2; i++) {
        if (sides[i]->link != NULL) {
            sides[i]->link->ops->close(sides[i]->link);
        }
    }
    AWAIT(f, f->client.link == NULL && f->server.link == NULL && os_listener_connections(f->listener) == 0);
    assert_int_equal(f->bufs_out, 0); /* every reference came back */
    os_listener_close(f->listener);
    os_loop_close(f->loop);
    free(f);
    return 0;
}

static void connect_client(struct fixture *f)
{
    const char *address = os_listener_address(f->listener);
    assert_int_equal(os_connect(f->loop, address, &handler, &f->client, on_connected, &f->client.link), OK);
}

/* A blocking socket of the kernel's own, connected to the listener. */
static int connect_plain(struct fixture *f)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    to.sin_port = htons((uint16_t)atoi(strchr(os_listener_address(f->listener), ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void send_plain(int fd, uint64_t from, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = pattern(from + i);
        assert_int_equal(write(fd, &byte, 1), 1);
    }
}

/* Reads to the end of stream while the loop turns; returns the bytes, -1 for a reset. */
static int64_t read_plain(struct fixture *f, int fd)
{
    uint8_t data[4096];
    int64_t total = 0;
    for (;;) {
        ssize_t got = recv(fd, data, sizeof data, MSG_DONTWAIT);
        if (got == 0) {
            return total;
        }
        if (got < 0 && errno != EAGAIN) {
            return -1;
        }
        for (ssize_t i = 0; i < got; i++) {
            assert_int_equal(data[i], pattern((uint64_t)(total + i)));
        }
        total += got > 0 ? got : 0;
        os_loop_wake(f->loop);
        os_loop_run_once(f->loop);
    }
}

static void test_echo_in_odd_sizes(void **state)
{
    struct fixture *f = *state;
    f->server.echo = true;
    f->client.to_send = 24u << 20;
    connect_client(f);
    AWAIT(f, f->client.received == 24u << 20);
    assert_int_equal(f->client.sent, f->client.received);
    assert_true(f->client.drains > 0);
}

static void test_thousands_of_sends_in_one_turn(void **state)
{
    struct fixture *f = *state;
    connect_client(f);
    for (int i = 0; i < 20000; i++) {
        send_pattern(&f->client, 1 + (uint32_t)i % 90); /* queued before the connection stands */
    }
    assert_int_equal(f->client.link->ops->queued_bytes(f->client.link), f->client.sent);
    AWAIT(f, f->server.received == f->client.sent);
    assert_int_equal(f->client.link->ops->queued_bytes(f->client.link), 0);
    for (int i = 0; i < 20; i++) {
        send_pattern(&f->client, 6000); /* heads of one turn beside parts of another */
        os_loop_run_once(f->loop);
    }
    AWAIT(f, f->server.received == f->client.sent);
}

static void test_large_head_is_copied(void **state)
{
    struct fixture *f = *state;
    uint8_t *head = malloc(70000);
    connect_client(f);
    for (uint32_t i = 0; i < 70000; i++) {
        head[i] = pattern(i);
    }
    f->client.link->ops->send(f->client.link, head, 70000, NULL, 0);
    memset(head, 0, 70000);
    free(head);
    AWAIT(f, f->server.received == 70000);
}

static void test_pause_and_resume(void **state)
{
    struct fixture *f = *state;
    connect_client(f);
    AWAIT(f, f->client.connected && f->server.link != NULL);
    f->server.link->ops->pause(f->server.link);
    for (int i = 0; i < 400; i++) {
        send_pattern(&f->client, 100000); /* 40 MB: more than the kernel's buffers take */
    }
    for (int i = 0; i < 50; i++) {
        os_loop_wake(f->loop);
        os_loop_run_once(f->loop);
    }
    assert_int_equal(f->server.received, 0);
    assert_true(f->client.link->ops->queued_bytes(f->client.link) > 0);
    f->server.link->ops->resume(f->server.link);
    f->server.link->ops->pause(f->server.link);
    f->server.link->ops->resume(f->server.link);
    AWAIT(f, f->server.received == f->client.sent);
    assert_true(f->received_in_turn_max <= LINK_READ_BYTES_MAX + CHUNK_BYTES); /* one link does not own the turn */
}

static void test_close_writes_what_is_queued(void **state)
{
    struct fixture *f = *state;
    connect_client(f);
    AWAIT(f, f->client.connected && f->server.link != NULL);
    for (int i = 0; i < 80; i++) {
        send_pattern(&f->client, 100000);
    }
    struct link *link = f->client.link;
    link->ops->close(link);
    link->ops->close(link);
    uint64_t sent = f->client.sent;
    send_pattern(&f->client, 100); /* too late: not sent, and no reference is kept */
    assert_int_equal(f->client.closed, 0);
    AWAIT(f, f->client.closed && f->server.closed);
    assert_int_equal(f->server.received, sent);
    assert_int_equal(f->client.reason, OK);
    assert_int_equal(f->server.reason, ERR_CLOSED);
    assert_int_equal(f->client.closed, 1);
}

static void test_close_in_on_read_and_both_sides(void **state)
{
    struct fixture *f = *state;
    f->server.close_on_read = true;
    f->client.to_send = 4u << 20;
    connect_client(f);
    AWAIT(f, f->server.closed && f->client.closed);
    assert_int_equal(f->server.reason, OK);
    assert_int_equal(f->client.reason, ERR_CLOSED);

    f->server = f->client = (struct side){.f = f};
    f->received_before = 0;
    connect_client(f);
    AWAIT(f, f->client.connected && f->server.link != NULL);
    f->server.link->ops->close(f->server.link);
    f->client.link->ops->close(f->client.link);
    AWAIT(f, f->server.closed && f->client.closed);
    assert_int_equal(f->server.reason, OK);
    assert_int_equal(f->client.reason, OK);
}

/* The error frame must reach a client that is still sending: a plain close() would chase it with a reset. */
static void test_close_before_reading_everything(void **state)
{
    struct fixture *f = *state;
    int fd = connect_plain(f);
    send_plain(fd, 0, 5000);
    AWAIT(f, f->server.link != NULL);
    send_pattern(&f->server, 300);
    f->server.link->ops->close(f->server.link);
    os_loop_wake(f->loop);
    os_loop_run_once(f->loop);
    send_plain(fd, 5000, 500);
    assert_int_equal(read_plain(f, fd), 300);
    assert_int_equal(f->server.closed, 0); /* waits for our end of stream, for LINK_CLOSE_MS */
    close(fd);
    AWAIT(f, f->server.closed);
    assert_int_equal(f->server.reason, OK);
}

static void test_half_closed_by_the_client(void **state)
{
    struct fixture *f = *state;
    f->server.echo = true;
    int fd = connect_plain(f);
    send_plain(fd, 0, 2000);
    shutdown(fd, SHUT_WR);
    assert_int_equal(read_plain(f, fd), 2000);
    AWAIT(f, f->server.closed);
    assert_int_equal(f->server.reason, ERR_CLOSED);
    close(fd);
}

static void test_reset_by_the_client(void **state)
{
    struct fixture *f = *state;
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    int fd = connect_plain(f);
    AWAIT(f, f->server.link != NULL);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now), 0);
    close(fd);
    AWAIT(f, f->server.closed);
    assert_int_equal(f->server.reason, ERR_CLOSED);
}

static void test_write_to_a_dead_client(void **state)
{
    struct fixture *f = *state;
    int fd = connect_plain(f);
    AWAIT(f, f->server.link != NULL);
    f->server.link->ops->pause(f->server.link); /* so that only writing can find out */
    close(fd);
    while (!f->server.closed) {
        if (f->server.link != NULL) {
            send_pattern(&f->server, 1000);
        }
        os_loop_wake(f->loop);
        os_loop_run_once(f->loop);
    }
    assert_int_equal(f->server.reason, ERR_CLOSED);
}

static void test_close_gives_up_on_a_client_that_does_not_read(void **state)
{
    struct fixture *f = *state;
    int fd = connect_plain(f);
    AWAIT(f, f->server.link != NULL);
    for (int i = 0; i < 640; i++) {
        send_pattern(&f->server, 100000);
    }
    f->server.link->ops->close(f->server.link);
    AWAIT(f, f->server.closed);
    assert_int_equal(f->server.reason, OK);
    close(fd);
}

static void test_no_memory_to_read_into(void **state)
{
    struct fixture *f = *state;
    f->server.no_memory = true;
    int fd = connect_plain(f);
    send_plain(fd, 0, 1);
    AWAIT(f, f->server.closed);
    assert_int_equal(f->server.reason, ERR_NO_MEMORY);
    close(fd);
}

static void test_connect(void **state)
{
    struct fixture *f = *state;
    char by_name[64];
    char closed_port[64];
    struct addrinfo *found = NULL;
    bool named = getaddrinfo("localhost", NULL, NULL, &found) == 0; /* a bare chroot has no /etc/hosts */
    if (named) {
        freeaddrinfo(found);
    }
    snprintf(by_name, sizeof by_name, "%s%s", named ? "localhost" : "127.0.0.1",
             strchr(os_listener_address(f->listener), ':'));
    assert_int_equal(os_connect(f->loop, by_name, &handler, &f->client, on_connected, &f->client.link), OK);
    AWAIT(f, f->client.connected); /* also where the first address of localhost is ::1, where nobody listens */
    assert_string_equal(f->client.link->remote, os_listener_address(f->listener));
    f->client.link->ops->close(f->client.link);
    AWAIT(f, f->client.closed && f->server.closed);

    struct os_listener *short_lived = NULL;
    assert_int_equal(os_listen(f->loop, "127.0.0.1:0", "test", 1, on_accept, f, &short_lived), OK);
    snprintf(closed_port, sizeof closed_port, "%s", os_listener_address(short_lived));
    os_listener_close(short_lived);
    f->client = (struct side){.f = f};
    assert_int_equal(os_connect(f->loop, closed_port, &handler, &f->client, on_connected, &f->client.link), OK);
    send_pattern(&f->client, 1000);
    AWAIT(f, f->client.closed);
    assert_int_equal(f->client.reason, ERR_REFUSED);
    assert_false(f->client.connected);

    f->client = (struct side){.f = f};
    assert_int_equal(os_connect(f->loop, by_name, &handler, &f->client, on_connected, &f->client.link), OK);
    f->client.link->ops->close(f->client.link); /* while the name is looked up */
    AWAIT(f, f->client.closed);
    assert_int_equal(f->client.reason, OK);
}

static void test_addresses(void **state)
{
    static const char *const bad[] = {"",        "localhost", ":",    "::1:80",  "1.2.3.4:", "1.2.3.4:x",
                                      "a:65536", "a:-1",      "a: 1", "[::1:80", "a:000001", "a:1 "};
    struct os_address parsed;
    struct fixture *f = *state;
    struct os_listener *listener = NULL;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(os_address__parse(bad[i], &parsed), ERR_ADDRESS);
    }
    assert_int_equal(os_address__parse("[::1]:9092", &parsed), OK);
    assert_string_equal(parsed.host, "::1");
    assert_string_equal(parsed.port, "9092");
    assert_int_equal(os_listen(f->loop, os_listener_address(f->listener), "test", 1, on_accept, f, &listener),
                     ERR_ADDRESS); /* in use */
    assert_int_equal(os_listen(f->loop, "192.0.2.1:1", "test", 1, on_accept, f, &listener), ERR_ADDRESS);
    assert_null(listener);
    assert_int_equal(os_listen(f->loop, "*:0", "test", 1, on_accept, f, &listener), OK);
    os_listener_close(listener);
}

static void test_accept_refuses(void **state)
{
    struct fixture *f = *state;
    f->refuse = true;
    int fd = connect_plain(f);
    assert_int_equal(read_plain(f, fd), 0);
    assert_int_equal(f->accepted, 1);
    close(fd);
}

static void test_connections_are_bounded(void **state)
{
    struct fixture *f = *state;
    listen_on(f, 2);
    f->refuse = true; /* each lingers until its socket closes, and counts until then */
    int fds[3];
    for (int i = 0; i < 3; i++) {
        fds[i] = connect_plain(f);
    }
    for (int i = 0; i < 20; i++) {
        os_loop_wake(f->loop);
        os_loop_run_once(f->loop);
    }
    assert_int_equal(f->accepted, 2);
    assert_int_equal(os_listener_connections(f->listener), 2);
    close(fds[0]);
    AWAIT(f, f->accepted == 3);
    close(fds[1]);
    close(fds[2]);
}

static void count_refusal(void *context, enum os_refusal why)
{
    struct fixture *f = context;
    f->refused[why]++;
}

/* With words instead of waiting: too many of one address, too many in all. */
static void test_connections_in_excess_are_told(void **state)
{
    struct fixture *f = *state;
    int fds[3];
    listen_on(f, 2);
    os_listener_refuse(f->listener, 1, "no", 2, count_refusal);
    f->refuse = true; /* lingers, and counts until its socket closes */
    fds[0] = connect_plain(f);
    AWAIT(f, f->accepted == 1);
    fds[1] = connect_plain(f);
    AWAIT(f, f->refused[OS_REFUSED_ADDRESS] == 1);
    assert_int_equal(recv(fds[1], (char[8]){0}, 8, 0), 2);
    assert_int_equal(recv(fds[1], (char[8]){0}, 8, 0), 0);
    assert_int_equal(f->accepted, 1);
    close(fds[1]);
    os_listener_refuse(f->listener, 5, "no", 2, count_refusal);
    fds[1] = connect_plain(f);
    AWAIT(f, f->accepted == 2);
    fds[2] = connect_plain(f);
    AWAIT(f, f->refused[OS_REFUSED_FULL] == 1);
    for (int i = 0; i < 3; i++) {
        close(fds[i]);
    }
}

/* Out of descriptors: no spinning, and the connection is accepted when there are some again. */
static void test_out_of_descriptors(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, low;
    int fd = connect_plain(f);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = before;
    low.rlim_cur = 3;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    f->turns = 0;
    for (int i = 0; i < 3; i++) {
        os_loop_run_once(f->loop); /* the refused accept; then sleeps until the pause ends */
    }
    assert_int_equal(f->accepted, 0);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    AWAIT(f, f->accepted == 1);
    assert_true(f->turns < 12);
    close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_echo_in_odd_sizes),
        TEST(test_thousands_of_sends_in_one_turn),
        TEST(test_large_head_is_copied),
        TEST(test_pause_and_resume),
        TEST(test_close_writes_what_is_queued),
        TEST(test_close_in_on_read_and_both_sides),
        TEST(test_close_before_reading_everything),
        TEST(test_half_closed_by_the_client),
        TEST(test_reset_by_the_client),
        TEST(test_write_to_a_dead_client),
        TEST(test_close_gives_up_on_a_client_that_does_not_read),
        TEST(test_no_memory_to_read_into),
        TEST(test_connect),
        TEST(test_addresses),
        TEST(test_accept_refuses),
        TEST(test_connections_are_bounded),
        TEST(test_connections_in_excess_are_told),
        TEST(test_out_of_descriptors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
