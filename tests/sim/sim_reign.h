/* What several brokers say as leaders of a group, held against one another term by term.
 *
 *   R1  one leader a term, and no two lives of it
 *   B8  high watermark and log start never go back: not for one leader, not from one term to the next; a leader that
 *       does not know yet that its term is over may say less than its successor, never more than that began with
 *   B9  ListOffsets(latest) is no older than the moment of asking
 *
 * Fed with the answers as they leave the brokers. Nothing here calls a broker. */
#ifndef FLOTILLA_SIM_REIGN_H
#define FLOTILLA_SIM_REIGN_H

#include "sim.h"

struct reigns;

struct reigns *reigns_new(struct sim_world *world);
void reigns_free(struct reigns *reigns);

struct reign_word {
    uint64_t group, term;
    uint64_t broker, life;
    int64_t log_start, high_watermark;
};
void reigns_heard(struct reigns *reigns, const struct reign_word *word);
/* ListOffsets(latest) asked when `floor` was promised (reigns_promised) is answered with `offset`. */
void reigns_listed(struct reigns *reigns, uint64_t group, uint64_t broker, int64_t floor, int64_t offset);

/* --- questions --- */
int64_t reigns_promised(const struct reigns *reigns, uint64_t group);  /* the highest watermark that anybody was told */
int64_t reigns_log_start(const struct reigns *reigns, uint64_t group); /* the highest likewise */

#endif
