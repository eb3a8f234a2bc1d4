/* `flotilla inspect`: looks into a data directory that no broker is using, and changes nothing. In the command only,
 * not in the library. */
#ifndef FLOTILLA_CLIENT_INSPECT_H
#define FLOTILLA_CLIENT_INSPECT_H

#include <limits.h>

#include "base/err.h"
#include "client/cli.h"
#include "client/inspect_lines.h"

int cli_inspect(struct cli *cli, int argc, char **argv);

/* ---- inside: what the verbs share ---- */

struct inspect {
    struct cli *cli;
    const char *path;
    char root[PATH_MAX];          /* the data directory */
    char only_file[NAME_MAX + 1]; /* of the WAL; "": all */
    bool file_wanted;             /* the records that come now are of the file asked for */
    bool damage_seen;             /* exit code 1 */
};

struct line inspect_line(const void *inspect, const char *name); /* begins one */
enum err inspect_segment(struct inspect *inspect);               /* inspect_segment.c */

#endif
