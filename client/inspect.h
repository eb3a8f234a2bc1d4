/* `flotilla inspect`: looks into a data directory that no broker is using, and changes nothing. In the command only,
 * not in the library. */
#ifndef FLOTILLA_CLIENT_INSPECT_H
#define FLOTILLA_CLIENT_INSPECT_H

#include "client/cli.h"

int cli_inspect(struct cli *cli, int argc, char **argv);

#endif
