/* How `flotilla consume` writes a record. A format in kcat's letters is compiled once into a list of steps; JSON is a
 * format of its own.
 *
 *   %t topic   %p partition   %o offset   %T timestamp (ms)   %k key   %K its size   %s value   %S its size (-1: null)
 *   %h headers as k=v,k=v   %% a percent sign   \n \t \r \0 \\ \xNN bytes */
#ifndef FLOTILLA_CLIENT_FORMAT_H
#define FLOTILLA_CLIENT_FORMAT_H

#include <stdbool.h>

#include "client/flotilla.h"
#include "client/output.h"

#define FORMAT_STEPS_MAX 64

enum format_kind {
    FORMAT_TEXT,
    FORMAT_TOPIC,
    FORMAT_PARTITION,
    FORMAT_OFFSET,
    FORMAT_TIMESTAMP,
    FORMAT_KEY,
    FORMAT_KEY_SIZE,
    FORMAT_VALUE,
    FORMAT_VALUE_SIZE,
    FORMAT_HEADERS,
};

struct format_step {
    enum format_kind kind;
    const char *text; /* into struct format */
    size_t text_size;
};

struct format {
    char *text; /* owned: the unescaped literal parts */
    uint32_t steps_count;
    struct format_step steps[FORMAT_STEPS_MAX];
};

/* False: *ret_bad is the letter that is none ('%' at the end: '\0'), or there are more than FORMAT_STEPS_MAX steps
 * (ret_bad '%'). */
bool format_compile(struct format *format, const char *text, char *ret_bad);
void format_deinit(struct format *format);

void format_put(const struct format *format, const char *topic, uint32_t partition, const struct flo_message *message,
                struct output *output);

/* One JSON object and a newline: {topic, partition, offset, timestamp, key, value, headers}; what is not UTF-8 as
 * base64 under key_base64, value_base64; headers are an object of name to text, {"base64": text} or null. */
void format_put_json(const char *topic, uint32_t partition, const struct flo_message *message, struct output *output);

#endif
