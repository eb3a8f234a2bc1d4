/* What decays while the broker runs, and who notices: bytes of segments, of the log and of the checkpoint store that
 * were good and no longer are.
 *
 *   S10 what decayed is found by the scrub within its period, or before that by a read or a start; a row that memory
 *       knows better is written again soon; a row that was still bad when the broker started is its group's damage:
 *       nothing of that group is served any more; and nothing is called damaged that is not
 *
 *   W7  a group is withheld, or given up, only after calls for a segment failed; then CORRUPT is honest: until the next
 *       start, or for good
 *
 * Whoever makes something decay says what, where, and how to tell that the bad bytes are still there: what was deleted,
 * released or written over need not be found. Fed with the broker's error lines, with CORRUPT answers and with the
 * moments of its lives. Nothing here calls the broker. */
#ifndef FLOTILLA_SIM_DECAY_H
#define FLOTILLA_SIM_DECAY_H

#include <stdbool.h>
#include <stdint.h>

#include "sim.h"

enum decay_kind { DECAY_SEGMENT, DECAY_ROW, DECAY_WAL };

struct decay_item {
    enum decay_kind kind;
    uint64_t group;    /* SEGMENT, ROW; 0: of none */
    uint8_t type;      /* ROW: of the key's first byte */
    int64_t from, end; /* SEGMENT: offsets, WAL: lsns */
    uint32_t rounds;   /* of the scrub, in which it has to be found: under load a place in the round may shift */
    void *place;       /* owned by the decay from now on: free() */
    bool (*is_there)(const struct decay_item *item);

    /* the decay's own */
    uint64_t since_us;
    uint64_t found_us; /* 0: nobody noticed */
    bool is_over;      /* gone, or good again */
    bool is_lost;      /* ROW: the broker has started since */
};

struct decay *decay_new(struct sim_world *world, uint64_t period_us); /* of the scrub; 0: it never runs */
void decay_free(struct decay *decay);

void decay_begins(struct decay *decay, const struct decay_item *item);
const struct decay_item *decay_items(const struct decay *decay, uint32_t *ret_count);

/* --- lives --- */
void decay_start(struct decay *decay); /* a start is about to read what is there */
void decay_ready(struct decay *decay); /* the scrub begins its first round */
void decay_down(struct decay *decay);
/* The process is dead: who was given up and is not marked in the checkpoint store was not, in the eyes of the next
 * start. Nothing of it was released, so it may well be served again. */
void decay_keep_marked(struct decay *decay, bool (*is_marked)(void *context, uint64_t group), void *context);
void decay_calm(struct decay *decay); /* nothing holds the broker up from now on */

/* --- what the broker says --- */
void decay_line(struct decay *decay, const char *line);                  /* of level error */
void decay_refused(struct decay *decay, uint64_t group, int64_t offset); /* a read there is CORRUPT */
void decay_served(struct decay *decay, uint64_t group);                  /* anything of the group */

void decay_look(struct decay *decay); /* now and then: is anything overdue? */

/* --- questions --- */
bool decay_is_settled(const struct decay *decay);                   /* all was found, and mended where that can be */
bool decay_has_lost(const struct decay *decay, uint64_t group);     /* for good; 0: any */
bool decay_has_withheld(const struct decay *decay, uint64_t group); /* in this life; 0: any */
uint64_t decay_take_given_up(struct decay *decay); /* a group that was given up, each one once; 0: none */

#endif
