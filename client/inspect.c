/* `flotilla inspect wal | snapshot | segment PATH`: one line per file, batch, record or row; with --json one object per
 * line. Reads with the very code of recovery. Nothing in the data directory is written (LMDB touches its own lock
 * file). */
#include "client/inspect.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/assert.h"
#include "base/batch.h"
#include "base/limits.h"
#include "meta/meta.h"
#include "os/disk.h"
#include "os/lmdb.h"
#include "wal/wal.h"

#define WAL_DIR  "wal"
#define META_DIR "meta"

struct line inspect_line(const void *inspect, const char *name)
{
    return line_begin(((const struct inspect *)inspect)->cli->json, name);
}

/* ---- wal ---- */

static const char *record_name(enum wal_record_type type)
{
    static const char *const names[] = {"?",         "ENTRY",      "HARD_STATE", "TRUNCATE", "CHECKPOINT",
                                        "GROUP_NEW", "GROUP_DEAD", "DAMAGED",    "REPAIRED"};
    return (size_t)type < sizeof names / sizeof names[0] ? names[type] : "?";
}

/* The broker's entry types, by their stored numbers. */
enum { ENTRY_NAMES_DATA = 3 };

static const char *entry_name(uint8_t type)
{
    static const char *const names[] = {"?",      "LEADER", "TIMEOUT", "DATA", "LOG_START", "CONFIG_TOPIC",
                                        "CONFIG", "OPS",    "MARKER"};
    return type < sizeof names / sizeof names[0] ? names[type] : "?";
}

static void on_wal_file(void *context, const char *name, uint64_t base_lsn, uint64_t salt, uint64_t boot,
                        uint32_t version)
{
    struct inspect *inspect = context;
    inspect->file_wanted = inspect->only_file[0] == '\0' || strcmp(inspect->only_file, name) == 0;
    if (!inspect->file_wanted)
        return;
    char salt_text[24];
    snprintf(salt_text, sizeof salt_text, "%016" PRIx64, salt);
    struct line line = inspect_line(inspect, "file");
    line_text(&line, "name", name);
    line_number(&line, "base_lsn", (int64_t)base_lsn);
    line_text(&line, "salt", salt_text);
    line_number(&line, "boot", (int64_t)boot);
    line_number(&line, "version", version);
    line_end(&line);
}

static void on_wal_batch(void *context, uint64_t lsn, uint32_t length, const char *verdict)
{
    struct inspect *inspect = context;
    if (!inspect->file_wanted)
        return;
    struct line line = inspect_line(inspect, "batch");
    line_number(&line, "lsn", (int64_t)lsn);
    line_number(&line, "length", length);
    line_text(&line, "verdict", verdict);
    line_end(&line);
    inspect->damage_seen = inspect->damage_seen || strcmp(verdict, "damaged") == 0;
}

static void on_wal_record(void *context, const struct wal_record *record, uint64_t lsn)
{
    struct inspect *inspect = context;
    struct batch_header header;
    if (!inspect->file_wanted)
        return;
    struct line line = inspect_line(inspect, "record");
    line_number(&line, "lsn", (int64_t)lsn);
    line_text(&line, "type", record_name(record->type));
    if (record->type == WAL_ENTRY)
        line_text(&line, "entry", entry_name(record->entry_type));
    line_number(&line, "group", (int64_t)record->group);
    line_number(&line, "replica", (int64_t)record->replica);
    line_number(&line, "index", (int64_t)record->index);
    line_number(&line, "term", (int64_t)record->term);
    line_number(&line, "bytes", record->payload.size);
    if (record->type == WAL_ENTRY && record->entry_type == ENTRY_NAMES_DATA &&
        batch_parse(record->payload.data, record->payload.size, &header) == OK)
        line_batch(&line, &header);
    line_end(&line);
}

static enum err inspect_wal(struct inspect *inspect)
{
    struct os_disk *disk;
    enum err error = os_disk_open(inspect->root, NULL, &disk);
    if (error != OK)
        return error;
    const struct wal_inspector inspector = {
        .context = inspect, .file = on_wal_file, .batch = on_wal_batch, .record = on_wal_record};
    error = wal_inspect(os_disk_port(disk), WAL_DIR, &inspector);
    os_disk_close(disk);
    return error;
}

/* ---- snapshot ---- */

#define MEMBER_TEXT_BYTES 64u

/* "7@1,8@2,9@3:learner,4@4:voter>absent": replica and broker, and what it is unless it simply votes. */
static void members_text(const struct meta_group *group, char *out, size_t size)
{
    static const char *const names[] = {"absent", "learner", "voter"};
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < group->members_count; i++) {
        const struct meta_member *m = &group->members[i];
        bool joint = m->now != m->next, learns = m->now == 1 && !joint;
        used += (size_t)snprintf(out + used, size - used, "%s%" PRIu64 "@%" PRIu64 "%s%s%s%s", i > 0 ? "," : "",
                                 m->replica, m->broker, joint || learns ? ":" : "",
                                 joint || learns ? names[m->now] : "", joint ? ">" : "", joint ? names[m->next] : "");
    }
}

static enum err on_group(void *context, const struct meta_group *group)
{
    struct line line = inspect_line(context, "group");
    char members[RAFT_MEMBERS_MAX * MEMBER_TEXT_BYTES + 1];
    members_text(group, members, sizeof members);
    line_number(&line, "group", (int64_t)group->group);
    line_number(&line, "replica", (int64_t)group->replica);
    line_text(&line, "kind", group->kind == 1 ? "data" : group->kind == 2 ? "state" : "?");
    line_number(&line, "term", (int64_t)group->term);
    line_number(&line, "vote", (int64_t)group->vote);
    line_number(&line, "applied_index", (int64_t)group->applied_index);
    line_number(&line, "applied_term", (int64_t)group->applied_term);
    line_number(&line, "next_offset", group->next_offset);
    line_number(&line, "log_start", group->log_start);
    line_number(&line, "log_clock_ms", group->log_clock_ms);
    line_number(&line, "config_index", (int64_t)group->config_index);
    line_text(&line, "members", members);
    line_number(&line, "segment_bytes", (int64_t)group->segment_bytes);
    line_number(&line, "segment_ms", group->segment_ms);
    line_number(&line, "retention_bytes", group->retention_bytes);
    line_number(&line, "retention_ms", group->retention_ms);
    line_number(&line, "snapshot_lsn", (int64_t)group->snapshot_lsn);
    line_number(&line, "repaired_lsn", (int64_t)group->repaired_lsn);
    line_number(&line, "accepted_lsn", (int64_t)group->accepted_lsn);
    line_text(&line, "damaged", group->damaged ? "yes" : "no");
    line_number(&line, "damaged_lsn", (int64_t)group->damaged_lsn);
    line_end(&line);
    /* What this leader had in flight: only their number is stored. */
    line = inspect_line(context, "CSM");
    line_number(&line, "group", (int64_t)group->group);
    line_number(&line, "batches_in_flight", group->csm_count);
    line_end(&line);
    return OK;
}

static enum err on_segment(void *context, uint64_t group, const struct meta_segment *segment)
{
    struct line line = inspect_line(context, "segment");
    line_number(&line, "group", (int64_t)group);
    line_number(&line, "base_offset", segment->base_offset);
    line_number(&line, "end_offset", segment->end_offset);
    line_number(&line, "bytes", (int64_t)segment->size_bytes);
    line_number(&line, "generation", (int64_t)segment->generation);
    line_number(&line, "chain", segment->chain);
    line_number(&line, "max_timestamp", segment->max_timestamp);
    line_number(&line, "tail_bytes", segment->tail_size);
    line_end(&line);
    return OK;
}

static enum err on_epoch(void *context, uint64_t group, const struct meta_epoch *epoch)
{
    struct line line = inspect_line(context, "epoch");
    line_number(&line, "group", (int64_t)group);
    line_number(&line, "term", (int64_t)epoch->term);
    line_number(&line, "first_offset", epoch->first_offset);
    line_end(&line);
    return OK;
}

/* batches: first-last@offset, oldest first. */
static enum err on_done(void *context, uint64_t group, const struct done_row *row)
{
    struct line line = inspect_line(context, "CDM");
    char batches[DONE_BATCHES * 48] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < row->count && i < DONE_BATCHES; i++)
        used += (size_t)snprintf(batches + used, sizeof batches - used, "%s%" PRId32 "-%" PRId32 "@%" PRId64,
                                 i > 0 ? "," : "", row->batches[i].first_sequence, row->batches[i].last_sequence,
                                 row->batches[i].offset);
    line_number(&line, "group", (int64_t)group);
    line_number(&line, "producer", row->producer_id);
    line_number(&line, "epoch", row->epoch);
    line_text(&line, "batches", batches);
    line_number(&line, "last_idle_ms", row->last_idle_ms);
    line_end(&line);
    return OK;
}

static enum err on_state(void *context, uint64_t group, const struct meta_state_row *row)
{
    struct line line = inspect_line(context, "state");
    line_number(&line, "group", (int64_t)group);
    line_hex(&line, "key", row->key, row->key_size);
    line_number(&line, "value_bytes", row->value_size);
    line_end(&line);
    return OK;
}

static enum err on_bad_row(void *context, const struct meta_bad_row *row)
{
    struct line line = inspect_line(context, "damage");
    char type[2] = {(char)row->type, '\0'};
    line_number(&line, "group", (int64_t)row->group);
    line_text(&line, "type", row->type != 0 ? type : "missing or of an earlier time");
    line_number(&line, "number", (int64_t)row->number);
    line_end(&line);
    ((struct inspect *)context)->damage_seen = true;
    return OK;
}

static enum err inspect_store(struct inspect *inspect, struct kv *kv)
{
    struct meta_identity identity;
    enum err error = meta_load_identity(kv, &identity);
    if (error != OK)
        return error;
    struct line line = inspect_line(inspect, "identity");
    line_hex(&line, "cluster", identity.cluster_id, sizeof identity.cluster_id);
    line_number(&line, "broker", (int64_t)identity.broker);
    line_hex(&line, "disk", identity.disk_uuid, sizeof identity.disk_uuid);
    line_number(&line, "boot", (int64_t)identity.boot);
    line_end(&line);
    const struct meta_visitor visitor = {.context = inspect,
                                         .group = on_group,
                                         .segment = on_segment,
                                         .epoch = on_epoch,
                                         .done = on_done,
                                         .state = on_state,
                                         .bad = on_bad_row};
    return meta_load(kv, &visitor);
}

static enum err inspect_snapshot(struct inspect *inspect)
{
    struct os_lmdb *lmdb;
    enum err error = os_lmdb_open(inspect->root, META_DIR, 0, NULL, &lmdb);
    if (error != OK)
        return error;
    error = inspect_store(inspect, os_lmdb_port(lmdb));
    os_lmdb_close(lmdb);
    return error;
}

/* ---- the command ---- */

static bool is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* PATH is the data directory, its wal or meta directory, or a file in there. */
static void find_root(struct inspect *inspect, const char *dir)
{
    char *path = inspect->root;
    char tested[PATH_MAX + 32];
    if (realpath(inspect->path, path) == NULL)
        cli_usage("there is no %s", inspect->path);
    if (!is_directory(path)) {
        char *slash = strrchr(path, '/');
        snprintf(inspect->only_file, sizeof inspect->only_file, "%s", slash + 1);
        *slash = '\0';
    }
    char *last = strrchr(path, '/');
    if (last != NULL && strcmp(last + 1, dir) == 0)
        *last = '\0';
    snprintf(tested, sizeof tested, "%s/%s", path, dir);
    if (!is_directory(tested))
        cli_usage("%s is no data directory, and no file of one: it has no '%s' directory", inspect->path, dir);
}

static error_t parse_inspect(int key, char *argument, struct argp_state *state)
{
    struct inspect *inspect = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = inspect->cli;
        return 0;
    case ARGP_KEY_ARG:
        if (inspect->path != NULL)
            cli_usage("'%s' is one argument too many (%s --help)", argument, state->name);
        inspect->path = argument;
        return 0;
    case ARGP_KEY_END:
        if (inspect->path == NULL)
            cli_usage("%s needs a path (%s --help)", state->name + strlen("flotilla "), state->name);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

struct inspect_verb {
    const char *name;
    const char *dir; /* of the data directory; NULL: the verb finds its way itself */
    enum err (*run)(struct inspect *inspect);
    const char *doc;
};

static const struct inspect_verb verbs[] = {
    {"wal", WAL_DIR, inspect_wal, "Shows the write-ahead log: files, batches with recovery's verdict, records."},
    {"snapshot", META_DIR, inspect_snapshot,
     "Shows the checkpoint store: groups, segments, terms, producers (CDM), states."},
    {"segment", NULL, inspect_segment,
     "Shows the batches of a segment file, or of all segments of a data directory, with the verdict on each."},
};

static int run_verb(struct cli *cli, const struct inspect_verb *verb, int argc, char **argv)
{
    char name[64];
    struct inspect inspect = {.cli = cli};
    const struct argp argp = {
        .parser = parse_inspect, .args_doc = "PATH", .doc = verb->doc, .children = cli_global_child};
    snprintf(name, sizeof name, "flotilla inspect %s", verb->name);
    argv[0] = name;
    argp_parse(&argp, argc, argv, 0, NULL, &inspect);
    if (verb->dir != NULL)
        find_root(&inspect, verb->dir);
    enum err error = verb->run(&inspect);
    fflush(stdout);
    if (error == OK)
        return inspect.damage_seen ? CLI_FAILED : CLI_DONE;
    cli_error("%s: %s", inspect.path, err_text(error));
    return CLI_FAILED;
}

int cli_inspect(struct cli *cli, int argc, char **argv)
{
    int at = cli_take_verb(cli, argc, argv, "wal|snapshot|segment PATH",
                           "Looks into the data directory of a broker that is not running. Changes nothing.");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(argv[at], verbs[i].name) == 0)
            return run_verb(cli, &verbs[i], argc - at, argv + at);
    }
    cli_usage("there is no command 'inspect %s' (flotilla inspect --help)", argv[at]);
}
