/* The administrator: makes the topics of the run, now and then one more, deletes such again, and after each restart
 * holds the broker's Metadata against what was confirmed: no topic may be lost, none may come back. With several
 * brokers a controller writes the registry for it, and each of them hears of that in its own time. */
#include "sim_client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "port/registry.h"

#define GONE_MAX       256
#define CHURN_NAMES    4u
#define BY_HAND_CHANCE 0.4

struct admin {
    struct client client;           /* first */
    bool must_verify;               /* the broker is new: ask for everything */
    uint32_t retired[CHURN_NAMES];  /* names that nobody uses any more: a late request may still speak of them */
    const struct request *changing; /* the last one that creates or deletes */
    uint64_t gone[GONE_MAX];        /* first groups of topics whose deletion was confirmed */
    uint32_t gone_count;
};

static struct admin *admin_of(struct client *client)
{
    return (struct admin *)client;
}

/* --- topics --- */

static void topic_add(struct load *load, const char *name, uint32_t partitions, bool is_churn)
{
    struct load_topic *topic = &load->topics[load->topics_count++];
    *topic = (struct load_topic){.partitions = partitions, .wanted = true, .is_churn = is_churn};
    topic->is_by_hand = load->controller != NULL && rng_chance(&load->world->load, BY_HAND_CHANCE);
    snprintf(topic->name, sizeof topic->name, "%s", name);
    if (load->options->faults[FAULT_RETENTION] && rng_chance(&load->world->load, 0.5)) {
        struct rng *rng = &load->world->load;
        topic->retention_bytes = rng_chance(rng, 0.7) ? load->options->retention_bytes : 0;
        topic->segment_ms = rng_chance(rng, 0.3) ? (int64_t)sim_log_between(rng, 500, 60000) : 0;
        topic->retention_ms = rng_chance(rng, 0.5) ? (int64_t)sim_log_between(rng, 1000, 120000) : 0;
    }
}

/* With several brokers a group may be without a leader for long: whoever writes to nobody yet writes here too. */
static void employ_everybody(struct load *load, const struct load_topic *topic)
{
    for (uint32_t i = 0; i < load->producers_count; i++) {
        if (!producer_has_work(load->producers[i])) {
            producer_attach(load->producers[i], topic->groups[rng_below(&load->world->load, topic->partitions)]);
        }
    }
}

static void topic_is_live(struct load *load, struct load_topic *topic)
{
    struct rng *rng = &load->world->load;
    topic->live = true;
    for (uint32_t p = 0; p < topic->partitions; p++) {
        char label[80];
        snprintf(label, sizeof label, "%s/%u", topic->name, p);
        check_group_born(load->check, topic->groups[p], label);
        if (topic->retention_bytes > 0 || topic->retention_ms > 0) {
            check_group_expires(load->check, topic->groups[p]);
        }
        if (load->greedy != NULL && p == 0) {
            producer_attach(load->greedy, topic->groups[p]);
        }
        uint64_t writers = 1 + rng_below(rng, 2);
        for (uint64_t i = 0; i < writers && load->producers_count > 0; i++) {
            uint64_t which = (rng_below(rng, load->producers_count) + i) % load->producers_count;
            producer_attach(load->producers[which], topic->groups[p]);
            if (load->producers_count == 1)
                break;
        }
    }
    if (load_has_many(load) && !topic->is_churn) {
        employ_everybody(load, topic);
    }
}

static void topic_delete(struct load *load, struct load_topic *topic)
{
    topic->wanted = false;
    topic->deleting = true;
    for (uint32_t p = 0; topic->live && p < topic->partitions; p++) {
        check_group_deleted(load->check, topic->groups[p]);
        producer_detach(load, topic->groups[p]);
    }
}

static void topic_forget(struct admin *admin, struct load_topic *topic)
{
    struct load *load = admin->client.load;
    uint32_t which, times;
    if (topic->live && admin->gone_count < GONE_MAX) {
        admin->gone[admin->gone_count++] = topic->groups[0];
    }
    if (topic->is_doubtful && load_has_many(load) && sscanf(topic->name, "churn%u-%u", &which, &times) == 2) {
        admin->retired[which % CHURN_NAMES]++;
    }
    *topic = load->topics[--load->topics_count];
}

/* --- requests --- */

static void send_create(struct admin *admin, const struct load_topic *topic)
{
    struct request *request = client_request(client_any(&admin->client), FRAME_CREATE_TOPIC);
    admin->changing = request;
    CreateTopicRequest message = {.partitions = topic->partitions, .timeout_ms = 20000};
    strcpy(message.name, topic->name);
    strcpy(request->name, topic->name);
    if (topic->retention_bytes > 0) {
        message.has_config = true;
        message.config.has_retention_bytes = true;
        message.config.retention_bytes = (int64_t)topic->retention_bytes;
    }
    if (topic->segment_ms > 0) {
        message.has_config = true;
        message.config.has_segment_ms = true;
        message.config.segment_ms = topic->segment_ms;
    }
    if (topic->retention_ms > 0) {
        message.has_config = true;
        message.config.has_retention_ms = true;
        message.config.retention_ms = topic->retention_ms;
    }
    client_send(&admin->client, request, &message, NULL, 0);
}

static void send_delete(struct admin *admin, const struct load_topic *topic)
{
    struct request *request = client_request(client_any(&admin->client), FRAME_DELETE_TOPIC);
    admin->changing = request;
    DeleteTopicRequest message = {.timeout_ms = 20000};
    strcpy(message.name, topic->name);
    strcpy(request->name, topic->name);
    client_send(&admin->client, request, &message, NULL, 0);
}

static void send_metadata(struct admin *admin, const char *name)
{
    struct request *request = client_request(client_any(&admin->client), FRAME_METADATA);
    MetadataRequest message = {.describe = false};
    strcpy(message.topic, name);
    strcpy(request->name, name);
    client_send(&admin->client, request, &message, NULL, 0);
}

static void churn(struct admin *admin)
{
    struct load *load = admin->client.load;
    struct rng *rng = &load->world->load;
    if (load->quiet || !load->options->faults[FAULT_TOPICS] || !rng_chance(rng, 0.1))
        return;
    if (load->topics_count < TOPICS_MAX_SIM - 2 && rng_chance(rng, 0.5)) {
        char name[32];
        unsigned which = (unsigned)rng_below(rng, CHURN_NAMES);
        /* The same few names again and again: a new topic of an old name is another one. */
        snprintf(name, sizeof name, load_has_many(load) ? "churn%u-%u" : "churn%u", which, admin->retired[which]);
        if (load_find_topic(load, name) == NULL) {
            topic_add(load, name, (uint32_t)rng_between(rng, 1, 3), true);
            world_fault(load->world, FAULT_TOPICS);
        }
        return;
    }
    struct load_topic *topic = &load->topics[rng_below(rng, load->topics_count)];
    if (topic->is_churn && topic->live && topic->wanted) {
        topic_delete(load, topic);
    }
}

/* What brokers are asked for, or the controller. */
static void step_create(struct admin *admin, struct load_topic *topic)
{
    const struct load_controller *controller = admin->client.load->controller;
    if (controller == NULL || !topic->is_by_hand) {
        send_create(admin, topic);
        return;
    }
    const struct load_wish wish = {.name = topic->name,
                                   .partitions = topic->partitions,
                                   .retention_bytes = topic->retention_bytes,
                                   .retention_ms = topic->retention_ms,
                                   .segment_ms = topic->segment_ms};
    topic->is_there = controller->create(controller->context, &wish);
}

static void step_delete(struct admin *admin, struct load_topic *topic)
{
    const struct load_controller *controller = admin->client.load->controller;
    if (controller == NULL || !topic->is_by_hand) {
        send_delete(admin, topic);
    } else if (controller->remove(controller->context, topic->name)) {
        topic_forget(admin, topic);
    }
}

static void next_step(struct admin *admin)
{
    struct load *load = admin->client.load;
    if (!client_is_connected(&admin->client) || client_requests_open(&admin->client) > 0)
        return;
    if (admin->must_verify) {
        send_metadata(admin, "");
        return;
    }
    churn(admin);
    for (uint32_t i = 0; i < load->topics_count; i++) {
        struct load_topic *topic = &load->topics[i];
        if (topic->deleting) {
            step_delete(admin, topic);
            return;
        }
        if (topic->wanted && !topic->live) {
            if (topic->is_there) {
                send_metadata(admin, topic->name);
            } else {
                step_create(admin, topic);
            }
            return;
        }
    }
}

/* --- replies --- */

struct topic_view {
    TopicRow row;
    PartitionRow partitions[PARTITIONS_MAX_SIM];
};

static bool next_topic(struct codec_cursor *cursor, struct topic_view *view)
{
    if (codec_next_row(cursor, ROW_TOPIC, &view->row) != OK)
        return false;
    for (uint32_t p = 0; p < view->row.partition_count; p++) {
        PartitionRow row;
        if (codec_next_row(cursor, ROW_PARTITION, &row) != OK)
            return false;
        if (p < PARTITIONS_MAX_SIM) {
            view->partitions[p] = row;
        }
    }
    return true;
}

/* A broker that has not heard yet tells of a topic that was deleted. */
static bool is_old_news(const struct load *load, const struct topic_view *view)
{
    bool is_old = false;
    for (uint32_t p = 0; load_has_many(load) && p < view->row.partition_count && p < PARTITIONS_MAX_SIM; p++) {
        is_old = is_old || check_group_is_deleted(load->check, view->partitions[p].group);
    }
    return is_old;
}

static void take_topic(struct admin *admin, const struct topic_view *view)
{
    struct load *load = admin->client.load;
    struct load_topic *topic = load_find_topic(load, view->row.name);
    if (is_old_news(load, view))
        return;
    for (uint32_t i = 0; i < admin->gone_count; i++) {
        if (view->row.partition_count > 0 && admin->gone[i] == view->partitions[0].group) {
            world_fail(load->world, "W6", "topic %s of group %llu was deleted and is back", view->row.name,
                       (unsigned long long)view->partitions[0].group);
        }
    }
    if (topic != NULL && view->row.state == TOPIC_CREATING && load->controller == NULL) {
        topic->is_there = false; /* asking again helps a creation on that a full disk stopped */
    }
    if (topic == NULL || topic->deleting || view->row.state != TOPIC_LIVE)
        return;
    if (view->row.partition_count != topic->partitions) {
        world_fail(load->world, "W2", "topic %s has %u partitions, not %u", topic->name, view->row.partition_count,
                   topic->partitions);
        return;
    }
    bool is_new = !topic->live;
    for (uint32_t p = 0; p < topic->partitions; p++) {
        if (!is_new && topic->groups[p] != view->partitions[p].group) {
            world_fail(load->world, "W2", "partition %s/%u was group %llu and is %llu", topic->name, p,
                       (unsigned long long)topic->groups[p], (unsigned long long)view->partitions[p].group);
        }
        topic->groups[p] = view->partitions[p].group;
    }
    topic->confirmed = true;
    if (is_new) {
        topic_is_live(load, topic);
    }
}

static void on_metadata(struct admin *admin, const struct request *request, const MetadataReply *reply,
                        const uint8_t *payload, uint32_t payload_size)
{
    struct load *load = admin->client.load;
    bool everything = request->name[0] == '\0';
    bool seen[TOPICS_MAX_SIM] = {false};
    struct codec_cursor cursor = {payload, payload_size};
    BrokerRow broker;
    if (reply->status == ERR_UNKNOWN_TOPIC && !everything) {
        struct load_topic *topic = load_find_topic(load, request->name);
        if (load_has_many(load) && topic != NULL) {
            topic->is_there = false; /* that broker has not heard of it yet; or too few lived to make it */
        } else if (topic != NULL && topic->confirmed && !topic->deleting) {
            world_fail(load->world, "W2", "topic %s exists and is unknown", topic->name);
        } else if (topic != NULL) {
            topic->is_there = false;
        }
        return;
    }
    if (reply->status == ERR_BUSY && everything) {
        return; /* too many replies wait for those who do not take them: asked again */
    }
    bool good = reply->status == OK;
    for (uint32_t i = 0; i < reply->broker_count && good; i++) {
        good = codec_next_row(&cursor, ROW_BROKER, &broker) == OK;
    }
    for (uint32_t i = 0; i < reply->topic_count && good; i++) {
        struct topic_view view;
        good = next_topic(&cursor, &view);
        if (good) {
            struct load_topic *topic = load_find_topic(load, view.row.name);
            if (topic != NULL) {
                seen[topic - load->topics] = true;
            }
            take_topic(admin, &view);
        }
    }
    if (!good || cursor.size != 0) {
        world_fail(load->world, "port", "a Metadata reply that does not read, status %u", reply->status);
        return;
    }
    for (uint32_t i = 0; everything && !load_has_many(load) && i < load->topics_count; i++) {
        if (load->topics[i].confirmed && !load->topics[i].deleting && !seen[i]) {
            world_fail(load->world, "W2", "topic %s is lost", load->topics[i].name);
        }
    }
    admin->must_verify = admin->must_verify && !everything;
}

static void on_topic_reply(struct admin *admin, const struct request *request, uint32_t status, const char *text)
{
    struct load *load = admin->client.load;
    struct load_topic *topic = load_find_topic(load, request->name);
    world_log(load->world, "    %s of topic %s: %s", request->type == FRAME_CREATE_TOPIC ? "creation" : "deletion",
              request->name, err_name((enum err)status));
    if (topic == NULL)
        return;
    const struct load_controller *controller = load->controller;
    bool is_creation = request->type == FRAME_CREATE_TOPIC;
    if (controller != NULL && status == ERR_UNKNOWN_TOPIC &&
        (is_creation || controller->has(controller->context, topic->name)))
        return; /* that broker has not heard of it yet; or an older request to delete it came late */
    if (controller != NULL && status == ERR_NOT_ENOUGH_BROKERS)
        return; /* just now */
    if (is_creation && (status == OK || status == ERR_TOPIC_EXISTS)) {
        topic->confirmed = topic->confirmed || status == OK;
        topic->is_there = true;
    } else if (!is_creation && (status == OK || status == ERR_UNKNOWN_TOPIC)) {
        topic_forget(admin, topic);
    } else if (!load_status_is_retriable(status)) {
        world_fail(load->world, "L1", "%s of topic %s is refused: %s %s", is_creation ? "creation" : "deletion",
                   topic->name, err_name((enum err)status), text);
    }
}

static void on_reply(struct client *client, struct request *request, const union codec_message *message,
                     const uint8_t *payload, uint32_t payload_size)
{
    struct admin *admin = admin_of(client);
    if (request->type == FRAME_METADATA) {
        on_metadata(admin, request, &message->as_MetadataReply, payload, payload_size);
    } else if (request->type == FRAME_CREATE_TOPIC) {
        const CreateTopicReply *reply = &message->as_CreateTopicReply;
        on_topic_reply(admin, request, reply->status, reply->message);
    } else {
        const DeleteTopicReply *reply = &message->as_DeleteTopicReply;
        on_topic_reply(admin, request, reply->status, reply->message);
    }
    client_wake(client, 1000 + rng_below(&client->load->world->load, 100000));
}

static void on_wake(struct client *client)
{
    if (!client_is_connected(client)) {
        client_connect(client);
    } else {
        next_step(admin_of(client));
    }
    client_wake(client, 10000 + rng_below(&client->load->world->load, 500000));
}

static void on_lost(struct client *client, uint64_t broker)
{
    struct admin *admin = admin_of(client);
    const struct request *request = admin->changing;
    admin->must_verify = true;
    if (request != NULL && request->is_open && request->broker == broker) {
        struct load_topic *topic = load_find_topic(client->load, request->name);
        admin->changing = NULL;
        if (topic != NULL) {
            topic->is_doubtful = true;
        }
    }
}

static const struct client_class admin_class = {.name = "admin", .lost = on_lost, .reply = on_reply, .wake = on_wake};

struct client *admin_new(struct load *load)
{
    struct admin *admin = calloc(1, sizeof *admin);
    ASSERT(admin != NULL);
    client_init(&admin->client, load, &admin_class);
    /* With twelve partitions ("t", 11) and ("t1", 1) are two: names are never concatenated. */
    static const char *const names[] = {"t", "t1", "t11"};
    for (uint32_t i = 0; i < load->options->topics; i++) {
        uint32_t max = i == 0 || load->options->partitions_max < 4 ? load->options->partitions_max : 4;
        topic_add(load, names[i % 3], i == 0 ? max : (uint32_t)rng_between(&load->world->load, 1, max), false);
    }
    client_wake(&admin->client, 1);
    return &admin->client;
}

void admin_go_quiet(struct client *client)
{
    struct load *load = client->load;
    for (uint32_t i = 0; i < load->topics_count; i++) {
        if (load->topics[i].is_churn && !load->topics[i].deleting) {
            topic_delete(load, &load->topics[i]);
        }
    }
}

void admin_expect(struct client *client, const struct load_wish *wish)
{
    struct load *load = client->load;
    ASSERT(load->topics_count < TOPICS_MAX_SIM && wish->partitions <= PARTITIONS_MAX_SIM);
    struct load_topic *topic = &load->topics[load->topics_count++];
    *topic = (struct load_topic){.partitions = wish->partitions,
                                 .wanted = true,
                                 .is_there = true,
                                 .retention_bytes = wish->retention_bytes,
                                 .retention_ms = wish->retention_ms,
                                 .segment_ms = wish->segment_ms};
    snprintf(topic->name, sizeof topic->name, "%s", wish->name);
}

bool admin_is_quiet(const struct client *client)
{
    const struct load *load = client->load;
    for (uint32_t i = 0; i < load->topics_count; i++) {
        if (load->topics[i].deleting || !load->topics[i].live)
            return false;
    }
    return !((const struct admin *)client)->must_verify;
}
