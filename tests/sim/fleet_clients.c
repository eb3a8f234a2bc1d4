/* The whole load (sim_load.h) as a fleet's clients: idempotent producers, consumers, an auditor and their enemies, with
 * a history of everything that was promised (sim_check.h, sim_reign.h). */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "broker/catalog.h"
#include "fleet.h"
#include "fleet_ledger.h"
#include "judge.h"
#include "sim_ledger.h"
#include "sim_load.h"

#define PRODUCERS_PARTITIONS 2u

struct fleet_load {
    struct fleet *fleet;
    struct sim_options options; /* the fleet's own, but for what the fleet does itself */
    struct check *check;
    struct fleet_ledger *books;
    struct load *load; /* NULL: not begun */
    struct sim_net *nets[FLEET_BROKERS_MAX];
    struct load_truth truth;
    struct load_controller controller;
};

static struct judge *judge_of(void *context)
{
    return ((struct fleet_load *)context)->fleet->judge;
}

static void truth_catch_up(void *context, uint64_t group)
{
    fleet_ledger_catch_up(((struct fleet_load *)context)->books, group);
}

static void truth_acked(void *context, uint64_t group, const uint8_t *batch, size_t size)
{
    judge_acked(judge_of(context), group, batch, size);
}

static int64_t truth_read_begin(void *context, uint64_t group)
{
    return judge_read_begin(judge_of(context), group);
}

static void truth_read_end(void *context, uint64_t group, int64_t begun, int64_t high_watermark)
{
    judge_read_end(judge_of(context), group, begun, high_watermark);
}

static void truth_served(void *context, uint64_t broker, uint64_t group, uint64_t term, int64_t log_start,
                         int64_t high_watermark)
{
    (void)broker, (void)term;
    ledger_served(check_ledger(((struct fleet_load *)context)->check), group, high_watermark, log_start);
}

static bool controller_create(void *context, const struct load_wish *wish)
{
    struct fleet *fleet = context;
    struct registry_topic topic = {
        .kind = TOPIC_DATA,
        .partitions_count = wish->partitions,
        .config = {.segment_bytes = SEGMENT_BYTES_MIN,
                   .segment_ms = wish->segment_ms > 0 ? wish->segment_ms : -1,
                   .retention_bytes = wish->retention_bytes > 0 ? (int64_t)wish->retention_bytes : -1,
                   .retention_ms = wish->retention_ms > 0 ? wish->retention_ms : -1,
                   .max_batch_bytes = SEGMENT_BYTES_MIN,
                   .replicas = fleet->options->replicas}};
    snprintf(topic.name, sizeof topic.name, "%s", wish->name);
    return sim_registry_topic(fleet->registry, wish->name) != NULL ||
           sim_registry_create_topic(fleet->registry, &topic) != 0;
}

static bool controller_remove(void *context, const char *name)
{
    struct fleet *fleet = context;
    sim_registry_delete_topic(fleet->registry, name);
    return true;
}

static bool controller_has(void *context, const char *name)
{
    return sim_registry_topic(((struct fleet *)context)->registry, name) != NULL;
}

static struct fleet_load *clients_new(struct fleet *fleet)
{
    struct fleet_load *load = calloc(1, sizeof *load);
    ASSERT(load != NULL);
    load->fleet = fleet;
    load->options = fleet->options->one;
    load->options.topics = 0;
    load->options.records_max = UINT32_MAX;
    load->options.segment_bytes = SEGMENT_BYTES_MIN; /* no topic takes larger batches */
    load->check = check_new(&fleet->world);
    if (sim_options_expire(&load->options)) {
        check_producers_expire(load->check);
    }
    load->books = fleet_ledger_new(&fleet->world, fleet->judge, load->check);
    load->truth = (struct load_truth){.context = load,
                                      .catch_up = truth_catch_up,
                                      .acked = truth_acked,
                                      .read_begin = truth_read_begin,
                                      .read_end = truth_read_end,
                                      .served = truth_served};
    load->controller = (struct load_controller){fleet, controller_create, controller_remove, controller_has};
    for (uint32_t i = 0; i < fleet->brokers; i++) {
        load->nets[i] = fleet->broker[i + 1].net;
    }
    sim_registry_add_topic(fleet->registry, PRODUCERS_TOPIC, PRODUCERS_PARTITIONS, fleet->options->replicas,
                           fleet->brokers);
    return load;
}

static void clients_free(struct fleet_load *load)
{
    if (load->load != NULL) {
        load_free(load->load);
    }
    fleet_ledger_free(load->books);
    check_free(load->check);
    free(load);
}

static void clients_up(struct fleet_load *load, uint64_t id)
{
    if (load->load != NULL) {
        load_broker_up(load->load, id, load->fleet->broker[id].life);
    }
}

static void clients_down(struct fleet_load *load, uint64_t id)
{
    if (load->load != NULL) {
        load_broker_down(load->load, id);
    }
}

static void clients_reply(struct fleet_load *load, uint64_t id, const struct sim_conn *conn, const uint8_t *frame,
                          size_t head_size)
{
    load_on_reply(load_reply_context(load->load, id), conn, frame, head_size);
}

static void clients_begin(struct fleet_load *load)
{
    struct fleet *fleet = load->fleet;
    const struct fleet_options *o = fleet->options;
    const struct load_parts parts = {.world = &fleet->world,
                                     .options = &load->options,
                                     .nets = load->nets,
                                     .brokers_count = fleet->brokers,
                                     .check = load->check,
                                     .truth = &load->truth,
                                     .controller = &load->controller};
    load->load = load_new(&parts);
    for (uint32_t t = 0; t < o->topics; t++) {
        struct registry_topic topic;
        fleet_options_topic(o, t, &topic);
        const struct load_wish wish = {
            .name = topic.name,
            .partitions = topic.partitions_count,
            .retention_bytes = topic.config.retention_bytes > 0 ? (uint64_t)topic.config.retention_bytes : 0,
            .retention_ms = topic.config.retention_ms > 0 ? topic.config.retention_ms : 0,
            .segment_ms = topic.config.segment_ms > 0 ? topic.config.segment_ms : 0};
        load_expect(load->load, &wish);
    }
    for (uint64_t id = 1; id <= fleet->brokers; id++) {
        if (fleet_broker_is_up(&fleet->broker[id])) {
            clients_up(load, id);
        }
    }
}

static void clients_urge(struct fleet_load *load, enum sim_fault fault)
{
    load_urge(load->load, fault);
}

static void clients_quiet(struct fleet_load *load)
{
    load_quiet(load->load);
}

static bool clients_are_quiet(struct fleet_load *load, const char **ret_waits_for)
{
    return load_is_quiet(load->load, ret_waits_for);
}

static void clients_prove(struct fleet_load *load)
{
    load_prove(load->load);
}

static bool clients_have_proven(struct fleet_load *load, const char **ret_waits_for)
{
    return load_is_proven(load->load, ret_waits_for);
}

static void clients_audit(struct fleet_load *load)
{
    load_audit(load->load);
}

static bool clients_have_audited(struct fleet_load *load, const char **ret_waits_for)
{
    *ret_waits_for = "a log is never read to its end";
    return load_has_audited(load->load);
}

static void clients_write_off(struct fleet_load *load, uint32_t number)
{
    load_write_off(load->load, load->fleet->group[number]);
}

static uint64_t clients_acked(const struct fleet_load *load)
{
    return check_acked_count(load->check);
}

const struct fleet_load_class fleet_clients = {.name = "clients",
                                               .new = clients_new,
                                               .free = clients_free,
                                               .up = clients_up,
                                               .down = clients_down,
                                               .reply = clients_reply,
                                               .urge = clients_urge,
                                               .begin = clients_begin,
                                               .quiet = clients_quiet,
                                               .is_quiet = clients_are_quiet,
                                               .prove = clients_prove,
                                               .is_proven = clients_have_proven,
                                               .audit = clients_audit,
                                               .is_audited = clients_have_audited,
                                               .write_off = clients_write_off,
                                               .acked = clients_acked};
