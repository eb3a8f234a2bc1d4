/* Twin of port/link, and the clients' ends of the same connections.
 *
 * Bytes take time, arrive in pieces cut anywhere or glued together, and may be lost from any byte on when a connection
 * breaks. What the broker sends stays referenced, not copied, until "the kernel takes it" at a later time, so a buffer
 * that is reused too early shows as wrong bytes at the client. After an abandon the broker still receives what was
 * under way, late: the client may long have sent it again on another connection.
 *
 * on_reply sees each frame the moment the broker sends it, before any delay: what a reply promises must be durable
 * then. */
#ifndef FLOTILLA_SIM_LINK_H
#define FLOTILLA_SIM_LINK_H

#include "port/link.h"
#include "sim.h"

struct sim_net;
struct sim_conn; /* a connection; the client's handle */

struct sim_net_options {
    uint64_t delay_us_max; /* one way */
    bool split;            /* pieces of any size, also 1 byte; else as large as they come */
    bool slow_reader;      /* the kernel takes little at a time from the broker */
    void *context;
    void (*accept)(void *context, struct link *link);
    void *reply_context;
    /* A frame of the broker begins: type and request id from its header, its protobuf. conn may be compared, not used.
     */
    void (*on_reply)(void *context, const struct sim_conn *conn, const uint8_t *frame, size_t head_size);
};

struct sim_conn_handler {
    /* All bytes received and not consumed yet; returns how many it consumed. */
    size_t (*on_bytes)(void *owner, const uint8_t *data, size_t size);
    void (*on_closed)(void *owner); /* the connection is gone; not called after sim_conn_close and sim_conn_abandon */
};

struct sim_net *sim_net_new(struct sim_world *world, const struct sim_net_options *options);
void sim_net_free(struct sim_net *net);
void sim_net_set(struct sim_net *net,
                 const struct sim_net_options *options); /* for connections yet to come and for bytes yet to move */

struct sim_conn *sim_conn_open(struct sim_net *net, const struct sim_conn_handler *handler, void *owner);
void sim_conn_send(struct sim_conn *conn, const void *data, size_t size);
void sim_conn_close(struct sim_conn *conn);                     /* in order: the broker gets all bytes, then the end */
void sim_conn_abandon(struct sim_conn *conn, uint64_t late_us); /* the broker gets what was sent, up to late_us later */
void sim_conn_break(struct sim_conn *conn);        /* a fault: both ends lose what is under way; on_closed follows */
void sim_conn_deafen(struct sim_conn *conn);       /* the client takes no byte any more, and does not leave */
uint64_t sim_conn_id(const struct sim_conn *conn); /* never reused */
bool sim_conn_is_of(const struct sim_conn *conn, const void *owner); /* opened by this client, which may have left it */

/* The broker's process is gone: no calls into it any more; clients see their connections close. The links' memory stays
 * until the broker was freed and sim_net_forget is called. */
void sim_net_kill(struct sim_net *net);
void sim_net_forget(struct sim_net *net);
size_t sim_net_links(const struct sim_net *net); /* open at the broker's end */

#endif
