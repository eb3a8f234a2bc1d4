/* `sim fleet`: seeds of several brokers. */
#ifndef FLOTILLA_SIM_FLEET_MAIN_H
#define FLOTILLA_SIM_FLEET_MAIN_H

#include <stdint.h>

/* argv[0] is "fleet"; returns the exit status. */
int fleet_main(int argc, char **argv);
/* `sim fleet --matrix`: all combinations, or one with its story (fleet_matrix.c). */
int fleet_matrix(void);
int fleet_matrix_one(uint32_t combination);

#endif
