/* See pulse.h. */
#include "broker/pulse.h"

#include "base/mark.h"
#include "broker/impl.h"
#include "broker/quiet.h"

#define TICKS_PER_HEARTBEAT 2u

static uint64_t pulse__tick_us(const struct broker *b)
{
    return (uint64_t)b->config->heartbeat_ms * 1000 / TICKS_PER_HEARTBEAT;
}

/* The next tick is so late that the time since it was due does not count. */
static bool pulse__was_paused(const struct broker *b, uint64_t now_us)
{
    uint64_t due_us = b->pulse.due_us;
    return now_us > due_us && now_us - due_us >= (uint64_t)b->config->election_ms * 1000 / 2;
}

/* Also for who asks between a pause and the tick that ends it. */
static uint64_t pulse__tick_at(const struct broker *b, uint64_t now_us)
{
    uint64_t counted_us = pulse__was_paused(b, now_us) ? b->pulse.due_us : now_us;
    return (counted_us - b->pulse.origin_us) / pulse__tick_us(b);
}

/* Even ticks are whole heartbeats, whatever those are. */
static uint64_t pulse__ms_of(const struct broker *b, uint64_t tick)
{
    return tick * b->config->heartbeat_ms / TICKS_PER_HEARTBEAT;
}

/* The first tick that is not before it. */
static uint64_t pulse__tick_of(const struct broker *b, uint64_t ms)
{
    uint64_t heartbeat_ms = b->config->heartbeat_ms;
    return (ms * TICKS_PER_HEARTBEAT + heartbeat_ms - 1) / heartbeat_ms;
}

void pulse_init(struct broker *b)
{
    uint64_t now_us = clock_now_us(b->clock), heartbeat_us = (uint64_t)b->config->heartbeat_ms * 1000;
    uint64_t phase_us = quiet_mix(b->identity.broker, b->identity.boot, 0) % heartbeat_us;
    b->pulse.origin_us = now_us > phase_us ? now_us - phase_us : 0;
    b->pulse.due_us = UINT64_MAX;
    wheel_init(&b->pulse.wheel, 0);
}

uint64_t pulse_now_ms(const struct broker *b)
{
    return pulse__ms_of(b, pulse__tick_at(b, clock_now_us(b->clock)));
}

static void pulse__arm(struct broker *b)
{
    struct pulse *pulse = &b->pulse;
    if (pulse->wheel.count == 0) {
        pulse->due_us = UINT64_MAX;
    } else if (pulse->due_us == UINT64_MAX) {
        uint64_t tick = pulse__tick_at(b, clock_now_us(b->clock)) + 1;
        pulse->due_us = pulse->origin_us + tick * pulse__tick_us(b);
    }
}

/* A core that is in earlier than it must be stays there: it is looked at then, and found its place anew. */
void pulse_plan(struct partition *p)
{
    struct broker *b = p->broker;
    uint64_t next_ms = raft_next_tick_ms(p->raft);
    uint64_t tick = UINT64_MAX;
    if (next_ms != UINT64_MAX) {
        tick = pulse__tick_of(b, next_ms);
        tick += raft_role(p->raft) == RAFT_LEADER ? tick % TICKS_PER_HEARTBEAT : 0;
    }
    if (p->wake_ms != 0 && pulse__tick_of(b, p->wake_ms) < tick) {
        tick = pulse__tick_of(b, p->wake_ms);
    }
    if (tick == UINT64_MAX) {
        pulse_forget(p);
        return;
    }
    if (p->pulse.is_in && p->pulse.tick <= tick) {
        return;
    }
    if (b->pulse.wheel.count == 0) { /* it stood still */
        wheel_turn(&b->pulse.wheel, pulse__tick_at(b, clock_now_us(b->clock)), NULL);
    }
    wheel_put(&b->pulse.wheel, &p->pulse, tick);
    pulse__arm(b);
}

void pulse_forget(struct partition *p)
{
    wheel_remove(&p->broker->pulse.wheel, &p->pulse);
    pulse__arm(p->broker);
}

static void pulse__leave_out_pause(struct broker *b, uint64_t now_us)
{
    if (pulse__was_paused(b, now_us)) {
        mark(b->trace, MARK_PAUSE_LEFT_OUT);
        b->pulse.origin_us += now_us - b->pulse.due_us;
        b->pulse.due_us = now_us;
    }
}

static void pulse__tick(struct partition *p, uint64_t now_ms)
{
    if (p->wake_ms != 0 && p->wake_ms <= now_ms) {
        quiet_wake(p);
    }
    if (raft_next_tick_ms(p->raft) <= now_ms) {
        quiet_consider(p, now_ms);
        partition_tick(p, now_ms); /* its turn plans the next one */
    } else {
        pulse_plan(p);
    }
}

void pulse_timer(struct broker *b, uint64_t now_us)
{
    struct pulse *pulse = &b->pulse;
    struct wheel_list due = TAILQ_HEAD_INITIALIZER(due);
    struct wheel_item *item;
    if (now_us < pulse->due_us) {
        return;
    }
    pulse__leave_out_pause(b, now_us);
    uint64_t tick = pulse__tick_at(b, now_us);
    wheel_turn(&pulse->wheel, tick, &due);
    pulse->due_us = UINT64_MAX;
    while ((item = TAILQ_FIRST(&due)) != NULL) {
        TAILQ_REMOVE(&due, item, link);
        pulse__tick(item->owner, pulse__ms_of(b, tick));
    }
    pulse__arm(b);
}

uint64_t pulse_deadline_us(const struct broker *b)
{
    return b->pulse.due_us;
}
