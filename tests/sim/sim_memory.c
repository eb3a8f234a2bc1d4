/* The wrapped allocators. While failures are planned, a set of the pointers in use is kept (open addressing), so that a
 * broker that ended in the middle of something leaves nothing behind. */
#include "sim_memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

#define HELD_CAPACITY_MIN 4096u

static struct {
    struct sim_world *world; /* NULL: no run */
    uint64_t countdown;      /* 0: none fails */
    uint64_t fails_left;     /* behind the first one */
    bool failed;
    uint64_t calls;
    jmp_buf *home;
    bool is_tracking;
    void **held; /* capacity places, a power of two; NULL: empty */
    size_t held_count, held_capacity;
} memory;

/* --- what is held --- */

static size_t place_of(const void *pointer)
{
    size_t at = ((uintptr_t)pointer >> 4) * 0x9e3779b97f4a7c15u >> 20 & (memory.held_capacity - 1);
    while (memory.held[at] != NULL && memory.held[at] != pointer) {
        at = (at + 1) & (memory.held_capacity - 1);
    }
    return at;
}

static void held_grow(void)
{
    void **old = memory.held;
    size_t old_capacity = memory.held_capacity;
    memory.held_capacity = old_capacity == 0 ? HELD_CAPACITY_MIN : old_capacity * 2;
    memory.held = calloc(memory.held_capacity, sizeof *memory.held);
    ASSERT(memory.held != NULL);
    for (size_t i = 0; i < old_capacity; i++) {
        if (old[i] != NULL) {
            memory.held[place_of(old[i])] = old[i];
        }
    }
    free(old);
}

static void *hold(void *pointer)
{
    if (memory.is_tracking && memory.world->inside > 0 && pointer != NULL) {
        if (memory.held_count * 2 >= memory.held_capacity) {
            held_grow();
        }
        memory.held[place_of(pointer)] = pointer;
        memory.held_count++;
    }
    return pointer;
}

static void let_go(const void *pointer)
{
    if (memory.held_count == 0 || pointer == NULL)
        return;
    size_t at = place_of(pointer);
    if (memory.held[at] == NULL)
        return;
    memory.held[at] = NULL;
    memory.held_count--;
    for (size_t next = (at + 1) & (memory.held_capacity - 1); memory.held[next] != NULL;
         next = (next + 1) & (memory.held_capacity - 1)) { /* what had to stand behind it may move up */
        void *moved = memory.held[next];
        memory.held[next] = NULL;
        memory.held[place_of(moved)] = moved;
    }
}

/* --- the wrapped calls --- */

static bool fails(void)
{
    if (memory.world == NULL || memory.world->inside == 0 || memory.world->crashed)
        return false;
    memory.calls++;
    if (memory.countdown == 0 || --memory.countdown > 0)
        return false;
    if (memory.fails_left > 0) {
        memory.fails_left--;
        memory.countdown = 1;
    }
    memory.failed = true;
    world_fault(memory.world, FAULT_MEMORY);
    world_log(memory.world, "allocation %llu fails", (unsigned long long)memory.calls);
    return true;
}

/* Names that the linker makes of `malloc` and the like; this file and all of the simulator mean the real ones by it. */
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *pointer, size_t size);
void *__wrap_reallocarray(void *pointer, size_t count, size_t size);
int __wrap_posix_memalign(void **ret_pointer, size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *pointer);
_Noreturn void __wrap__exit(int code);
_Noreturn void __real__exit(int code);

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : hold(malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails() ? NULL : hold(calloc(count, size));
}

void *__wrap_realloc(void *pointer, size_t size)
{
    if (fails())
        return NULL;
    let_go(pointer);
    return hold(realloc(pointer, size));
}

void *__wrap_reallocarray(void *pointer, size_t count, size_t size)
{
    return __wrap_realloc(pointer, count * size);
}

int __wrap_posix_memalign(void **ret_pointer, size_t alignment, size_t size)
{
    if (fails())
        return 12; /* ENOMEM */
    int error = posix_memalign(ret_pointer, alignment, size);
    if (error == 0) {
        hold(*ret_pointer);
    }
    return error;
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : hold(strdup(text));
}

void __wrap_free(void *pointer)
{
    let_go(pointer);
    free(pointer);
}

void __wrap__exit(int code)
{
    if (memory.world == NULL || memory.world->inside == 0 || memory.home == NULL) {
        __real__exit(code);
    }
    memory.world->inside = 0;
    if (code != MEM_EXIT_CODE || !memory.failed) {
        world_fail(memory.world, "fatal", "the broker calls _exit(%d)", code);
    }
    longjmp(*memory.home, 1);
}

/* --- lives --- */

void sim_memory_begin(struct sim_world *world)
{
    sim_memory_reclaim();
    memory.world = world;
    sim_memory_new_life();
}

void sim_memory_plan(uint64_t countdown, uint64_t run)
{
    ASSERT(countdown > 0 && run > 0);
    memory.countdown = countdown;
    memory.fails_left = run - 1;
    memory.is_tracking = true;
}

void sim_memory_calm(void)
{
    memory.countdown = memory.fails_left = 0;
}

bool sim_memory_failed(void)
{
    return memory.failed;
}

void sim_memory_home(jmp_buf *home)
{
    memory.home = home;
}

void sim_memory_reclaim(void)
{
    for (size_t i = 0; i < memory.held_capacity; i++) {
        free(memory.held[i]);
    }
    free(memory.held);
    memory.held = NULL;
    memory.held_count = memory.held_capacity = 0;
}

void sim_memory_new_life(void)
{
    sim_memory_reclaim();
    sim_memory_calm();
    memory.failed = memory.is_tracking = false;
    memory.calls = 0;
}

uint64_t sim_memory_calls(void)
{
    return memory.calls;
}
