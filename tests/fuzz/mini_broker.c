/* A broker and the events it lives on. */
#include "mini_broker.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

#define STOP_US_MAX 10000000u

static void on_ready(void *context)
{
    ((struct mini_broker *)context)->ready = true;
}

static void on_fatal(void *context, enum broker_exit code, const char *why)
{
    UNREACHABLE();
}

static void on_stopped(void *context)
{
    ((struct mini_broker *)context)->stopped = true;
}

static void on_timer(void *context)
{
    struct mini_broker *m = context;
    if (m->broker != NULL) {
        broker_timer(m->broker);
    }
}

static void on_accept(void *context, struct link *link)
{
    ASSERT(((struct mini_broker *)context)->broker != NULL);
    broker_accept(((struct mini_broker *)context)->broker, link);
}

static void on_rest(void *context, uint64_t argument)
{
    ((struct mini_broker *)context)->rested = true;
}

static void step(struct mini_broker *m)
{
    ASSERT(world_step(&m->world));
    broker_turn(m->broker);
    ASSERT(!m->world.failed);
}

void mini_broker_run(struct mini_broker *m, uint64_t for_us)
{
    m->rested = false;
    world_at(&m->world, m->world.now_us + for_us, on_rest, m, 0);
    while (!m->rested) {
        step(m);
    }
}

static void configure(struct config *config, uint64_t memory_bytes)
{
    sim_config_small(config, 1);
    config->snapshot_bytes = 64 << 10;
    config->snapshot_entries = 50;
    config->wal_file_bytes = 64 << 10;
    config->wal_budget_bytes = 1 << 20;
    config->memory_bytes = memory_bytes;
    config->open_files = 8;
}

static void start(struct mini_broker *m)
{
    const struct broker_options options = {.config = &m->config,
                                           .disk = sim_disk_port(m->disk),
                                           .clock = &m->clock.port,
                                           .kv = m->kv,
                                           .trace = &m->trace,
                                           .context = m,
                                           .on_ready = on_ready,
                                           .on_fatal = on_fatal,
                                           .on_stopped = on_stopped};
    m->ready = false;
    ASSERT(broker_new(&options, &m->broker) == OK);
    while (!m->ready) {
        step(m);
    }
}

void mini_broker_open(struct mini_broker *m, uint64_t seed, uint64_t memory_bytes)
{
    memset(m, 0, sizeof *m);
    world_init(&m->world, seed);
    m->kv = sim_kv_new(&(struct sim_kv_options){0});
    m->disk = sim_disk_new(&m->world, &(struct sim_disk_options){.job_us_max = 200, .cut = {.keep = 0.5}});
    sim_clock_init(&m->clock, &m->world, on_timer, m);
    m->net_options = (struct sim_net_options){.delay_us_max = 100, .context = m, .accept = on_accept};
    m->net = sim_net_new(&m->world, &m->net_options);
    configure(&m->config, memory_bytes);
    m->trace = (struct trace){.level = TRACE_ERROR};
    if (getenv("FUZZ_TRACE") != NULL) { /* for people who look at one input */
        m->trace = (struct trace){.level = TRACE_DEBUG, .sink = trace_to_stderr};
    }
    start(m);
}

void mini_broker_restart(struct mini_broker *m, bool power_cut)
{
    m->world.crashed = true; /* the dead do no I/O */
    sim_clock_disarm(&m->clock);
    sim_net_kill(m->net);
    broker_free(m->broker);
    m->broker = NULL;
    sim_net_forget(m->net);
    if (power_cut) {
        sim_disk_power_cut(m->disk);
        sim_clock_reboot(&m->clock);
    } else {
        sim_disk_process_death(m->disk);
    }
    sim_kv_crash(m->kv, !power_cut);
    sim_kv_restart(m->kv);
    m->world.crashed = false;
    start(m);
}

void mini_broker_close(struct mini_broker *m)
{
    uint64_t asked_us = m->world.now_us;
    broker_stop(m->broker);
    broker_turn(m->broker);
    while (!m->stopped) {
        step(m);
        ASSERT(m->world.now_us < asked_us + STOP_US_MAX);
    }
    ASSERT(m->world.now_us < asked_us + STOP_US_MAX / 2); /* the broker's own deadline, when it hangs, is later */
    ASSERT(sim_net_links(m->net) == 0);
    sim_clock_disarm(&m->clock);
    broker_free(m->broker);
    m->broker = NULL;
    while (!sim_disk_is_idle(m->disk)) { /* the zero-filling of a file ends by itself */
        ASSERT(world_step(&m->world));
    }
    ASSERT(sim_disk_open_files(m->disk) == 0);
    sim_net_kill(m->net);
    sim_net_free(m->net);
    sim_disk_free(m->disk);
    sim_kv_free(m->kv);
    world_done(&m->world);
}
