/* The configuration file: every documented key is known and its documented default is the default; faults are named by
 * line. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "broker/config.h"

struct reading {
    struct config config;
    enum err error;
    char complaints[4096];
};

static char reading_path[64];

/* Reads `text` as a file over the defaults. */
static void read_text(struct reading *r, const char *text)
{
    memset(r, 0, sizeof *r);
    FILE *file = fopen(reading_path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    FILE *complaints = fmemopen(r->complaints, sizeof r->complaints, "w");
    config_defaults(&r->config);
    r->error = config_read(&r->config, reading_path, complaints);
    fclose(complaints);
}

static void assert_complaint(const struct reading *r, int line, const char *text)
{
    char wanted[128];
    snprintf(wanted, sizeof wanted, "%s:%d: ", reading_path, line);
    const char *at = strstr(r->complaints, wanted);
    assert_int_equal(r->error, ERR_INVALID);
    if (at == NULL || strstr(at, text) == NULL) {
        fail_msg("no '%s' for line %d in: %s", text, line, r->complaints);
    }
}

static int group_setup(void **state)
{
    (void)state;
    strcpy(reading_path, "/tmp/test_broker_config.XXXXXX");
    int fd = mkstemp(reading_path);
    assert_true(fd >= 0);
    close(fd);
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    return unlink(reading_path);
}

static void reads_keys_and_keeps_defaults(void **state)
{
    static struct reading r;
    (void)state;
    read_text(
        &r,
        "# comment\n[broker]\nid = 7\ndata = /var/lib/flotilla\n\n[wal]\nfile_bytes = 16 MiB ; less\n"
        "[topic]\nretention_bytes = -1\nsegment_ms = 7d\nreplicas = auto\nauto_create = true\n[log]\nlevel = debug\n");
    assert_string_equal(r.complaints, "");
    assert_int_equal(r.error, OK);
    assert_int_equal(r.config.id, 7);
    assert_string_equal(r.config.data, "/var/lib/flotilla");
    assert_int_equal(r.config.wal_file_bytes, 16 << 20);
    assert_int_equal(r.config.retention_bytes, -1);
    assert_int_equal(r.config.segment_ms, 7 * 86400000);
    assert_int_equal(r.config.replicas, 0);
    assert_true(r.config.auto_create);
    assert_int_equal(r.config.level, TRACE_DEBUG);
    assert_string_equal(r.config.client[0].address, "127.0.0.1:9640");
    assert_int_equal(r.config.heartbeat_ms, 100);
    assert_int_equal(config_check(&r.config, stderr), OK);
}

static void names_the_line_of_a_fault(void **state)
{
    static struct reading r;
    (void)state;
    read_text(&r,
              "[broker]\nid = 1\nidd = 2\n[nowhere]\nid = 3\n[wal]\nfile_bytes = many\n[raft]\n\nheartbeat_ms = 0\n");
    assert_complaint(&r, 3, "unknown key 'idd' in section [broker]");
    assert_complaint(&r, 5, "[nowhere]");
    assert_complaint(&r, 7, "is not a number");
    assert_complaint(&r, 10, "is too small");
    read_text(&r, "[broker]\nthis is no key\n");
    assert_complaint(&r, 2, "");
    read_text(&r, "[nowhere]\n");
    assert_int_equal(r.error, OK); /* a section without keys says nothing */
}

static void long_lines(void **state)
{
    static struct reading r;
    static char text[2000];
    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[0] = '#';
    memcpy(text + 1500, "\n[broker]\nid = 5\n", 18);
    text[1517] = '\0';
    read_text(&r, text);
    assert_string_equal(r.complaints, "");
    assert_int_equal(r.config.id, 5);
    memset(text, 'x', sizeof text - 1);
    memcpy(text, "[broker]\nrack = ", 16);
    read_text(&r, text);
    assert_complaint(&r, 2, "longer than");
}

static void judges_values(void **state)
{
    static const char *const bad[] = {
        "[broker]\nid = 0\n",
        "[broker]\nid = -1\n",
        "[broker]\nid = 1x\n",
        "[topic]\nauto_create = yes\n",
        "[topic]\nreplicas = 99\n",
        "[topic]\npartitions = 0\n",
        "[topic]\nsegment_bytes = 1\n",
        "[log]\nlevel = loud\n",
        "[limits]\nconnections = 0\n",
        "[wal]\nfile_bytes = 99999TiB\n",
        "[topic]\nretention_bytes = -2\n",
        "[listen]\nclient =\n",
        "[listen]\nclient = a=h:1,a=h:2\n",
        "[listen]\nclient = a=h:1,b=h:2,c=h:3,d=h:4,e=h:5\n",
        "[topic]\nmax_batch_bytes = 17MiB\n",
    };
    static struct reading r;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        read_text(&r, bad[i]);
        if (r.error != ERR_INVALID) {
            fail_msg("accepted: %s", bad[i]);
        }
        assert_complaint(&r, 2, "");
    }
}

static void several_listeners(void **state)
{
    static struct reading r;
    (void)state;
    read_text(&r, "[listen]\nclient = inside=10.0.0.1:9640, outside=0.0.0.0:9650\n[advertise]\nclient = "
                  "outside=example.org:9650\n");
    assert_int_equal(r.error, OK);
    assert_int_equal(r.config.client_count, 2);
    assert_string_equal(r.config.client[0].name, "inside");
    assert_string_equal(r.config.client[1].name, "outside");
    assert_string_equal(r.config.client[1].address, "0.0.0.0:9650");
    assert_int_equal(r.config.advertise_client_count, 1);
    assert_string_equal(r.config.advertise_client[0].address, "example.org:9650");
}

static void keys_that_contradict(void **state)
{
    struct config config;
    char text[512] = "";
    (void)state;
    config_defaults(&config);
    config.election_ms = 150;
    config.wal_budget_bytes = config.wal_file_bytes;
    FILE *complaints = fmemopen(text, sizeof text, "w");
    assert_int_equal(config_check(&config, complaints), ERR_INVALID);
    fclose(complaints);
    assert_non_null(strstr(text, "election_ms"));
    assert_non_null(strstr(text, "budget_bytes"));
}

static void units(void **state)
{
    uint64_t bytes = 0;
    int64_t ms = 0;
    (void)state;
    assert_true(config_parse_bytes("64 MiB", &bytes) && bytes == 64u << 20);
    assert_true(config_parse_bytes("1GiB", &bytes) && bytes == 1u << 30);
    assert_true(config_parse_bytes("100000", &bytes) && bytes == 100000);
    assert_true(config_parse_bytes("5kB", &bytes) && bytes == 5000);
    assert_true(config_parse_ms("10 s", &ms) && ms == 10000);
    assert_true(config_parse_ms("7d", &ms) && ms == 604800000);
    assert_false(config_parse_bytes("", &bytes));
    assert_false(config_parse_bytes("-1", &bytes));
    assert_false(config_parse_bytes("1 mile", &bytes));
    assert_false(config_parse_bytes("99999999999999999999", &bytes));
    assert_false(config_parse_bytes("18446744073709551615KiB", &bytes));
    assert_false(config_parse_ms("10 parsecs", &ms));
}

/* The documentation: with every key taken out of its comment the file reads, and changes nothing. */
static void the_documented_defaults_are_the_defaults(void **state)
{
    static struct reading r;
    static struct config defaults;
    static char text[16384];
    char line[512];
    size_t used = 0;
    int keys = 0;
    (void)state;
    FILE *file = fopen(DOCUMENTED_CONFIG, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        bool key = line[0] == ';';
        keys += key;
        /* "key =" with nothing behind it stays out: an address is either given or not */
        if (key && strcmp(line + strlen(line) - 2, "=\n") == 0) {
            continue;
        }
        used += (size_t)snprintf(text + used, sizeof text - used, "%s", key ? line + 2 : line);
    }
    fclose(file);
    read_text(&r, text);
    assert_string_equal(r.complaints, "");
    assert_int_equal(r.error, OK);
    config_defaults(&defaults);
    assert_memory_equal(&r.config, &defaults, sizeof defaults);
    assert_int_equal(keys, 38);
}

static void no_file(void **state)
{
    struct config config;
    (void)state;
    config_defaults(&config);
    assert_int_equal(config_read(&config, "/nonexistent/flotilla.conf", stderr), ERR_NO_FILE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_keys_and_keeps_defaults),
        cmocka_unit_test(names_the_line_of_a_fault),
        cmocka_unit_test(long_lines),
        cmocka_unit_test(judges_values),
        cmocka_unit_test(several_listeners),
        cmocka_unit_test(keys_that_contradict),
        cmocka_unit_test(units),
        cmocka_unit_test(the_documented_defaults_are_the_defaults),
        cmocka_unit_test(no_file),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
