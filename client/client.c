/* The client: its connections by address, the end of a loop turn (when gathered batches and frames go out), alarms on
 * one timer. */
#include "client/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"

#define SWEEP_INTERVAL_MS          100u
#define BACKOFF_FIRST_MS           10u
#define BACKOFF_MAX_MS             500u
#define TIMEOUT_DEFAULT_MS         30000u
#define CONNECT_TIMEOUT_DEFAULT_MS 3000u
#define RECEIVE_BUFS_KEPT          32u

/* The public numbers are the internal ones. */
#define SAME(name) _Static_assert((int)FLO_##name == (int)ERR_##name, "enum flo_error must follow enum err");
SAME(INTERNAL)
SAME(INVALID)
SAME(UNSUPPORTED)
SAME(UNKNOWN_TOPIC)
SAME(UNKNOWN_PARTITION)
SAME(NOT_LEADER)
SAME(NOT_READY)
SAME(TOO_LARGE)
SAME(CORRUPT_BATCH)
SAME(OUT_OF_RANGE)
SAME(BUSY)
SAME(TIMEOUT)
SAME(UNKNOWN_OUTCOME)
SAME(FENCED)
SAME(OUT_OF_ORDER)
SAME(STALE)
SAME(UNKNOWN_PRODUCER)
SAME(TOPIC_EXISTS)
SAME(INVALID_TOPIC)
SAME(INVALID_CONFIG)
SAME(NOT_ENOUGH_BROKERS)
SAME(STORAGE_FULL)
SAME(CORRUPT)
SAME(SHUTTING_DOWN)
SAME(BAD_FRAME)
SAME(NO_MEMORY)
SAME(CLOSED)
SAME(REFUSED)
SAME(ADDRESS)
SAME(CANCELLED)
SAME(AGAIN)

const char *flo_error_text(enum flo_error error)
{
    if (error == FLO_FULL)
        return "no room, wait";
    if (error == FLO_REFUSED)
        return "no broker can be reached";
    return err_text((enum err)error);
}

const char *flo_version(void)
{
    return FLOTILLA_VERSION;
}

uint64_t client__now_ms(const struct flo_client *client)
{
    return uv_now(client->loop);
}

int64_t client__wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool client__is_retriable(enum err error)
{
    switch (error) {
    case ERR_INTERNAL:
    case ERR_UNKNOWN_PARTITION:
    case ERR_NOT_LEADER:
    case ERR_NOT_READY:
    case ERR_BUSY:
    case ERR_TIMEOUT:
    case ERR_UNKNOWN_OUTCOME:
    case ERR_STORAGE_FULL:
    case ERR_CORRUPT:
    case ERR_SHUTTING_DOWN:
    case ERR_CLOSED:
    case ERR_REFUSED:
        return true;
    default:
        return false;
    }
}

uint32_t client__backoff(uint32_t *io_backoff_ms)
{
    uint32_t next_ms = *io_backoff_ms == 0 ? BACKOFF_FIRST_MS : *io_backoff_ms * 2;
    *io_backoff_ms = next_ms < BACKOFF_MAX_MS ? next_ms : BACKOFF_MAX_MS;
    return *io_backoff_ms;
}

/* ---- turns and alarms ---- */

static void on_turn_end(uv_prepare_t *prepare)
{
    struct flo_client *client = prepare->data;
    struct turn *turn;
    while ((turn = TAILQ_FIRST(&client->turns)) != NULL) {
        client__forget_turn(client, turn);
        turn->on_turn(turn);
    }
    for (uint32_t i = 0; i < client->dirty_count; i++)
        connection_flush(client->dirty[i]);
    client->dirty_count = 0;
    if (TAILQ_EMPTY(&client->turns))
        uv_prepare_stop(prepare);
}

void client__at_turn_end(struct flo_client *client, struct turn *turn)
{
    if (turn->queued)
        return;
    turn->queued = true;
    TAILQ_INSERT_TAIL(&client->turns, turn, link);
    uv_prepare_start(&client->turn_end, on_turn_end);
}

void client__forget_turn(struct flo_client *client, struct turn *turn)
{
    if (!turn->queued)
        return;
    turn->queued = false;
    TAILQ_REMOVE(&client->turns, turn, link);
}

static void on_timer(uv_timer_t *timer);

/* The timer may stand earlier than any alarm (one was moved or stopped): it then fires for nothing, which is cheaper
 * than a search. */
static void client__arm(struct flo_client *client, uint64_t at_ms)
{
    if ((client->timer_at_ms != 0 && client->timer_at_ms <= at_ms) || client->closing)
        return;
    uint64_t now_ms = client__now_ms(client);
    client->timer_at_ms = at_ms;
    uv_timer_start(&client->timer, on_timer, at_ms > now_ms ? at_ms - now_ms : 0, 0);
}

static void on_timer(uv_timer_t *timer)
{
    struct flo_client *client = timer->data;
    uint64_t now_ms = client__now_ms(client);
    struct alarm *alarm, *next;
    client->timer_at_ms = 0;
    for (alarm = TAILQ_FIRST(&client->alarms); alarm != NULL; alarm = next) {
        next = TAILQ_NEXT(alarm, link);
        if (alarm->at_ms <= now_ms) {
            TAILQ_REMOVE(&client->alarms, alarm, link);
            TAILQ_INSERT_TAIL(&client->due, alarm, link);
            alarm->is_due = true;
        }
    }
    while ((alarm = TAILQ_FIRST(&client->due)) != NULL) {
        client__set_alarm(client, alarm, 0);
        alarm->on_alarm(alarm);
    }
    TAILQ_FOREACH(alarm, &client->alarms, link)
    client__arm(client, alarm->at_ms);
}

void client__set_alarm(struct flo_client *client, struct alarm *alarm, uint64_t at_ms)
{
    if (alarm->at_ms == at_ms)
        return;
    if (alarm->is_due)
        TAILQ_REMOVE(&client->due, alarm, link);
    else if (alarm->at_ms != 0)
        TAILQ_REMOVE(&client->alarms, alarm, link);
    alarm->is_due = false;
    alarm->at_ms = at_ms;
    if (at_ms == 0)
        return;
    TAILQ_INSERT_TAIL(&client->alarms, alarm, link);
    client__arm(client, at_ms);
}

static void on_sweep(struct alarm *alarm)
{
    struct flo_client *client = (struct flo_client *)((char *)alarm - offsetof(struct flo_client, sweep));
    bool waiting = false;
    struct dialled *dialled, *next;
    HASH_ITER(hh, client->dialled, dialled, next)
    waiting |= connection_sweep(dialled->connection, client__now_ms(client));
    if (waiting)
        client__set_alarm(client, &client->sweep, client__now_ms(client) + SWEEP_INTERVAL_MS);
}

/* ---- connections ---- */

static void on_connection_dirty(void *context, struct connection *connection)
{
    struct flo_client *client = context;
    ASSERT(client->dirty_count < 2 * CONNECTIONS_MAX);
    client->dirty[client->dirty_count++] = connection;
    uv_prepare_start(&client->turn_end, on_turn_end);
    if (client->sweep.at_ms == 0)
        client__set_alarm(client, &client->sweep, client__now_ms(client) + SWEEP_INTERVAL_MS);
}

static void on_connection_made(void *context, struct connection *connection)
{
    struct flo_client *client = context;
    client->contacted = true;
    client->favourite = connection;
}

static void client__handle_closed(struct flo_client *client)
{
    if (--client->closes_left > 0)
        return;
    struct dialled *dialled, *next;
    HASH_ITER(hh, client->dialled, dialled, next)
    {
        HASH_DELETE(hh, client->dialled, dialled);
        connection_free(dialled->connection);
        free(dialled);
    }
    metadata_deinit(&client->metadata);
    buf_pool_free(client->owner.small_bufs);
    buf_pool_free(client->owner.large_bufs);
    for (uint32_t i = 0; i < client->bootstrap_count; i++)
        free(client->bootstrap[i]);
    free(client->client_id);
    void (*on_closed)(void *) = client->on_closed;
    void *context = client->on_closed_context;
    free(client);
    if (on_closed != NULL)
        on_closed(context);
}

static void on_connection_closed(void *context, struct connection *connection)
{
    client__handle_closed(context);
}

static void on_handle_closed(uv_handle_t *handle)
{
    client__handle_closed(handle->data);
}

struct connection *client__connection_to(struct flo_client *client, const char *address)
{
    struct dialled *dialled;
    HASH_FIND_STR(client->dialled, address, dialled);
    if (dialled != NULL)
        return dialled->connection;
    if (client->dialled_count == CONNECTIONS_MAX)
        return NULL;
    size_t size = strlen(address) + 1;
    dialled = calloc(1, sizeof *dialled + size);
    ASSERT(dialled != NULL);
    memcpy(dialled->address, address, size);
    dialled->connection = connection_new(&client->owner, address);
    HASH_ADD_STR(client->dialled, address, dialled);
    client->dialled_count++;
    return dialled->connection;
}

struct connection *client__connection_to_broker(struct flo_client *client, uint64_t broker)
{
    const char *address = metadata_broker_address(&client->metadata, broker);
    return address == NULL ? NULL : client__connection_to(client, address);
}

/* ---- public ---- */

void flo_client_options_init(struct flo_client_options *options)
{
    *options = (struct flo_client_options){
        .brokers = "127.0.0.1:9640",
        .timeout_ms = TIMEOUT_DEFAULT_MS,
        .connect_timeout_ms = CONNECT_TIMEOUT_DEFAULT_MS,
    };
}

/* Cuts "a:1,b:2" into checked addresses. */
static enum err client__read_bootstrap(struct flo_client *client, const char *brokers)
{
    const char *at = brokers;
    while (at != NULL) {
        const char *comma = strchr(at, ',');
        size_t size = comma == NULL ? strlen(at) : (size_t)(comma - at);
        char host[ADDRESS_BYTES_MAX + 1];
        uint16_t port;
        if (client->bootstrap_count == BOOTSTRAP_MAX)
            return ERR_ADDRESS;
        char *address = strndup(at, size);
        ASSERT(address != NULL);
        client->bootstrap[client->bootstrap_count++] = address;
        if (connection_parse_address(address, host, &port) != OK)
            return ERR_ADDRESS;
        at = comma == NULL ? NULL : comma + 1;
    }
    return OK;
}

enum flo_error flo_client_new(uv_loop_t *loop, const struct flo_client_options *options, struct flo_client **ret_client)
{
    if (options->brokers == NULL || options->timeout_ms == 0 || options->connect_timeout_ms == 0)
        return FLO_INVALID;
    struct flo_client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return FLO_NO_MEMORY;
    enum err error = client__read_bootstrap(client, options->brokers);
    if (error != OK) {
        for (uint32_t i = 0; i < client->bootstrap_count; i++)
            free(client->bootstrap[i]);
        free(client);
        return (enum flo_error)error;
    }
    client->loop = loop;
    client->timeout_ms = options->timeout_ms;
    client->connect_timeout_ms = options->connect_timeout_ms;
    client->client_id = options->client_id != NULL ? strdup(options->client_id) : NULL;
    /* A name in a list that leads nowhere must not use up the time of the others. */
    uint32_t share_ms = options->connect_timeout_ms / client->bootstrap_count;
    client->owner = (struct connection_owner){
        .loop = loop,
        .small_bufs = buf_pool_new(RECEIVE_SMALL_BYTES, RECEIVE_BUFS_KEPT),
        .large_bufs = buf_pool_new(RECEIVE_LARGE_BYTES, RECEIVE_BUFS_KEPT),
        .connect_timeout_ms = share_ms > 100 ? share_ms : 100,
        .client_id = client->client_id,
        .context = client,
        .on_dirty = on_connection_dirty,
        .on_contact = on_connection_made,
        .on_closed = on_connection_closed,
    };
    rng_seed(&client->rng, uv_hrtime());
    client->sweep.on_alarm = on_sweep;
    TAILQ_INIT(&client->turns);
    TAILQ_INIT(&client->alarms);
    TAILQ_INIT(&client->due);
    TAILQ_INIT(&client->calls);
    int status = uv_prepare_init(loop, &client->turn_end);
    ASSERT(status == 0);
    status = uv_timer_init(loop, &client->timer);
    ASSERT(status == 0);
    client->turn_end.data = client->timer.data = client;
    *ret_client = client;
    return FLO_OK;
}

void flo_client_close(struct flo_client *client, void (*on_closed)(void *context), void *context)
{
    ASSERT(!client->closing && client->users_count == 0);
    struct call *call;
    while ((call = TAILQ_FIRST(&client->calls)) != NULL) {
        call_cancel(call);
        call->on_done(call, ERR_CANCELLED, NULL, NULL);
    }
    client->closing = true;
    client->on_closed = on_closed;
    client->on_closed_context = context;
    client->closes_left = 2 + client->dialled_count;
    struct dialled *dialled, *next;
    HASH_ITER(hh, client->dialled, dialled, next)
    connection_close(dialled->connection);
    uv_close((uv_handle_t *)&client->turn_end, on_handle_closed);
    uv_close((uv_handle_t *)&client->timer, on_handle_closed);
}
