/* Entries that are durable and not committed yet, by (group, index, term): only one of those of an index ever is. */
#include "fleet_ledger.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/map.h"
#include "broker/entry.h"
#include "sim_ledger.h"
#include "sim_shadow.h"
#include "wal/wal.h"

struct page_key {
    uint64_t group, index, term;
};

struct page {
    struct page_key key;
    struct ledger_entry entry;
    uint32_t count; /* of messages, from entry.first on */
    UT_hash_handle hh;
};

struct fleet_ledger {
    struct sim_world *world;
    struct judge *judge;
    struct check *check;
    struct page *pages;
};

static void page_drop(struct fleet_ledger *books, struct page *page)
{
    HASH_DEL(books->pages, page);
    free(page);
}

static void on_entry(struct fleet_ledger *books, const struct wal_record *record)
{
    struct page *page = calloc(1, sizeof *page);
    ASSERT(page != NULL);
    page->key = (struct page_key){record->group, record->index, record->term};
    page->count = shadow_read_entry(books->world, record, check_messages(books->check), &page->entry);
    HASH_ADD(hh, books->pages, key, sizeof page->key, page);
}

static void on_durable(void *context, const struct wal_record *record)
{
    struct fleet_ledger *books = context;
    struct entry_birth birth;
    if (record->type == WAL_ENTRY) {
        on_entry(books, record);
    } else if (record->type == WAL_GROUP_NEW && entry_decode_birth(record->payload, &birth) == OK) {
        const struct ledger_policy policy = {birth.config.retention_bytes, birth.config.retention_ms};
        ledger_born(check_ledger(books->check), record->group, &policy);
    }
}

static void on_committed(void *context, uint64_t group, uint64_t index, uint64_t term)
{
    struct fleet_ledger *books = context;
    const struct page_key key = {group, index, term};
    struct page *page;
    HASH_FIND(hh, books->pages, &key, sizeof key, page);
    ASSERT(page != NULL); /* the judge has seen it durable */
    ledger_durable(check_ledger(books->check), &page->entry);
    check_entry(books->check, group, index, term, page->entry.first, page->count);
    page_drop(books, page);
}

struct fleet_ledger *fleet_ledger_new(struct sim_world *world, struct judge *judge, struct check *check)
{
    struct fleet_ledger *books = calloc(1, sizeof *books);
    ASSERT(books != NULL);
    *books = (struct fleet_ledger){.world = world, .judge = judge, .check = check};
    const struct judge_watcher watcher = {books, on_durable, on_committed};
    judge_watch(judge, &watcher);
    return books;
}

void fleet_ledger_free(struct fleet_ledger *books)
{
    struct page *page, *next;
    HASH_ITER(hh, books->pages, page, next)
    {
        page_drop(books, page);
    }
    judge_watch(books->judge, &(struct judge_watcher){0});
    free(books);
}

void fleet_ledger_catch_up(struct fleet_ledger *books, uint64_t group)
{
    judge_catch_up(books->judge, group);
}
