/* The atlas of a fleet: on which machine stored bytes are not what was written there, and whether they still are not.
 *
 * A *wound* is one such place:
 *
 *   WIPE      everything on the machine
 *   LOG       a batch of its log, and so whatever groups stood in it
 *   ROW       a row of its checkpoint store: one group's
 *   SEGMENT   a sector of a segment: one group's
 *   GIVEN_UP  what the broker itself gave up, since its disk erred on and on: one group's
 *
 * It is open until the bytes are right again or needed by nobody, and the replicas there are whole: members as the
 * registry wishes, without a mark of damage. The atlas allows no wound by which some group would have fewer unwounded
 * replicas than a majority, so groups of one or two never have any; and none of a group whose members are changing, or
 * that has no leader just now, since who has to be counted is not known then.
 *
 * What the brokers say of damage is held against it: S10 nothing is called damaged that is not, W7 nothing is withheld
 * or given up unless the disk erred. The judge doubts a machine as long as it has open wounds of its log or rows. */
#ifndef FLOTILLA_SIM_FLEET_ATLAS_H
#define FLOTILLA_SIM_FLEET_ATLAS_H

#include "fleet.h"

enum wound_kind { WOUND_WIPE, WOUND_LOG, WOUND_ROW, WOUND_SEGMENT, WOUND_GIVEN_UP, WOUND_KINDS };

/* The bytes of a SEGMENT: at most a sector. */
struct wound_bytes {
    const struct inode *inode; /* not owned: compared with what stands under that name */
    char path[96];
    uint64_t at;
    uint32_t size;
    uint8_t right[SECTOR_BYTES], wrong[SECTOR_BYTES];
    int64_t first, end; /* the offsets of the batches there; equal: of none that is known */
};

struct wound {
    enum wound_kind kind;
    uint64_t broker;
    uint64_t group; /* 0: all that the machine has */
    struct wound_bytes bytes;
    /* of a ROW */
    uint8_t key[KV_KEY_BYTES_MAX];
    size_t key_size;
    uint32_t crc; /* of the whole stored value, as it is wrong */

    /* the atlas's own */
    uint64_t since_us, looked_us;
    bool is_over;
};

struct fleet_atlas;

struct fleet_atlas *fleet_atlas_new(struct fleet *fleet);
void fleet_atlas_free(struct fleet_atlas *atlas);

/* May this machine lose something of the group; 0: of any that it has? */
bool fleet_atlas_allows(const struct fleet_atlas *atlas, uint64_t broker, uint64_t group);
/* It has: the wound is copied, the judge is told. A WIPE ends all other wounds there. */
void fleet_atlas_add(struct fleet_atlas *atlas, const struct wound *wound);
/* Which wounds are over? Now and then. */
void fleet_atlas_look(struct fleet_atlas *atlas);
/* The broker said this, at level error. */
void fleet_atlas_line(struct fleet_atlas *atlas, struct fleet_broker *b, const char *line);

/* --- questions --- */

bool fleet_atlas_is_open(const struct fleet_atlas *atlas, uint64_t broker, uint64_t group); /* of the group; 0: any */
bool fleet_atlas_has_any(const struct fleet_atlas *atlas);                                  /* there was one, ever */
bool fleet_atlas_has_replaced(
    const struct fleet_atlas *atlas); /* one by which a replica may have got another's place */
/* There was one, ever, that may have cost the replica there what it had of its log: any but a SEGMENT. */
bool fleet_atlas_explains(const struct fleet_atlas *atlas, uint64_t broker, uint64_t group);
/* The n-th open wound of the segments of that group there; NULL: there are fewer. */
const struct wound_bytes *fleet_atlas_segment(const struct fleet_atlas *atlas, uint64_t broker, uint64_t group,
                                              uint32_t n);

/* The bytes are wrong as long as any of those that are wrong stands there. */
bool wound_bytes_are_there(const struct wound_bytes *bytes, const uint8_t *now, uint32_t size);

#endif
