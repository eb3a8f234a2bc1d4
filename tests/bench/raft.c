/* What one replicated entry costs the Raft core, on the leader of three and on a follower:
 *
 *   raft [ENTRIES]       prints lines "name value unit"
 *
 * leader: SUBMIT, its write durable, two acknowledgements, APPLIED, each with the take that follows, and COMPACTED once
 * in a while; step_take: the mean of one such step and take. follower: an append with one entry, its write durable,
 * APPLIED. allocations: calls of malloc and its kind in all of that; 1 is a fault and the exit code. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/assert.h"
#include "raft/raft.h"

#define WARM_UP       100000u
#define COMPACT_EVERY 1024u

/* glibc's own, below the names that are replaced here. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *memory, size_t size);

static uint64_t allocations;

void *malloc(size_t size)
{
    allocations++;
    return __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
    allocations++;
    return __libc_calloc(count, size);
}

void *realloc(void *memory, size_t size)
{
    allocations++;
    return __libc_realloc(memory, size);
}

static struct raft_update update;
static uint64_t steps, sent;

/* One event and what follows from it. Returns the id of the write, 0: none. */
static uint64_t step(struct raft *r, const struct raft_event *event)
{
    uint64_t write_id = 0;
    raft_step(r, event);
    while (raft_take(r, &update)) {
        write_id = update.write.id != 0 ? update.write.id : write_id;
        sent += update.send_now_count + update.send_after_sync_count;
    }
    steps++;
    return write_id;
}

static struct raft *core_new(void)
{
    struct raft_config_entry base = {.index = 0};
    raft_config_of_voters((uint64_t[]){1, 2, 3}, 3, &base.config);
    return raft_new(&(struct raft_options){
        .self = 1, .configs = &base, .configs_count = 1, .heartbeat_ms = 100, .election_ms = 1000, .seed = 1});
}

static void applied(struct raft *r, uint64_t index)
{
    step(r, &(struct raft_event){.type = RAFT_APPLIED, .index = index});
    if (index % COMPACT_EVERY == 0) {
        step(r, &(struct raft_event){.type = RAFT_COMPACTED, .index = index - 1});
    }
}

static struct raft *leader_new(void)
{
    struct raft *r = core_new();
    step(r, &(struct raft_event){.type = RAFT_TICK, .now_ms = 2000});
    struct raft_message m = {.type = RAFT_VOTE_REPLY, .from = 2, .to = 1, .term = 1, .pre = true};
    uint64_t id = step(r, &(struct raft_event){.type = RAFT_RECV, .message = &m});
    step(r, &(struct raft_event){.type = RAFT_PERSISTED, .write_id = id});
    m.pre = false;
    step(r, &(struct raft_event){.type = RAFT_RECV, .message = &m});
    ASSERT(raft_role(r) == RAFT_LEADER);
    return r;
}

static void lead(struct raft *r, uint64_t entries)
{
    for (uint64_t i = 0; i < entries; i++) {
        uint64_t id = step(r, &(struct raft_event){.type = RAFT_SUBMIT, .submit = {.count = 1, .bytes = 1000}});
        uint64_t index = raft_last_index(r);
        step(r, &(struct raft_event){.type = RAFT_PERSISTED, .write_id = id});
        for (uint64_t from = 2; from <= 3; from++) {
            struct raft_message m = {.type = RAFT_APPEND_REPLY, .from = from, .to = 1, .term = 1, .index = index};
            step(r, &(struct raft_event){.type = RAFT_RECV, .message = &m});
        }
        ASSERT(raft_commit_index(r) == index);
        applied(r, index);
    }
}

static void follow(struct raft *r, uint64_t entries)
{
    for (uint64_t i = 0; i < entries; i++) {
        uint64_t last = raft_last_index(r);
        struct raft_message m = {.type = RAFT_APPEND,
                                 .from = 2,
                                 .to = 1,
                                 .term = 1,
                                 .index = last,
                                 .index_term = last > 0,
                                 .commit = last,
                                 .bytes = 1000,
                                 .runs_count = 1,
                                 .runs = {{1, 1}},
                                 .count = 1};
        uint64_t id = step(r, &(struct raft_event){.type = RAFT_RECV, .message = &m});
        step(r, &(struct raft_event){.type = RAFT_PERSISTED, .write_id = id});
        if (last > 0) {
            applied(r, last);
        }
    }
}

/* Of this process: others on the machine do not count. */
static uint64_t cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Returns the allocations on the way. */
static uint64_t measure(const char *name, struct raft *r, void (*run)(struct raft *r, uint64_t entries),
                        uint64_t entries)
{
    run(r, WARM_UP);
    uint64_t allocations_before = allocations, steps_before = steps, sent_before = sent;
    uint64_t begun_ns = cpu_ns();
    run(r, entries);
    double ns = (double)(cpu_ns() - begun_ns);
    uint64_t allocated = allocations - allocations_before;
    ASSERT(sent > sent_before);
    printf("%s %.0f ns/entry\n%s_step_take %.0f ns\n%s_allocations %lu\n", name, ns / (double)entries, name,
           ns / (double)(steps - steps_before), name, (unsigned long)allocated);
    raft_free(r);
    return allocated;
}

int main(int argc, char **argv)
{
    uint64_t entries = argc > 1 ? strtoull(argv[1], NULL, 10) : 2000000;
    uint64_t allocated = measure("leader", leader_new(), lead, entries);
    allocated += measure("follower", core_new(), follow, entries);
    return allocated > 0;
}
