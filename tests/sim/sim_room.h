/* A disk without room, and what the broker owes meanwhile.
 *
 *   S3  STORAGE_FULL answers what makes the disk fuller, never a read, and reads are answered in time; it is said only
 *       while calls find no room, and ends by itself soon after they do: no restart is needed. Nor does the process end
 *       for want of room.
 *
 * Fed with the answers as they leave the broker, and with the calls that found no room (world.no_room_us, set by the
 * twins of disk and checkpoint store). Nothing here calls the broker. */
#ifndef FLOTILLA_SIM_ROOM_H
#define FLOTILLA_SIM_ROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "sim.h"

/* What an answer answers: READ takes no room, WRITE does. */
enum room_use { ROOM_READ, ROOM_WRITE };

struct room {
    struct sim_world *world;
    uint64_t full_since_us; /* the limit stands since then; 0: there is none */
    uint64_t slack_us;
    bool is_store_full; /* of the checkpoint store: known to the broker without a call */
};

/* is_held_up: the run has faults that make lanes or the loop stand still for seconds. */
void room_init(struct room *room, struct sim_world *world, bool is_held_up);
void room_limit(struct room *room, bool is_store_full); /* from now on files may find no room, and rows do not */
void room_lift(struct room *room);                      /* there is room for everything */
void room_new_life(struct room *room);                  /* of the broker: it knows nothing of the limit */

/* An answer leaves. is_full: it says STORAGE_FULL; asked_us: when its question was sent; wait_us: how long it was told
 * to wait for something to say. */
void room_answer(struct room *room, enum room_use use, bool is_full, uint64_t asked_us, uint64_t wait_us);
/* A reader asked at asked_us, of a broker that lives since before, and gives up waiting. */
void room_no_answer(struct room *room, uint64_t asked_us);
/* The process ends, and says that its storage failed; has_other_reason: it may, whatever room there is. */
void room_exit(struct room *room, bool has_other_reason);

#endif
