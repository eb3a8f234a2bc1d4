/* The admin server over real sockets: pages, methods, limits, deadlines; and the metrics text against a made-up status.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "broker/admin.h"
#include "broker/metrics.h"
#include "broker/pages.h"

#define DEADLINE_MS 1000u /* an honest client is quicker, also on a busy machine */

struct fixture {
    struct os_loop *loop;
    struct admin *admin;
    uv_timer_t tick; /* the loop turns now and then, so that the test sees that its client is through */
    char asked[2048];
    unsigned asked_count;
};

/* A client on its own thread: sends, then reads until the server closes. */
struct client {
    pthread_t thread;
    char address[64];
    const char *request;
    size_t request_size;
    char answer[65536];
    size_t answer_size;
    atomic_bool done;
};

static unsigned fixture_page(void *context, const char *path, FILE *out, const char **ret_type)
{
    struct fixture *f = context;
    snprintf(f->asked, sizeof f->asked, "%s", path);
    f->asked_count++;
    if (strcmp(path, "/large") == 0) {
        for (int i = 0; i < 3000; i++) {
            fprintf(out, "line %05d\n", i);
        }
    } else {
        fprintf(out, "page %s", path);
    }
    *ret_type = "text/test";
    return strcmp(path, "/sick") == 0 ? 503 : 200;
}

static void fixture_on_tick(uv_timer_t *timer)
{
    (void)timer;
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const struct admin_source source = {.context = f, .page = fixture_page};
    assert_int_equal(os_loop_open(NULL, NULL, &f->loop), OK);
    assert_int_equal(admin_open(f->loop, "127.0.0.1:0", &source, DEADLINE_MS, &f->admin), OK);
    uv_timer_init(os_loop_uv(f->loop), &f->tick);
    uv_timer_start(&f->tick, fixture_on_tick, 5, 5);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    uv_close((uv_handle_t *)&f->tick, NULL);
    admin_close(f->admin);
    os_loop_close(f->loop);
    free(f);
    return 0;
}

static void *client_run(void *context)
{
    struct client *c = context;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    address.sin_port = htons((uint16_t)atoi(strrchr(c->address, ':') + 1));
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0) {
        ssize_t size = send(fd, c->request, c->request_size, MSG_NOSIGNAL);
        while (size >= 0 &&
               (size = recv(fd, c->answer + c->answer_size, sizeof c->answer - 1 - c->answer_size, 0)) > 0) {
            c->answer_size += (size_t)size;
        }
    }
    close(fd);
    atomic_store(&c->done, true);
    return NULL;
}

static void client_start(struct fixture *f, struct client *c, const char *request, size_t size)
{
    memset(c, 0, sizeof *c);
    snprintf(c->address, sizeof c->address, "%s", admin_address(f->admin));
    c->request = request;
    c->request_size = size;
    assert_int_equal(pthread_create(&c->thread, NULL, client_run, c), 0);
}

static void client_finish(struct fixture *f, struct client *c)
{
    while (!atomic_load(&c->done)) {
        os_loop_run_once(f->loop);
    }
    pthread_join(c->thread, NULL);
    c->answer[c->answer_size] = '\0';
}

static const char *ask(struct fixture *f, const char *request)
{
    static struct client c;
    client_start(f, &c, request, strlen(request));
    client_finish(f, &c);
    return c.answer;
}

static void assert_starts(const char *text, const char *start)
{
    if (strncmp(text, start, strlen(start)) != 0) {
        fail_msg("'%s' does not start with '%s'", text, start);
    }
}

static void serves_a_page(void **state)
{
    struct fixture *f = *state;
    const char *answer = ask(f, "GET /metrics?x=1 HTTP/1.1\r\nHost: here\r\n\r\n");
    assert_starts(answer, "HTTP/1.1 200 OK\r\n");
    assert_non_null(strstr(answer, "Content-Type: text/test\r\n"));
    assert_non_null(strstr(answer, "Content-Length: 13\r\n"));
    assert_non_null(strstr(answer, "\r\n\r\npage /metrics"));
    assert_string_equal(f->asked, "/metrics");
    assert_starts(ask(f, "GET /sick HTTP/1.0\r\n\r\n"), "HTTP/1.1 503 Service Unavailable\r\n");
}

static void serves_a_large_page_whole(void **state)
{
    const char *answer = ask(*state, "GET /large HTTP/1.1\r\n\r\n");
    const char *body = strstr(answer, "\r\n\r\n") + 4;
    assert_int_equal(strlen(body), 3000 * 11);
    assert_string_equal(body + 2999 * 11, "line 02999\n");
}

static void head_has_no_body(void **state)
{
    const char *answer = ask(*state, "HEAD /x HTTP/1.1\r\n\r\n");
    assert_non_null(strstr(answer, "Content-Length: 7\r\n"));
    assert_string_equal(strstr(answer, "\r\n\r\n"), "\r\n\r\n");
}

static void refuses_what_it_does_not_do(void **state)
{
    struct fixture *f = *state;
    assert_starts(ask(f, "POST /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"), "HTTP/1.1 405 ");
    assert_starts(ask(f, "DELETE /x HTTP/1.1\r\n\r\n"), "HTTP/1.1 405 ");
    assert_starts(ask(f, "nonsense\r\n\r\n"), "HTTP/1.1 400 ");
    assert_starts(ask(f, "FLOT\1\2\3\4"), "HTTP/1.1 400 ");
    assert_int_equal(f->asked_count, 0);
}

static void refuses_long_requests(void **state)
{
    struct fixture *f = *state;
    char request[2 * ADMIN_REQUEST_BYTES_MAX];
    size_t used = (size_t)sprintf(request, "GET /");
    memset(request + used, 'a', 2000);
    sprintf(request + used + 2000, " HTTP/1.1\r\n\r\n");
    assert_starts(ask(f, request), "HTTP/1.1 414 ");
    used = (size_t)sprintf(request, "GET / HTTP/1.1\r\nX: ");
    memset(request + used, 'a', sizeof request - used - 1);
    request[sizeof request - 1] = '\0';
    assert_starts(ask(f, request), "HTTP/1.1 431 ");
    assert_int_equal(f->asked_count, 0);
}

/* Half a request, and none at all: both are ended by the deadline, and others are served meanwhile. */
static void silent_connections_end(void **state)
{
    struct fixture *f = *state;
    static struct client silent, half;
    client_start(f, &silent, "", 0);
    client_start(f, &half, "GET / HT", 8);
    assert_starts(ask(f, "GET /x HTTP/1.1\r\n\r\n"), "HTTP/1.1 200 ");
    client_finish(f, &silent);
    client_finish(f, &half);
    assert_starts(silent.answer, "HTTP/1.1 408 ");
    assert_starts(half.answer, "HTTP/1.1 408 ");
}

static void one_port_is_for_one(void **state)
{
    struct fixture *f = *state;
    struct admin *other = NULL;
    const struct admin_source source = {.context = f, .page = fixture_page};
    assert_int_equal(admin_open(f->loop, admin_address(f->admin), &source, DEADLINE_MS, &other), ERR_ADDRESS);
    assert_null(other);
}

/* --- pages and metrics --- */

static void pages_before_the_broker(void **state)
{
    char text[512] = "";
    const char *type;
    const struct {
        const char *path;
        unsigned status;
    } rows[] = {
        {"/health/live", 200}, {"/health/ready", 503}, {"/metrics", 503}, {"/v1/topics", 503}, {"/x", 404}, {"", 404}};
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        FILE *out = fmemopen(text, sizeof text, "w");
        assert_int_equal(pages_write(NULL, rows[i].path, out, &type), rows[i].status);
        fclose(out);
        assert_true(strlen(text) > 0);
    }
}

static void metrics_text(void **state)
{
    static struct counters counters;
    char *text;
    size_t size;
    (void)state;
    counters_observe(&counters.wal_sync_seconds, 50);
    counters_observe(&counters.wal_sync_seconds, 51);
    counters_observe(&counters.wal_sync_seconds, 6000000);
    counters.produce_records_total = 7;
    const struct status_broker status = {.id = 3, .counters = &counters, .wal_written_bytes = 4096, .leaders = 2};
    FILE *out = open_memstream(&text, &size);
    metrics_write(out, &status);
    fclose(out);
    const char *wanted[] = {
        "# TYPE flotilla_produce_records_total counter\nflotilla_produce_records_total 7\n",
        "# TYPE flotilla_leaders gauge\nflotilla_leaders 2\n",
        "\nflotilla_wal_written_bytes_total 4096\n",
        "\nflotilla_segment_written_bytes_total 0\n",
        "\nflotilla_timeout_entries_proposed_total 0\n",
        "# TYPE flotilla_wal_sync_seconds histogram\n",
        "\nflotilla_wal_sync_seconds_bucket{le=\"5e-05\"} 1\n",
        "\nflotilla_wal_sync_seconds_bucket{le=\"0.0001\"} 2\n",
        "\nflotilla_wal_sync_seconds_bucket{le=\"5\"} 2\n",
        "\nflotilla_wal_sync_seconds_bucket{le=\"+Inf\"} 3\n",
        "\nflotilla_wal_sync_seconds_sum 6.000101\n",
        "\nflotilla_wal_sync_seconds_count 3\n",
    };
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (strstr(text, wanted[i]) == NULL) {
            fail_msg("the metrics lack '%s'", wanted[i]);
        }
    }
    free(text);
}

static void metrics_by_topic(void **state)
{
    struct registry_topic row = {.name = "a.b-c_d"};
    const struct status_topic topic = {
        .row = &row, .produced_records = 1, .produced_bytes = 2, .fetched_bytes = 3, .stored_bytes = 4};
    char text[1024];
    (void)state;
    FILE *out = fmemopen(text, sizeof text, "w");
    for (unsigned i = 0; i < METRICS_TOPIC_COUNT; i++) {
        metrics_write_topic_header(out, i);
        metrics_write_topic(out, i, &topic);
    }
    fclose(out);
    assert_non_null(strstr(text, "\nflotilla_topic_produced_records_total{topic=\"a.b-c_d\"} 1\n"));
    assert_non_null(strstr(text, "\nflotilla_topic_produced_bytes_total{topic=\"a.b-c_d\"} 2\n"));
    assert_non_null(strstr(text, "\nflotilla_topic_fetched_bytes_total{topic=\"a.b-c_d\"} 3\n"));
    assert_non_null(strstr(text, "\nflotilla_topic_stored_bytes{topic=\"a.b-c_d\"} 4\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(serves_a_page, setup, teardown),
        cmocka_unit_test_setup_teardown(serves_a_large_page_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(head_has_no_body, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_what_it_does_not_do, setup, teardown),
        cmocka_unit_test_setup_teardown(refuses_long_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(silent_connections_end, setup, teardown),
        cmocka_unit_test_setup_teardown(one_port_is_for_one, setup, teardown),
        cmocka_unit_test(pages_before_the_broker),
        cmocka_unit_test(metrics_text),
        cmocka_unit_test(metrics_by_topic),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
