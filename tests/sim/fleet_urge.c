/* Faults that have no time of their own: they come at calls, frames and requests, by a rate, and where a run makes few
 * of those a class that was drawn might never strike. Until it has, it is urged on: the next occasion is taken. */
#include "fleet.h"
#include "sim_memory.h"

#define SYNCS_MAX       20u
#define ALLOCATIONS_MAX 200u

bool fleet_has_struck(const struct fleet *fleet, enum sim_fault fault)
{
    bool has = fleet->world.tally.faults[fault] > 0;
    for (uint64_t id = 1; id <= fleet->brokers; id++) {
        has = has || fleet->broker[id].world.tally.faults[fault] > 0;
    }
    return has;
}

bool fleet_urge_can(enum sim_fault fault)
{
    switch (fault) {
    case FAULT_SYNC_ERROR:
    case FAULT_MEMORY:
    case FAULT_POINT_CRASH:
    case FAULT_READ_ERROR:
    case FAULT_WRITE_ERROR:
    case FAULT_LATENT:
    case FAULT_MISREAD:
    case FAULT_FILES:
    case FAULT_KV:
    case FAULT_DISCONNECT:
    case FAULT_ZOMBIE:
    case FAULT_FENCE:
    case FAULT_LOSS:
    case FAULT_TWICE:
    case FAULT_QUEUE:
    case FAULT_SLOW_LINK:
        return true;
    default:
        return false;
    }
}

static void urge_memory(struct fleet *fleet, struct fleet_broker *b)
{
    if (fleet->short_of_memory == 0) {
        fleet->short_of_memory = b->id;
        sim_memory_begin(&b->world);
    }
    if (fleet->short_of_memory == b->id) {
        sim_memory_plan(sim_log_between(&b->world.memory, 1, ALLOCATIONS_MAX),
                        sim_log_between(&b->world.memory, 1, 20));
    }
}

static void urge_machine(struct fleet *fleet, struct fleet_broker *b, enum sim_fault fault)
{
    if (!fleet_broker_is_up(b)) {
        return;
    }
    if (fault == FAULT_SYNC_ERROR) {
        sim_disk_plan_sync_error(b->disk, sim_log_between(&b->world.crash, 1, SYNCS_MAX));
    } else if (fault == FAULT_MEMORY) {
        urge_memory(fleet, b);
    } else if (fault == FAULT_POINT_CRASH) {
        sim_points_plan_soon(&b->points);
    }
}

static void urge_wire(struct fleet *fleet, enum sim_fault fault)
{
    struct rng *rng = &fleet->world.crash;
    uint64_t from = rng_between(rng, 1, fleet->brokers);
    if (fault == FAULT_SLOW_LINK) {
        sim_wire_slow(fleet->wire, from, from % fleet->brokers + 1);
    } else if (fault == FAULT_QUEUE) {
        sim_wire_shorten(fleet->wire);
    } else {
        sim_wire_strike(fleet->wire, fault);
    }
}

void fleet_urge(struct fleet *fleet, enum sim_fault fault)
{
    switch (fault) {
    case FAULT_SYNC_ERROR:
    case FAULT_MEMORY:
    case FAULT_POINT_CRASH:
        urge_machine(fleet, &fleet->broker[rng_between(&fleet->world.crash, 1, fleet->brokers)], fault);
        break;
    case FAULT_READ_ERROR:
    case FAULT_WRITE_ERROR:
    case FAULT_LATENT:
    case FAULT_MISREAD:
    case FAULT_FILES:
    case FAULT_KV:
        for (uint64_t id = 1; id <= fleet->brokers; id++) {
            sim_disk_urge(fleet->broker[id].disk, fault);
        }
        break;
    case FAULT_DISCONNECT:
    case FAULT_ZOMBIE:
    case FAULT_FENCE:
        if (fleet->load_class->urge != NULL) {
            fleet->load_class->urge(fleet->load, fault);
        }
        break;
    default:
        urge_wire(fleet, fault);
        break;
    }
}
