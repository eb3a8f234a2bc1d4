/* InitProducer: gives out producer ids and epochs through `__producers`, which is created at first use. */
#ifndef FLOTILLA_BROKER_PRODUCERS_H
#define FLOTILLA_BROKER_PRODUCERS_H

#include "broker/session.h"

void producers_init_request(struct session *s, const struct frame *frame);
void producers_sweep(struct broker *b, uint64_t now_us); /* deadlines */

#endif
