/* Opens a data directory with the product and holds what it serves against an oracle. Every state goes through all of
 * it: a start, every topic, every record, retries, a round of the scrub; then it is given up as by kill -9 and the same
 * again, with named producers. Failures begin with the rule of the storage that is broken:
 *
 *   S1   what was acknowledged, and so had been synced, is there: topics, and records at their offset, once, with their
 *        bytes, behind all that their producer sent before them; what was deleted is not there; no producer's id comes
 *        again and no epoch goes back
 *   S2   any combination of lost names opens; nothing stays on the disk of a topic whose deletion was acknowledged
 *   S4   nothing half written is taken for a record: all that is served was sent, byte by byte
 *   S5   a crash damages nothing: no group and no batch is answered CORRUPT
 *   S6   nothing is served in a group, or at an offset, that it was not sent to
 *   S7   applied index, segment ends and done table in the checkpoint store are of one moment: the manifest is without
 *        gaps and ends where the group's next offset is, no term and no done row is beyond it, a retry gets the offset
 *        of the first try
 *   S10  a round of the scrub, over segments, rows and log, finds nothing
 *   S11  the start succeeds, everything is led, nothing hangs; a second start serves the same, no more and no less
 *
 * What no crash shows: of S1, a failed sync (sweep.c); S3, the full disk (tests/cluster/test_disk_full.py); S8, the
 * full map (tests/unit/test_os_lmdb.c); of S9, two users of one store (tests/unit/test_os_disk.c). That LMDB syncs what
 * it commits is S9 too, and S1 here: the states have nothing else. */
#ifndef FLOTILLA_CRASH_VERIFY_H
#define FLOTILLA_CRASH_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "oracle.h"

#define VERIFY_WHY_BYTES 400

/* The oracle learns what clients are told: a later call on the same directory expects that too. false: `why`. */
bool verify_dir(struct oracle *oracle, const char *dir, uint64_t seed, char why[VERIFY_WHY_BYTES]);

/* Only starts the broker and lets it finish what it does by itself, all of it on a tape. */
bool verify_record(const struct oracle *oracle, const char *dir, const char *tape, uint64_t seed,
                   char why[VERIFY_WHY_BYTES]);

#endif
