/* Groups that sleep: who may, what wakes them, and how two brokers notice that they do not think the same.
 *
 * The core knows how a group falls asleep (raft/quiet.c): its leader asks all members, and who agrees has everything,
 * applied and on the disk. A sleeping group has neither timers nor messages; it leaves no trace but in the pings, which
 * then stand for its heartbeats. This file is the owner that raft.h speaks of:
 *
 * - sleep: a leader asks for it when nothing was proposed, read or moved for [raft] quiet_ms, and all members' brokers
 * have been heard within an election timeout.
 * - links: it holds for one link between two lives. When that is lost or made anew, or nothing was heard on it for an
 * election timeout (brokers with sleeping groups in common ping often enough), the groups that the peer leads here,
 * and those led here with a replica there, are woken.
 * - digests: each ping says how many groups the sender leads that sleep at the receiver, and the sum of hashes over
 * {group, term, leading replica}; the answer says whether that is so. An answer counts if nothing changed at the
 * sender since it asked: rows and pings share a lane, so whatever the receiver did is known by then. If all that count
 * for two election timeouts say no, both sides wake what sleeps between them.
 * - messages: any message of a member but those of the falling asleep wakes who gets it; a request for votes too.
 * - work: whatever is proposed, read, moved or changed wakes the leader at once, and the leader the others.
 *
 * What is woken by a broker's fate is spread over one election timeout, each group at the same moment of it everywhere,
 * so that leader and followers meet, and thousands of groups do not campaign at once. A leader that woke has to hear
 * from a majority like any other, a follower elects like any other.
 *
 * Loop thread. */
#ifndef FLOTILLA_BROKER_QUIET_H
#define FLOTILLA_BROKER_QUIET_H

#include <stdbool.h>
#include <stdint.h>

#include "broker/peers.h"

struct broker;
struct partition;
struct quiet;

/* Why a group woke. */
enum quiet_why {
    QUIET_WORK, /* this replica has something to do */
    QUIET_LEADER,
    QUIET_VOTE, /* somebody asks for votes */
    QUIET_LINK,
    QUIET_SILENCE,
    QUIET_DIGEST,
};

struct quiet *quiet_new(struct broker *b);
void quiet_free(struct quiet *quiet); /* NULL is allowed; no partition is left */

/* Numbers mixed well; the same everywhere. */
uint64_t quiet_mix(uint64_t a, uint64_t b, uint64_t c);

/* The leader is about to be ticked: asks its group to sleep if it may. */
void quiet_consider(struct partition *p, uint64_t now_ms);
/* Behind everything that was done with a core, when its messages are queued: has it fallen asleep, or woken? */
void quiet_note(struct partition *p);
void quiet_woken(struct partition *p, enum quiet_why why); /* since then it is awake, for this reason */
/* It has no core any more. */
void quiet_forget(struct partition *p);

/* What it has slept through is over, in its moment of the next election timeout; nothing unless it sleeps. */
void quiet_wake_later(struct partition *p, enum quiet_why why);
void quiet_wake(struct partition *p); /* that moment is here */
/* It sleeps, and this broker is its leader's, or it leads and a member is there. */
bool quiet_has(const struct partition *p, uint64_t broker);

/* Of peers_handler. */
void quiet_told(void *context, uint64_t broker, struct peers_quiet *ret_quiet);
bool quiet_agrees(void *context, uint64_t broker, const struct peers_quiet *quiet);
void quiet_on_answer(void *context, uint64_t broker, uint64_t asked_us, bool agrees);
void quiet_on_silent(void *context, uint64_t broker);

uint32_t quiet_count(const struct broker *b); /* replicas here that sleep */

#endif
