/* Log lines: one event, key=value pairs. `time level event key=value ...`, or journald's "<N>" prefix without time when
 * systemd reads stderr. A tracer is a value that its owner hands down; there is no global one. Libraries trace an event
 * once, where it happened; they never trace and return the same thing at every level. */
#ifndef FLOTILLA_BASE_TRACE_H
#define FLOTILLA_BASE_TRACE_H

enum trace_level { TRACE_DEBUG, TRACE_INFO, TRACE_WARN, TRACE_ERROR };

struct trace {
    enum trace_level level;                                                /* events below it are dropped */
    void (*sink)(void *context, enum trace_level level, const char *line); /* line without time, level and newline */
    void *context;
    void (*point)(void *context, unsigned point); /* fault points, see base/point.h; NULL but in tests. Any thread. */
    void (*mark)(void *context, unsigned mark);   /* coverage marks, see base/mark.h; NULL but in tests */
};

/* Formats "event key=value ..." and hands it to the sink; t may be NULL (nothing happens). Lines are cut at 1 KiB. */
void trace_event(const struct trace *t, enum trace_level level, const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#define trace_debug(t, ...) trace_event(t, TRACE_DEBUG, __VA_ARGS__)
#define trace_info(t, ...)  trace_event(t, TRACE_INFO, __VA_ARGS__)
#define trace_warn(t, ...)  trace_event(t, TRACE_WARN, __VA_ARGS__)
#define trace_error(t, ...) trace_event(t, TRACE_ERROR, __VA_ARGS__)

/* The sink for stderr: `context` NULL = time and level words, non-NULL = journald priorities. Safe on any thread. */
void trace_to_stderr(void *context, enum trace_level level, const char *line);

const char *trace_level_name(enum trace_level level);

#endif
