/* The way back of a damaged replica whose group has other members.
 *
 * Its core opens over what is left, and knows that it is damaged: it takes what a leader sends, and counts for nothing
 * until one has healed it (raft.h). Clients get CORRUPT meanwhile. What is left:
 *
 *   the picture is whole   it, and the entries in front of the damage. They are appended again at the head of the log;
 *                          when that is durable, the group row says so (`healing`, snapshot_lsn): from there on the
 *                          log of this group is whole again, and a start goes on where the last one was. Until then
 *                          a start finds the first mark, and all that stood in front of the damage.
 *   rows are bad           nothing but who is in the group (`is_blank`). It gets everything from the leader's log, or
 *                          a snapshot. What is on the disk stays as it is, for a repair, until the first picture of
 *                          what a leader has sent takes its place; a start before that begins anew.
 *
 * Healed: REPAIRED is durable in the log, and no picture is blank; the next checkpoint lifts the mark. If no majority
 * is undamaged no leader is ever elected, and the group stays as it is. A group without other members, or whose row is
 * gone, has no way back but a repair.
 *
 * Loop thread. */
#ifndef FLOTILLA_BROKER_HEAL_H
#define FLOTILLA_BROKER_HEAL_H

#include <stdbool.h>
#include <stdint.h>

struct broker;
struct partition;
struct raft_update;

#define HEAL_WRITE_ID UINT64_MAX /* of groups_persist_add: a REPAIRED record */

/* At start. Somebody else may have what it lost. */
bool heal_is_possible(const struct partition *p);

/* At start. Its rows are of no use: what was made of them goes. */
void heal_make_blank(struct partition *p);
/* When the mark is durable and the log is open. False: it stays damaged. */
bool heal_begin(struct partition *p);

/* Of each update of its core, or of that of a leader of damaged replicas; and of each turn. */
void heal_note(struct partition *p, const struct raft_update *update);
void heal_partition_turn(struct partition *p);
void heal_on_persisted(struct partition *p); /* the REPAIRED record */
/* A picture of this group is durable, which says `healing` or does not. */
void heal_on_picture(struct partition *p, bool healing);

/* Followers with damaged ranges of records ask their leader for them, now and then. Nothing but these
 * ranges is CORRUPT there: log and hard state are whole, so the vote stays. Leaders give way first: yield.h. */
void heal_timer(struct broker *b, uint64_t now_us);

/* Of broker_turn. */
void heal_turn(struct broker *b);
uint64_t heal_deadline_us(const struct broker *b);

#endif
