/* What the offline commands print: an item is a name and fields; as text "name key=value ...", as JSON
 * {"row": name, "key": value ...}, one per line. A reader who went away (| head) ends the process quietly. */
#ifndef FLOTILLA_CLIENT_INSPECT_LINES_H
#define FLOTILLA_CLIENT_INSPECT_LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/batch.h"

struct line {
    json_t *json; /* NULL: text */
};

struct line line_begin(bool json, const char *name);
void line_number(struct line *line, const char *key, int64_t number);
void line_text(struct line *line, const char *key, const char *text);
void line_hex(struct line *line, const char *key, const void *data, size_t size); /* up to KV_KEY_BYTES_MAX */
void line_batch(struct line *line, const struct batch_header *header);            /* what stands in its header */
void line_end(struct line *line);

#endif
