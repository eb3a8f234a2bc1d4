/* Counting voters, and looking for an offset that nobody has. */
#include "fleet_proof.h"

#include <stddef.h>

static bool may_win(const struct proof_log *log)
{
    uint32_t voters[2] = {0}, present[2] = {0};
    for (uint32_t i = 0; i < log->count; i++) {
        const struct proof_voter *voter = &log->voters[i];
        voters[0] += voter->now;
        voters[1] += voter->next;
        present[0] += voter->now && voter->counts;
        present[1] += voter->next && voter->counts;
    }
    return present[0] > voters[0] / 2 && present[1] > voters[1] / 2;
}

static bool anybody_may_lead(const struct proof_facts *facts)
{
    for (uint32_t i = 0; i < facts->logs_count; i++) {
        if (may_win(&facts->logs[i])) {
            return true;
        }
    }
    return facts->has_leader;
}

static bool is_damaged(const struct proof_copy *copy, int64_t offset)
{
    for (uint32_t i = 0; i < copy->count; i++) {
        if (copy->ranges[i].first <= offset && offset < copy->ranges[i].end) {
            return true;
        }
    }
    return false;
}

static bool nobody_has(const struct proof_facts *facts, int64_t offset)
{
    for (uint32_t i = 0; i < facts->copies_count; i++) {
        if (!is_damaged(&facts->copies[i], offset)) {
            return false;
        }
    }
    return facts->copies_count > 0;
}

/* Where ranges have an offset in common, one of them begins at such a one. */
static bool lacks_a_record(const struct proof_facts *facts)
{
    for (uint32_t i = 0; i < facts->copies_count; i++) {
        for (uint32_t k = 0; k < facts->copies[i].count; k++) {
            const struct proof_range *range = &facts->copies[i].ranges[k];
            if (range->first < range->end && range->first < facts->end && nobody_has(facts, range->first)) {
                return true;
            }
        }
    }
    return false;
}

const char *proof_verdict(const struct proof_facts *facts)
{
    if (!anybody_may_lead(facts)) {
        return "no majority of its voters is sound";
    }
    return lacks_a_record(facts) ? "records are damaged or missing in every replica" : NULL;
}
