/* A client that takes one broker, hosted in this process, from request to request and from start to start, and insists:
 * what fails is asked again, since one fault must not be for ever. What it asked for and was told goes to a record, as
 * marks for an oracle.
 *
 * A script ends the process: with the broker's exit code when the broker ends by itself, with CODE_STUCK (and the
 * reason in the record) when it neither answers nor ends, or does not go on. */
#ifndef FLOTILLA_CRASH_SCRIPT_H
#define FLOTILLA_CRASH_SCRIPT_H

#include "faults.h"
#include "host.h"
#include "oracle.h"
#include "verify.h"

#define SCRIPT_CODE_STUCK   90
#define SCRIPT_MARKS_BYTES  (16u << 20)
#define SCRIPT_TOPICS_MAX   8
#define SCRIPT_RECORD_BYTES 1000u
#define SCRIPT_BATCH_BYTES  (2u << 20)

struct script_record {
    uint32_t marks_size;
    char why[VERIFY_WHY_BYTES];
    uint8_t marks[SCRIPT_MARKS_BYTES];
};

struct script_producer {
    const char *name;
    int64_t id;
    int32_t epoch;
    int32_t sequences[SCRIPT_TOPICS_MAX];
    bool expires; /* it may be forgotten, so nobody may rely on its retries */
};

/* A batch that was refused: it is offered again before any other. */
struct script_offer {
    bool is_open;
    struct script_producer *producer;
    uint32_t topic, records, size;
    uint8_t data[SCRIPT_BATCH_BYTES];
};

struct script {
    struct script_record *record;
    struct config config;
    struct host_options options;
    struct host *host;
    uint64_t groups[SCRIPT_TOPICS_MAX];
    const char *names[SCRIPT_TOPICS_MAX];
    uint32_t topics, batches;
    struct script_producer ann, bob;
    struct script_offer offer;
    int64_t wall_ms;
    bool is_restarted; /* by itself, as a watchful operator would */
    faults_world_function world;
};

/* The record is emptied; dir must outlive the script. */
void script_begin(struct script *s, struct script_record *record, const char *dir);

/* On what another script left, whose record goes on: deletes all topics whose deletion was asked for, and what is left
 * of those that are deleted. */
void script_settle(struct script *s, struct script_record *record, const char *dir);

void script_start(struct script *s);
void script_end(struct script *s, bool clean); /* false: as kill -9 */
void script_idle(struct script *s, uint64_t for_us);

void script_init_producer(struct script *s, struct script_producer *producer);
/* Topics are named by number from here on, counted from 0. */
uint32_t script_create_topic(struct script *s, const char *name, const TopicConfig *config);
void script_going(struct script *s, uint32_t topic); /* from now on it may be gone, or damaged */
void script_delete_topic(struct script *s, uint32_t topic);

/* Offers a batch by this producer, or the one that was refused. false: refused (no room, or busy). */
bool script_offer(struct script *s, struct script_producer *producer, uint32_t topic, uint32_t records);
void script_produce(struct script *s, uint32_t topic, uint32_t records); /* by ann, until it is acknowledged */
void script_produce_large(struct script *s, struct script_producer *producer, uint32_t topic, uint32_t bytes);

void script_read(struct script *s, uint32_t topic);                 /* all of it, again and again until it is there */
void script_peek(struct script *s, uint32_t topic, int64_t offset); /* one fetch, whatever is answered */
void script_find_time(struct script *s, uint32_t topic, int64_t ago_ms);

/* Moves the record's marks into an oracle, which must be empty. */
void script_tell(const struct script_record *record, struct oracle *oracle);

#endif
