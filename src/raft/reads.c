/* Rounds of reads (ReadIndex, dissertation section 6.4): whoever reads waits for a round of beats that leaves after it
 * has asked, and that a majority answers: then nobody else can have led, and committed more, before it asked. One round
 * serves all who asked before it left; numbers are never used again within a leadership. */
#include "raft/impl.h"

#include "base/plant.h"

void reads__confirm(struct raft *r)
{
    uint64_t rounds[RAFT_MEMBERS_MAX] = {0};
    if (r->self_place != PLACE_NONE) {
        rounds[r->self_place] = r->round_asked;
    }
    for (uint32_t i = 0; i < r->peers_count; i++) {
        const struct progress *p = &r->peers[i];
        if (p->place != PLACE_NONE && !p->damaged) {
            rounds[p->place] = p->round;
        }
    }
    uint64_t round = config__reached(raft__config(r), rounds);
    if (round > r->round_confirmed) {
        r->round_confirmed = round;
    }
}

void reads__ask(struct raft *r)
{
    if (r->role != RAFT_LEADER) {
        return; /* it will be told that its leader changed */
    }
    if (r->round_asked == r->round_sent && !(PLANT(29) && r->round_confirmed > 0)) {
        r->round_asked++;
    }
    if (r->peers_count == 0) {
        r->round_sent = r->round_asked;
    }
    reads__confirm(r);
}
