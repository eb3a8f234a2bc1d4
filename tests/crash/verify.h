/* Opens a data directory with the product and holds what it serves against an oracle. The failures begin with the name
 * of the rule that is broken:
 *
 *   S1   what was acknowledged, and so had been synced, is there: at its offset, once, with its bytes
 *   S2   any combination of lost names opens; nothing stays on the disk that no name should lead to
 *   S4   nothing half written is taken for a record: all that is served was sent, byte by byte
 *   S5   a batch is never refused as damaged: a crash damages nothing that was durable
 *   S6   nothing is served in a group, or at an offset, that it was not sent to
 *   S7   applied index, segment ends and done table in the checkpoint store are of one moment: the manifest ends where
 *        the group's next offset is, no done row is beyond it, a retry gets the offset of the first try
 *   S8   the checkpoint store opens at its size
 *   S9   topics: those acknowledged are there, those deleted are not, none is unknown
 *   S11  the start succeeds, and a second start gives the same
 *
 * S3 (full disk) and S10 (scrub) are not about crashes. */
#ifndef FLOTILLA_CRASH_VERIFY_H
#define FLOTILLA_CRASH_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "oracle.h"

#define VERIFY_WHY_BYTES 400

enum verify_flags {
    VERIFY_TWICE = 1 << 0, /* start again after the retries, and check again */
    VERIFY_NAMED = 1 << 1, /* also that named producers keep their ids */
};

/* The oracle learns what clients are told now: a later call on the same directory expects that too. false: `why`. */
bool verify_dir(struct oracle *oracle, const char *dir, uint64_t seed, unsigned flags, char why[VERIFY_WHY_BYTES]);

/* Only starts the broker and lets it finish what it does by itself: to be recorded. */
bool verify_start(const struct oracle *oracle, const char *dir, uint64_t seed, char why[VERIFY_WHY_BYTES]);

#endif
