/* `flotilla repair DIR --partition T/P --accept-loss`: what is left of a damaged partition becomes the partition. For
 * the data directory of a broker that is not running; in the command only, not in the library. */
#ifndef FLOTILLA_CLIENT_REPAIR_H
#define FLOTILLA_CLIENT_REPAIR_H

#include "client/cli.h"

int cli_repair(struct cli *cli, int argc, char **argv);

#endif
