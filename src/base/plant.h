/* Planted bugs: the tests' own test. PLANT(n) is false in every product build, a constant that the compiler removes.
 * Only the executable sim_plants is built with -DFLOTILLA_PLANTS; there one bug at a time may be switched on, and the
 * simulator has to catch it, with one broker or with several. The board of numbers and names: tests/sim/sim_board.c. */
#ifndef FLOTILLA_BASE_PLANT_H
#define FLOTILLA_BASE_PLANT_H

#ifdef FLOTILLA_PLANTS
extern unsigned plant_active; /* 0: none */
#define PLANT(n) (plant_active == (n))
#else
#define PLANT(n) 0
#endif

#endif
