/* A hostile crowd against one broker, for hostile.py and tests/cluster/test_hostile.py: connections that stay and say
 * nothing, slow-loris ones, and a storm of new ones. One thread on epoll, so that the crowd is not what is measured.
 *
 *   idle      connected, silent
 *   loris     a third each: a header of which one byte comes per second; the frame of a 1 MiB batch of which a byte
 *             comes per second; the same after 600 KiB at once, so that much memory is wanted for it
 *   connects  per second: left at once, left after noise, reset after a good request whose answer is not awaited
 *
 * Whoever the broker throws out comes back within a tenth of a second. `steady` on stdout says that everybody is
 * there; a line of counts follows at the end (SIGTERM, or the seconds are over). Source addresses are 127.0.0.2 and
 * following when the broker is on 127.0.0.1: ports do not run out, and no single address is the crowd. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "wire/codec.h"

#define EVENTS_MAX     1024
#define TICK_NS        1000000u /* 1 ms: many hosts that know nothing of one another come one by one, not in gusts */
#define DRIP_NS        1000000000u
#define BACK_NS        100000000u /* after being thrown out */
#define BATCH_BYTES    (1u << 20)
#define HEAVY_BYTES    (600u << 10)
#define STORM_LIFE_NS  1000000000u /* a connect that takes longer is given up */
#define OPENS_PER_TICK 20

enum kind { IDLE, LORIS_HEADER, LORIS_BODY, LORIS_HEAVY, STORM_LEAVES, STORM_NOISE, STORM_RESETS, KINDS };
enum state { AWAY, CONNECTING, THERE };

struct one {
    enum kind kind;
    enum state state;
    int fd;
    uint32_t sent_bytes;
    uint32_t burst_bytes; /* to send without waiting */
    uint64_t due_ns;      /* AWAY: comes back; loris: next byte; storm: given up */
    TAILQ_ENTRY(one) due_link;
};

TAILQ_HEAD(list, one);

struct crowd {
    struct sockaddr_in address;
    bool is_loopback;
    uint32_t addresses;
    uint32_t next_address;
    int epoll;
    uint64_t now_ns;
    struct list away, drips, storm; /* each by due time: the waits are constants */
    struct one *staying;
    uint32_t staying_count, there_count;
    uint32_t connects_per_s;
    double connects_owed;
    uint8_t *frame; /* a good produce frame of BATCH_BYTES */
    uint8_t request[CODEC_HEAD_BYTES_MAX];
    uint32_t frame_bytes, request_bytes;
    uint64_t connects, connected, refused, thrown_out, given_up;
    bool steady;
};

static volatile sig_atomic_t is_over;

static void on_signal(int number)
{
    (void)number;
    is_over = 1;
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static bool stays(const struct one *one)
{
    return one->kind < STORM_LEAVES;
}

/* --- coming and going --- */

static void leave(struct crowd *crowd, struct one *one, bool reset)
{
    const struct linger now = {.l_onoff = 1, .l_linger = 0};
    if (reset) {
        setsockopt(one->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    close(one->fd);
    one->fd = -1;
    if (!stays(one)) {
        TAILQ_REMOVE(&crowd->storm, one, due_link);
        free(one);
        return;
    }
    if (one->state == THERE) {
        crowd->there_count--;
        if (one->kind != IDLE) {
            TAILQ_REMOVE(&crowd->drips, one, due_link);
        }
    }
    one->state = AWAY;
    one->due_ns = crowd->now_ns + BACK_NS;
    TAILQ_INSERT_TAIL(&crowd->away, one, due_link);
}

static void bind_source(struct crowd *crowd, int fd)
{
    const int on = 1;
    struct sockaddr_in source = {.sin_family = AF_INET};
    if (crowd->is_loopback && crowd->addresses > 0) {
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + crowd->next_address++ % crowd->addresses);
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        ASSERT(bind(fd, (struct sockaddr *)&source, sizeof source) == 0);
    }
}

/* False: no descriptor or port left here. */
static bool come(struct crowd *crowd, struct one *one)
{
    one->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (one->fd < 0) {
        return false;
    }
    bind_source(crowd, one->fd);
    if (connect(one->fd, (struct sockaddr *)&crowd->address, sizeof crowd->address) != 0 && errno != EINPROGRESS) {
        close(one->fd);
        return false;
    }
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP, .data.ptr = one};
    ASSERT(epoll_ctl(crowd->epoll, EPOLL_CTL_ADD, one->fd, &event) == 0);
    one->state = CONNECTING;
    one->sent_bytes = 0;
    one->burst_bytes = one->kind == LORIS_HEAVY ? HEAVY_BYTES : 0;
    crowd->connects++;
    return true;
}

/* --- what they say --- */

static void say(const struct crowd *crowd, struct one *one, uint32_t size)
{
    uint32_t left = crowd->frame_bytes - one->sent_bytes;
    ssize_t sent = send(one->fd, crowd->frame + one->sent_bytes, size < left ? size : left, MSG_NOSIGNAL);
    if (sent > 0) {
        one->sent_bytes += (uint32_t)sent;
        one->burst_bytes -= one->burst_bytes < (uint32_t)sent ? one->burst_bytes : (uint32_t)sent;
    }
}

static void watch(const struct crowd *crowd, struct one *one, bool writable)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | (writable ? EPOLLOUT : 0), .data.ptr = one};
    epoll_ctl(crowd->epoll, EPOLL_CTL_MOD, one->fd, &event);
}

static void on_connected(struct crowd *crowd, struct one *one)
{
    static const uint8_t noise[] = "GET / HTTP/1.1\r\nHost: somewhere\r\n\r\n";
    crowd->connected++;
    one->state = THERE;
    switch (one->kind) {
    case IDLE:
        crowd->there_count++;
        watch(crowd, one, false);
        break;
    case LORIS_HEADER:
    case LORIS_BODY:
    case LORIS_HEAVY:
        crowd->there_count++;
        say(crowd, one, one->kind == LORIS_HEADER ? 1 : one->kind == LORIS_BODY ? 100 : one->burst_bytes);
        watch(crowd, one, one->burst_bytes > 0);
        one->due_ns = crowd->now_ns + DRIP_NS;
        TAILQ_INSERT_TAIL(&crowd->drips, one, due_link);
        break;
    case STORM_LEAVES:
        leave(crowd, one, false);
        break;
    case STORM_NOISE:
        (void)!send(one->fd, noise, sizeof noise - 1, MSG_NOSIGNAL);
        leave(crowd, one, false);
        break;
    default:
        (void)!send(one->fd, crowd->request, crowd->request_bytes, MSG_NOSIGNAL);
        leave(crowd, one, true);
        break;
    }
}

static void on_event(struct crowd *crowd, struct one *one, uint32_t events)
{
    uint8_t nothing[4096];
    if (one->state == CONNECTING) {
        if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
            crowd->refused++;
            leave(crowd, one, false);
        } else if ((events & EPOLLOUT) != 0) {
            on_connected(crowd, one);
        }
        return;
    }
    if ((events & EPOLLIN) != 0) {
        while (recv(one->fd, nothing, sizeof nothing, 0) > 0) {
        }
    }
    if ((events & (EPOLLERR | EPOLLHUP | EPOLLRDHUP)) != 0) {
        crowd->thrown_out++;
        leave(crowd, one, false);
    } else if ((events & EPOLLOUT) != 0 && one->burst_bytes > 0) {
        say(crowd, one, one->burst_bytes);
        watch(crowd, one, one->burst_bytes > 0);
    }
}

/* --- time --- */

static void storm(struct crowd *crowd)
{
    crowd->connects_owed += crowd->connects_per_s * (TICK_NS / 1e9);
    for (; crowd->connects_owed >= 1; crowd->connects_owed--) {
        struct one *one = calloc(1, sizeof *one);
        ASSERT(one != NULL);
        one->kind = STORM_LEAVES + (enum kind)(crowd->connects % 3);
        if (!come(crowd, one)) {
            crowd->given_up++;
            free(one);
            continue;
        }
        one->due_ns = crowd->now_ns + STORM_LIFE_NS;
        TAILQ_INSERT_TAIL(&crowd->storm, one, due_link);
    }
}

static void tick(struct crowd *crowd)
{
    struct one *one;
    for (int i = 0; i < OPENS_PER_TICK && (one = TAILQ_FIRST(&crowd->away)) != NULL && one->due_ns <= crowd->now_ns;
         i++) {
        if (!come(crowd, one)) {
            break;
        }
        TAILQ_REMOVE(&crowd->away, one, due_link);
    }
    while ((one = TAILQ_FIRST(&crowd->drips)) != NULL && one->due_ns <= crowd->now_ns) {
        TAILQ_REMOVE(&crowd->drips, one, due_link);
        one->due_ns = crowd->now_ns + DRIP_NS;
        TAILQ_INSERT_TAIL(&crowd->drips, one, due_link);
        if (one->burst_bytes == 0) {
            say(crowd, one, 1);
        }
    }
    while ((one = TAILQ_FIRST(&crowd->storm)) != NULL && one->due_ns <= crowd->now_ns) {
        crowd->given_up++;
        leave(crowd, one, true);
    }
    if (!crowd->steady && crowd->there_count >= crowd->staying_count) {
        crowd->steady = true;
        printf("steady\n");
        fflush(stdout);
    }
    if (crowd->steady) {
        storm(crowd);
    }
}

static void run(struct crowd *crowd, uint64_t end_ns)
{
    struct epoll_event events[EVENTS_MAX];
    uint64_t next_tick_ns = now_ns();
    while (!is_over && now_ns() < end_ns) {
        crowd->now_ns = now_ns();
        if (crowd->now_ns >= next_tick_ns) {
            next_tick_ns += TICK_NS;
            tick(crowd);
        }
        uint64_t now = now_ns();
        int wait_ms = next_tick_ns > now ? (int)((next_tick_ns - now + 999999) / 1000000) : 0;
        int count = epoll_wait(crowd->epoll, events, EVENTS_MAX, wait_ms);
        crowd->now_ns = now_ns();
        for (int i = 0; i < count; i++) {
            on_event(crowd, events[i].data.ptr, events[i].events);
        }
    }
}

/* --- set-up --- */

static void make_frames(struct crowd *crowd)
{
    const ProduceRequest produce = {.group = 1, .acks = -1};
    const MetadataRequest metadata = {.topic = "t"};
    uint32_t head_size;
    crowd->frame = calloc(1, CODEC_HEAD_BYTES_MAX + BATCH_BYTES);
    ASSERT(crowd->frame != NULL);
    enum err error =
        codec_encode_frame(crowd->frame, CODEC_HEAD_BYTES_MAX, FRAME_PRODUCE, 1, &produce, BATCH_BYTES, &head_size);
    ASSERT(error == OK);
    crowd->frame_bytes = head_size + BATCH_BYTES - 1; /* its last byte never comes */
    error = codec_encode_frame(crowd->request, sizeof crowd->request, FRAME_METADATA, 1, &metadata, 0,
                               &crowd->request_bytes);
    ASSERT(error == OK);
}

static void set_address(struct crowd *crowd, char *text)
{
    char *colon = strrchr(text, ':');
    ASSERT(colon != NULL);
    *colon = '\0';
    crowd->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(colon + 1))};
    ASSERT(inet_pton(AF_INET, text, &crowd->address.sin_addr) == 1);
    crowd->is_loopback = ntohl(crowd->address.sin_addr.s_addr) == INADDR_LOOPBACK;
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    static struct crowd crowd;
    if (argc != 7) {
        fprintf(stderr, "usage: hostile HOST:PORT IDLE LORIS CONNECTS-PER-SECOND SECONDS ADDRESSES\n");
        return 2;
    }
    set_address(&crowd, argv[1]);
    uint32_t idle = (uint32_t)atoi(argv[2]);
    crowd.staying_count = idle + (uint32_t)atoi(argv[3]);
    crowd.connects_per_s = (uint32_t)atoi(argv[4]);
    crowd.addresses = (uint32_t)atoi(argv[6]);
    raise_file_limit();
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    make_frames(&crowd);
    TAILQ_INIT(&crowd.away);
    TAILQ_INIT(&crowd.drips);
    TAILQ_INIT(&crowd.storm);
    crowd.epoll = epoll_create1(EPOLL_CLOEXEC);
    crowd.staying = calloc(crowd.staying_count + 1, sizeof crowd.staying[0]);
    ASSERT(crowd.epoll >= 0 && crowd.staying != NULL);
    for (uint32_t i = 0; i < crowd.staying_count; i++) {
        crowd.staying[i].kind = i < idle ? IDLE : LORIS_HEADER + (enum kind)(i % 3);
        TAILQ_INSERT_TAIL(&crowd.away, &crowd.staying[i], due_link);
    }
    run(&crowd, now_ns() + (uint64_t)atoi(argv[5]) * 1000000000u);
    printf("connects %lu connected %lu refused %lu thrown_out %lu given_up %lu there %u\n", crowd.connects,
           crowd.connected, crowd.refused, crowd.thrown_out, crowd.given_up, crowd.there_count);
    return 0;
}
