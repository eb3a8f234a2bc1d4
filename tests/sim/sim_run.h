/* One run: a broker, its lives and deaths, the load, the checkers.
 *
 *   load     clients work; crashes come at drawn I/O calls, or at a quiet moment; the broker starts on what is left
 *   quiet    no faults any more: what is under way must come to an end within QUIET_US_MAX of simulated time
 *   proof    every partition accepts a write within PROOF_US_MAX
 *   audit    everything is read from the start: B1 and all the others
 *   stop     a clean stop leaves nothing open; a new start serves the same, and after a crash another one does: what
 *            stands in the checkpoints is then what stood there before
 */
#ifndef FLOTILLA_SIM_RUN_H
#define FLOTILLA_SIM_RUN_H

#include "base/mark.h"
#include "sim.h"
#include "sim_options.h"
#include "sim_point.h"

struct sim_result {
    bool failed;
    bool is_void; /* of a fleet: the seed proves nothing, text says why */
    char check[16];
    char text[768];
    uint64_t hash;
    uint64_t simulated_us;
    uint64_t faults, events, io_calls, lives, acked, records;
    uint32_t unrecoverable; /* of a fleet: groups that were proven to be beyond help */
    struct sim_point_counts points;
    struct sim_tally tally;
    uint32_t marks[MARKS]; /* of a fleet */
};

void sim_run(const struct sim_options *options, bool verbose, struct sim_result *ret_result);

#endif
