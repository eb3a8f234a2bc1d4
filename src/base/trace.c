/* Formatting of log lines, and the sink that writes them to stderr in one write call each, so that lines of several
 * threads never mix. */
#include "base/trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define LINE_BYTES_MAX 1024

const char *trace_level_name(enum trace_level level)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    return names[level];
}

void trace_event(const struct trace *t, enum trace_level level, const char *event, const char *format, ...)
{
    if (t == NULL || t->sink == NULL || level < t->level) {
        return;
    }
    char line[LINE_BYTES_MAX];
    int used = snprintf(line, sizeof line, "%s ", event);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line + used, sizeof line - (size_t)used, format, arguments);
    va_end(arguments);
    t->sink(t->context, level, line);
}

void trace_to_stderr(void *context, enum trace_level level, const char *line)
{
    static const int journald_priority[] = {7, 6, 4, 3};
    char out[LINE_BYTES_MAX + 64];
    int size;
    if (context != NULL) {
        size = snprintf(out, sizeof out, "<%d>%s\n", journald_priority[level], line);
    } else {
        struct timespec now;
        struct tm utc;
        clock_gettime(CLOCK_REALTIME, &now);
        gmtime_r(&now.tv_sec, &utc);
        size = snprintf(out, sizeof out, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s %s\n", utc.tm_year + 1900,
                        utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec / 1000000,
                        trace_level_name(level), line);
    }
    if (size > 0 && write(STDERR_FILENO, out, (size_t)size) < 0) {
        return; /* nowhere left to complain */
    }
}
