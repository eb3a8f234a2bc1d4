/* Raft groups under faults: seeded runs of a whole group with a network that loses, repeats, delays and reorders, disks
 * that stall, rot and lose what was not synced, restarts, pauses and partitions, while members come and go and the
 * leadership is handed around. The oracle looks at every step; afterwards all faults end: there must be a leader within
 * three election timeouts (votes may split, rarely), everybody gets everything, and nobody disturbs anybody. A failure
 * names its seed: FLOTILLA_SEED=<n> runs that one alone, FLOTILLA_SEEDS=<n> so many of each size. */
#include <inttypes.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "raft_cluster.h"

#define CHAOS_MS   3000
#define CALM_MS    5000
#define TIMEOUT_MS (CLUSTER_ELECTION_MS * 3 / 2) /* an election timeout at its longest */
#define LEADER_MS  (12 * TIMEOUT_MS)             /* votes may split a few times */

/* An assertion inside the core aborts: then this says which run it was. */
static char running[64];

/* Runs whose first leader in peace took more than three timeouts: split votes, now and then. */
static uint64_t slow_elections;

static void name_the_run(int signal_number)
{
    ssize_t written = write(STDERR_FILENO, running, strlen(running));
    (void)written;
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

static void add_marks(struct group_marks *sum, const struct group_marks *m)
{
    uint64_t *to = (uint64_t *)sum; /* nothing but counters */
    const uint64_t *from = (const uint64_t *)m;
    for (size_t i = 0; i < sizeof *sum / sizeof *to; i++) {
        to[i] += from[i];
    }
}

static void print_marks(const struct group_marks *m)
{
    print_message("    elections %" PRIu64 " commits %" PRIu64 " crashes %" PRIu64 " writes_lost %" PRIu64
                  " compactions %" PRIu64 " delivered %" PRIu64 " splits %" PRIu64 "\n",
                  m->elections, m->commits, m->crashes, m->writes_lost, m->compactions, m->delivered, m->splits);
    print_message("    truncations %" PRIu64 " in_flight %" PRIu64 " refusals %" PRIu64 " old_term_tails %" PRIu64
                  " rollbacks %" PRIu64 "\n",
                  m->truncations, m->truncations_in_flight, m->refusals, m->old_term_tails, m->rollbacks);
    print_message("    changes %" PRIu64 " joint %" PRIu64 " promotions %" PRIu64 " transfers %" PRIu64 " done %" PRIu64
                  " reads %" PRIu64 " confirmed %" PRIu64 "\n",
                  m->changes, m->joints, m->promotions, m->transfers, m->transfers_done, m->reads, m->reads_confirmed);
    print_message("    snapshots %" PRIu64 " installs %" PRIu64 " failures %" PRIu64 " damages %" PRIu64
                  " repairs %" PRIu64 " sleeps %" PRIu64 " wakes %" PRIu64 " fulls %" PRIu64 "\n",
                  m->snapshots, m->installs, m->snapshot_failures, m->damages, m->repairs, m->sleeps, m->wakes,
                  m->fulls);
}

/* Faults, then calm: a leader soon, everybody has everything, and then nobody disturbs it. Returns the hash of all that
 * happened. */
static uint64_t run_seed(uint64_t seed, uint32_t nodes, struct group_marks *sum)
{
    snprintf(running, sizeof running, "seed %" PRIu64 ", %" PRIu32 " replicas\n", seed, nodes);
    struct cluster_options options = cluster_options_draw(seed, nodes);
    struct cluster *c = cluster_new(&options);
    cluster_run(c, CHAOS_MS);
    cluster_heal(c);
    slow_elections += cluster_run_until_led(c, LEADER_MS) > 3 * TIMEOUT_MS;
    cluster_run_until_committed(c, 10, CALM_MS);
    cluster_run(c, 2 * CLUSTER_ELECTION_MS); /* a leadership may be on its way to another one */
    uint64_t term = raft_term(cluster_raft(c, cluster_leader(c)));
    cluster_run(c, 5 * CLUSTER_ELECTION_MS);
    uint64_t leader = cluster_leader(c);
    if (leader == 0 || raft_term(cluster_raft(c, leader)) != term) {
        fail_msg("seed %" PRIu64 ", %" PRIu32 " replicas: a leader is disturbed in peace", seed, nodes);
    }
    add_marks(sum, cluster_marks(c));
    uint64_t hash = cluster_hash(c);
    cluster_free(c);
    return hash;
}

static struct group_marks run_seeds(uint64_t first, uint64_t count, uint32_t nodes)
{
    struct group_marks sum = {0};
    slow_elections = 0;
    const char *only = getenv("FLOTILLA_SEED");
    const char *more = getenv("FLOTILLA_SEEDS");
    if (only != NULL) {
        first = strtoull(only, NULL, 10);
        count = 1;
    } else if (more != NULL) {
        count = strtoull(more, NULL, 10);
    }
    for (uint64_t seed = first; seed < first + count; seed++) {
        run_seed(seed, nodes, &sum);
    }
    print_message("%" PRIu32 " replicas, %" PRIu64 " seeds, %" PRIu64 " slow elections:\n", nodes, count,
                  slow_elections);
    assert_true(count < 50 || slow_elections <= count / 50);
    print_marks(&sum);
    if (only == NULL) {
        assert_true(sum.commits > count * nodes && sum.crashes > 0 && sum.writes_lost > 0 && sum.compactions > 0);
    }
    return sum;
}

/* A run without them proves nothing. */
static void expect_everything_happened(const struct group_marks *m)
{
    if (getenv("FLOTILLA_SEED") != NULL) {
        return;
    }
    assert_true(m->truncations > 0 && m->truncations_in_flight > 0 && m->refusals > 0 && m->old_term_tails > 0);
    assert_true(m->changes > 0 && m->joints > 0 && m->rollbacks > 0 && m->promotions > 0);
    assert_true(m->snapshots > 0 && m->installs > 0 && m->snapshot_failures > 0);
    assert_true(m->transfers > 0 && m->transfers_done > 0 && m->reads_confirmed > 0);
    assert_true(m->damages > 0 && m->repairs > 0 && m->sleeps > 0 && m->wakes > 0 && m->fulls > 0 && m->splits > 0);
}

static void one_replica_survives_crashes(void **state)
{
    (void)state;
    run_seeds(1, 200, 1);
}

static void three_replicas_agree_under_faults(void **state)
{
    (void)state;
    struct group_marks sum = run_seeds(1, 1000, 3);
    expect_everything_happened(&sum);
}

static void five_replicas_agree_under_faults(void **state)
{
    (void)state;
    struct group_marks sum = run_seeds(10001, 1000, 5);
    expect_everything_happened(&sum);
}

static void even_and_large_groups_agree_under_faults(void **state)
{
    (void)state;
    run_seeds(20001, 200, 2);
    run_seeds(30001, 200, 4);
    run_seeds(40001, 200, 7);
}

static void equal_seeds_give_equal_runs(void **state)
{
    (void)state;
    struct group_marks sum = {0};
    for (uint64_t seed = 1; seed <= 5; seed++) {
        assert_true(run_seed(seed, 3, &sum) == run_seed(seed, 3, &sum));
    }
    assert_true(run_seed(1, 3, &sum) != run_seed(2, 3, &sum));
}

/* Replica 5's disk stalls while every leader in turn reaches nobody but it with its entries: its log is written, cut
 * and written again under one sync. */
static void stalled_disk_under_many_leaders(void **state)
{
    (void)state;
    struct group_marks sum = {0};
    for (uint64_t seed = 1; seed <= 40; seed++) {
        snprintf(running, sizeof running, "storm seed %" PRIu64 "\n", seed);
        struct cluster_options options = {.seed = seed, .nodes = 5, .delay_ms = 3, .sync_ms = 1, .submit = 0.02};
        struct cluster *c = cluster_new(&options);
        for (int round = 0; round < 8; round++) {
            bool storm = round % 2 == 0;
            cluster_stall(c, 5, storm);
            for (uint64_t from = 1; from <= 4; from++) {
                for (uint64_t to = 1; to <= 4; to++) {
                    cluster_cut_appends(c, from, to, storm);
                }
            }
            cluster_run(c, (storm ? 10 : 2) * CLUSTER_ELECTION_MS);
        }
        cluster_heal(c);
        cluster_run_until_committed(c, 10, CALM_MS);
        add_marks(&sum, cluster_marks(c));
        cluster_free(c);
    }
    assert_true(sum.truncations_in_flight > 40);
}

/* ---- scripted ---- */

static struct cluster *calm_cluster(uint32_t nodes)
{
    struct cluster_options options = {.seed = 99, .nodes = nodes, .delay_ms = 2, .sync_ms = 1};
    struct cluster *c = cluster_new(&options);
    for (int tries = 0; tries < 100 && cluster_leader(c) == 0; tries++) {
        cluster_run(c, CLUSTER_ELECTION_MS);
    }
    assert_true(cluster_leader(c) != 0);
    cluster_run(c, 3 * CLUSTER_HEARTBEAT_MS);
    return c;
}

static void leader_is_kept_while_nothing_fails(void **state)
{
    (void)state;
    struct cluster *c = calm_cluster(3);
    uint64_t leader = cluster_leader(c);
    uint64_t term = raft_term(cluster_raft(c, leader));
    cluster_run(c, 100 * CLUSTER_ELECTION_MS);
    assert_int_equal(cluster_leader(c), leader);
    assert_int_equal(raft_term(cluster_raft(c, leader)), term);
    cluster_free(c);
}

static void fail_over_keeps_what_was_committed(void **state)
{
    (void)state;
    struct cluster *c = calm_cluster(3);
    for (int round = 0; round < 5; round++) {
        uint64_t leader = cluster_leader(c);
        assert_true(cluster_submit(c, leader, 3));
        cluster_run(c, 3 * CLUSTER_HEARTBEAT_MS);
        uint64_t commit = raft_commit_index(cluster_raft(c, leader));
        assert_int_equal(commit, raft_last_index(cluster_raft(c, leader)));
        cluster_crash(c, leader);
        cluster_run(c, 10 * CLUSTER_ELECTION_MS);
        assert_true(cluster_leader(c) != 0 && cluster_leader(c) != leader);
        assert_true(raft_commit_index(cluster_raft(c, cluster_leader(c))) > commit);
        cluster_restart(c, leader);
        cluster_run(c, 3 * CLUSTER_HEARTBEAT_MS);
        assert_int_equal(raft_last_index(cluster_raft(c, leader)), raft_last_index(cluster_raft(c, cluster_leader(c))));
    }
    cluster_free(c);
}

static void leader_with_a_stalled_disk_commits_by_the_others(void **state)
{
    (void)state;
    struct cluster *c = calm_cluster(3);
    uint64_t leader = cluster_leader(c);
    cluster_stall(c, leader, true);
    assert_true(cluster_submit(c, leader, 1));
    cluster_run(c, 3 * CLUSTER_HEARTBEAT_MS);
    const struct raft *r = cluster_raft(c, leader);
    assert_int_equal(raft_commit_index(r), raft_last_index(r));
    assert_true(raft_durable_index(r) < raft_last_index(r));
    cluster_free(c);
}

static void nothing_commits_without_a_majority_of_disks(void **state)
{
    (void)state;
    struct cluster *c = calm_cluster(3);
    uint64_t leader = cluster_leader(c);
    for (uint64_t id = 1; id <= 3; id++) {
        cluster_stall(c, id, id != leader);
    }
    assert_true(cluster_submit(c, leader, 1));
    cluster_run(c, 10 * CLUSTER_HEARTBEAT_MS);
    const struct raft *r = cluster_raft(c, leader);
    assert_int_equal(raft_commit_index(r), raft_last_index(r) - 1);
    cluster_stall(c, leader % 3 + 1, false);
    cluster_run(c, 3 * CLUSTER_HEARTBEAT_MS);
    assert_int_equal(raft_commit_index(r), raft_last_index(r));
    cluster_free(c);
}

int main(void)
{
    signal(SIGABRT, name_the_run);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(leader_is_kept_while_nothing_fails),
        cmocka_unit_test(fail_over_keeps_what_was_committed),
        cmocka_unit_test(leader_with_a_stalled_disk_commits_by_the_others),
        cmocka_unit_test(nothing_commits_without_a_majority_of_disks),
        cmocka_unit_test(one_replica_survives_crashes),
        cmocka_unit_test(three_replicas_agree_under_faults),
        cmocka_unit_test(five_replicas_agree_under_faults),
        cmocka_unit_test(even_and_large_groups_agree_under_faults),
        cmocka_unit_test(stalled_disk_under_many_leaders),
        cmocka_unit_test(equal_seeds_give_equal_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
