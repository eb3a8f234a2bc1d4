/* Time, order and chance of a simulated run. The event queue is a binary heap ordered by (time, sequence): two events
 * of the same time run in the order in which they were asked for, never by address. */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"

struct sim_event {
    uint64_t time_us;
    uint64_t sequence;
    sim_action action;       /* NULL: cancelled */
    struct sim_world *world; /* a part, or the whole */
    void *context;
    uint64_t argument;
};

void world_init(struct sim_world *world, uint64_t seed)
{
    struct rng root;
    rng_seed(&root, seed);
    *world = (struct sim_world){.hash = 0x9e3779b97f4a7c15u ^ seed, .now_us = 1000000, .was_touched = true};
    rng_seed(&world->disk, rng_next(&root));
    rng_seed(&world->link, rng_next(&root));
    rng_seed(&world->load, rng_next(&root));
    rng_seed(&world->crash, rng_next(&root));
    rng_seed(&world->points, rng_next(&root));
    rng_seed(&world->media, rng_next(&root));
    rng_seed(&world->clock, rng_next(&root));
    rng_seed(&world->memory, rng_next(&root));
}

void world_init_part(struct sim_world *part, struct sim_world *whole, uint64_t seed)
{
    ASSERT(whole->parts_count < SIM_PARTS_MAX && whole->whole == NULL);
    world_init(part, seed);
    part->now_us = whole->now_us;
    part->verbose = whole->verbose;
    part->whole = whole;
    whole->parts[whole->parts_count++] = part;
    part->part = whole->parts_count;
}

static struct sim_world *whole_of(struct sim_world *world)
{
    return world->whole != NULL ? world->whole : world;
}

void world_done(struct sim_world *world)
{
    for (size_t i = 0; i < world->heap_count; i++) {
        free(world->heap[i]);
    }
    free(world->heap);
    world->heap = NULL;
    world->heap_count = world->heap_capacity = 0;
}

static void set_now(struct sim_world *world, uint64_t now_us)
{
    world->now_us = now_us;
    for (uint32_t i = 0; i < world->parts_count; i++) {
        world->parts[i]->now_us = now_us;
    }
}

static bool is_earlier(const struct sim_event *a, const struct sim_event *b)
{
    return a->time_us != b->time_us ? a->time_us < b->time_us : a->sequence < b->sequence;
}

static void heap_push(struct sim_world *world, struct sim_event *event)
{
    if (world->heap_count == world->heap_capacity) {
        world->heap_capacity = world->heap_capacity == 0 ? 256 : world->heap_capacity * 2;
        world->heap = realloc(world->heap, world->heap_capacity * sizeof *world->heap);
        ASSERT(world->heap != NULL);
    }
    size_t at = world->heap_count++;
    while (at > 0 && is_earlier(event, world->heap[(at - 1) / 2])) {
        world->heap[at] = world->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    world->heap[at] = event;
}

struct sim_event *world_at(struct sim_world *world, uint64_t time_us, sim_action action, void *context,
                           uint64_t argument)
{
    struct sim_world *whole = whole_of(world);
    struct sim_event *event = malloc(sizeof *event);
    ASSERT(event != NULL && action != NULL);
    *event = (struct sim_event){.time_us = time_us < whole->now_us ? whole->now_us : time_us,
                                .sequence = whole->next_sequence++,
                                .action = action,
                                .world = world,
                                .context = context,
                                .argument = argument};
    heap_push(whole, event);
    return event;
}

void world_cancel(struct sim_world *world, struct sim_event *event)
{
    if (event != NULL) {
        event->action = NULL; /* stays queued: taking it out of the middle of the heap is not worth the code */
    }
}

static struct sim_event *heap_pop(struct sim_world *world)
{
    struct sim_event *first = world->heap[0];
    struct sim_event *moved = world->heap[--world->heap_count];
    size_t at = 0;
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= world->heap_count)
            break;
        if (child + 1 < world->heap_count && is_earlier(world->heap[child + 1], world->heap[child]))
            child++;
        if (!is_earlier(world->heap[child], moved))
            break;
        world->heap[at] = world->heap[child];
        at = child;
    }
    if (world->heap_count > 0) {
        world->heap[at] = moved;
    }
    return first;
}

bool world_step(struct sim_world *world)
{
    while (world->heap_count > 0) {
        struct sim_event *event = heap_pop(world);
        if (event->action != NULL &&
            event->world->held_until_us > event->time_us) { /* with all that fell due by then */
            event->time_us = event->world->held_until_us;
            heap_push(world, event);
            continue;
        }
        struct sim_event copy = *event;
        free(event);
        if (copy.action == NULL)
            continue;
        if (copy.time_us > world->now_us) { /* else it is late: a delay at a fault point went past it */
            set_now(world, copy.time_us);
        }
        world->events_count++;
        world_mix(world, copy.time_us, copy.sequence);
        copy.action(copy.context, copy.argument);
        return true;
    }
    return false;
}

void world_hold(struct sim_world *world, uint64_t for_us)
{
    uint64_t until_us = world->now_us + for_us;
    if (world->whole == NULL) {
        set_now(world, until_us);
    } else if (until_us > world->held_until_us) {
        world->held_until_us = until_us;
    }
}

void world_mix(struct sim_world *world, uint64_t what, uint64_t value)
{
    world = whole_of(world);
    uint64_t h = world->hash ^ (what * 0xff51afd7ed558ccdu) ^ value;
    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9u;
    world->hash = h ^ (h >> 32);
}

bool world_io(struct sim_world *world, enum sim_io kind)
{
    if (world->crashed)
        return false;
    world->io_calls++;
    world->io_calls_of[kind]++;
    world_mix(world, 0x10 + (uint64_t)kind, world->io_calls);
    if (world->crash_countdown > 0 && (world->crash_kind == SIM_IO_ANY || world->crash_kind == kind)) {
        if (--world->crash_countdown == 0) {
            world->crashed = true;
            world_log(world, "crash at I/O call %llu (kind %d)", (unsigned long long)world->io_calls, (int)kind);
            return false;
        }
    }
    return true;
}

void world_plan_crash(struct sim_world *world, enum sim_io kind, uint64_t countdown)
{
    world->crash_kind = kind;
    world->crash_countdown = countdown;
}

void world_enter(struct sim_world *world)
{
    world->inside++;
    world->was_touched = true;
}

void world_leave(struct sim_world *world)
{
    ASSERT(world->inside > 0);
    world->inside--;
}

uint32_t world_step_out(struct sim_world *world)
{
    uint32_t inside = world->inside;
    world->inside = 0;
    return inside;
}

void world_step_in(struct sim_world *world, uint32_t inside)
{
    world->inside = inside;
}

void world_fault(struct sim_world *world, enum sim_fault fault)
{
    whole_of(world)->faults_count++;
    world->tally.faults[fault]++;
}

void world_judged(struct sim_world *world, enum sim_judge judge)
{
    world->tally.judged[judge]++;
}

void world_fail(struct sim_world *world, const char *check, const char *format, ...)
{
    world = whole_of(world);
    if (world->failed)
        return;
    world->failed = true;
    snprintf(world->failed_check, sizeof world->failed_check, "%s", check);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(world->failed_text, sizeof world->failed_text, format, arguments);
    va_end(arguments);
    world_log(world, "FAILED %s: %s", world->failed_check, world->failed_text);
}

void world_log(const struct sim_world *world, const char *format, ...)
{
    if (!world->verbose)
        return;
    fprintf(stderr, "%12.6f ", (double)world->now_us / 1e6);
    if (world->part != 0) {
        fprintf(stderr, "%u: ", world->part);
    }
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

uint64_t sim_log_between(struct rng *rng, uint64_t low, uint64_t high)
{
    ASSERT(low >= 1 && low <= high);
    uint64_t top = low;
    uint64_t steps = 0;
    while (top < high) { /* how many doublings fit */
        top = top > high / 2 ? high : top * 2;
        steps++;
    }
    uint64_t from = low << rng_below(rng, steps + 1);
    if (from > high)
        from = high;
    return rng_between(rng, from, from > high / 2 ? high : 2 * from);
}

void *sim_zeroed(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    ASSERT(memory != NULL);
    return memory;
}

void *sim_resized(void *memory, size_t size)
{
    memory = realloc(memory, size);
    ASSERT(memory != NULL);
    return memory;
}

void *sim_grow(void *data, uint64_t *io_capacity, uint64_t wanted, size_t item_size)
{
    if (wanted <= *io_capacity)
        return data;
    uint64_t new_capacity = *io_capacity == 0 ? 64 : *io_capacity;
    while (new_capacity < wanted) {
        new_capacity *= 2;
    }
    data = realloc(data, new_capacity * item_size);
    ASSERT(data != NULL);
    memset((uint8_t *)data + *io_capacity * item_size, 0, (new_capacity - *io_capacity) * item_size);
    *io_capacity = new_capacity;
    return data;
}
