#include "client/inspect.h"
int cli_inspect(struct cli *cli, int argc, char **argv)
{
    cli_later("inspect");
}
