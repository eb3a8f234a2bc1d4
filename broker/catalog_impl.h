/* Shared by the three files of the catalog: catalog.c (the topics), catalog_tasks.c (create and delete),
 * catalog_load.c (what the registry says, at the start and later). */
#ifndef FLOTILLA_BROKER_CATALOG_IMPL_H
#define FLOTILLA_BROKER_CATALOG_IMPL_H

#include "broker/catalog.h"

struct topic_task {
    struct topic *topic;
    catalog_done done; /* NULL: nobody waits (resumed after a restart) */
    void *context;
    uint64_t first_id;
    uint32_t unborn;
    uint32_t unready;
    enum registry_topic_state state_before; /* delete */
    bool is_gone;                           /* delete: the registry has said so already */
};

struct catalog {
    struct broker *broker;
    struct topic *topics; /* uthash, by name; owned */
    uint32_t tasks_count;
    registry_done load_done;
    void *load_context;
};

/* A topic as in this row, which is copied. Its name is free. */
struct topic *catalog__add(struct catalog *catalog, const struct registry_topic *row);
void catalog__forget(struct topic *topic);
struct topic *catalog__find(struct catalog *catalog, const char *name); /* also one that is going */
/* Takes the row's partitions over. */
void topic__set_row(struct topic *topic, const struct registry_topic *row);

/* catalog_tasks.c */
struct topic_task *task__new(struct topic *topic, catalog_done done, void *context);
/* Makes what is not here yet of a topic that only this broker has, then says LIVE. */
void task__make_births(struct topic_task *task);

#endif
