/* The simulator's checkpoint store: port/kv.h in memory, with crashes, power cuts, a full disk and rot.
 *
 * It outlives the broker that uses it: the file, so to say. Two states are kept, what a process reads and what is on
 * the disk; a commit moves both, so both differ only after a process died in the middle of a commit (point
 * kv.commit.written below): the next process reads that commit, as it would from the page cache, and a power cut may
 * still take it away, until a sync or a later commit. Transactions see a snapshot; nothing depends on addresses, time
 * or chance.
 *
 * Faults: before each step the callback is asked by the name of the point, and true means that the process dies there:
 * from then on all calls return ERR_IO until sim_kv_restart.
 *
 *   kv.begin            a write transaction begins
 *   kv.put              a row is put or deleted
 *   kv.commit.before    nothing of the commit is there
 *   kv.commit.written   it is in the page cache, not on the disk
 *   kv.commit.after     it is on the disk, but the caller never hears of it
 *
 * Threads: one. Misuse (two writers, a write in a read transaction, keys of a wrong size) is asserted. */
#ifndef FLOTILLA_TESTS_SIM_KV_H
#define FLOTILLA_TESTS_SIM_KV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "port/kv.h"

struct sim_kv_options {
    bool (*fault)(void *context, const char *point); /* NULL: never */
    /* Asked at kv.begin, kv.put and kv.commit: what the call fails with, having done nothing; OK: it goes on. */
    enum err (*error)(void *context, const char *point); /* NULL: never fails */
    void *context;
};

struct kv *sim_kv_new(const struct sim_kv_options *options);
void sim_kv_free(struct kv *kv);

/* The process is gone (also if a fault killed it before). kept false: a power cut, only what is on the disk stays. */
void sim_kv_crash(struct kv *kv, bool kept);
/* A new process opens the store. Transactions that the old one left open are gone; it must not touch them any more. */
void sim_kv_restart(struct kv *kv);
bool sim_kv_is_dead(const struct kv *kv);

/* While full, put returns ERR_STORAGE_FULL; deletes and commits go on. */
void sim_kv_set_full(struct kv *kv, bool full);
/* Flips one bit of a stored value, on the disk and in the page cache; bit < 8 * size. false: no such row or bit. */
bool sim_kv_flip_bit(struct kv *kv, struct kv_bytes key, size_t bit);

/* What a power cut now would leave: a store of its own without faults, to be freed. Costs nothing: trees are shared. */
struct kv *sim_kv_copy_durable(const struct kv *kv);
/* The same of what a process would read now. */
struct kv *sim_kv_copy_visible(const struct kv *kv);

size_t sim_kv_rows_count(const struct kv *kv);
uint64_t sim_kv_commits_count(const struct kv *kv); /* since new, of all processes */
/* Of all rows that a process would read now; equal contents, equal hash. */
uint32_t sim_kv_hash(const struct kv *kv);

#endif
