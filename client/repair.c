/* Finds the partition, makes the whole plan and prints it, and only then, if asked to, writes.
 *
 * Order of writing: the group is marked damaged (so that nothing serves a half-done repair), new segment files take
 * their names, then one transaction of the checkpoint store takes the bad rows away, names the new files and lifts the
 * mark. Broken off anywhere it leaves the old state or a damaged group, and runs again. The WAL is not written: the
 * group row says from which lsn on entries are given up, and the next start writes a REPAIRED record. */
#include "client/repair.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "client/repair_plan.h"
#include "os/disk.h"
#include "os/lmdb.h"

#define META_DIR   "meta"
#define KIND_DATA  1 /* the broker's numbers: partitions with segments, and with rows only */
#define KIND_STATE 2

struct line repair_line(const struct repair *repair, const char *name)
{
    return line_begin(repair->cli->json, name);
}

/* ---- the partition ---- */

static enum err on_group(void *context, const struct meta_group *group)
{
    struct repair *repair = context;
    if (group->group == repair->group.group) {
        repair->group = *group;
        repair->has_group = group->kind == KIND_DATA || group->kind == KIND_STATE;
    }
    return OK;
}

static enum err on_segment(void *context, uint64_t group, const struct meta_segment *row)
{
    struct repair *repair = context;
    if (row->generation >= repair->generation_next)
        repair->generation_next = row->generation + 1;
    if (group != repair->group.group)
        return OK;
    if (repair->segments_count == repair->segments_capacity) {
        repair->segments_capacity = repair->segments_capacity > 0 ? 2 * repair->segments_capacity : 16;
        repair->segments = mem_grow(repair->segments, repair->segments_capacity * sizeof repair->segments[0]);
    }
    struct repair_segment *segment = &repair->segments[repair->segments_count++];
    *segment = (struct repair_segment){
        .base_offset = row->base_offset, .end_offset = row->end_offset, .has_row = true, .row = *row};
    memcpy(segment->tail, row->tail, row->tail_size);
    return OK;
}

static enum err on_epoch(void *context, uint64_t group, const struct meta_epoch *epoch)
{
    struct repair *repair = context;
    if (group != repair->group.group)
        return OK;
    if (repair->epochs_count == repair->epochs_capacity) {
        repair->epochs_capacity = repair->epochs_capacity > 0 ? 2 * repair->epochs_capacity : 16;
        repair->epochs = mem_grow(repair->epochs, repair->epochs_capacity * sizeof repair->epochs[0]);
    }
    repair->epochs[repair->epochs_count++] = *epoch;
    return OK;
}

static enum err on_done(void *context, uint64_t group, const struct done_row *row)
{
    return OK;
}

static enum err on_state(void *context, uint64_t group, const struct meta_state_row *row)
{
    return OK;
}

static enum err on_bad(void *context, const struct meta_bad_row *row)
{
    struct repair *repair = context;
    if (row->group != repair->group.group)
        return OK;
    if (repair->bads_count == repair->bads_capacity) {
        repair->bads_capacity = repair->bads_capacity > 0 ? 2 * repair->bads_capacity : 16;
        repair->bads = mem_grow(repair->bads, repair->bads_capacity * sizeof repair->bads[0]);
    }
    repair->bads[repair->bads_count++] = *row;
    return OK;
}

static void on_spare(void *context, const char *name)
{
    struct repair *repair = context;
    uint64_t generation = strtoull(name, NULL, 10);
    if (generation >= repair->generation_next)
        repair->generation_next = generation + 1;
}

static enum err load(struct repair *repair)
{
    const struct meta_visitor visitor = {repair, on_group, on_segment, on_epoch, on_done, on_state, on_bad};
    repair->generation_next = 1;
    enum err error = meta_load(repair->kv, &visitor);
    if (error == OK)
        error = repair->disk->ops->list(repair->disk, "parts/spare", on_spare, repair);
    return error == ERR_NO_FILE ? OK : error;
}

/* ---- the plan ---- */

static void print_row(const struct repair *repair, const struct meta_bad_row *bad)
{
    struct line line = repair_line(repair, bad->type == 'M' || bad->type == 'E' ? "damage" : "drop");
    switch (bad->type) {
    case 'M': /* what its file cannot tell any more is listed with the offsets */
        line_text(&line, "what", "row of a segment");
        line_number(&line, "base_offset", (int64_t)bad->number);
        break;
    case 'E':
        line_text(&line, "what", "row of a term");
        line_number(&line, "term", (int64_t)bad->number);
        break;
    case 'D':
        line_text(&line, "what", "row of a producer: its retries may be refused, or stored twice");
        line_number(&line, "producer", (int64_t)bad->number);
        break;
    case 'S':
        line_text(&line, "what", "row of a state");
        break;
    default:
        line_text(&line, "what",
                  "rows that are missing or of an earlier time: retries of producers may be refused, or stored twice");
        break;
    }
    line_end(&line);
}

static enum err make_plan(struct repair *repair)
{
    struct line line = repair_line(repair, "partition");
    line_text(&line, "topic", repair->topic);
    line_number(&line, "partition", repair->partition);
    line_number(&line, "group", (int64_t)repair->group.group);
    line_text(&line, "marked_damaged", repair->group.damaged ? "yes" : "no");
    line_end(&line);
    line = repair_line(repair, "keep");
    line_text(&line, "what", "checkpoint");
    line_number(&line, "applied_index", (int64_t)repair->group.applied_index);
    line_number(&line, "log_start", repair->group.log_start);
    line_number(&line, "next_offset", repair->group.next_offset);
    line_end(&line);
    repair->needed = repair->group.damaged || repair->bads_count > 0;
    repair_plan_topic(repair);
    for (uint32_t i = 0; i < repair->bads_count; i++) {
        print_row(repair, &repair->bads[i]);
        repair->loses = repair->loses || (repair->bads[i].type != 'M' && repair->bads[i].type != 'E');
    }
    enum err error = repair_plan_wal(repair);
    if (error == OK && repair->group.kind == KIND_DATA)
        error = repair_plan_segments(repair);
    return error;
}

/* ---- writing ---- */

static enum err put_group(struct repair *repair, const struct meta_group *group)
{
    struct kv *kv = repair->kv;
    struct kv_txn *txn;
    enum err error = kv->ops->begin(kv, true, &txn);
    if (error != OK)
        return error;
    error = meta_put_group(kv, txn, group);
    if (error != OK) {
        kv->ops->abort(kv, txn);
        return error;
    }
    return kv->ops->commit(kv, txn);
}

static enum err mark(struct repair *repair)
{
    struct meta_group group = repair->group;
    group.damaged = true;
    group.healing = false;
    group.damaged_lsn = repair->wal.damaged_lsn;
    return put_group(repair, &group);
}

/* What the WAL holds from the damage on is given up for good, in every later reading of it. A vote may be lost with it,
 * so the next term begins behind all that were seen. */
static struct meta_group repaired_group(const struct repair *repair)
{
    struct meta_group group = repair->group;
    const struct repair_wal *wal = &repair->wal;
    group.damaged = group.healing = false;
    group.damaged_lsn = 0;
    group.repaired_lsn = wal->end_lsn;
    if (wal->damaged_lsn != UINT64_MAX && (group.accepted_lsn == 0 || wal->damaged_lsn < group.accepted_lsn))
        group.accepted_lsn = wal->damaged_lsn;
    if (wal->term_max >= group.term) {
        group.term = wal->term_max + 1;
        group.vote = 0;
    }
    return group;
}

static enum err put_picture(struct repair *repair, struct kv_txn *txn)
{
    struct meta_segment *rows = mem_zeroed(repair->segments_count + 1, sizeof *rows);
    for (uint32_t i = 0; i < repair->segments_count; i++) {
        rows[i] = repair->segments[i].row;
        rows[i].tail = repair->segments[i].tail;
    }
    const struct meta_picture picture = {.group = repaired_group(repair),
                                         .segments = rows,
                                         .segments_count = repair->segments_count,
                                         .epochs = repair->epochs,
                                         .epochs_count = repair->epochs_count};
    enum err error = meta_drop_bad_rows(repair->kv, txn, repair->group.group);
    if (error == OK)
        error = meta_put_picture(repair->kv, txn, &picture);
    free(rows);
    return error;
}

static enum err lift_mark(struct repair *repair)
{
    struct kv *kv = repair->kv;
    struct kv_txn *txn;
    enum err error = kv->ops->begin(kv, true, &txn);
    if (error != OK)
        return error;
    error = put_picture(repair, txn);
    if (error == OK)
        error = repair_put_topic(repair, txn);
    if (error != OK) {
        kv->ops->abort(kv, txn);
        return error;
    }
    return kv->ops->commit(kv, txn);
}

static enum err carry_out(struct repair *repair)
{
    enum err error = repair->disk->ops->sync_all(repair->disk); /* after kill -9: what was judged is on the disk */
    if (error == OK)
        error = mark(repair);
    if (error == OK)
        error = repair_write_segments(repair);
    return error == OK ? lift_mark(repair) : error;
}

/* ---- the command ---- */

static int conclude(struct repair *repair)
{
    if (!repair->needed) {
        if (!repair->cli->quiet)
            fprintf(stderr, "flotilla: %s/%u is whole: nothing to repair\n", repair->topic, repair->partition);
        return CLI_DONE;
    }
    if (!repair->accept) {
        cli_error("nothing was changed; --accept-loss does this%s", repair->loses ? ", and what it drops is gone" : "");
        return CLI_FAILED;
    }
    enum err error = carry_out(repair);
    if (error != OK) {
        cli_error("%s: %s; run it again when the cause is gone", repair->dir, err_text(error));
        return CLI_FAILED;
    }
    if (!repair->cli->quiet)
        fprintf(stderr, "repaired %s/%u: %" PRId64 " offsets of segments, %" PRIu64 " readable entries dropped\n",
                repair->topic, repair->partition, repair->lost_offsets, repair->wal.dropped_entries);
    return CLI_DONE;
}

static int run_on_store(struct repair *repair)
{
    enum err error = repair_find_topic(repair);
    if (error == OK)
        error = load(repair);
    if (error == OK && !repair->has_group && repair->bads_count == 0 && !repair->group.damaged) {
        cli_error("%s/%u has no checkpoint yet: start the broker first, it says what is damaged", repair->topic,
                  repair->partition);
        return CLI_FAILED;
    }
    if (error == OK && !repair->has_group) {
        cli_error("the row that says what %s/%u is cannot be read, and nothing else can stand in for it: delete the "
                  "topic (flotilla topic delete %s), its files stay in parts/%" PRIu64 " until then",
                  repair->topic, repair->partition, repair->topic, repair->group.group);
        return CLI_FAILED;
    }
    if (error == OK)
        error = make_plan(repair);
    fflush(stdout);
    if (error != OK)
        cli_error("%s: %s", repair->dir, err_text(error));
    return error == OK ? conclude(repair) : CLI_FAILED;
}

static int run(struct repair *repair)
{
    struct os_disk *disk;
    struct os_lmdb *lmdb;
    int code = CLI_FAILED;
    enum err error = os_disk_open(repair->dir, NULL, &disk);
    if (error != OK) {
        cli_error("%s: %s", repair->dir, err_text(error));
        return CLI_FAILED;
    }
    repair->disk = os_disk_port(disk);
    error = os_disk_lock(disk);
    if (error == OK)
        error = os_lmdb_open(repair->dir, META_DIR, 0, NULL, &lmdb);
    if (error == ERR_LOCKED)
        cli_error("%s is in use by a broker: stop it first", repair->dir);
    else if (error == ERR_FORMAT)
        cli_error("the checkpoint store in %s/%s is unreadable: keep a copy of %s, then restore it from a backup, or "
                  "start empty with another data directory",
                  repair->dir, META_DIR, repair->dir);
    else if (error != OK)
        cli_error("%s: %s", repair->dir, err_text(error));
    if (error == OK) {
        repair->kv = os_lmdb_port(lmdb);
        code = run_on_store(repair);
        os_lmdb_close(lmdb);
    }
    os_disk_close(disk);
    free(repair->segments);
    free(repair->epochs);
    free(repair->bads);
    return code;
}

enum { KEY_PARTITION = 'p', KEY_ACCEPT = 0x100 };

static const struct argp_option options[] = {
    {"partition", KEY_PARTITION, "TOPIC/PARTITION", 0, "The partition to repair", 0},
    {"accept-loss", KEY_ACCEPT, 0, 0, "Do it; without this it only says what it would keep and drop", 0},
    {0},
};

static void take_partition(struct repair *repair, const char *text)
{
    const char *slash = strrchr(text, '/');
    uint64_t number;
    if (slash == NULL || slash == text || (size_t)(slash - text) > TOPIC_NAME_BYTES_MAX ||
        !cli_number_u64(slash + 1, 0, PARTITIONS_PER_TOPIC_MAX, &number))
        cli_usage("--partition needs TOPIC/PARTITION, as in orders/0, not '%s'", text);
    memcpy(repair->topic, text, (size_t)(slash - text));
    repair->partition = (uint32_t)number;
}

static error_t parse(int key, char *argument, struct argp_state *state)
{
    struct repair *repair = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        state->child_inputs[0] = repair->cli;
        return 0;
    case KEY_PARTITION:
        take_partition(repair, argument);
        return 0;
    case KEY_ACCEPT:
        repair->accept = true;
        return 0;
    case ARGP_KEY_ARG:
        if (repair->dir != NULL)
            cli_usage("'%s' is one argument too many (flotilla repair --help)", argument);
        repair->dir = argument;
        return 0;
    case ARGP_KEY_END:
        if (repair->dir == NULL || repair->topic[0] == '\0')
            cli_usage("repair needs a data directory and --partition TOPIC/PARTITION (flotilla repair --help)");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int cli_repair(struct cli *cli, int argc, char **argv)
{
    struct repair repair = {.cli = cli};
    char tested[PATH_MAX + 32];
    struct stat status;
    const struct argp argp = {
        .options = options,
        .parser = parse,
        .args_doc = "DIRECTORY --partition TOPIC/PARTITION",
        .doc = "Makes what is left of a damaged partition the partition again. For the data directory of a broker that "
               "is not running; keep a copy of it first.",
        .children = cli_global_child};
    argp_parse(&argp, argc, argv, 0, NULL, &repair);
    snprintf(tested, sizeof tested, "%s/%s", repair.dir, META_DIR);
    if (stat(tested, &status) != 0 || !S_ISDIR(status.st_mode))
        cli_usage("%s is no data directory: it has no '%s' directory", repair.dir, META_DIR);
    return run(&repair);
}
