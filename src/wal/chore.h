/* Slow work on spare files, one piece at a time on DISK_LANE_STORE: filling one with zeros, removing one. */
#ifndef FLOTILLA_WAL_CHORE_H
#define FLOTILLA_WAL_CHORE_H

#include "wal/files.h"

/* The chore under way, if any, goes on without `files`: it cleans up after itself when its job is done. */
void wal__chore_orphan(struct wal__files *files);

#endif
