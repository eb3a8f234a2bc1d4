/* S3, answer by answer. The slack is that of the broker's own words: who waits for room tries again every second, on a
 * lane that the run's other faults may hold up. */
#include "sim_room.h"

#define SLACK_US         ((uint64_t)5 * 1000 * 1000)
#define SLACK_HELD_UP_US ((uint64_t)30 * 1000 * 1000)

void room_init(struct room *room, struct sim_world *world, bool is_held_up)
{
    *room = (struct room){.world = world, .slack_us = is_held_up ? SLACK_HELD_UP_US : SLACK_US};
}

void room_limit(struct room *room, bool is_store_full)
{
    room->full_since_us = room->world->now_us;
    room->is_store_full = is_store_full;
}

void room_lift(struct room *room)
{
    if (room->is_store_full) {
        room->world->no_room_us = room->world->now_us;
    }
    room->full_since_us = 0;
    room->is_store_full = false;
}

void room_new_life(struct room *room)
{
    room->world->no_room_us = 0;
}

static void judge_refusal(struct room *room, enum room_use use)
{
    struct sim_world *world = room->world;
    bool is_honest =
        room->is_store_full || (world->no_room_us != 0 && world->now_us <= world->no_room_us + room->slack_us);
    world_judged(world, JUDGE_S3);
    if (use == ROOM_READ) {
        world_fail(world, "S3", "a read is refused because the disk is full");
    } else if (!is_honest && world->no_room_us == 0) {
        world_fail(world, "S3", "the disk is called full, and no call of this life ever found it so");
    } else if (!is_honest) {
        world_fail(world, "S3", "the disk is still called full, %llu us after a call found it so",
                   (unsigned long long)(world->now_us - world->no_room_us));
    }
}

static void judge_wait(struct room *room, uint64_t asked_us, uint64_t wait_us)
{
    struct sim_world *world = room->world;
    if (room->full_since_us == 0 || room->full_since_us > asked_us)
        return;
    world_judged(world, JUDGE_S3);
    if (world->now_us > asked_us + wait_us + room->slack_us) {
        world_fail(world, "S3", "on a full disk a read waits for %llu us",
                   (unsigned long long)(world->now_us - asked_us));
    }
}

void room_answer(struct room *room, enum room_use use, bool is_full, uint64_t asked_us, uint64_t wait_us)
{
    if (is_full) {
        judge_refusal(room, use);
    } else if (use == ROOM_READ) {
        judge_wait(room, asked_us, wait_us);
    }
}

void room_no_answer(struct room *room, uint64_t asked_us)
{
    judge_wait(room, asked_us, 0);
}

void room_exit(struct room *room, bool has_other_reason)
{
    bool is_full = room->full_since_us != 0 || room->world->no_room_us != 0;
    if (is_full) {
        world_judged(room->world, JUDGE_S3);
    }
    if (is_full && !has_other_reason) {
        world_fail(room->world, "S3", "the process ends because the disk is full");
    }
}
