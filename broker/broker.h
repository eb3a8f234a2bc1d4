/* One broker: owns everything, knows the order of starting and stopping. Runs on ports only, so flotillad and the
 * simulator link the same archive.
 *
 * The owner drives it: broker_accept for each connection, broker_timer when the armed deadline passed, broker_turn at
 * the end of every loop turn. Everything else arrives through link handlers and disk jobs. No globals: N brokers per
 * process are fine. */
#ifndef FLOTILLA_BROKER_BROKER_H
#define FLOTILLA_BROKER_BROKER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/trace.h"
#include "broker/config.h"
#include "port/clock.h"
#include "port/disk.h"
#include "port/kv.h"
#include "port/link.h"
#include "port/registry.h"

struct broker;

enum broker_exit {
    BROKER_EXIT_STOPPED = 0,
    BROKER_EXIT_START = 1,
    BROKER_EXIT_USAGE = 2,
    BROKER_EXIT_STORAGE = 3,
    BROKER_EXIT_UNREADABLE = 4
};

struct broker_options {
    const struct config *config; /* borrowed for the broker's life */
    struct disk *disk;
    struct clock *clock;
    struct kv *kv;
    const struct trace *trace;
    struct dialer *dialer;     /* to other brokers; NULL: there are none */
    struct registry *registry; /* NULL: an embedded one, in `kv` */
    const uint8_t *cluster_id; /* the registry's, UUID_BYTES; NULL: this broker's own, made at its first start */
    void *context;
    /* The registry was read, every partition is recovered: it answers clients from now on. Comes once, after
     * broker_new. */
    void (*on_ready)(void *context);
    /* The storage failed: nothing is acknowledged any more; the owner exits with this code. */
    void (*on_fatal)(void *context, enum broker_exit code, const char *why);
    void (*on_stopped)(void *context); /* broker_stop is through: broker_free may follow */
};

/* Recovers from checkpoint store and WAL (blocking). Errors: ERR_IDENTITY (another broker's data), ERR_VERSION,
 * ERR_FORMAT, ERR_IO, ERR_STORAGE_FULL. */
enum err broker_new(const struct broker_options *options, struct broker **ret_broker);
void broker_free(struct broker *broker); /* after on_stopped, or after a fatal error or a simulated crash when no job
                                            runs any more */

void broker_accept(struct broker *broker, struct link *link);      /* sets link->handler and owner */
void broker_accept_peer(struct broker *broker, struct link *link); /* another broker connects: the same */
/* Another broker of the cluster, at "host:port". ERR_BUSY: PEERS_MAX are known. */
enum err broker_know_peer(struct broker *broker, uint64_t id, const char *address);
/* A connection was refused before it became a link: there are too many, or too many of its address. */
void broker_count_refused(struct broker *broker, bool for_address);
/* How many connections one client address may have of [limits] connections. */
uint32_t broker_connections_per_address(const struct config *config);
/* What a refused connection is told: an error frame. */
uint32_t broker_write_refusal(uint8_t *out, uint32_t capacity);
void broker_timer(struct broker *broker);
void broker_turn(struct broker *broker);
void broker_stop(
    struct broker *broker); /* refuse new work, finish what is proposed, checkpoint, close; ends in on_stopped */

void broker_accept_clock(struct broker *broker); /* the wall clock is right, even if it jumped ahead: log_clock.h */
bool broker_is_ready(const struct broker *broker, const char **ret_reason);
void broker_set_advertised(struct broker *broker, uint32_t listener, const char *host, uint16_t port);
const uint8_t *broker_cluster_id(const struct broker *broker); /* 16 bytes */

#endif
