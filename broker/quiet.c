/* See quiet.h. An account for each broker: the groups led here that sleep there, and those led there that sleep here;
 * each group keeps what it has put into which, so that it can take it out again whatever became of it meanwhile. */
#include "broker/quiet.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mark.h"
#include "base/mem.h"
#include "broker/impl.h"
#include "broker/router.h"

struct account {
    uint64_t broker;
    struct peers_quiet led, followed;
    uint64_t led_changed_us;
    uint64_t differs_since_us; /* answers that count say no; 0: the last one said yes */
    bool wake_due;             /* to be told with the next ping */
};

struct quiet {
    struct broker *broker;
    uint32_t count;                     /* replicas that sleep */
    struct account accounts[PEERS_MAX]; /* used from the front; places stay what they are while something is in them */
    uint32_t accounts_count;
};

struct quiet *quiet_new(struct broker *b)
{
    struct quiet *quiet = mem_zeroed(1, sizeof *quiet);
    quiet->broker = b;
    return quiet;
}

void quiet_free(struct quiet *quiet)
{
    free(quiet);
}

uint64_t quiet_mix(uint64_t a, uint64_t b, uint64_t c)
{
    uint64_t hash = a * 0x9e3779b97f4a7c15u;
    hash = (hash ^ (hash >> 31) ^ b) * 0xbf58476d1ce4e5b9u;
    hash = (hash ^ (hash >> 29) ^ c) * 0x94d049bb133111ebu;
    return hash ^ (hash >> 32);
}

uint32_t quiet_count(const struct broker *b)
{
    return b->quiet->count;
}

/* --- accounts --- */

static struct account *find(struct quiet *quiet, uint64_t broker)
{
    for (uint32_t i = 0; i < quiet->accounts_count; i++) {
        if (quiet->accounts[i].broker == broker) {
            return &quiet->accounts[i];
        }
    }
    return NULL;
}

/* NULL: too many brokers come and go. */
static struct account *open_account(struct quiet *quiet, uint64_t broker)
{
    struct account *account = find(quiet, broker);
    for (uint32_t i = 0; account == NULL && i < quiet->accounts_count; i++) {
        if (quiet->accounts[i].led.count == 0 && quiet->accounts[i].followed.count == 0) {
            account = &quiet->accounts[i];
        }
    }
    if (account == NULL && quiet->accounts_count < PEERS_MAX) {
        account = &quiet->accounts[quiet->accounts_count++];
    }
    if (account != NULL && account->broker != broker) {
        *account = (struct account){.broker = broker};
    }
    return account;
}

static void book(struct quiet *quiet, struct account *account, const struct partition *p, bool in)
{
    struct peers_quiet *side = p->quiet_led ? &account->led : &account->followed;
    bool was_used = account->led.count + account->followed.count > 0;
    side->count += in ? 1u : UINT32_MAX;
    side->digest += in ? p->quiet_hash : -p->quiet_hash;
    if (p->quiet_led) {
        account->led_changed_us = clock_now_us(quiet->broker->clock);
    }
    bool is_used = account->led.count + account->followed.count > 0;
    if (was_used != is_used) {
        peers_watch(quiet->broker->peers, account->broker, is_used);
    }
}

/* Puts the group into exactly these accounts. */
static void move(struct partition *p, uint64_t places)
{
    struct quiet *quiet = p->broker->quiet;
    uint64_t different = p->quiet_places ^ places;
    for (uint32_t i = 0; different >> i != 0 && i < PEERS_MAX; i++) {
        if (different >> i & 1) {
            book(quiet, &quiet->accounts[i], p, places >> i & 1);
        }
    }
    p->quiet_places = places;
}

/* False: there is no account for that broker. */
static bool add_place(struct quiet *quiet, uint64_t broker, uint64_t *io_places)
{
    struct account *account = open_account(quiet, broker);
    if (account != NULL) {
        *io_places |= UINT64_C(1) << (account - quiet->accounts);
    }
    return account != NULL;
}

/* Where it is to be; false: not everywhere. */
static bool places_of(struct partition *p, uint64_t *ret_places)
{
    struct quiet *quiet = p->broker->quiet;
    struct members members;
    bool has_all = true;
    *ret_places = 0;
    if (raft_role(p->raft) != RAFT_LEADER) {
        uint64_t home = raft_is_quiet(p->raft) ? router_broker_of(p, raft_leader(p->raft)) : 0;
        return !raft_is_quiet(p->raft) || (home != 0 && add_place(quiet, home, ret_places));
    }
    roster_newest(&p->roster, &members);
    for (uint32_t i = 0; i < members.count; i++) {
        struct raft_peer_state state;
        if (raft_peer_state(p->raft, members.member[i].replica, &state) && state.quiet) {
            has_all = add_place(quiet, members.member[i].broker, ret_places) && has_all;
        }
    }
    return has_all;
}

/* Also a group of which only some have agreed yet: their side has it already. */
static void settle(struct partition *p)
{
    uint64_t places = 0;
    bool led = raft_role(p->raft) == RAFT_LEADER;
    uint64_t hash = quiet_mix(p->group, raft_term(p->raft), raft_leader(p->raft));
    if (!places_of(p, &places)) {
        places = 0;
        raft_step(p->raft, &(struct raft_event){.type = RAFT_WAKE});
        partition_mark_dirty(p);
    }
    if (p->quiet_led != led || p->quiet_hash != hash) {
        move(p, 0);
        p->quiet_led = led;
        p->quiet_hash = hash;
    }
    move(p, places);
}

/* --- falling asleep --- */

static bool is_idle(struct partition *p, uint64_t now_ms)
{
    uint64_t last = raft_last_index(p->raft);
    bool works = p->traffic || p->sends_count > 0 || !STAILQ_EMPTY(&p->confirms) || !STAILQ_EMPTY(&p->pending) ||
                 partition_may_propose(p) != OK;
    if (works || last != p->idle_index) {
        p->idle_index = last;
        p->idle_since_ms = now_ms;
    }
    return now_ms - p->idle_since_ms >= p->broker->config->quiet_ms;
}

static bool hears_all(const struct partition *p)
{
    struct members members;
    roster_newest(&p->roster, &members);
    for (uint32_t i = 0; i < members.count; i++) {
        uint64_t broker = members.member[i].broker;
        if (broker != p->broker->identity.broker && !peers_is_heard(p->broker->peers, broker)) {
            return false;
        }
    }
    return true;
}

void quiet_consider(struct partition *p, uint64_t now_ms)
{
    if (p->broker->config->quiet_ms == 0 || raft_role(p->raft) != RAFT_LEADER || p->installing || !is_idle(p, now_ms) ||
        p->broker->stopping || !hears_all(p)) {
        return;
    }
    p->idle_since_ms = now_ms; /* if somebody says no, again after as long */
    raft_step(p->raft, &(struct raft_event){.type = RAFT_SLEEP});
}

/* --- asleep and awake --- */

static void woke(struct partition *p)
{
    static const enum mark marks[] = {
        [QUIET_WORK] = MARK_WOKEN_BY_WORK,       [QUIET_LEADER] = MARK_WOKEN_BY_LEADER,
        [QUIET_VOTE] = MARK_WOKEN_BY_VOTE,       [QUIET_LINK] = MARK_WOKEN_BY_LINK,
        [QUIET_SILENCE] = MARK_WOKEN_BY_SILENCE, [QUIET_DIGEST] = MARK_WOKEN_BY_DIGEST,
    };
    struct broker *b = p->broker;
    mark(b->trace, marks[p->woken_by]);
    trace_debug(b->trace, "awake", "group=%lu why=%d", p->group, (int)p->woken_by);
    b->counters.groups_woken_total++;
    b->quiet->count--;
    p->is_quiet = false;
    p->woken_by = QUIET_WORK;
    p->wake_ms = 0;
    p->idle_since_ms = pulse_now_ms(b);
}

static void fell_asleep(struct partition *p)
{
    struct broker *b = p->broker;
    mark(b->trace, raft_role(p->raft) == RAFT_LEADER ? MARK_SLEEPS_LEADING : MARK_SLEEPS_FOLLOWING);
    trace_debug(b->trace, "asleep", "group=%lu term=%lu", p->group, raft_term(p->raft));
    b->counters.groups_slept_total++;
    b->quiet->count++;
    p->is_quiet = true;
    p->woken_by = QUIET_WORK;
}

void quiet_note(struct partition *p)
{
    bool is_quiet = raft_is_quiet(p->raft);
    if (is_quiet || p->quiet_places != 0 || raft_is_falling_asleep(p->raft)) {
        settle(p);
        is_quiet = raft_is_quiet(p->raft);
    }
    if (is_quiet && !p->is_quiet) {
        fell_asleep(p);
    } else if (!is_quiet && p->is_quiet) {
        woke(p);
    }
    pulse_plan(p);
}

void quiet_woken(struct partition *p, enum quiet_why why)
{
    p->woken_by = (uint8_t)why;
}

void quiet_forget(struct partition *p)
{
    move(p, 0);
    if (p->is_quiet) {
        woke(p);
    }
    p->wake_ms = 0;
    pulse_forget(p);
}

/* --- waking --- */

void quiet_wake_later(struct partition *p, enum quiet_why why)
{
    if (!p->is_quiet || p->wake_ms != 0) {
        return;
    }
    uint64_t within_ms = quiet_mix(p->group, 0, 0) % p->broker->config->election_ms;
    p->wake_ms = pulse_now_ms(p->broker) + 1 + within_ms;
    p->woken_by = (uint8_t)why;
    pulse_plan(p);
}

void quiet_wake(struct partition *p)
{
    p->wake_ms = 0;
    if (p->is_quiet) {
        raft_step(p->raft, &(struct raft_event){.type = RAFT_WAKE});
        partition_mark_dirty(p);
    }
}

bool quiet_has(const struct partition *p, uint64_t broker)
{
    const struct account *account = find(p->broker->quiet, broker);
    return p->is_quiet && account != NULL && p->quiet_places >> (account - p->broker->quiet->accounts) & 1;
}

static void wake_all(struct broker *b, uint64_t broker, bool led, bool followed, enum quiet_why why)
{
    for (struct partition *p = b->groups; p != NULL; p = p->hh.next) {
        if ((p->quiet_led ? led : followed) && quiet_has(p, broker)) {
            quiet_wake_later(p, why);
        }
    }
}

/* --- what the other one thinks --- */

void quiet_told(void *context, uint64_t broker, struct peers_quiet *ret_quiet)
{
    struct broker *b = context;
    struct account *account = find(b->quiet, broker);
    *ret_quiet = (struct peers_quiet){0};
    if (account != NULL) {
        *ret_quiet = account->led;
        ret_quiet->wakes = account->wake_due;
        account->wake_due = false;
    }
}

bool quiet_agrees(void *context, uint64_t broker, const struct peers_quiet *quiet)
{
    struct broker *b = context;
    const struct account *account = find(b->quiet, broker);
    if (quiet->wakes) {
        wake_all(b, broker, false, true, QUIET_DIGEST);
    }
    return account == NULL ? quiet->count == 0
                           : account->followed.count == quiet->count && account->followed.digest == quiet->digest;
}

void quiet_on_answer(void *context, uint64_t broker, uint64_t asked_us, bool agrees)
{
    struct broker *b = context;
    uint64_t now_us = clock_now_us(b->clock);
    struct account *account = find(b->quiet, broker);
    if (account == NULL && !agrees) {
        account = open_account(b->quiet, broker); /* it believes that something sleeps under us */
    }
    if (account == NULL || account->led_changed_us >= asked_us) {
        return;
    }
    if (agrees) {
        account->differs_since_us = 0;
    } else if (account->differs_since_us == 0) {
        account->differs_since_us = now_us;
        mark(b->trace, MARK_DIGEST_DIFFERS);
    } else if (now_us - account->differs_since_us >=
               QUIET_DIFFERS_ELECTIONS * 1000u * (uint64_t)b->config->election_ms) {
        trace_info(b->trace, "sleep_differs", "broker=%lu groups=%u", broker, account->led.count);
        account->differs_since_us = 0;
        account->wake_due = true;
        wake_all(b, broker, true, false, QUIET_DIGEST);
    }
}

void quiet_on_silent(void *context, uint64_t broker)
{
    wake_all(context, broker, true, true, QUIET_SILENCE);
}
