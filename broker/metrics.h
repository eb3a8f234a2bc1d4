/* The broker's counters, gauges and histograms as Prometheus text (exposition format 0.0.4): names flotilla_*, base
 * units (bytes, seconds), counters end in _total. Updating a metric is an addition to a plain field (counters.h); only
 * writing the text costs anything. */
#ifndef FLOTILLA_BROKER_METRICS_H
#define FLOTILLA_BROKER_METRICS_H

#include <stdio.h>

#include "broker/status.h"

/* Everything about the broker as a whole. */
void metrics_write(FILE *out, const struct status_broker *status);

/* The metrics that carry a topic label. Prometheus wants the lines of one metric together, so each is a pass over the
 * topics: metrics_write_topic for every metric < METRICS_TOPIC_COUNT, the header first. Label values need no escape:
 * topic names are [a-zA-Z0-9._-]. */
#define METRICS_TOPIC_COUNT 4u
void metrics_write_topic_header(FILE *out, unsigned metric);
void metrics_write_topic(FILE *out, unsigned metric, const struct status_topic *topic);

#endif
