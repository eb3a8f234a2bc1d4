/* Per group the leaders that were published, term by term, and what the registry was last seen to say. */
#include "sim_herald.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/map.h"

struct crown {
    uint64_t term, leader;
};

struct house {
    uint64_t group;
    struct crown *crowns; /* owned; in the order in which they were published */
    uint64_t count, capacity;
    uint64_t said_term, said_leader;
    UT_hash_handle hh;
};

struct heralds {
    struct sim_world *world;
    struct house *houses;
};

struct heralds *heralds_new(struct sim_world *world)
{
    struct heralds *heralds = calloc(1, sizeof *heralds);
    ASSERT(heralds != NULL);
    heralds->world = world;
    return heralds;
}

void heralds_free(struct heralds *heralds)
{
    struct house *house, *next;
    HASH_ITER(hh, heralds->houses, house, next)
    {
        HASH_DEL(heralds->houses, house);
        free(house->crowns);
        free(house);
    }
    free(heralds);
}

static struct house *house_of(struct heralds *heralds, uint64_t group)
{
    struct house *house;
    HASH_FIND(hh, heralds->houses, &group, sizeof group, house);
    if (house == NULL) {
        house = calloc(1, sizeof *house);
        ASSERT(house != NULL);
        house->group = group;
        HASH_ADD(hh, heralds->houses, group, sizeof house->group, house);
    }
    return house;
}

/* NULL: nobody was published in that term. */
static const struct crown *crown_of(const struct house *house, uint64_t term)
{
    for (uint64_t i = 0; i < house->count; i++) {
        if (house->crowns[i].term == term) {
            return &house->crowns[i];
        }
    }
    return NULL;
}

void heralds_published(struct heralds *heralds, const struct herald_word *word)
{
    struct house *house = house_of(heralds, word->group);
    const struct crown *crown = crown_of(house, word->term);
    world_judged(heralds->world, JUDGE_Z1);
    if (word->by != word->leader) {
        world_fail(heralds->world, "Z1", "group %llu, term %llu: broker %llu publishes broker %llu as leader",
                   (unsigned long long)word->group, (unsigned long long)word->term, (unsigned long long)word->by,
                   (unsigned long long)word->leader);
    } else if (crown != NULL && crown->leader != word->leader) {
        world_fail(heralds->world, "Z1", "group %llu, term %llu: broker %llu is published, broker %llu was",
                   (unsigned long long)word->group, (unsigned long long)word->term, (unsigned long long)word->leader,
                   (unsigned long long)crown->leader);
    }
    if (crown == NULL) {
        house->crowns = sim_grow(house->crowns, &house->capacity, house->count + 1, sizeof *house->crowns);
        house->crowns[house->count++] = (struct crown){word->term, word->leader};
    }
    crown = crown_of(house, word->said_term);
    if (word->said_term < house->said_term || word->said_term < word->term) {
        world_fail(heralds->world, "Z1",
                   "group %llu: the registry says term %llu, it said %llu, and broker %llu published %llu",
                   (unsigned long long)word->group, (unsigned long long)word->said_term,
                   (unsigned long long)house->said_term, (unsigned long long)word->by, (unsigned long long)word->term);
    } else if (crown == NULL || crown->leader != word->said_leader) {
        world_fail(heralds->world, "Z1", "group %llu: the registry says that broker %llu leads in term %llu",
                   (unsigned long long)word->group, (unsigned long long)word->said_leader,
                   (unsigned long long)word->said_term);
    }
    house->said_term = word->said_term;
    house->said_leader = word->said_leader;
}

void heralds_saw(struct heralds *heralds, const struct herald_sight *sight)
{
    if (!sight->leads) {
        return;
    }
    world_judged(heralds->world, JUDGE_Z3);
    if (!sight->serves) {
        world_fail(heralds->world, "Z3", "group %llu: broker %llu leads and does not serve while the registry is away",
                   (unsigned long long)sight->group, (unsigned long long)sight->broker);
    }
}

bool heralds_is_true(struct heralds *heralds, uint64_t group, uint64_t leader, uint64_t term)
{
    const struct house *house = house_of(heralds, group);
    if (leader == 0) {
        return true;
    }
    if (house->said_leader != leader || house->said_term != term) {
        return false;
    }
    world_judged(heralds->world, JUDGE_Z7);
    return true;
}
