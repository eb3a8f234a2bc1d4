/* Lines of the offline commands. */
#include "client/inspect_lines.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/limits.h"
#include "client/cli.h"

struct line line_begin(bool json, const char *name)
{
    struct line line = {.json = json ? json_object() : NULL};
    if (line.json != NULL)
        json_object_set_new(line.json, "row", json_string(name));
    else
        fputs(name, stdout);
    return line;
}

void line_number(struct line *line, const char *key, int64_t number)
{
    if (line->json != NULL)
        json_object_set_new(line->json, key, json_integer(number));
    else
        printf(" %s=%" PRId64, key, number);
}

void line_text(struct line *line, const char *key, const char *text)
{
    if (line->json != NULL)
        json_object_set_new(line->json, key, json_string(text));
    else
        printf(" %s=%s", key, text);
}

void line_hex(struct line *line, const char *key, const void *data, size_t size)
{
    const uint8_t *bytes = data;
    char text[2 * KV_KEY_BYTES_MAX + 1];
    ASSERT(size <= KV_KEY_BYTES_MAX);
    for (size_t i = 0; i < size; i++)
        sprintf(text + 2 * i, "%02x", bytes[i]);
    text[2 * size] = '\0';
    line_text(line, key, text);
}

void line_end(struct line *line)
{
    if (line->json != NULL) {
        json_dumpf(line->json, stdout, JSON_COMPACT);
        json_decref(line->json);
    }
    fputc('\n', stdout);
    if (ferror(stdout))
        exit(CLI_DONE);
}

/* What stands in a batch's header. */
void line_batch(struct line *line, const struct batch_header *header)
{
    static const char *const codecs[] = {"none", "gzip", "snappy", "lz4", "zstd", "?", "?", "?"};
    line_number(line, "records", header->records_count);
    line_text(line, "codec", codecs[batch_codec(header) & 7]);
    line_number(line, "producer", header->producer_id);
    line_number(line, "epoch", header->producer_epoch);
    line_number(line, "sequence", header->base_sequence);
    line_number(line, "timestamp", header->base_timestamp);
}
