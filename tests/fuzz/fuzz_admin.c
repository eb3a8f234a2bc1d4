/* Hostile HTTP on the admin port. Whatever comes, in whatever pieces: at most one answer, a whole one with the length
 * it announces, of a status that admin.c knows; the same answer however the bytes were split; pages are asked for a
 * path that is bounded and has no query; and behind the answer the connection is closed.
 *
 * Input: byte 0 the number of pieces, then their sizes, then what the client sends. The real admin.c, its listener and
 * links made of memory. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/assert.h"
#include "broker/admin.h"
#include "os/listener.h"
#include "port/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PIECES_MAX    16u
#define ANSWER_MAX    16384u
#define PAGE_PATH_MAX 1024u
#define DEADLINE_MS   1000000u

/* --- the listener, and a link that keeps what is sent --- */

static struct {
    void (*on_accept)(void *context, struct link *link);
    void *context;
    uv_loop_t uv;
} listener;

struct client {
    struct link link; /* first */
    char answer[ANSWER_MAX + 1];
    size_t answer_size;
    unsigned sends, pages;
    bool closed;
};

static struct client *serving; /* whose request is being read */

enum err os_listen(struct os_loop *loop, const char *address, const char *name, uint32_t connections_max,
                   void (*on_accept)(void *context, struct link *link), void *context,
                   struct os_listener **ret_listener)
{
    listener.on_accept = on_accept;
    listener.context = context;
    *ret_listener = NULL;
    return OK;
}

const char *os_listener_address(const struct os_listener *of)
{
    return "";
}

void os_listener_close(struct os_listener *of)
{
}

struct uv_loop_s *os_loop_uv(struct os_loop *loop)
{
    return &listener.uv;
}

static void put(struct client *client, const void *data, size_t size)
{
    ASSERT(size <= ANSWER_MAX - client->answer_size);
    if (size > 0)
        memcpy(client->answer + client->answer_size, data, size);
    client->answer_size += size;
}

static void fake_send(struct link *link, const void *head, size_t head_size, const struct slice *parts,
                      size_t parts_count)
{
    struct client *client = (struct client *)link;
    ASSERT(!client->closed);
    client->sends++;
    put(client, head, head_size);
    for (size_t i = 0; i < parts_count; i++)
        put(client, parts[i].data, parts[i].size);
}

static size_t fake_queued_bytes(const struct link *link)
{
    return 0;
}

static void fake_nothing(struct link *link)
{
}

static void fake_close(struct link *link)
{
    ((struct client *)link)->closed = true; /* on_closed comes in a later turn */
}

static const struct link_ops link_ops = {.send = fake_send,
                                         .queued_bytes = fake_queued_bytes,
                                         .pause = fake_nothing,
                                         .resume = fake_nothing,
                                         .close = fake_close};

/* --- pages --- */

static unsigned page(void *context, const char *path, FILE *out, const char **ret_type)
{
    size_t size = strlen(path);
    serving->pages++;
    ASSERT(size <= PAGE_PATH_MAX && strcspn(path, "?#") == size);
    *ret_type = "text/plain";
    if (size % 3 == 2)
        return 404;
    fprintf(out, "%s\n", path);
    return 200;
}

/* --- one connection --- */

static void receive(struct client *client, const uint8_t *data, size_t size)
{
    while (size > 0 && !client->closed) {
        uint8_t *into;
        size_t room;
        client->link.handler->on_alloc(&client->link, &into, &room);
        ASSERT(room > 0);
        size_t part = size < room ? size : room;
        memcpy(into, data, part);
        client->link.handler->on_read(&client->link, part);
        data += part;
        size -= part;
    }
}

static void converse(struct client *client, const uint8_t *sizes, unsigned pieces, const uint8_t *data, size_t size)
{
    client->link = (struct link){.ops = &link_ops, .listener = "admin", .remote = "fuzz"};
    client->answer_size = 0;
    client->sends = client->pages = 0;
    client->closed = false;
    serving = client;
    listener.on_accept(listener.context, &client->link);
    for (unsigned i = 0; i < pieces && size > 0; i++) {
        size_t part = sizes[i] < size ? sizes[i] : size;
        receive(client, data, part);
        data += part;
        size -= part;
    }
    receive(client, data, size);
    client->answer[client->answer_size] = '\0';
    client->link.handler->on_closed(&client->link, client->closed ? OK : ERR_CLOSED);
}

static void check_answer(const struct client *client)
{
    static const unsigned known[] = {200, 400, 404, 405, 414, 431};
    unsigned status = 0, length = 0;
    bool is_known = false;
    if (client->sends == 0) {
        ASSERT(!client->closed && client->pages == 0);
        return;
    }
    ASSERT(client->sends == 1 && client->closed && client->pages <= 1);
    const char *body = strstr(client->answer, "\r\n\r\n");
    const char *announced = strstr(client->answer, "\r\nContent-Length: ");
    ASSERT(body != NULL && announced != NULL && announced < body);
    ASSERT(sscanf(client->answer, "HTTP/1.1 %3u ", &status) == 1);
    ASSERT(sscanf(announced, "\r\nContent-Length: %u", &length) == 1);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        is_known = is_known || status == known[i];
    ASSERT(is_known && (status == 200 ? client->pages == 1 : true));
    size_t body_size = client->answer_size - (size_t)(body + 4 - client->answer);
    ASSERT(body_size == length || body_size == 0); /* none: HEAD */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct admin *admin;
    static struct client whole, split;
    if (admin == NULL) {
        static const struct admin_source source = {.page = page};
        uv_loop_init(&listener.uv);
        ASSERT(admin_open(NULL, "", &source, DEADLINE_MS, &admin) == OK);
    }
    if (size < 1 || size < 1u + data[0] % PIECES_MAX || size > ADMIN_REQUEST_BYTES_MAX)
        return 0;
    unsigned pieces = data[0] % PIECES_MAX;
    const uint8_t *sent = data + 1 + pieces;
    size_t sent_size = size - 1 - pieces;
    converse(&whole, NULL, 0, sent, sent_size);
    check_answer(&whole);
    converse(&split, data + 1, pieces, sent, sent_size);
    check_answer(&split);
    ASSERT(whole.sends == split.sends && strcmp(whole.answer, split.answer) == 0);
    return 0;
}
