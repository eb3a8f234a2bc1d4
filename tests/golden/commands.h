/* The commands of golden scenarios; commands.c has the table of them with what each does. */
#ifndef FLOTILLA_TESTS_GOLDEN_COMMANDS_H
#define FLOTILLA_TESTS_GOLDEN_COMMANDS_H

#include "stage.h"

/* Carries out one line of a script, with its trace going to s->out. False: it is not understood. */
bool command_run(struct stage *s, const char *line);

#endif
