/* The reigns of a group stand in the order of their terms. Within one, what is said rises with time; each begins at or
 * above all that the earlier ones ever said: its LEADER entry stands behind everything they could commit, and nothing
 * is answered before that is applied. */
#include "sim_reign.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/map.h"

struct reign {
    uint64_t term, broker, life;
    int64_t first_watermark, high_watermark; /* as first and as last said */
    int64_t first_start, log_start;
};

struct realm {
    uint64_t group;
    struct reign *reigns; /* ascending by term; owned */
    uint64_t count, capacity;
    int64_t high_watermark, log_start; /* the highest that anybody was told */
    UT_hash_handle hh;
};

struct reigns {
    struct sim_world *world;
    struct realm *realms;
};

struct reigns *reigns_new(struct sim_world *world)
{
    struct reigns *reigns = calloc(1, sizeof *reigns);
    ASSERT(reigns != NULL);
    reigns->world = world;
    return reigns;
}

void reigns_free(struct reigns *reigns)
{
    struct realm *realm, *next;
    HASH_ITER(hh, reigns->realms, realm, next)
    {
        HASH_DEL(reigns->realms, realm);
        free(realm->reigns);
        free(realm);
    }
    free(reigns);
}

static struct realm *realm_find(const struct reigns *reigns, uint64_t group)
{
    struct realm *realm;
    HASH_FIND(hh, reigns->realms, &group, sizeof group, realm);
    return realm;
}

static struct realm *realm_of(struct reigns *reigns, uint64_t group)
{
    struct realm *realm = realm_find(reigns, group);
    if (realm == NULL) {
        realm = calloc(1, sizeof *realm);
        ASSERT(realm != NULL);
        realm->group = group;
        HASH_ADD(hh, reigns->realms, group, sizeof realm->group, realm);
    }
    return realm;
}

/* The place of the term, or where it belongs. */
static uint64_t reign_at(const struct realm *realm, uint64_t term)
{
    uint64_t at = realm->count;
    while (at > 0 && realm->reigns[at - 1].term >= term) {
        at--;
    }
    return at;
}

static void reign_insert(struct realm *realm, uint64_t at, const struct reign_word *word)
{
    realm->reigns = sim_grow(realm->reigns, &realm->capacity, realm->count + 1, sizeof *realm->reigns);
    for (uint64_t i = realm->count; i > at; i--) {
        realm->reigns[i] = realm->reigns[i - 1];
    }
    realm->count++;
    realm->reigns[at] = (struct reign){.term = word->term,
                                       .broker = word->broker,
                                       .life = word->life,
                                       .first_watermark = word->high_watermark,
                                       .high_watermark = word->high_watermark,
                                       .first_start = word->log_start,
                                       .log_start = word->log_start};
}

/* What one reign says against another one. */
static void judge_pair(struct reigns *reigns, const struct realm *realm, const struct reign *older,
                       const struct reign *newer)
{
    if (older->high_watermark > newer->first_watermark) {
        world_fail(reigns->world, "B8",
                   "group %llu: broker %llu says in term %llu that the log ends at %lld, broker %llu said %lld in "
                   "term %llu",
                   (unsigned long long)realm->group, (unsigned long long)newer->broker, (unsigned long long)newer->term,
                   (long long)newer->first_watermark, (unsigned long long)older->broker,
                   (long long)older->high_watermark, (unsigned long long)older->term);
    }
    if (older->log_start > newer->first_start) {
        world_fail(reigns->world, "B8",
                   "group %llu: broker %llu says in term %llu that the log starts at %lld, broker %llu said %lld in "
                   "term %llu",
                   (unsigned long long)realm->group, (unsigned long long)newer->broker, (unsigned long long)newer->term,
                   (long long)newer->first_start, (unsigned long long)older->broker, (long long)older->log_start,
                   (unsigned long long)older->term);
    }
}

static void judge_own(struct reigns *reigns, const struct realm *realm, struct reign *reign,
                      const struct reign_word *word)
{
    if (reign->broker != word->broker || reign->life != word->life) {
        world_fail(reigns->world, "R1",
                   "group %llu, term %llu: broker %llu of life %llu leads, broker %llu of life %llu led",
                   (unsigned long long)realm->group, (unsigned long long)word->term, (unsigned long long)word->broker,
                   (unsigned long long)word->life, (unsigned long long)reign->broker, (unsigned long long)reign->life);
    }
    if (word->high_watermark < reign->high_watermark || word->log_start < reign->log_start) {
        world_fail(reigns->world, "B8",
                   "group %llu, term %llu: broker %llu says that the log is %lld..%lld, it said %lld..%lld",
                   (unsigned long long)realm->group, (unsigned long long)word->term, (unsigned long long)word->broker,
                   (long long)word->log_start, (long long)word->high_watermark, (long long)reign->log_start,
                   (long long)reign->high_watermark);
    }
    reign->high_watermark = word->high_watermark;
    reign->log_start = word->log_start;
}

void reigns_heard(struct reigns *reigns, const struct reign_word *word)
{
    struct realm *realm = realm_of(reigns, word->group);
    uint64_t at = reign_at(realm, word->term);
    world_judged(reigns->world, JUDGE_B8);
    if (at == realm->count || realm->reigns[at].term != word->term) {
        reign_insert(realm, at, word);
    } else {
        judge_own(reigns, realm, &realm->reigns[at], word);
    }
    /* The neighbours are enough: they were held against theirs. */
    if (at > 0) {
        judge_pair(reigns, realm, &realm->reigns[at - 1], &realm->reigns[at]);
    }
    if (at + 1 < realm->count) {
        judge_pair(reigns, realm, &realm->reigns[at], &realm->reigns[at + 1]);
    }
    realm->high_watermark = word->high_watermark > realm->high_watermark ? word->high_watermark : realm->high_watermark;
    realm->log_start = word->log_start > realm->log_start ? word->log_start : realm->log_start;
}

void reigns_listed(struct reigns *reigns, uint64_t group, uint64_t broker, int64_t floor, int64_t offset)
{
    struct realm *realm = realm_of(reigns, group);
    world_judged(reigns->world, JUDGE_B9);
    if (offset < floor) {
        world_fail(reigns->world, "B9",
                   "group %llu: broker %llu says that the latest offset is %lld; when it was asked %lld was known",
                   (unsigned long long)group, (unsigned long long)broker, (long long)offset, (long long)floor);
    }
    realm->high_watermark = offset > realm->high_watermark ? offset : realm->high_watermark;
}

int64_t reigns_promised(const struct reigns *reigns, uint64_t group)
{
    const struct realm *realm = realm_find(reigns, group);
    return realm == NULL ? 0 : realm->high_watermark;
}

int64_t reigns_log_start(const struct reigns *reigns, uint64_t group)
{
    const struct realm *realm = realm_find(reigns, group);
    return realm == NULL ? 0 : realm->log_start;
}
