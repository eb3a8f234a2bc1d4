/* Deadlines of connections, by a sweep over those that hold something. */
#include "broker/patience.h"

#include "base/assert.h"
#include "broker/impl.h"
#include "broker/memory.h"

static void patience__watch(struct session *s)
{
    struct broker *b = s->broker;
    if (s->watched) {
        return;
    }
    if (TAILQ_EMPTY(&b->watched)) {
        b->patience_due_us = clock_now_us(b->clock) + PATIENCE_SWEEP_US;
    }
    s->watched = true;
    s->swept_received = s->received_bytes;
    s->swept_taken = s->taken_bytes;
    TAILQ_INSERT_TAIL(&b->watched, s, watch_link);
}

void patience_forget(struct session *s)
{
    if (s->watched) {
        s->watched = false;
        TAILQ_REMOVE(&s->broker->watched, s, watch_link);
    }
}

void patience_note_received(struct session *s)
{
    uint32_t held = inbox_held(&s->inbox);
    if (held == 0) {
        s->frame_begun_us = 0;
    } else if (s->frame_begun_us == 0) {
        s->frame_begun_us = clock_now_us(s->broker->clock);
        s->frame_begun_at = s->received_bytes - held;
    }
    if (held > 0 || inbox_memory_bytes(&s->inbox) > 0) {
        patience__watch(s);
    }
}

void patience_note_sent(struct session *s)
{
    if (s->send_bytes > 0 && s->send_since_us == 0) {
        s->send_since_us = clock_now_us(s->broker->clock);
        s->send_since_taken = s->taken_bytes;
        patience__watch(s);
    }
}

void patience_note_taken(struct session *s, uint64_t size)
{
    s->taken_bytes += size;
    if (s->send_bytes == 0) {
        s->send_since_us = 0;
    } else if (s->taken_bytes - s->send_since_taken >= REPLY_BYTES_MIN) {
        s->send_since_us = clock_now_us(s->broker->clock);
        s->send_since_taken = s->taken_bytes;
    }
}

/* The frame at hand takes too long? */
static bool patience__frame_is_late(struct session *s, uint64_t now_us, uint64_t since_us)
{
    if (s->frame_begun_us == 0) {
        return false;
    }
    if (s->wait != SESSION_READS) {
        s->frame_begun_us += now_us - since_us; /* we do not read it */
        return false;
    }
    uint64_t came = s->received_bytes - s->frame_begun_at;
    uint64_t allowed_us = FRAME_DEADLINE_US + came * 1000000 / FRAME_BYTES_PER_S_MIN;
    return now_us > s->frame_begun_us && now_us - s->frame_begun_us > allowed_us;
}

static bool patience__reader_is_stalled(const struct session *s, uint64_t now_us)
{
    return s->send_since_us != 0 && now_us >= s->send_since_us + REPLY_DEADLINE_US;
}

/* While memory is short: holds much and moves little? */
static bool patience__is_in_the_way(const struct session *s)
{
    const struct broker *b = s->broker;
    /* Those who hold a chunk and wait for a larger one would wait for each other. */
    bool counts = s->wait == SESSION_READS || (s->wait == SESSION_WAITS_FOR_MEMORY && s->inbox.chunk != NULL);
    bool receives = inbox_held(&s->inbox) > 0 && inbox_memory_bytes(&s->inbox) > INBOX_PARKED_BYTES_MAX && counts &&
                    memory_receive_is_short(b) && s->received_bytes - s->swept_received < PRESSED_BYTES_PER_S_MIN;
    bool sends = s->send_bytes > REPLY_BYTES_MIN && memory_send_is_short(b) &&
                 s->taken_bytes - s->swept_taken < PRESSED_BYTES_PER_S_MIN;
    return receives || sends;
}

static void patience__judge(struct session *s, uint64_t now_us, uint64_t since_us)
{
    struct counters *counters = &s->broker->counters;
    if (patience__frame_is_late(s, now_us, since_us)) {
        counters->connections_closed_slow_frame_total++;
        session_refuse(s, ERR_TIMEOUT, 0, "the frame was not completed in time");
    } else if (patience__reader_is_stalled(s, now_us)) {
        counters->connections_closed_slow_reader_total++;
        session_close(s);
    } else if (patience__is_in_the_way(s)) {
        counters->connections_closed_memory_total++;
        session_refuse(s, ERR_BUSY, 0, "memory is short, and this connection is slow");
    }
    if (s->closing) {
        inbox_clear(&s->inbox);
        return;
    }
    if (s->received_bytes == s->swept_received) {
        inbox_rest(&s->inbox);
    }
    s->swept_received = s->received_bytes;
    s->swept_taken = s->taken_bytes;
}

static bool patience__is_over(const struct session *s)
{
    return s->closing || s->link == NULL || (inbox_memory_bytes(&s->inbox) == 0 && s->send_bytes == 0);
}

void patience_sweep(struct broker *b, uint64_t now_us)
{
    struct session *s, *next;
    if (now_us < patience_deadline_us(b)) {
        return;
    }
    uint64_t since_us = b->patience_due_us - PATIENCE_SWEEP_US;
    TAILQ_FOREACH_SAFE(s, &b->watched, watch_link, next)
    {
        if (!s->closing && s->link != NULL) {
            patience__judge(s, now_us, since_us);
        }
        if (patience__is_over(s)) {
            patience_forget(s);
        }
    }
    b->patience_due_us = now_us + PATIENCE_SWEEP_US;
}

uint64_t patience_deadline_us(const struct broker *b)
{
    return TAILQ_EMPTY(&b->watched) ? UINT64_MAX : b->patience_due_us;
}
