/* Stands in for the judge until it is there. */
#include <stdlib.h>

#include "judge.h"

struct judge *judge_new(struct sim_world *world)
{
    return NULL;
}
void judge_free(struct judge *judge)
{
}
void judge_machine(struct judge *judge, uint64_t id, struct sim_disk *disk, struct kv *kv)
{
}
void judge_started(struct judge *judge, uint64_t id, struct broker *broker)
{
}
void judge_dies(struct judge *judge, uint64_t id)
{
}
void judge_crashed(struct judge *judge, uint64_t id)
{
}
void judge_wiped(struct judge *judge, uint64_t id, struct sim_disk *disk, struct kv *kv)
{
}
void judge_doubts(struct judge *judge, uint64_t id)
{
}
void judge_turn(struct judge *judge, uint64_t id)
{
}
void judge_frame_out(struct judge *judge, uint64_t from, uint64_t to, const uint8_t *bytes, size_t size)
{
}
void judge_delivered(struct judge *judge, uint64_t from, uint64_t to)
{
}
void judge_synced(struct judge *judge, uint64_t id, const char *path, const uint8_t *data, uint64_t offset,
                  uint64_t size)
{
}
void judge_acked(struct judge *judge, uint64_t group, const uint8_t *batch, size_t size)
{
}
int64_t judge_read_begin(const struct judge *judge, uint64_t group)
{
    return 0;
}
void judge_read_end(struct judge *judge, uint64_t group, int64_t begun, int64_t high_watermark)
{
}
void judge_final(struct judge *judge)
{
}
