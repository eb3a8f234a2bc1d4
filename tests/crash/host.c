/* Hosting a broker by hand: the ports clock and link as simple twins, the port disk as the real one with lanes of our
 * own, the port kv as it is. */
#include "host.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "base/assert.h"
#include "broker/broker.h"
#include "faults.h"
#include "os/disk.h"
#include "os/lmdb.h"

#define CALL_STEPS_MAX  200000u
#define CALL_US_MAX     120000000u
#define JOB_US_MAX      400u
#define INPUT_BYTES_MAX (16u << 20)

struct host {
    struct clock clock; /* first */
    struct clock_ops clock_ops;
    struct disk_ops disk_ops; /* of os_disk, but for submit */
    struct link link;
    struct host_options options;
    struct rng rng;
    uint64_t now_us, armed_us;
    faults_product_function product; /* of faults.c, or NULL */
    struct os_disk *disk;
    struct os_lmdb *lmdb;
    struct broker *broker;
    struct disk_job *first[DISK_LANES], **last[DISK_LANES];
    bool ready, stopped, link_open, link_closing, paused;
    const char *failure;
    int exit_code;
    uint64_t request_id;
    uint8_t *input; /* sent to the broker, not read yet */
    size_t input_size;
    uint8_t *output; /* of the broker, not yet whole frames */
    size_t output_size, output_room;
    struct host_reply replies[HOST_REPLIES_MAX];
    uint32_t replies_first, replies_count;
    struct host_reply taken;
};

/* There is one at a time: ports carry no pointer to it. */
static struct host *the_host;

/* From here on the product runs, or no longer: what the test itself asks of the system does not fail. */
static void product(const struct host *host, bool runs)
{
    if (host->product != NULL) {
        host->product(runs);
    }
}

/* --- clock --- */

static uint64_t clock__now_us(struct clock *clock)
{
    return ((struct host *)clock)->now_us;
}

static int64_t clock__wall_ms(struct clock *clock)
{
    return host_wall_ms((struct host *)clock);
}

static void clock__random(struct clock *clock, void *data, size_t size)
{
    for (uint8_t *at = data; size > 0; size--) {
        *at++ = (uint8_t)rng_next(&((struct host *)clock)->rng);
    }
}

static void clock__arm(struct clock *clock, uint64_t deadline_us)
{
    ((struct host *)clock)->armed_us = deadline_us;
}

int64_t host_wall_ms(const struct host *host)
{
    return host->options.wall_ms + (int64_t)(host->now_us / 1000);
}

/* --- lanes --- */

static void disk__submit(struct disk *disk, enum disk_lane lane, struct disk_job *job)
{
    (void)disk;
    job->next = NULL;
    *the_host->last[lane] = job;
    the_host->last[lane] = &job->next;
}

static void lanes_clear(struct host *host)
{
    for (int i = 0; i < DISK_LANES; i++) {
        host->first[i] = NULL;
        host->last[i] = &host->first[i];
    }
}

bool host_is_busy(const struct host *host)
{
    return host->first[DISK_LANE_WAL] != NULL || host->first[DISK_LANE_STORE] != NULL;
}

static void lanes_run(struct host *host)
{
    /* Checkpoints and segments lag behind the log, as they do on a busy disk. */
    enum disk_lane lane = rng_chance(&host->rng, 0.85) ? DISK_LANE_WAL : DISK_LANE_STORE;
    lane = host->first[lane] != NULL ? lane : DISK_LANES - 1 - lane;
    struct disk_job *job = host->first[lane];
    host->first[lane] = job->next;
    if (host->first[lane] == NULL) {
        host->last[lane] = &host->first[lane];
    }
    host->now_us += 1 + rng_below(&host->rng, JOB_US_MAX);
    product(host, true);
    job->run(job);
    job->done(job);
    product(host, false);
}

/* --- link --- */

static void frame_keep(struct host *host, const struct frame *frame)
{
    ASSERT(host->replies_count < HOST_REPLIES_MAX);
    struct host_reply *reply = &host->replies[(host->replies_first + host->replies_count++) % HOST_REPLIES_MAX];
    *reply =
        (struct host_reply){.request_id = frame->request_id, .type = frame->type, .payload_size = frame->payload_size};
    enum err error = codec_decode(frame->type, frame->proto, frame->proto_size, &reply->message);
    ASSERT(error == OK);
    reply->payload = malloc(frame->payload_size + 1);
    ASSERT(reply->payload != NULL);
    memcpy(reply->payload, frame->payload, frame->payload_size);
}

static void output_add(struct host *host, const void *data, size_t size)
{
    if (host->output_size + size > host->output_room) {
        host->output_room = (host->output_size + size) * 2;
        host->output = realloc(host->output, host->output_room);
        ASSERT(host->output != NULL);
    }
    memcpy(host->output + host->output_size, data, size);
    host->output_size += size;
}

static void link__send(struct link *link, const void *head, size_t head_size, const struct slice *parts,
                       size_t parts_count)
{
    struct host *host = the_host;
    const struct frame_limits limits = {FRAME_PROTO_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX};
    struct frame frame;
    uint64_t needed;
    (void)link;
    product(host, false);
    output_add(host, head, head_size);
    for (size_t i = 0; i < parts_count; i++) {
        output_add(host, parts[i].data, parts[i].size);
    }
    while (frame_parse(host->output, host->output_size, &limits, &frame, &needed) == OK) {
        frame_keep(host, &frame);
        host->output_size -= frame.size_bytes;
        memmove(host->output, host->output + frame.size_bytes, host->output_size);
    }
    product(host, true);
}

static size_t link__queued_bytes(const struct link *link)
{
    (void)link;
    return 0;
}

static void link__pause(struct link *link)
{
    (void)link;
    the_host->paused = true;
}

static void link__resume(struct link *link)
{
    (void)link;
    the_host->paused = false;
}

static void link__close(struct link *link)
{
    (void)link;
    the_host->link_closing = true;
}

static const struct link_ops link_ops = {link__send, link__queued_bytes, link__pause, link__resume, link__close};

static void link_open(struct host *host)
{
    host->link = (struct link){.ops = &link_ops, .listener = "client", .remote = "test"};
    host->link_open = true;
    host->link_closing = host->paused = false;
    host->input_size = host->output_size = 0;
    product(host, true);
    broker_accept(host->broker, &host->link);
    product(host, false);
}

/* Hands the broker as much as it gives memory for. */
static bool link_deliver(struct host *host)
{
    uint8_t *room = NULL;
    size_t size = 0;
    if (host->link_open && host->link_closing) {
        host->link_open = false;
        product(host, true);
        host->link.handler->on_closed(&host->link, OK);
        product(host, false);
        return true;
    }
    if (!host->link_open || host->paused || host->input_size == 0)
        return false;
    product(host, true);
    host->link.handler->on_alloc(&host->link, &room, &size);
    size = size < host->input_size ? size : host->input_size;
    memcpy(room, host->input, size);
    host->input_size -= size;
    memmove(host->input, host->input + size, host->input_size);
    host->link.handler->on_read(&host->link, size);
    product(host, false);
    return true;
}

uint64_t host_send(struct host *host, enum frame_type type, const void *message, const void *payload, uint32_t size)
{
    uint32_t head_size;
    if (!host->link_open) {
        link_open(host);
    }
    ASSERT(host->input_size + CODEC_HEAD_BYTES_MAX + size <= INPUT_BYTES_MAX);
    enum err error = codec_encode_frame(host->input + host->input_size, CODEC_HEAD_BYTES_MAX, type, ++host->request_id,
                                        message, size, &head_size);
    ASSERT(error == OK);
    if (size > 0) {
        memcpy(host->input + host->input_size + head_size, payload, size);
    }
    host->input_size += head_size + size;
    return host->request_id;
}

const struct host_reply *host_take(struct host *host)
{
    if (host->replies_count == 0)
        return NULL;
    free(host->taken.payload);
    host->taken = host->replies[host->replies_first];
    host->replies_first = (host->replies_first + 1) % HOST_REPLIES_MAX;
    host->replies_count--;
    return &host->taken;
}

const struct host_reply *host_call(struct host *host, enum frame_type type, const void *message, const void *payload,
                                   uint32_t size)
{
    uint64_t id = host_send(host, type, message, payload, size);
    uint64_t until_us = host->now_us + CALL_US_MAX;
    for (uint32_t i = 0; i < CALL_STEPS_MAX && host->now_us < until_us; i++) {
        const struct host_reply *reply;
        while ((reply = host_take(host)) != NULL) {
            if (reply->request_id == id)
                return reply->type == FRAME_ERROR ? NULL : reply;
        }
        if (!host_step(host) || !host->link_open)
            return NULL;
    }
    return NULL;
}

bool host_is_cut(const struct host *host)
{
    return !host->link_open;
}

/* --- steps --- */

bool host_step(struct host *host)
{
    if (host->failure != NULL || host->stopped)
        return false;
    bool lanes_first = host_is_busy(host) && rng_chance(&host->rng, 0.5);
    if (!lanes_first && link_deliver(host)) {
        host->now_us++;
    } else if (host_is_busy(host)) {
        lanes_run(host);
    } else if (host->armed_us != UINT64_MAX) {
        host->now_us = host->armed_us > host->now_us ? host->armed_us : host->now_us;
    } else {
        return false;
    }
    product(host, true);
    if (host->armed_us <= host->now_us) {
        host->armed_us = UINT64_MAX;
        broker_timer(host->broker);
    }
    broker_turn(host->broker);
    product(host, false);
    return host->failure == NULL;
}

void host_idle(struct host *host, uint64_t for_us)
{
    uint64_t until_us = host->now_us + for_us;
    while (host->failure == NULL && (host_is_busy(host) || host->armed_us <= until_us) && host_step(host)) {
    }
    host->now_us = host->now_us > until_us ? host->now_us : until_us;
}

void host_status(const struct host *host, struct status_broker *ret_status)
{
    status_read(host->broker, ret_status);
}

const char *host_failure(const struct host *host)
{
    return host->failure;
}

int host_exit_code(const struct host *host)
{
    return host->exit_code;
}

/* --- start and end --- */

static void on_ready(void *context)
{
    ((struct host *)context)->ready = true;
}

static void on_fatal(void *context, enum broker_exit code, const char *why)
{
    struct host *host = context;
    host->failure = why;
    host->exit_code = (int)code;
}

static void on_stopped(void *context)
{
    ((struct host *)context)->stopped = true;
}

void host_config(struct config *config)
{
    config_defaults(config);
    config->wal_file_bytes = WAL_FILE_BYTES_MIN / 4; /* less than flotillad takes: the broker does not mind */
    config->wal_budget_bytes = WAL_FILE_BYTES_MIN;
    config->segment_bytes = SEGMENT_BYTES_MIN;
    config->max_batch_bytes = SEGMENT_BYTES_MIN;
    config->snapshot_bytes = (uint64_t)96 << 10;
    config->snapshot_entries = 40;
    config->memory_bytes = (uint64_t)64 << 20;
}

static enum err host_start(struct host *host)
{
    const struct host_options *o = &host->options;
    enum err error = os_disk_open(o->dir, NULL, &host->disk);
    error = error == OK ? os_disk_lock(host->disk) : error;
    error = error == OK ? os_lmdb_open(o->dir, "meta", 0, o->trace, &host->lmdb) : error;
    if (error == OK && o->on_kv != NULL) {
        error = o->on_kv(o->context, os_lmdb_port(host->lmdb));
    }
    if (error != OK)
        return error;
    struct disk *disk = os_disk_port(host->disk);
    host->disk_ops = *disk->ops;
    host->disk_ops.submit = disk__submit;
    disk->ops = &host->disk_ops;
    const struct broker_options options = {.config = o->config,
                                           .disk = disk,
                                           .clock = &host->clock,
                                           .kv = os_lmdb_port(host->lmdb),
                                           .trace = o->trace,
                                           .context = host,
                                           .on_ready = on_ready,
                                           .on_fatal = on_fatal,
                                           .on_stopped = on_stopped};
    error = broker_new(&options, &host->broker);
    if (error != OK)
        return error;
    broker_turn(host->broker);
    product(host, false);
    while (!host->ready && host_step(host)) {
    }
    return host->ready && host->failure == NULL ? OK : ERR_IO;
}

enum err host_open(const struct host_options *options, struct host **ret_host, int *ret_exit)
{
    ASSERT(the_host == NULL);
    struct host *host = calloc(1, sizeof *host);
    ASSERT(host != NULL);
    the_host = host;
    host->options = *options;
    host->clock_ops = (struct clock_ops){clock__now_us, clock__wall_ms, clock__random, clock__arm};
    host->clock.ops = &host->clock_ops;
    host->armed_us = UINT64_MAX;
    host->now_us = 1000000;
    host->input = malloc(INPUT_BYTES_MAX);
    ASSERT(host->input != NULL);
    rng_seed(&host->rng, options->seed);
    lanes_clear(host);
    *(void **)&host->product = dlsym(RTLD_DEFAULT, "faults_product");
    product(host, true);
    enum err error = host_start(host);
    product(host, false);
    if (error == OK) {
        *ret_host = host;
        return OK;
    }
    *ret_exit = host->exit_code != 0  ? host->exit_code
                : error == ERR_FORMAT ? BROKER_EXIT_UNREADABLE
                : error == ERR_IO     ? BROKER_EXIT_STORAGE
                                      : BROKER_EXIT_START;
    host_close(host);
    return error;
}

bool host_stop(struct host *host)
{
    product(host, true);
    broker_stop(host->broker);
    broker_turn(host->broker);
    product(host, false);
    while (host_step(host)) {
    }
    return host->stopped;
}

void host_close(struct host *host)
{
    lanes_clear(host);
    product(host, true);
    if (host->broker != NULL) {
        broker_free(host->broker);
    }
    os_lmdb_close(host->lmdb);
    os_disk_close(host->disk);
    product(host, false);
    while (host_take(host) != NULL) {
    }
    free(host->taken.payload);
    free(host->input);
    free(host->output);
    free(host);
    the_host = NULL;
}
