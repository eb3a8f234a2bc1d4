/* stdout in big writes. After a failure everything is dropped: the caller looks at `state` when it flushes. */
#include "client/output.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

void output_init(struct output *output, int fd)
{
    output->fd = fd;
    output->state = OUTPUT_OK;
    output->error = 0;
    output->used = 0;
}

static void write_all(struct output *output, const char *data, size_t size)
{
    while (size > 0 && output->state == OUTPUT_OK) {
        ssize_t written = write(output->fd, data, size);
        if (written >= 0) {
            data += written;
            size -= (size_t)written;
        } else if (errno == EAGAIN) {
            /* Somebody made our stdout non-blocking: it shares its flags with the shell's. */
            struct pollfd wait = {.fd = output->fd, .events = POLLOUT};
            poll(&wait, 1, -1);
        } else if (errno == EPIPE) {
            output->state = OUTPUT_PIPE_CLOSED;
        } else if (errno != EINTR) {
            output->state = OUTPUT_FAILED;
            output->error = errno;
        }
    }
}

enum output_state output_flush(struct output *output)
{
    write_all(output, output->buffer, output->used);
    output->used = 0;
    return output->state;
}

void output__write_large(struct output *output, const void *data, size_t size)
{
    output_flush(output);
    if (size >= OUTPUT_BYTES) {
        write_all(output, data, size);
        return;
    }
    memcpy(output->buffer, data, size);
    output->used = size;
}

void output_put_number(struct output *output, int64_t number)
{
    char digits[24];
    char *at = digits + sizeof digits;
    uint64_t left = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    do {
        *--at = (char)('0' + left % 10);
        left /= 10;
    } while (left > 0);
    if (number < 0)
        *--at = '-';
    output_put(output, at, (size_t)(digits + sizeof digits - at));
}
