/* Compiled output formats and JSON. The hot path is format_put: a record of "%s\n" is two memcpy. */
#include "client/format.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/assert.h"
#include "client/cli.h"

/* ---- compiling ---- */

static bool add_step(struct format *format, enum format_kind kind, const char *text, size_t text_size)
{
    if (format->steps_count == FORMAT_STEPS_MAX)
        return false;
    format->steps[format->steps_count++] = (struct format_step){kind, text, text_size};
    return true;
}

static bool letter_kind(char letter, enum format_kind *ret_kind)
{
    static const char letters[] = "tpoTkKsSh";
    static const enum format_kind kinds[] = {FORMAT_TOPIC,     FORMAT_PARTITION,  FORMAT_OFFSET,
                                             FORMAT_TIMESTAMP, FORMAT_KEY,        FORMAT_KEY_SIZE,
                                             FORMAT_VALUE,     FORMAT_VALUE_SIZE, FORMAT_HEADERS};
    const char *found = letter != '\0' ? strchr(letters, letter) : NULL;
    if (found == NULL)
        return false;
    *ret_kind = kinds[found - letters];
    return true;
}

/* The literal between two letters: unescaped in place, then a step of its own. */
static bool add_literal(struct format *format, char *start, char *end)
{
    if (start == end)
        return true;
    char kept = *end;
    *end = '\0';
    size_t size = cli_unescape(start);
    bool added = add_step(format, FORMAT_TEXT, start, size);
    *end = kept;
    return added;
}

bool format_compile(struct format *format, const char *text, char *ret_bad)
{
    *format = (struct format){.text = strdup(text)};
    ASSERT(format->text != NULL);
    char *start = format->text;
    char *percent;
    *ret_bad = '%';
    while ((percent = strchr(start, '%')) != NULL) {
        enum format_kind kind = FORMAT_TEXT;
        bool is_percent = percent[1] == '%';
        if (!is_percent && !letter_kind(percent[1], &kind)) {
            *ret_bad = percent[1];
            return false;
        }
        if (!add_literal(format, start, percent) || !add_step(format, kind, "%", 1))
            return false;
        start = percent + 2;
    }
    return add_literal(format, start, start + strlen(start));
}

void format_deinit(struct format *format)
{
    free(format->text);
    format->text = NULL;
}

/* ---- writing ---- */

static void put_headers(struct flo_message message, struct output *output)
{
    struct flo_header header;
    for (bool first = true; flo_message_header(&message, &header); first = false) {
        if (!first)
            output_put(output, ",", 1);
        output_put(output, header.key, header.key_size);
        output_put(output, "=", 1);
        if (header.value != NULL)
            output_put(output, header.value, header.value_size);
        else
            output_put(output, "NULL", 4); /* as kcat does */
    }
}

void format_put(const struct format *format, const char *topic, uint32_t partition, const struct flo_message *message,
                struct output *output)
{
    for (uint32_t i = 0; i < format->steps_count; i++) {
        const struct format_step *step = &format->steps[i];
        switch (step->kind) {
        case FORMAT_TEXT:
            output_put(output, step->text, step->text_size);
            break;
        case FORMAT_TOPIC:
            output_put(output, topic, strlen(topic));
            break;
        case FORMAT_PARTITION:
            output_put_number(output, partition);
            break;
        case FORMAT_OFFSET:
            output_put_number(output, message->offset);
            break;
        case FORMAT_TIMESTAMP:
            output_put_number(output, message->timestamp_ms);
            break;
        case FORMAT_KEY:
            if (message->key_size > 0)
                output_put(output, message->key, message->key_size);
            break;
        case FORMAT_KEY_SIZE:
            output_put_number(output, message->key != NULL ? (int64_t)message->key_size : -1);
            break;
        case FORMAT_VALUE:
            if (message->value_size > 0)
                output_put(output, message->value, message->value_size);
            break;
        case FORMAT_VALUE_SIZE:
            output_put_number(output, message->value != NULL ? (int64_t)message->value_size : -1);
            break;
        case FORMAT_HEADERS:
            put_headers(*message, output);
            break;
        }
    }
}

/* ---- JSON ---- */

static char *base64_encode(const uint8_t *data, size_t size, size_t *ret_size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t text_size = (size + 2) / 3 * 4;
    char *text = malloc(text_size + 1);
    ASSERT(text != NULL);
    char *to = text;
    for (size_t at = 0; at < size; at += 3) {
        uint32_t bits = (uint32_t)data[at] << 16;
        bits |= at + 1 < size ? (uint32_t)data[at + 1] << 8 : 0;
        bits |= at + 2 < size ? (uint32_t)data[at + 2] : 0;
        *to++ = digits[bits >> 18];
        *to++ = digits[bits >> 12 & 63];
        *to++ = at + 1 < size ? digits[bits >> 6 & 63] : '=';
        *to++ = at + 2 < size ? digits[bits & 63] : '=';
    }
    *to = '\0';
    *ret_size = text_size;
    return text;
}

static json_t *json_base64(const void *data, size_t size)
{
    size_t text_size;
    char *text = base64_encode(data, size, &text_size);
    json_t *json = json_stringn(text, text_size);
    free(text);
    return json;
}

/* jansson judges UTF-8: what it refuses goes as base64 under another name. */
static void set_bytes(json_t *object, const char *name, const char *base64_name, const void *data, size_t size)
{
    json_t *text = data == NULL ? json_null() : json_stringn(size > 0 ? data : "", size);
    if (text != NULL)
        json_object_set_new(object, name, text);
    else
        json_object_set_new(object, base64_name, json_base64(data, size));
}

static json_t *json_headers(struct flo_message message)
{
    json_t *object = json_object();
    struct flo_header header;
    while (flo_message_header(&message, &header)) {
        json_t *value = header.value == NULL ? json_null() : json_stringn(header.value, header.value_size);
        if (value == NULL)
            value = json_pack("{s:o}", "base64", json_base64(header.value, header.value_size));
        /* jansson 2.14 takes names that end with a NUL only; one that is no UTF-8 is spelled in base64 too. */
        char *name = strndup(header.key, header.key_size);
        ASSERT(name != NULL);
        if (json_object_set(object, name, value) != 0) {
            size_t size;
            char *encoded = base64_encode(header.key, header.key_size, &size);
            json_object_set(object, encoded, value);
            free(encoded);
        }
        json_decref(value);
        free(name);
    }
    return object;
}

static int put_json_text(const char *text, size_t size, void *context)
{
    output_put(context, text, size);
    return 0;
}

void format_put_json(const char *topic, uint32_t partition, const struct flo_message *message, struct output *output)
{
    json_t *object = json_pack("{s:s,s:I,s:I,s:I}", "topic", topic, "partition", (json_int_t)partition, "offset",
                               (json_int_t)message->offset, "timestamp", (json_int_t)message->timestamp_ms);
    ASSERT(object != NULL);
    set_bytes(object, "key", "key_base64", message->key, message->key_size);
    set_bytes(object, "value", "value_base64", message->value, message->value_size);
    json_object_set_new(object, "headers", json_headers(*message));
    json_dump_callback(object, put_json_text, output, JSON_COMPACT);
    output_put(output, "\n", 1);
    json_decref(object);
}
