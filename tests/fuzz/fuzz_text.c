/* What people type or call things: topic names, numbers, times and formats of the command. Names are judged as a
 * second, plainer wording of the rule does; numbers agree with exact arithmetic; times of every accepted form survive
 * being written and read again; a format writes no byte that neither it nor the record holds, and JSON is read back by
 * jansson.
 *
 * Input: byte 0 chooses; the rest is the text. For formats and JSON the text is cut at its first NUL: format, then key,
 * value and headers of the record. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "broker/catalog.h"
#include "client/cli.h"
#include "client/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define TEXT_BYTES_MAX 2048u
#define NOW_MS         1700000000000

/* cli.c has main; what cli_number.c needs of it is ours here. */
void cli_usage(const char *format, ...)
{
    UNREACHABLE();
}

/* --- names --- */

static void check_name(const char *name)
{
    size_t size = 0;
    bool good = true;
    for (const char *at = name; *at != '\0'; at++, size++)
        good = good && ((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') ||
                        *at == '.' || *at == '_' || *at == '-');
    bool is_dots = (size == 1 && name[0] == '.') || (size == 2 && name[0] == '.' && name[1] == '.');
    ASSERT(catalog_name_ok(name) == (good && size >= 1 && size <= 249 && !is_dots));
    ASSERT(catalog_name_internal(name) == (size >= 2 && name[0] == '_' && name[1] == '_'));
}

/* --- numbers --- */

static void check_number(const char *text)
{
    unsigned __int128 exact = 0;
    uint64_t value = 7;
    int64_t bytes = 7, ms = 7;
    bool digits = *text != '\0';
    for (const char *at = text; *at != '\0' && digits; at++) {
        digits = *at >= '0' && *at <= '9' && exact <= UINT64_MAX;
        exact = exact * 10 + (unsigned)(*at - '0');
    }
    bool fits = digits && exact <= UINT64_MAX;
    ASSERT(cli_number_u64(text, 0, UINT64_MAX, &value) == fits && (fits ? value == exact : value == 7));
    ASSERT(!cli_number_u64(text, 5, 4, &value));
    bool is_size = cli_number_bytes(text, &bytes), is_duration = cli_number_ms(text, &ms);
    ASSERT(is_size ? bytes >= -1 : bytes == 7);
    ASSERT(is_duration ? ms >= -1 : ms == 7);
    if (digits && exact < 9000000000000000000u)
        ASSERT(is_size && is_duration && bytes == (int64_t)exact && ms == (int64_t)exact);
    if (digits && exact > INT64_MAX)
        ASSERT(!is_size && !is_duration);
}

static void check_seconds(const char *text)
{
    uint32_t ms = 0;
    if (cli_number_seconds(text, &ms))
        ASSERT(ms >= 1 && ms <= 4000000000u);
    else
        ASSERT(ms == 0);
}

static void check_time(const char *text)
{
    int64_t ms = 0, again = 0;
    char plain[128];
    if (!cli_number_time(text, NOW_MS, &ms))
        return;
    if (text[0] == '-')
        ASSERT(ms >= 0 && ms <= NOW_MS);
    time_t seconds = (time_t)(ms / 1000 - (ms % 1000 < 0));
    struct tm tm;
    if (gmtime_r(&seconds, &tm) == NULL || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900)
        return;
    snprintf(plain, sizeof plain, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
             tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ms - (int64_t)seconds * 1000));
    ASSERT(cli_number_time(plain, NOW_MS, &again) && again == ms);
}

static void check_unescape(char *text)
{
    size_t before = strlen(text);
    bool plain = strchr(text, '\\') == NULL;
    char *copy = strdup(text);
    size_t after = cli_unescape(text);
    ASSERT(after <= before && text[after] == '\0');
    ASSERT(!plain || (after == before && strcmp(copy, text) == 0));
    free(copy);
}

/* --- formats --- */

/* Key, value and headers of a record out of what is left; the headers are those a reader checked before. */
static void make_message(const uint8_t *data, size_t size, struct flo_message *ret)
{
    static const uint8_t headers[] = {2, 'a', 2, '1', 2, 0xff, 1};
    size_t key_size = size / 3;
    *ret = (struct flo_message){.offset = 7, .timestamp_ms = -1};
    if (size > 0 && data[0] % 4 != 1) {
        ret->key = (const char *)data;
        ret->key_size = (uint32_t)key_size;
    }
    if (size > 0 && data[0] % 4 != 2) {
        ret->value = (const char *)data + key_size;
        ret->value_size = (uint32_t)(size - key_size);
    }
    if (size > 0 && data[0] % 2 == 0) {
        ret->headers_count = 2;
        ret->headers = headers;
        ret->headers_size = sizeof headers;
    }
}

static void check_format(const char *text, const uint8_t *rest, size_t rest_size)
{
    static struct output output;
    static struct format format;
    struct flo_message message;
    char bad = 'x';
    make_message(rest, rest_size, &message);
    output_init(&output, -1);
    bool is_format = format_compile(&format, text, &bad);
    ASSERT(format.steps_count <= FORMAT_STEPS_MAX);
    if (is_format)
        format_put(&format, "topic", 3, &message, &output);
    ASSERT(output.used <= sizeof output.buffer);
    format_deinit(&format);
}

static void check_json(const uint8_t *data, size_t size)
{
    static struct output output;
    struct flo_message message;
    make_message(data, size, &message);
    output_init(&output, -1);
    format_put_json("topic", 3, &message, &output);
    ASSERT(output.used > 2 && output.buffer[output.used - 1] == '\n');
    ASSERT(memchr(output.buffer, '\n', output.used) == output.buffer + output.used - 1);
    json_t *json = json_loadb((const char *)output.buffer, output.used, JSON_ALLOW_NUL, NULL);
    ASSERT(json != NULL && json_integer_value(json_object_get(json, "offset")) == 7);
    const json_t *value = json_object_get(json, "value");
    if (message.value != NULL && json_is_string(value))
        ASSERT(json_string_length(value) == message.value_size &&
               memcmp(json_string_value(value), message.value, message.value_size) == 0);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > TEXT_BYTES_MAX)
        return 0;
    char *text = strndup((const char *)data + 1, size - 1); /* exactly as long as it is */
    size_t used = strlen(text) + 1 < size - 1 ? strlen(text) + 1 : size - 1;
    switch (data[0] % 7) {
    case 0:
        check_name(text);
        break;
    case 1:
        check_number(text);
        break;
    case 2:
        check_seconds(text);
        break;
    case 3:
        check_time(text);
        break;
    case 4:
        check_unescape(text);
        break;
    case 5:
        check_format(text, data + 1 + used, size - 1 - used);
        break;
    default:
        check_json(data + 1, size - 1);
    }
    free(text);
    return 0;
}
