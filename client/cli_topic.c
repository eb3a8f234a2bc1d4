/* `flotilla topic create | list | describe | delete`. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/assert.h"
#include "base/limits.h"
#include "client/cli.h"

struct topic_command {
    struct cli *cli;
    const char *name; /* of the topic */
    struct flo_topic_spec spec;
    bool takes_name;
    bool is_create;
};

/* ---- what a key may be ---- */

static bool set_config(struct flo_topic_spec *spec, const char *key, const char *value)
{
    struct flo_topic_config *config = &spec->config;
    int64_t number = 0;
    uint64_t count = 0;
    bool in_ms = strcmp(key, "segment_ms") == 0 || strcmp(key, "retention_ms") == 0;
    if (strcmp(key, "partitions") == 0 || strcmp(key, "replicas") == 0) {
        if (!cli_number_u64(value, 1, PARTITIONS_PER_TOPIC_MAX, &count))
            return false;
        *(key[0] == 'p' ? &spec->partitions : &spec->replicas) = (uint32_t)count;
        return true;
    }
    if (in_ms ? !cli_number_ms(value, &number) : !cli_number_bytes(value, &number))
        return false;
    if (strcmp(key, "segment_bytes") == 0) {
        config->has_segment_bytes = true;
        config->segment_bytes = (uint64_t)number;
        return number > 0;
    }
    if (strcmp(key, "segment_ms") == 0) {
        config->has_segment_ms = true;
        config->segment_ms = number;
        return true;
    }
    if (strcmp(key, "retention_bytes") == 0) {
        config->has_retention_bytes = true;
        config->retention_bytes = number;
        return true;
    }
    if (strcmp(key, "retention_ms") == 0) {
        config->has_retention_ms = true;
        config->retention_ms = number;
        return true;
    }
    if (strcmp(key, "max_batch_bytes") == 0) {
        config->has_max_batch_bytes = true;
        config->max_batch_bytes = (uint32_t)number;
        return number > 0 && number <= BATCH_BYTES_MAX;
    }
    return false;
}

static void parse_config(struct flo_topic_spec *spec, char *argument)
{
    char *equals = strchr(argument, '=');
    if (equals != NULL) {
        *equals = '\0';
        if (set_config(spec, argument, equals + 1))
            return;
        *equals = '=';
    }
    cli_usage("-c takes segment_bytes, segment_ms, retention_bytes, retention_ms or max_batch_bytes=VALUE, not '%s'",
              argument);
}

/* ---- arguments ---- */

static error_t parse_topic(int key, char *argument, struct argp_state *state)
{
    struct topic_command *command = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = command->cli;
        return 0;
    case 'p':
        command->spec.partitions = (uint32_t)cli_number_option("-p", argument, 1, PARTITIONS_PER_TOPIC_MAX);
        return 0;
    case 'r':
        command->spec.replicas = (uint32_t)cli_number_option("-r", argument, 1, RAFT_VOTERS_MAX);
        return 0;
    case 'c':
        parse_config(&command->spec, argument);
        return 0;
    case ARGP_KEY_ARG:
        if (!command->takes_name || command->name != NULL)
            cli_usage("'%s' is one argument too many (%s --help)", argument, state->name);
        command->name = argument;
        return 0;
    case ARGP_KEY_END:
        if (command->takes_name && command->name == NULL)
            cli_usage("%s needs a topic (%s --help)", state->name + strlen("flotilla "), state->name);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_option create_options[] = {
    {"partitions", 'p', "N", 0, "Partitions (default: the broker's)", 0},
    {"replicas", 'r', "N", 0, "Replicas of each partition (default: 3 with three or more brokers, else 1)", 0},
    {"config", 'c', "KEY=VALUE", 0,
     "segment_bytes, segment_ms, retention_bytes, retention_ms, max_batch_bytes; sizes as 64MiB, times as 7d, -1 for "
     "no limit",
     0},
    {0},
};

/* ---- create, delete ---- */

static void on_changed(void *context, enum flo_error error, const char *detail)
{
    struct topic_command *command = context;
    if (error == FLO_NOT_ENOUGH_BROKERS)
        detail = "";
    if (error != FLO_OK)
        cli_topic_error(command->cli, command->name, error, detail);
    else if (!command->cli->quiet)
        fprintf(stderr, "%s topic '%s'\n", command->is_create ? "created" : "deleted", command->name);
    cli_close(command->cli);
}

static enum flo_error start_create(struct topic_command *command)
{
    command->spec.name = command->name;
    return flo_topic_create(command->cli->client, &command->spec, on_changed, command);
}

static enum flo_error start_delete(struct topic_command *command)
{
    return flo_topic_delete(command->cli->client, command->name, on_changed, command);
}

/* ---- list ---- */

static void print_json(json_t *json)
{
    json_dumpf(json, stdout, JSON_COMPACT);
    fputc('\n', stdout);
    json_decref(json);
}

static uint32_t topic_replicas(const struct flo_topic_info *topic)
{
    return topic->partitions_count > 0 ? topic->partitions[0].replicas_count : 0;
}

static void print_list(const struct cli *cli, const struct flo_cluster_info *info)
{
    json_t *list = json_array();
    if (!cli->json)
        printf("%-40s %10s %8s\n", "NAME", "PARTITIONS", "REPLICAS");
    for (uint32_t i = 0; i < info->topics_count; i++) {
        const struct flo_topic_info *topic = &info->topics[i];
        if (topic->internal)
            continue;
        if (cli->json)
            json_array_append_new(list,
                                  json_pack("{s:s,s:i,s:i}", "name", topic->name, "partitions",
                                            (int)topic->partitions_count, "replicas", (int)topic_replicas(topic)));
        else
            printf("%-40s %10" PRIu32 " %8" PRIu32 "\n", topic->name, topic->partitions_count, topic_replicas(topic));
    }
    if (cli->json)
        print_json(list);
    else
        json_decref(list);
}

static void on_listed(void *context, enum flo_error error, const struct flo_cluster_info *info)
{
    struct topic_command *command = context;
    if (error == FLO_OK)
        print_list(command->cli, info);
    else
        cli_topic_error(command->cli, "", error, "");
    cli_close(command->cli);
}

static enum flo_error start_list(struct topic_command *command)
{
    return flo_describe(command->cli->client, NULL, false, on_listed, command);
}

/* ---- describe ---- */

static void format_uuid(const uint8_t id[16], char text[37])
{
    char *to = text;
    for (int i = 0; i < 16; i++)
        to += sprintf(to, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id[i]);
}

static const char *state_name(uint32_t state)
{
    switch (state) {
    case FLO_PARTITION_BIRTH:
        return "creating";
    case FLO_PARTITION_LIVE:
        return "live";
    case FLO_PARTITION_DAMAGED:
        return "corrupt";
    case FLO_PARTITION_DEAD:
        return "deleted";
    case FLO_PARTITION_PARTLY:
        return "damaged";
    default:
        return "unknown";
    }
}

static json_t *json_ids(const uint64_t *ids, uint32_t count)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < count; i++)
        json_array_append_new(list, json_integer((json_int_t)ids[i]));
    return list;
}

static json_t *json_config(const struct flo_topic_config *config)
{
    json_t *json = json_object();
    if (config->has_segment_bytes)
        json_object_set_new(json, "segment_bytes", json_integer((json_int_t)config->segment_bytes));
    if (config->has_segment_ms)
        json_object_set_new(json, "segment_ms", json_integer(config->segment_ms));
    if (config->has_retention_bytes)
        json_object_set_new(json, "retention_bytes", json_integer(config->retention_bytes));
    if (config->has_retention_ms)
        json_object_set_new(json, "retention_ms", json_integer(config->retention_ms));
    if (config->has_max_batch_bytes)
        json_object_set_new(json, "max_batch_bytes", json_integer(config->max_batch_bytes));
    return json;
}

/* Offsets that the leader did not vouch for are null, not 0. */
static json_t *json_partition(const struct flo_partition_info *partition)
{
    bool known = partition->error == FLO_OK;
    json_t *damaged = json_array();
    for (uint32_t i = 0; i < partition->damaged_ranges && i < FLO_DAMAGED_RANGES_MAX; i++)
        json_array_append_new(damaged, json_pack("[I,I]", (json_int_t)partition->damaged[i].from_offset,
                                                 (json_int_t)partition->damaged[i].end_offset));
    return json_pack("{s:i,s:o,s:I,s:o,s:o,s:o,s:o,s:s,s:o,s:I}", "partition", (int)partition->partition, "leader",
                     partition->leader != 0 ? json_integer((json_int_t)partition->leader) : json_null(), "term",
                     (json_int_t)partition->term, "replicas", json_ids(partition->replicas, partition->replicas_count),
                     "in_sync", json_ids(partition->in_sync, partition->in_sync_count), "log_start",
                     known ? json_integer(partition->log_start) : json_null(), "high_watermark",
                     known ? json_integer(partition->high_watermark) : json_null(), "state",
                     state_name(partition->state), "damaged", damaged, "damaged_ranges",
                     (json_int_t)partition->damaged_ranges);
}

static void print_topic_json(const struct flo_topic_info *topic)
{
    char id[37];
    format_uuid(topic->id, id);
    json_t *partitions = json_array();
    for (uint32_t i = 0; i < topic->partitions_count; i++)
        json_array_append_new(partitions, json_partition(&topic->partitions[i]));
    print_json(json_pack("{s:s,s:s,s:o,s:o}", "name", topic->name, "id", id, "config", json_config(&topic->config),
                         "partitions", partitions));
}

static void format_ids(const uint64_t *ids, uint32_t count, char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, i == 0 ? "%" PRIu64 : ",%" PRIu64, ids[i]);
}

static void format_offset(bool known, int64_t offset, char text[24])
{
    if (known)
        snprintf(text, 24, "%" PRId64, offset);
    else
        snprintf(text, 24, "-");
}

/* What is not served, and the way out. */
static void print_damage(const struct flo_partition_info *partition)
{
    uint32_t told =
        partition->damaged_ranges < FLO_DAMAGED_RANGES_MAX ? partition->damaged_ranges : FLO_DAMAGED_RANGES_MAX;
    if (partition->state == FLO_PARTITION_DAMAGED)
        printf("partition %" PRIu32 " is damaged and not served (see flotilla repair --help)\n", partition->partition);
    for (uint32_t i = 0; i < told; i++)
        printf("partition %" PRIu32 ": offsets %" PRId64 " to %" PRId64 " are damaged and not served\n",
               partition->partition, partition->damaged[i].from_offset, partition->damaged[i].end_offset - 1);
    if (partition->damaged_ranges > told)
        printf("partition %" PRIu32 ": and %" PRIu32 " ranges more\n", partition->partition,
               partition->damaged_ranges - told);
}

static void print_topic_text(const struct flo_topic_info *topic)
{
    char id[37];
    format_uuid(topic->id, id);
    json_t *config = json_config(&topic->config);
    char *config_text = json_dumps(config, JSON_COMPACT);
    printf("topic   %s\nid      %s\nconfig  %s\n", topic->name, id, config_text);
    free(config_text);
    json_decref(config);
    printf("%9s %8s %6s %-12s %-12s %16s %16s %s\n", "PARTITION", "LEADER", "TERM", "REPLICAS", "IN-SYNC", "LOG-START",
           "HIGH-WATERMARK", "STATE");
    for (uint32_t i = 0; i < topic->partitions_count; i++) {
        const struct flo_partition_info *partition = &topic->partitions[i];
        char replicas[160], in_sync[160], log_start[24], high_watermark[24], leader[24];
        format_ids(partition->replicas, partition->replicas_count, replicas, sizeof replicas);
        format_ids(partition->in_sync, partition->in_sync_count, in_sync, sizeof in_sync);
        format_offset(partition->error == FLO_OK, partition->log_start, log_start);
        format_offset(partition->error == FLO_OK, partition->high_watermark, high_watermark);
        format_offset(partition->leader != 0, (int64_t)partition->leader, leader);
        printf("%9" PRIu32 " %8s %6" PRIu64 " %-12s %-12s %16s %16s %s\n", partition->partition, leader,
               partition->term, replicas, in_sync, log_start, high_watermark, state_name(partition->state));
    }
    for (uint32_t i = 0; i < topic->partitions_count; i++)
        print_damage(&topic->partitions[i]);
}

static void on_described(void *context, enum flo_error error, const struct flo_cluster_info *info)
{
    struct topic_command *command = context;
    if (error != FLO_OK)
        cli_topic_error(command->cli, command->name, error, "");
    else if (command->cli->json)
        print_topic_json(&info->topics[0]);
    else
        print_topic_text(&info->topics[0]);
    cli_close(command->cli);
}

static enum flo_error start_describe(struct topic_command *command)
{
    return flo_describe(command->cli->client, command->name, true, on_described, command);
}

/* ---- verbs ---- */

struct verb {
    const char *name;
    enum flo_error (*start)(struct topic_command *command); /* NULL: of a later version */
    bool takes_name;
    const struct argp_option *options;
    const char *args_doc;
    const char *doc;
};

static const struct verb verbs[] = {
    {"create", start_create, true, create_options, "NAME",
     "Creates a topic; returns when every partition has a leader."},
    {"list", start_list, false, NULL, "", "Lists the topics."},
    {"describe", start_describe, true, NULL, "NAME", "Shows configuration, partitions, leaders and offsets."},
    {"delete", start_delete, true, NULL, "NAME", "Deletes a topic with everything in it."},
    {"alter", NULL, false, NULL, NULL, NULL},
    {"add-partitions", NULL, false, NULL, NULL, NULL},
};

static int run_verb(struct cli *cli, const struct verb *verb, int argc, char **argv)
{
    char name[64];
    struct topic_command command = {
        .cli = cli, .takes_name = verb->takes_name, .is_create = verb->start == start_create};
    const struct argp argp = {.options = verb->options,
                              .parser = parse_topic,
                              .args_doc = verb->args_doc,
                              .doc = verb->doc,
                              .children = cli_global_child};
    snprintf(name, sizeof name, "flotilla topic %s", verb->name);
    argv[0] = name;
    argp_parse(&argp, argc, argv, 0, NULL, &command);
    cli_open(cli, "topic");
    enum flo_error error = verb->start(&command);
    if (error != FLO_OK) {
        cli_topic_error(cli, command.name, error, "");
        cli_close(cli);
    }
    int exit_code = cli_run(cli);
    /* A closed pipe is not an error: whoever reads has seen enough. */
    fflush(stdout);
    return exit_code;
}

int cli_topic(struct cli *cli, int argc, char **argv)
{
    int at = cli_take_verb(cli, argc, argv, "create|list|describe|delete [ARGUMENT...]", "Works on topics.");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(argv[at], verbs[i].name) != 0)
            continue;
        if (verbs[i].start != NULL)
            return run_verb(cli, &verbs[i], argc - at, argv + at);
        char what[64];
        snprintf(what, sizeof what, "topic %s", verbs[i].name);
        cli_later(what);
    }
    cli_usage("there is no command 'topic %s' (flotilla topic --help)", argv[at]);
}
