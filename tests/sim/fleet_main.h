/* `sim fleet`: seeds of several brokers. */
#ifndef FLOTILLA_SIM_FLEET_MAIN_H
#define FLOTILLA_SIM_FLEET_MAIN_H

/* argv[0] is "fleet"; returns the exit status. */
int fleet_main(int argc, char **argv);

#endif
