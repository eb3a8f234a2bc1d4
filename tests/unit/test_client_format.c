/* What the command prints and reads: formats, JSON, numbers, times, the histogram. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h>

#include "client/cli.h"
#include "client/format.h"
#include "client/histogram.h"

/* cli.c has main: its two helpers that cli_number.c uses are ours here. */
void cli_usage(const char *format, ...)
{
    fail_msg("cli_usage: %s", format);
    abort();
}

static struct output *output;

static int setup(void **state)
{
    output = malloc(sizeof *output);
    output_init(output, -1);
    return 0;
}

static int teardown(void **state)
{
    free(output);
    return 0;
}

static void expect_output(const char *text, size_t size)
{
    assert_int_equal(output->used, size);
    assert_memory_equal(output->buffer, text, size);
    output->used = 0;
}

/* Two headers, "a" = "1" and "b" = null, as a batch holds them. */
static const uint8_t headers[] = {2, 'a', 2, '1', 2, 'b', 1};

static const struct flo_message message = {
    .offset = 42,
    .timestamp_ms = 1700000000123,
    .key = "k",
    .key_size = 1,
    .value = "value",
    .value_size = 5,
    .headers_count = 2,
    .headers = headers,
    .headers_size = sizeof headers,
};

static void expect_format(const char *format_text, const struct flo_message *record, const char *text, size_t size)
{
    struct format format;
    char bad;
    assert_true(format_compile(&format, format_text, &bad));
    format_put(&format, "topic", 3, record, output);
    expect_output(text, size);
    format_deinit(&format);
}

static void writes_every_letter(void **state)
{
    static const char expected[] = "topic|3|42|k|value|5|1|1700000000123|a=1,b=NULL|%";
    expect_format("%t|%p|%o|%k|%s|%S|%K|%T|%h|%%", &message, expected, strlen(expected));
}

static void writes_escapes(void **state)
{
    expect_format("%s\\n", &message, "value\n", 6);
    expect_format("\\t%k\\0\\x41\\x7a\\\\%s", &message, "\tk\0Az\\value", 11);
    expect_format("", &message, "", 0);
    expect_format("plain", &message, "plain", 5);
}

static void writes_null(void **state)
{
    const struct flo_message null_message = {.offset = 1};
    expect_format("[%k][%s] %K %S %h.", &null_message, "[][] -1 -1 .", 12);
    const struct flo_message empty_message = {.key = "", .value = ""};
    expect_format("%K %S", &empty_message, "0 0", 3);
}

static void refuses_unknown_letters(void **state)
{
    struct format format;
    char bad;
    assert_false(format_compile(&format, "%s %z", &bad));
    assert_int_equal(bad, 'z');
    format_deinit(&format);
    assert_false(format_compile(&format, "%s%", &bad));
    assert_int_equal(bad, '\0');
    format_deinit(&format);
}

static void expect_json(const struct flo_message *record, const char *text)
{
    format_put_json("t", 1, record, output);
    expect_output(text, strlen(text));
}

static void writes_json(void **state)
{
    expect_json(&message, "{\"topic\":\"t\",\"partition\":1,\"offset\":42,\"timestamp\":1700000000123,\"key\":\"k\","
                          "\"value\":\"value\",\"headers\":{\"a\":\"1\",\"b\":null}}\n");
    const struct flo_message null_message = {.offset = 7};
    expect_json(&null_message, "{\"topic\":\"t\",\"partition\":1,\"offset\":7,\"timestamp\":0,\"key\":null,"
                               "\"value\":null,\"headers\":{}}\n");
}

static void writes_base64_for_what_is_not_utf8(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *base64;
    } cases[] = {
        {"\xff", 1, "/w=="}, {"\xff\x00", 2, "/wA="}, {"\xff\x00\x10", 3, "/wAQ"}, {"\xfb\xef\xbe\xff", 4, "++++/w=="}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        struct flo_message binary = {
            .key = cases[i].bytes, .key_size = cases[i].size, .value = cases[i].bytes, .value_size = cases[i].size};
        snprintf(text, sizeof text,
                 "{\"topic\":\"t\",\"partition\":1,\"offset\":0,\"timestamp\":0,\"key_base64\":\"%s\","
                 "\"value_base64\":\"%s\",\"headers\":{}}\n",
                 cases[i].base64, cases[i].base64);
        expect_json(&binary, text);
    }
}

static void writes_numbers(void **state)
{
    output_put_number(output, 0);
    output_put_number(output, -1);
    output_put_number(output, INT64_MAX);
    output_put_number(output, INT64_MIN);
    static const char expected[] = "0-19223372036854775807-9223372036854775808";
    expect_output(expected, strlen(expected));
}

static void writes_more_than_the_buffer_holds(void **state)
{
    int fds[2];
    char *large = malloc(2 * OUTPUT_BYTES);
    memset(large, 'x', 2 * OUTPUT_BYTES);
    FILE *file = tmpfile();
    output_init(output, fileno(file));
    output_put(output, "start", 5);
    output_put(output, large, 2 * OUTPUT_BYTES);
    output_put(output, "end", 3);
    assert_int_equal(output_flush(output), OUTPUT_OK);
    assert_int_equal(lseek(fileno(file), 0, SEEK_END), 2 * OUTPUT_BYTES + 8);
    fclose(file);
    free(large);
    signal(SIGPIPE, SIG_IGN);
    assert_int_equal(pipe(fds), 0);
    close(fds[0]);
    output_init(output, fds[1]);
    output_put(output, "x", 1);
    assert_int_equal(output_flush(output), OUTPUT_PIPE_CLOSED);
    close(fds[1]);
}

static void reads_numbers(void **state)
{
    uint64_t value = 5;
    assert_true(cli_number_u64("0", 0, 10, &value) && value == 0);
    assert_true(cli_number_u64("18446744073709551615", 0, UINT64_MAX, &value) && value == UINT64_MAX);
    assert_false(cli_number_u64("18446744073709551616", 0, UINT64_MAX, &value));
    assert_false(cli_number_u64("11", 0, 10, &value));
    assert_false(cli_number_u64("", 0, 10, &value));
    assert_false(cli_number_u64("-1", 0, 10, &value));
    assert_false(cli_number_u64("1x", 0, 10, &value));
}

static void reads_units(void **state)
{
    int64_t value;
    assert_true(cli_number_bytes("64MiB", &value) && value == 64 << 20);
    assert_true(cli_number_bytes("1.5 GiB", &value) && value == 3 * (512ll << 20));
    assert_true(cli_number_bytes("100000", &value) && value == 100000);
    assert_true(cli_number_bytes("-1", &value) && value == -1);
    assert_false(cli_number_bytes("7d", &value));
    assert_true(cli_number_ms("7d", &value) && value == 7 * 86400000ll);
    assert_true(cli_number_ms("10 s", &value) && value == 10000);
    assert_false(cli_number_ms("ten", &value));
    uint32_t ms;
    assert_true(cli_number_seconds("0.5", &ms) && ms == 500);
    assert_false(cli_number_seconds("-3", &ms));
    assert_false(cli_number_seconds("3s", &ms));
}

static void reads_times(void **state)
{
    static const struct {
        const char *text;
        int64_t ms;
    } good[] = {
        {"1700000000123", 1700000000123},
        {"2023-11-14T22:13:20Z", 1700000000000},
        {"2023-11-14T22:13:20.25Z", 1700000000250},
        {"2023-11-15T00:13:20+02:00", 1700000000000},
        {"2023-11-14T17:43:20-04:30", 1700000000000},
        {"1970-01-01T00:00:00Z", 0},
        {"-1h", 10000000 - 3600000},
        {"-500", 10000000 - 500},
        {"-365d", 0},
    };
    static const char *const bad[] = {"",
                                      "yesterday",
                                      "2023-11-14",
                                      "2023-13-14T22:13:20Z",
                                      "2023-11-14T22:13:20",
                                      "-",
                                      "-1y",
                                      "2023-11-14T22:13:20Zx",
                                      "2023-11-14T22:13:20.Z"};
    int64_t ms;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(cli_number_time(good[i].text, 10000000, &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(cli_number_time(bad[i], 10000000, &ms));
}

static void finds_quantiles(void **state)
{
    struct histogram *histogram = calloc(1, sizeof *histogram);
    assert_int_equal(histogram_quantile(histogram, 0.5), 0);
    for (uint64_t i = 1; i <= 100000; i++)
        histogram_add(histogram, i * 1000);
    static const double shares[] = {0.01, 0.5, 0.9, 0.99, 1.0};
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        double exact = shares[i] * 100000 * 1000;
        double found = (double)histogram_quantile(histogram, shares[i]);
        assert_true(found > exact * 0.98 && found < exact * 1.02);
    }
    histogram_add(histogram, UINT64_MAX);
    histogram_add(histogram, 0);
    assert_true(histogram_quantile(histogram, 1.0) > UINT64_MAX / 100 * 98);
    free(histogram);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(writes_every_letter), TEST(writes_escapes),
        TEST(writes_null),         TEST(refuses_unknown_letters),
        TEST(writes_json),         TEST(writes_base64_for_what_is_not_utf8),
        TEST(writes_numbers),      TEST(writes_more_than_the_buffer_holds),
        TEST(reads_numbers),       TEST(reads_units),
        TEST(reads_times),         TEST(finds_quantiles),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
