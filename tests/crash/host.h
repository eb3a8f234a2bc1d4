/* One broker in this process, on the real file calls of src/os and the real LMDB, but with a clock, dice, lanes and a
 * connection that the test turns by hand. So a run is a function of its seed, takes no longer than its work, and can be
 * given up at any moment as a kill -9 would.
 *
 * Lanes: a job that the broker submits waits in its lane's queue; a step takes the first one of a lane that the dice
 * choose, and runs it. Time: stands still while there is work, then jumps to the broker's next deadline. */
#ifndef FLOTILLA_CRASH_HOST_H
#define FLOTILLA_CRASH_HOST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/rng.h"
#include "base/trace.h"
#include "broker/config.h"
#include "broker/status.h"
#include "port/kv.h"
#include "wire/codec.h"

#define HOST_REPLIES_MAX 64

struct host;

struct host_options {
    const char *dir; /* data directory, absolute */
    const struct config *config;
    const struct trace *trace;
    uint64_t seed;
    int64_t wall_ms; /* when it starts */
    /* Called with the checkpoint store before the broker sees it; its error ends the start. May be NULL. */
    enum err (*on_kv)(void *context, struct kv *kv);
    void *context;
};

struct host_reply {
    uint64_t request_id;
    enum frame_type type;
    union codec_message message;
    uint8_t *payload;
    uint32_t payload_size;
};

/* What every test of this folder runs with: small files, so that everything happens early. */
void host_config(struct config *config);

/* Opens the directory (a store, a broker) and steps until it is ready. *ret_exit is the exit code that flotillad would
 * have ended with when the result is not OK. */
enum err host_open(const struct host_options *options, struct host **ret_host, int *ret_exit);
void host_close(struct host *host); /* as kill -9: queued jobs never run, nothing is said to the broker */
bool host_stop(struct host *host);  /* clean: false if the broker does not stop; host_close still follows */

bool host_step(struct host *host); /* false: nothing will ever happen again without a request, or it failed */
void host_idle(struct host *host, uint64_t for_us);
int64_t host_wall_ms(const struct host *host);
void host_status(const struct host *host, struct status_broker *ret_status);
bool host_is_busy(const struct host *host);        /* jobs wait in the lanes */
const char *host_failure(const struct host *host); /* why the broker ended by itself, or NULL */

bool host_is_cut(const struct host *host);   /* there is no connection now */
int host_exit_code(const struct host *host); /* of flotillad after such an end */

/* Sends a request; its id. */
uint64_t host_send(struct host *host, enum frame_type type, const void *message, const void *payload, uint32_t size);
/* The next reply that has come, in order of arrival; valid until the next call. NULL: none. */
const struct host_reply *host_take(struct host *host);
/* Sends, then steps until its reply is there; other replies are dropped. NULL: it never comes, since the broker ended
 * (host_failure), closed the connection (host_is_cut; the next request opens one), or hangs. */
const struct host_reply *host_call(struct host *host, enum frame_type type, const void *message, const void *payload,
                                   uint32_t size);

#endif
