/* Deadlines of all partitions stand in one order (broker->deadlines); each partition has one at most. */
#include "broker/age.h"

#include "base/order.h"
#include "base/plant.h"
#include "broker/impl.h"

#define WAIT_MS_MAX      ((int64_t)1 << 40) /* 35 years, so that sums cannot overflow */
#define WAIT_MS_MIN      1000               /* a clock that is a little behind is asked again after this */
#define FRESH_MS_DEFAULT 1000               /* where [raft] timeout_entry_ms is 0 */

static int64_t age__now_ms(struct partition *p)
{
    int64_t now_ms = log_clock_now_ms(&p->broker->log_clock);
    return now_ms > p->log_clock_ms ? now_ms : p->log_clock_ms;
}

static void age__arm(struct partition *p, uint64_t due_us)
{
    order_put(&p->broker->deadlines, &p->deadline, due_us);
}

void age_forget(struct partition *p)
{
    order_remove(&p->broker->deadlines, &p->deadline);
    p->traffic = false;
}

int64_t age_segment_ms(const struct entry_config *config)
{
    bool retains = config->retention_ms >= 0;
    return retains && (config->segment_ms < 0 || config->segment_ms > config->retention_ms) ? config->retention_ms
                                                                                            : config->segment_ms;
}

/* --- proposing --- */

int64_t age_lead(struct partition *p)
{
    p->idle_since_us = clock_now_us(p->broker->clock);
    p->clock_proposed_us = p->idle_since_us;
    return age__now_ms(p);
}

static uint64_t age__interval_us(const struct broker *b)
{
    uint32_t interval_ms = b->config->timeout_entry_ms;
    return (uint64_t)(interval_ms != 0 ? interval_ms : FRESH_MS_DEFAULT) * 1000;
}

/* Both clocks may be two intervals behind when a batch is applied (age_freshen): so much longer everything lives, never
 * shorter. */
static int64_t age__lengthen(const struct broker *b, int64_t limit_ms)
{
    return limit_ms > WAIT_MS_MAX ? WAIT_MS_MAX : limit_ms + (int64_t)(2 * age__interval_us(b) / 1000);
}

static int64_t age__expiry_ms(const struct broker *b)
{
    return age__lengthen(b, b->config->producer_expiry_ms);
}

/* -1: for ever. */
static int64_t age__kept_ms(const struct partition *p)
{
    return p->config.retention_ms < 0 ? -1 : age__lengthen(p->broker, p->config.retention_ms);
}

/* Idle time that no entry has counted yet. */
static int64_t age__uncounted_ms(const struct partition *p)
{
    return (int64_t)((clock_now_us(p->broker->clock) - p->idle_since_us) / 1000);
}

void age_propose(struct partition *p)
{
    struct broker *b = p->broker;
    struct entry_timeout entry = {
        .clock_ms = age__now_ms(p), .elapsed_ms = age__uncounted_ms(p), .expire_ms = age__expiry_ms(b)};
    p->idle_since_us += (uint64_t)entry.elapsed_ms * 1000;
    p->clock_proposed_us = clock_now_us(b->clock);
    b->counters.timeout_entries_proposed_total++;
    partition_propose(p, ENTRY_TIMEOUT, entry_encode_timeout(&entry), NULL);
}

void age_freshen(struct partition *p)
{
    if (clock_now_us(p->broker->clock) - p->clock_proposed_us > 2 * age__interval_us(p->broker)) {
        age_propose(p);
    }
}

void age_traffic(struct partition *p)
{
    struct broker *b = p->broker;
    if (b->config->timeout_entry_ms == 0) {
        p->clock_moved |= !p->deadline.is_in; /* none after traffic, but what is new grows old all the same */
        return;
    }
    if (p->traffic) {
        return;
    }
    p->traffic = true;
    age__arm(p, clock_now_us(b->clock) + age__interval_us(b));
}

/* --- retention --- */

static int64_t age__retention_start(const struct partition *p)
{
    const struct entry_config *config = &p->config;
    int64_t start = segment_log_start(p->log);
    if (config->retention_bytes >= 0) {
        start = segment_log_start_for_bytes(p->log, (uint64_t)config->retention_bytes);
    }
    int64_t now_ms = PLANT(44) ? clock_wall_ms(p->broker->clock) : p->log_clock_ms;
    int64_t kept_ms = age__kept_ms(p);
    if (kept_ms >= 0 && now_ms >= kept_ms) {
        int64_t by_time = segment_log_start_for_time(p->log, now_ms - kept_ms);
        start = by_time > start ? by_time : start;
    }
    return start;
}

static void age__retain(struct partition *p)
{
    if (p->log == NULL || p->log_start_in_flight || partition_may_propose(p) != OK) {
        return;
    }
    int64_t start = age__retention_start(p);
    if (start > segment_log_start(p->log)) {
        p->log_start_in_flight = true;
        partition_propose(p, ENTRY_LOG_START, entry_encode_log_start(start), NULL);
        if (PLANT(45)) {
            segment_log_set_start(p->log, start);
        }
    }
}

/* --- deadlines --- */

static int64_t age__earlier(int64_t wait_ms, int64_t limit_ms, int64_t age_ms)
{
    int64_t left_ms = limit_ms > WAIT_MS_MAX ? WAIT_MS_MAX : limit_ms - age_ms;
    return left_ms < wait_ms ? left_ms : wait_ms;
}

/* Until the earliest moment at which an entry could do something; WAIT_MS_MAX: nothing is in sight. */
static int64_t age__wait_ms(struct partition *p)
{
    int64_t wait_ms = WAIT_MS_MAX;
    int64_t oldest_ms = p->log != NULL ? segment_log_oldest_ms(p->log) : INT64_MAX;
    if (p->config.retention_ms >= 0 && oldest_ms != INT64_MAX) {
        wait_ms = age__earlier(wait_ms, age__kept_ms(p), age__now_ms(p) - oldest_ms - 1);
    }
    int64_t idle_ms = done_oldest_ms(p->done);
    if (idle_ms != INT64_MAX) {
        wait_ms = age__earlier(wait_ms, age__expiry_ms(p->broker), p->idle_clock_ms - idle_ms + age__uncounted_ms(p));
    }
    return wait_ms;
}

static void age__schedule(struct partition *p)
{
    if (p->traffic) {
        return; /* its TIMEOUT entry comes first */
    }
    int64_t wait_ms = age__wait_ms(p);
    if (wait_ms == WAIT_MS_MAX) {
        age_forget(p);
        return;
    }
    wait_ms = wait_ms < WAIT_MS_MIN ? WAIT_MS_MIN : wait_ms;
    age__arm(p, clock_now_us(p->broker->clock) + (uint64_t)wait_ms * 1000);
}

void age_turn(struct partition *p)
{
    if (!partition_leads(p)) {
        return;
    }
    age__retain(p);
    if (p->clock_moved) {
        p->clock_moved = false;
        age__schedule(p);
    }
}

static void age__expired(struct partition *p)
{
    bool traffic = p->traffic;
    age_forget(p);
    if (!partition_leads(p)) {
        return; /* its next LEADER entry sets a deadline */
    }
    if (partition_may_propose(p) != OK) { /* it gives its leadership away, or keeps it after all */
        p->traffic = traffic;
        age__arm(p, clock_now_us(p->broker->clock) + (uint64_t)p->broker->config->election_ms * 1000);
    } else if (traffic || age__wait_ms(p) <= 0) {
        age_propose(p);
    } else {
        age__schedule(p);
    }
}

void age_timer(struct broker *b, uint64_t now_us)
{
    struct order_item *item;
    while ((item = order_first(&b->deadlines)) != NULL && item->key <= now_us) {
        age__expired(item->owner);
    }
}

void age_accept_clock(struct broker *b)
{
    log_clock_accept(&b->log_clock);
    for (struct partition *p = b->groups; p != NULL; p = p->hh.next) {
        if (partition_leads(p)) {
            age__schedule(p);
        }
    }
}

uint64_t age_deadline_us(const struct broker *b)
{
    const struct order_item *item = order_first(&b->deadlines);
    return item != NULL ? item->key : UINT64_MAX;
}
