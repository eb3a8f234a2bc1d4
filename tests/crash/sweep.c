/* What does the broker do when the k-th call that can fail does fail?
 *
 * For a newcomer: most lost data in the field was lost in code that handles an error that hardly ever comes. So a short
 * script takes one broker through everything it has (first start, birth, produce, rolls, checkpoints, retention, reads
 * from disk, deletion, a clean stop, a start, a kill, a recovery), and is run again and again: the first time its first
 * fallible call fails, then its second, until a run passes untouched. Calls that can fail in several ways are tried in
 * each. The broker may answer with an error and go on, or end with one of its exit codes (1 start, 3 storage or memory,
 * 4 unreadable). It may not end by a signal, hang, or be unable to go on when the fault is over. Then it is started
 * without a fault, and must serve all that was acknowledged (verify.c).
 *
 * The run is one thread (host.c), so the k-th call is the same one in every run. Threads, sockets and the event loop
 * are swept by sweep.py, with real processes. */
#include "sweep.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/batch.h"
#include "explore.h"
#include "faults.h"
#include "host.h"
#include "oracle.h"
#include "verify.h"
#include "wire/builder.h"

#define WALL_MS      1700000000000 /* any day */
#define MARKS_BYTES  (8u << 20)
#define DEADLINE_S   60
#define RETRIES      60
#define RETRY_US     50000u
#define BATCHES      36
#define BATCH_ROOM   (16u << 10)
#define RECORD_BYTES 1000
#define OUTPUT_BYTES 300
#define CODE_STUCK   90 /* of a script whose broker neither answers nor ends, or does not go on */

struct shared {
    uint32_t marks_size;
    char why[VERIFY_WHY_BYTES];
    uint8_t marks[MARKS_BYTES];
};

struct sweep {
    struct sweep_options options;
    char dir[4200]; /* of this worker */
    struct shared *shared;
    struct fault_table *table;
    int output; /* stderr of the children */
    faults_use_function use;
    faults_name_function name;
    faults_has_variant_function has_variant;
    uint64_t runs, ended, failures;
};

struct script {
    struct shared *shared;
    struct config config;
    struct host_options options;
    struct host *host;
    uint64_t groups[2];
    uint32_t topics, batches;
    int64_t producer;
    int32_t epoch, sequences[2];
    int64_t wall_ms;
};

/* --- the script --- */

static void mark(struct script *s, struct mark mark, const void *tail, uint32_t tail_size)
{
    struct shared *shared = s->shared;
    mark.wall_ms = s->host != NULL ? host_wall_ms(s->host) : s->wall_ms;
    ASSERT(shared->marks_size + sizeof mark + sizeof tail_size + tail_size <= MARKS_BYTES);
    uint8_t *at = shared->marks + shared->marks_size;
    memcpy(at, &mark, sizeof mark);
    memcpy(at + sizeof mark, &tail_size, sizeof tail_size);
    if (tail_size > 0) {
        memcpy(at + sizeof mark + sizeof tail_size, tail, tail_size);
    }
    shared->marks_size += (uint32_t)(sizeof mark + sizeof tail_size) + tail_size;
}

_Noreturn static void stuck(struct script *s, const char *what, uint32_t status)
{
    snprintf(s->shared->why, sizeof s->shared->why, "%s: %s", what, err_name((enum err)status));
    _exit(CODE_STUCK);
}

/* A request and its reply. A broker that has ended takes the script with it, as its process would be gone. */
static const struct host_reply *call(struct script *s, enum frame_type type, const void *message, const void *payload,
                                     uint32_t size)
{
    const struct host_reply *reply = host_call(s->host, type, message, payload, size);
    if (reply == NULL && host_is_cut(s->host)) {
        reply = host_call(s->host, type, message, payload, size); /* a clear answer too: it is asked again */
    }
    if (reply == NULL && host_failure(s->host) != NULL) {
        _exit(host_exit_code(s->host));
    }
    if (reply == NULL) {
        stuck(s, "a request is never answered", ERR_TIMEOUT);
    }
    return reply;
}

static void idle(struct script *s, uint64_t for_us)
{
    host_idle(s->host, for_us);
    if (host_failure(s->host) != NULL) {
        _exit(host_exit_code(s->host));
    }
}

static void start(struct script *s)
{
    int code = 0;
    s->options.wall_ms = s->wall_ms;
    if (host_open(&s->options, &s->host, &code) != OK) {
        _exit(code);
    }
}

static void end(struct script *s, bool clean)
{
    if (clean && !host_stop(s->host)) {
        if (host_failure(s->host) != NULL) {
            _exit(host_exit_code(s->host));
        }
        stuck(s, "the broker does not stop", ERR_TIMEOUT);
    }
    s->wall_ms = host_wall_ms(s->host) + 1000;
    host_close(s->host);
    s->host = NULL;
}

/* Asks again until it is done: one fault must not be for ever. Returns the reply that said OK. */
static const struct host_reply *insist(struct script *s, const char *what, enum frame_type type, const void *message,
                                       const void *payload, uint32_t size, uint32_t also_good)
{
    uint32_t status = OK;
    for (int i = 0; i < RETRIES; i++) {
        const struct host_reply *reply = call(s, type, message, payload, size);
        memcpy(&status, &reply->message, sizeof status); /* the first field of every reply */
        if (status == OK || status == also_good)
            return reply;
        idle(s, RETRY_US);
    }
    stuck(s, what, status);
}

static void init_producer(struct script *s)
{
    InitProducerRequest request = {.name = "ann", .timeout_ms = 10000};
    for (int i = 0; i < RETRIES; i++) {
        mark(s, (struct mark){.kind = MARK_INIT_SENT, .name = "ann"}, NULL, 0);
        const InitProducerReply *reply = &call(s, FRAME_INIT_PRODUCER, &request, NULL, 0)->message.as_InitProducerReply;
        if (reply->status == OK) {
            s->producer = reply->producer_id;
            s->epoch = reply->producer_epoch;
            s->sequences[0] = s->sequences[1] = 0;
            mark(s, (struct mark){.kind = MARK_INIT_DONE, .name = "ann", .producer = s->producer, .epoch = s->epoch},
                 NULL, 0);
            return;
        }
        idle(s, RETRY_US);
    }
    stuck(s, "no producer id", ERR_TIMEOUT);
}

static uint64_t find_group(struct script *s, const char *name)
{
    MetadataRequest request = {0};
    strcpy(request.topic, name);
    const struct host_reply *reply = insist(s, "no metadata", FRAME_METADATA, &request, NULL, 0, OK);
    struct codec_cursor cursor = {reply->payload, reply->payload_size};
    BrokerRow broker;
    TopicRow topic;
    PartitionRow partition;
    if (codec_next_row(&cursor, ROW_BROKER, &broker) != OK || codec_next_row(&cursor, ROW_TOPIC, &topic) != OK ||
        codec_next_row(&cursor, ROW_PARTITION, &partition) != OK) {
        stuck(s, "metadata without the topic", ERR_UNKNOWN_TOPIC);
    }
    return partition.group;
}

static uint64_t create_topic(struct script *s, const char *name, int64_t retention_bytes)
{
    CreateTopicRequest request = {.partitions = 1, .timeout_ms = 20000, .has_config = true};
    struct mark sent = {.kind = MARK_TOPIC_SENT, .topic = s->topics, .partitions = 1};
    request.config.has_retention_bytes = true;
    sent.retention_bytes = request.config.retention_bytes = retention_bytes;
    sent.retention_ms = -1;
    strcpy(request.name, name);
    strcpy(sent.name, name);
    mark(s, sent, NULL, 0);
    insist(s, "a topic is not made", FRAME_CREATE_TOPIC, &request, NULL, 0, ERR_TOPIC_EXISTS);
    uint64_t group = find_group(s, name);
    mark(s, (struct mark){.kind = MARK_TOPIC_LIVE, .topic = s->topics++, .groups = {group}}, NULL, 0);
    return group;
}

static void delete_topic(struct script *s, const char *name, uint32_t number)
{
    DeleteTopicRequest request = {.timeout_ms = 20000};
    strcpy(request.name, name);
    mark(s, (struct mark){.kind = MARK_TOPIC_GOING, .topic = number}, NULL, 0);
    insist(s, "a topic is not deleted", FRAME_DELETE_TOPIC, &request, NULL, 0, ERR_UNKNOWN_TOPIC);
    mark(s, (struct mark){.kind = MARK_TOPIC_GONE, .topic = number}, NULL, 0);
}

static void produce(struct script *s, uint32_t topic, uint32_t records)
{
    static uint8_t data[BATCH_ROOM], value[RECORD_BYTES];
    struct batch_builder builder;
    batch_builder_begin(&builder, data, sizeof data);
    for (uint32_t i = 0; i < records; i++) {
        memset(value, (int)('a' + (s->batches + i) % 26), sizeof value);
        snprintf((char *)value, sizeof value, "batch %u record %u", s->batches, i);
        const struct record record = {.value = {value, sizeof value}, .timestamp = host_wall_ms(s->host)};
        enum err error = batch_builder_append(&builder, &record);
        ASSERT(error == OK);
    }
    uint32_t size = batch_builder_finish(&builder);
    batch_set_producer(data, s->producer, (int16_t)s->epoch, s->sequences[topic]);
    batch_seal(data, size);
    mark(s,
         (struct mark){.kind = MARK_BATCH_SENT,
                       .batch = s->batches,
                       .groups = {s->groups[topic]},
                       .producer = s->producer,
                       .epoch = s->epoch,
                       .sequence = s->sequences[topic],
                       .count = (int32_t)records,
                       .is_acks_all = 1},
         data, size);
    const ProduceRequest request = {.group = s->groups[topic], .acks = -1, .timeout_ms = 30000};
    const struct host_reply *reply =
        insist(s, "a batch is never acknowledged", FRAME_PRODUCE, &request, data, size, OK);
    mark(s,
         (struct mark){
             .kind = MARK_BATCH_ACKED, .batch = s->batches++, .offset = reply->message.as_ProduceReply.base_offset},
         NULL, 0);
    s->sequences[topic] += (int32_t)records;
}

static void fetch_all(struct script *s, uint32_t topic)
{
    FetchRequest request = {.group = s->groups[topic], .bytes_max = 40000};
    for (int64_t end_offset = 1; request.offset < end_offset;) {
        const struct host_reply *reply =
            insist(s, "a log cannot be read", FRAME_FETCH, &request, NULL, 0, ERR_OUT_OF_RANGE);
        const FetchReply *message = &reply->message.as_FetchReply;
        end_offset = message->high_watermark;
        int64_t before = request.offset;
        if (message->status != OK) {
            request.offset = message->log_start;
        }
        const uint8_t *at = reply->payload;
        struct batch_header header;
        while (message->status == OK && at < reply->payload + reply->payload_size &&
               batch_parse(at, reply->payload_size, &header) == OK) {
            request.offset = header.base_offset + header.records_count;
            at += header.size_bytes;
        }
        if (request.offset == before && before < end_offset) {
            stuck(s, "a fetch does not get on", ERR_TIMEOUT);
        }
    }
}

static void find_time(struct script *s, uint32_t topic, int64_t ago_ms)
{
    const ListOffsetsRequest request = {.group = s->groups[topic], .timestamp = host_wall_ms(s->host) - ago_ms};
    insist(s, "a time is not found", FRAME_LIST_OFFSETS, &request, NULL, 0, OK);
}

_Noreturn static void script_run(struct shared *shared, const char *dir)
{
    static struct script script;
    struct script *s = &script;
    s->shared = shared;
    s->wall_ms = WALL_MS;
    host_config(&s->config);
    s->config.snapshot_bytes = 64 << 10;
    s->options = (struct host_options){.dir = dir, .config = &s->config, .seed = 1};
    start(s);
    init_producer(s);
    s->groups[0] = create_topic(s, "keep", -1);
    s->groups[1] = create_topic(s, "size", 48 << 10);
    create_topic(s, "gone", -1);
    for (uint32_t i = 0; i < BATCHES; i++) {
        produce(s, i % 2, 1 + i % 12);
        if (i % 6 == 5) {
            idle(s, 400000);
        }
    }
    delete_topic(s, "gone", 2);
    end(s, true);
    start(s);
    fetch_all(s, 0);
    find_time(s, 0, 2500);
    find_time(s, 1, 1500);
    init_producer(s);
    for (uint32_t i = 0; i < 8; i++) {
        produce(s, i % 2, 1 + i);
    }
    end(s, false);
    start(s);
    fetch_all(s, 1);
    produce(s, 0, 3); /* the last word: after one fault it goes on */
    produce(s, 1, 3);
    idle(s, 2000000);
    end(s, false);
    _exit(0);
}

/* --- one run --- */

static void load_marks(const struct shared *shared, struct oracle *oracle)
{
    for (uint32_t at = 0; at < shared->marks_size;) {
        struct mark mark;
        uint32_t tail_size;
        memcpy(&mark, shared->marks + at, sizeof mark);
        memcpy(&tail_size, shared->marks + at + sizeof mark, sizeof tail_size);
        at += (uint32_t)(sizeof mark + sizeof tail_size);
        oracle_add(oracle, &mark, shared->marks + at, tail_size);
        at += tail_size;
    }
}

/* The script, then a start without faults; the state of the directory is judged by the promises of the script. */
static int run_script(const struct sweep *sweep, const char *dir, uint64_t fail_at, uint32_t variant)
{
    int status = 0;
    sweep->shared->marks_size = 0;
    sweep->shared->why[0] = '\0';
    sweep->table->fail_at = fail_at;
    sweep->table->variant = variant;
    sweep->table->calls = 0;
    sweep->table->has_failed = 0;
    if (ftruncate(sweep->output, 0) != 0 || lseek(sweep->output, 0, SEEK_SET) != 0) {
        abort();
    }
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        alarm(DEADLINE_S);
        dup2(sweep->output, 2);
        sweep->use(sweep->table);
        script_run(sweep->shared, dir);
    }
    pid_t ended = waitpid(child, &status, 0);
    ASSERT(ended == child);
    return status;
}

static int run_verify(const struct sweep *sweep, const char *dir)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        struct oracle oracle = {.wall_ms = WALL_MS};
        alarm(DEADLINE_S);
        dup2(sweep->output, 2);
        load_marks(sweep->shared, &oracle);
        _exit(verify_dir(&oracle, dir, 1, sweep->shared->why) ? 0 : 1);
    }
    pid_t ended = waitpid(child, &status, 0);
    ASSERT(ended == child);
    return status;
}

static bool is_documented(int status)
{
    return WIFEXITED(status) && WEXITSTATUS(status) <= 4;
}

static void report(struct sweep *sweep, uint64_t call, uint32_t variant, int status, const char *when)
{
    const struct fault_site *site = &sweep->table->sites[sweep->table->failed_site];
    char output[OUTPUT_BYTES + 1];
    ssize_t got = pread(sweep->output, output, OUTPUT_BYTES, 0);
    output[got > 0 ? got : 0] = '\0';
    output[strcspn(output, "\n")] = '\0';
    printf("FAILED --call %llu --variant %u: %s at", (unsigned long long)call, variant, sweep->name(site->function));
    for (uint32_t i = 0; i < FAULT_FRAMES && site->frames[i] != 0; i++) {
        printf(" %s0x%llx",
               site->module == FAULT_MODULE_PROGRAM ? "" : "library:", (unsigned long long)site->frames[i]);
    }
    printf(": %s ended by %s %d: %s %s\n", when, WIFSIGNALED(status) ? "signal" : "exit code",
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status), sweep->shared->why, output);
    fflush(stdout);
    sweep->failures++;
}

/* false: the call was never made, the run passed untouched. */
static bool try_call(struct sweep *sweep, uint64_t call, uint32_t variant)
{
    char dir[4300];
    snprintf(dir, sizeof dir, "%s/run", sweep->dir);
    if (mkdir(dir, 0750) != 0) {
        abort();
    }
    int status = run_script(sweep, dir, call, variant);
    sweep->runs++;
    if (!is_documented(status)) {
        report(sweep, call, variant, status, "the run");
    } else {
        sweep->ended += WEXITSTATUS(status) != 0;
        int second = run_verify(sweep, dir);
        if (second != 0) {
            report(sweep, call, variant, second, "the start after it");
        }
    }
    explore_remove(dir);
    return sweep->table->has_failed;
}

/* --- all runs --- */

static void write_sites(const struct sweep *sweep, uint64_t worker)
{
    char path[4300];
    snprintf(path, sizeof path, "%s.%llu", sweep->options.sites, (unsigned long long)worker);
    FILE *out = fopen(path, "w");
    ASSERT(out != NULL);
    for (uint32_t i = 0; i < sweep->table->sites_count; i++) {
        const struct fault_site *site = &sweep->table->sites[i];
        fprintf(out, "%s %u %u %u", sweep->name(site->function), site->module, site->is_failed, site->calls);
        for (uint32_t n = 0; n < FAULT_FRAMES && site->frames[n] != 0; n++) {
            fprintf(out, " 0x%llx", (unsigned long long)site->frames[n]);
        }
        fprintf(out, "\n");
    }
    fclose(out);
}

static void *shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    ASSERT(memory != MAP_FAILED);
    return memory;
}

/* Every call of the run without a fault, and what comes after: a fault can make a run longer. */
static void sweep_worker(struct sweep *sweep, uint64_t worker)
{
    const struct sweep_options *o = &sweep->options;
    snprintf(sweep->dir, sizeof sweep->dir, "%s/worker.%llu", o->dir, (unsigned long long)worker);
    if (mkdir(sweep->dir, 0750) != 0) {
        abort();
    }
    if (o->only >= 0) {
        try_call(sweep, (uint64_t)o->only, o->only_variant);
        return;
    }
    uint64_t untouched = 0;
    for (uint64_t call = worker * o->every; untouched < 3 && sweep->failures < o->failures_max;
         call += o->every * o->workers) {
        uint64_t touched = 0;
        for (uint32_t variant = 0; variant < FAULT_VARIANTS; variant++) {
            uint32_t function = variant == 0 ? 0 : sweep->table->functions[call];
            if (variant == 0 || sweep->has_variant(function, variant)) {
                touched += try_call(sweep, call, variant);
            }
        }
        untouched = touched > 0 ? 0 : untouched + 1;
    }
    if (o->sites != NULL) {
        write_sites(sweep, worker);
    }
}

int sweep_run(const struct sweep_options *options)
{
    struct sweep sweep = {.options = *options, .shared = shared_memory(sizeof(struct shared))};
    sweep.table = shared_memory(sizeof *sweep.table);
    snprintf(sweep.dir, sizeof sweep.dir, "%s", options->dir);
    *(void **)&sweep.use = dlsym(RTLD_DEFAULT, "faults_use");
    *(void **)&sweep.name = dlsym(RTLD_DEFAULT, "faults_name");
    *(void **)&sweep.has_variant = dlsym(RTLD_DEFAULT, "faults_has_variant");
    sweep.output = memfd_create("output", MFD_CLOEXEC);
    ASSERT(sweep.output >= 0 && sweep.use != NULL && sweep.name != NULL && sweep.has_variant != NULL);
    if (try_call(&sweep, FAULT_NONE, 0) || sweep.failures > 0)
        return 3;
    uint64_t calls = sweep.table->calls;
    printf("sweep: %llu calls that can fail, at %u chains of callers\n", (unsigned long long)calls,
           sweep.table->sites_count);
    struct sweep *results = shared_memory(options->workers * sizeof *results);
    fflush(stdout);
    for (uint64_t i = 0; i < options->workers; i++) {
        if (fork() == 0) {
            results[i] = sweep;
            results[i].runs = results[i].ended = 0;
            results[i].output = memfd_create("output", MFD_CLOEXEC);
            results[i].shared = shared_memory(sizeof(struct shared));
            results[i].table = shared_memory(sizeof *sweep.table);
            memcpy(results[i].table, sweep.table, sizeof *sweep.table);
            sweep_worker(&results[i], i);
            fflush(stdout);
            _exit(0);
        }
    }
    struct sweep sum = {0};
    for (uint64_t i = 0; i < options->workers; i++) {
        int status = 0;
        wait(&status);
        sum.failures += status != 0;
    }
    for (uint64_t i = 0; i < options->workers; i++) {
        sum.runs += results[i].runs;
        sum.ended += results[i].ended;
        sum.failures += results[i].failures;
    }
    printf("sweep: calls=%llu runs=%llu ended_with_code=%llu failures=%llu\n", (unsigned long long)calls,
           (unsigned long long)sum.runs, (unsigned long long)sum.ended, (unsigned long long)sum.failures);
    return sum.failures > 0 ? 1 : 0;
}
