/* The planted-bug board: which bugs the simulator must be able to find, and how fast it did. Numbers are those of the
 * project's list of known bugs of this class; each is one PLANT(n) in the product, which is hunted by seeds of one
 * broker or of a fleet. */
#ifndef FLOTILLA_SIM_BOARD_H
#define FLOTILLA_SIM_BOARD_H

#include <stdbool.h>
#include <stdint.h>

bool board_plant(uint32_t plant); /* 0: none. false: this executable cannot */

struct board_options {
    uint32_t jobs;
    uint64_t budget_s;
    uint32_t only; /* this plant; 0: all */
    bool is_whole; /* up to 2,000 seeds for each; else a few times as many as it was last seen to need */
};
/* Every plant in turn, or only one, until a seed fails; prints `plant N <name> caught by <checker> after <n> seeds`, or
 * `missed`. "abort" as checker is an assertion of the product. Exit status: 0 if all were caught. */
int board_run(const struct board_options *options);

#endif
