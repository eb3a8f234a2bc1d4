/* stdout in big writes: a buffer that is written when it is full or when there is nothing more to come. */
#ifndef FLOTILLA_CLIENT_OUTPUT_H
#define FLOTILLA_CLIENT_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define OUTPUT_BYTES (512u << 10)

enum output_state { OUTPUT_OK, OUTPUT_PIPE_CLOSED, OUTPUT_FAILED }; /* FAILED: errno says why */

struct output {
    int fd;
    enum output_state state;
    int error; /* errno of OUTPUT_FAILED */
    size_t used;
    char buffer[OUTPUT_BYTES];
};

void output_init(struct output *output, int fd);
enum output_state output_flush(struct output *output); /* blocks until all is written */
void output__write_large(struct output *output, const void *data, size_t size);

static inline void output_put(struct output *output, const void *data, size_t size)
{
    if (__builtin_expect(size > OUTPUT_BYTES - output->used, 0)) {
        output__write_large(output, data, size);
        return;
    }
    memcpy(output->buffer + output->used, data, size);
    output->used += size;
}

void output_put_number(struct output *output, int64_t number);

#endif
