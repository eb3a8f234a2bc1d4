/* The planted-bug board: which bugs the simulator must be able to find, and how fast it did. Numbers are those of the
 * project's list of known bugs of this class; each is one PLANT(n) in the product. */
#ifndef FLOTILLA_SIM_BOARD_H
#define FLOTILLA_SIM_BOARD_H

#include <stdbool.h>
#include <stdint.h>

bool board_plant(uint32_t plant); /* 0: none. false: this executable cannot */

/* Every plant in turn, or only one, until a seed fails; prints `plant N <name> caught by <checker> after <n> seeds`, or
 * `missed`. Exit status: 0 if all were caught. */
int board_run(uint32_t jobs, uint64_t budget_s, uint32_t only); /* 0: all */

#endif
