/* The whole load (sim_load.h) as a fleet's clients: idempotent producers, consumers, an auditor and their enemies, with
 * a history of everything that was promised (sim_check.h, sim_reign.h). */
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "broker/catalog.h"
#include "fleet.h"
#include "judge.h"
#include "sim_load.h"

#define PRODUCERS_PARTITIONS 2u

struct fleet_load {
    struct fleet *fleet;
    struct sim_options options; /* the fleet's own, but for what the fleet does itself */
    struct check *check;
    struct load *load; /* NULL: not begun */
    struct sim_net *nets[FLEET_BROKERS_MAX];
    struct load_truth truth;
    struct load_controller controller;
};

static void truth_acked(void *context, uint64_t group, const uint8_t *batch, size_t size)
{
    judge_acked(context, group, batch, size);
}

static int64_t truth_read_begin(void *context, uint64_t group)
{
    return judge_read_begin(context, group);
}

static void truth_read_end(void *context, uint64_t group, int64_t begun, int64_t high_watermark)
{
    judge_read_end(context, group, begun, high_watermark);
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
    const struct registry_topic *topic = sim_registry_topic(fleet->registry, name);
    for (uint32_t p = 0; topic != NULL && p < topic->partitions_count; p++) {
        judge_deleted(fleet->judge, topic->partitions[p].group);
    }
    sim_registry_delete_topic(fleet->registry, name);
    return true;
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
    load->truth = (struct load_truth){fleet->judge, truth_acked, truth_read_begin, truth_read_end, NULL};
    load->controller = (struct load_controller){fleet, controller_create, controller_remove};
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
        char name[16];
        snprintf(name, sizeof name, "t%u", t);
        load_expect(load->load, name, o->groups / o->topics + (t < o->groups % o->topics));
    }
    for (uint64_t id = 1; id <= fleet->brokers; id++) {
        if (fleet_broker_is_up(&fleet->broker[id])) {
            clients_up(load, id);
        }
    }
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
                                               .begin = clients_begin,
                                               .quiet = clients_quiet,
                                               .is_quiet = clients_are_quiet,
                                               .prove = clients_prove,
                                               .is_proven = clients_have_proven,
                                               .audit = clients_audit,
                                               .is_audited = clients_have_audited,
                                               .write_off = clients_write_off,
                                               .acked = clients_acked};
