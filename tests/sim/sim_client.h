/* Internals of the workload: what all its clients share. A client has one connection to each broker, a table of
 * requests under way, and a class that says what it does with replies. Request ids are never reused in a run, so a
 * reply can be judged when it leaves the broker although its client has long gone. */
#ifndef FLOTILLA_SIM_CLIENT_H
#define FLOTILLA_SIM_CLIENT_H

#include <sys/queue.h>

#include "sim_load.h"
#include "sim_reign.h"
#include "wire/codec.h"

#define TOPICS_MAX_SIM     16
#define PARTITIONS_MAX_SIM 64

struct client;
struct route;

/* A request as it was sent; kept for the whole run. */
struct request {
    enum frame_type type;
    struct client *client;
    uint64_t broker;
    uint64_t conn_id;
    bool is_open;    /* its client waits for the reply */
    bool is_routing; /* METADATA that the client asks for itself: who leads? */
    uint64_t sent_us;
    uint64_t group;
    uint32_t first, count; /* PRODUCE: records */
    enum check_acks acks;
    int64_t begun;  /* LIST_OFFSETS: of load_truth.read_begin */
    int64_t floor;  /* LIST_OFFSETS: what was promised when it was sent; INIT_PRODUCER: the epoch that was known */
    bool is_next;   /* PRODUCE: all earlier batches of its stream were acknowledged when it was sent */
    bool is_lie;    /* PRODUCE of the liar's own: an "ok" is no promise */
    bool is_bad;    /* PRODUCE that must be refused */
    int64_t offset; /* FETCH */
    char name[64];  /* topic or producer */
};

struct client_class {
    const char *name;
    bool only_reads;
    void (*connected)(struct client *client); /* or NULL; it is woken in any case */
    /* or NULL; the connection to the broker is gone, requests under way there are unanswered */
    void (*lost)(struct client *client, uint64_t broker);
    void (*reply)(struct client *client, struct request *request, const union codec_message *message,
                  const uint8_t *payload, uint32_t payload_size);
    void (*wake)(struct client *client); /* the time asked for by client_wake has come */
};

struct client_conn {
    struct client *client;
    uint64_t broker;
    struct sim_conn *conn; /* NULL: not connected */
    uint32_t requests_open;
    uint64_t oldest_us; /* the last sign of life while requests are open */
    struct sim_event *connect;
};

struct client {
    struct load *load;
    const struct client_class *class;
    struct client_conn conns[LOAD_BROKERS_MAX]; /* of broker i + 1; load->brokers_count of them */
    struct route *routes;                       /* whom it believes to lead; owned */
    struct request *asking;                     /* Metadata about that; the last one, NULL: none yet */
    struct sim_event *wake;
    uint64_t timeout_us; /* of requests: then the connection is given up */
    bool is_idle;        /* wants no connection */
    bool is_vandal;      /* its replies answer nothing */
    TAILQ_ENTRY(client) link;
};

/* A topic as its clients know it. */
struct load_topic {
    char name[64];
    uint32_t partitions;
    uint64_t groups[PARTITIONS_MAX_SIM]; /* valid when live */
    bool wanted;                         /* should exist at the end */
    bool live;                           /* created, groups known */
    bool confirmed;                      /* the broker said that it is made: it must exist */
    bool is_there; /* the broker said that the name is taken: perhaps it is still being made, and may fail */
    bool deleting;
    bool is_churn;
    bool is_by_hand;                  /* several brokers: the controller writes it, else a broker is asked */
    bool is_doubtful;                 /* a request about it was never answered, and may still be on its way */
    uint64_t retention_bytes;         /* 0: none */
    int64_t retention_ms, segment_ms; /* 0: none */
};

/* A batch that an honest producer sent, for those who repeat it. */
struct exhibit {
    uint64_t group;
    uint32_t first, count;
    uint8_t *bytes; /* owned; NULL: empty place */
    uint32_t size;
    uint64_t sent_us; /* for the first time: its producer may be forgotten since then */
};
#define EXHIBITS_MAX 24

struct crowd;

/* A broker as the load knows it. */
struct load_broker {
    struct load *load;
    uint64_t id;
    struct sim_net *net;
    bool is_up;
    uint64_t life;
};

struct load {
    struct sim_world *world;
    const struct sim_options *options;
    struct load_broker brokers[LOAD_BROKERS_MAX]; /* from 0 on */
    uint32_t brokers_count;
    struct check *check;
    struct shadow *shadow;
    struct room *room;
    const struct load_truth *truth;
    const struct load_controller *controller;
    struct reigns *reigns; /* with several brokers; owned */
    bool quiet;
    uint64_t quiet_us; /* since when */
    bool proving;
    bool rotten; /* CORRUPT is an honest answer */

    struct request **requests; /* by id - 1; owned */
    uint32_t requests_count, requests_capacity;
    struct load_topic topics[TOPICS_MAX_SIM];
    uint32_t topics_count;
    uint32_t records_sent;
    TAILQ_HEAD(, client) clients;

    struct client *admin, *auditor, *prover;
    struct client *producers[32];
    uint32_t producers_count;
    struct client *vandal, *liar, *greedy; /* or NULL */
    struct crowd *crowd;                   /* or NULL */
    struct exhibit exhibits[EXHIBITS_MAX]; /* the last ones, in turn */
    uint32_t exhibits_next;
    bool audited; /* everything was read since the broker came up */
};

/* --- sim_client.c --- */
void client_init(struct client *client, struct load *load, const struct client_class *class);
void client_done(struct client *client);
void client_connect(struct client *client); /* now or as soon as brokers are up; nothing where it is connected */
/* Gives up all connections; late: what was sent may arrive long after. */
void client_drop(struct client *client, bool late);
bool client_is_connected(const struct client *client); /* to any broker */
uint32_t client_requests_open(const struct client *client);
struct client_conn *client_conn_to(struct client *client, uint64_t broker); /* NULL: not connected to it */
struct client_conn *client_any(struct client *client);                      /* NULL: to none */
/* Whom it believes to lead the group (0: `__producers`), or anybody. NULL: nobody is there. */
struct client_conn *client_route(struct client *client, uint64_t group);
bool client_owns(const struct client *client, const struct sim_conn *conn); /* client NULL: false */
bool client_goes_home(struct client *client);            /* the load ends: false if not; no connection from now on */
void client_wake(struct client *client, uint64_t in_us); /* replaces an earlier wake */
struct request *client_request(struct client_conn *to, enum frame_type type);
void client_send(struct client *client, struct request *request, const void *message, const uint8_t *payload,
                 uint32_t payload_size);
void client_send_no_reply(struct client *client, struct request *request, const void *message, const uint8_t *payload,
                          uint32_t payload_size);

/* --- topics, sim_load.c --- */
bool load_has_many(const struct load *load); /* brokers, as far as clients know: no shadow is that of all */
struct load_topic *load_find_topic(struct load *load, const char *name);
bool load_status_is_retriable(uint32_t status);
/* What one of several brokers may say of a group that it leads no more, has no replica of or one that is damaged. */
bool load_may_go_elsewhere(const struct load *load, uint32_t status);
void load_exhibit_put(struct load *load, const struct exhibit *exhibit); /* copies its bytes */
/* Any of them that is young enough to be repeated: none of its producers can have been forgotten since. NULL: none. */
const struct exhibit *load_exhibit(struct load *load);

/* --- the classes --- */
struct client *admin_new(struct load *load);
void admin_go_quiet(
    struct client *admin); /* several brokers: what it made goes, since nobody keeps majorities of it up */
void admin_expect(struct client *admin, const struct load_wish *wish);
bool admin_is_quiet(const struct client *admin);

struct client *producer_new(struct load *load, uint32_t number);
void producer_attach(struct client *producer, uint64_t group);
bool producer_has_work(const struct client *producer); /* it writes to some group */
void producer_detach(struct load *load,
                     uint64_t group); /* the topic is being deleted: no producer writes to it any more */
bool producer_is_quiet(const struct client *producer, const char **ret_why);
void producer_free(struct client *producer);
struct client *prover_new(struct load *load); /* a producer that writes one record to every partition */
bool prover_is_done(const struct client *prover, const char **ret_why);
void producer_take_over(struct client *producer); /* starts anew under the same name, leaving its frames behind */
void producer_judge_reply(struct load *load, const struct request *request, const ProduceReply *reply);
void producer_judge_init(struct load *load, const struct request *request, const InitProducerReply *reply);

struct client *consumer_new(struct load *load, uint32_t number);
struct client *auditor_new(struct load *load);
struct client *
greedy_new(struct load *load); /* a producer that fills one partition in bursts, to the end of the proof */
struct client *liar_new(struct load *load);
struct crowd *crowd_new(struct load *load);
bool crowd_has(const struct crowd *crowd, const struct sim_conn *conn);
void crowd_send_home(struct crowd *crowd);
void crowd_free(struct crowd *crowd);
struct client *vandal_new(struct load *load); /* sends what is no frame; must be answered by an error frame or an end */
void auditor_begin(struct client *auditor, bool is_final);
bool auditor_is_reading(const struct client *auditor);
void reader_judge_fetch(struct load *load, const struct request *request, const FetchReply *reply);
void reader_judge_list(struct load *load, const struct request *request, const ListOffsetsReply *reply);
void reader_free(struct client *reader);

#endif
