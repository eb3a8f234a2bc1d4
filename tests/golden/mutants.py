#!/usr/bin/env python3
"""Would the tests of the Raft core notice a wrong line? Changes one line at a time in a copy of src/raft, builds it
with the golden scenarios, the swarm and the tests of single replicas, and runs them; every change must be noticed.

    mutants.py SCRATCH [NAME...]     in the directory SCRATCH; prints a table; exit 1 if a change went unnoticed"""
import glob
import os
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
FLAGS = '-std=gnu11 -D_GNU_SOURCE -O1 -g -w'.split()
BASE = ['assert', 'mem', 'rng']
OWNER = ['raft_group', 'raft_oracle', 'raft_watch']
SWARM = ['raft_admin', 'raft_cluster', 'test_raft_cluster']
SINGLE = ['core', 'leader', 'snapshot', 'votes', 'config', 'change', 'transfer', 'reads', 'damage', 'quiet']

# (name, file, the line or a part of it that occurs once, what it becomes)
MUTANTS = [
    ('pre-vote raises the term', 'election.c',
     'raft__become_follower(r, 0);\n    r->role = RAFT_PRE_CANDIDATE;',
     'raft__set_term(r, r->term + 1);\n    r->role = RAFT_PRE_CANDIDATE;'),
    ('no pre-vote', 'election.c', 'if (is_elected(r)) { /* nobody else to ask */', 'if (true) {'),
    ('no lease', 'election.c',
     'return r->leader != 0 && (r->heard_leader || r->now_ms < r->lease_end_ms);',
     'return false;'),
    ('a leader would vote', 'election.c',
     'if (r->role == RAFT_LEADER) {\n        return true;',
     'if (false) {\n        return true;'),
    ('the lease holds for ever', 'election.c', 'r->now_ms < r->lease_end_ms);', 'true);'),
    ('an unreachable leader keeps its lease', 'election.c', 'r->heard_leader = false;\n    r->lease_end_ms = 0;', ''),
    ('transfers wait for the lease', 'election.c',
     '(was_quiet || lease_holds(r)) && !m->force',
     '(was_quiet || lease_holds(r))'),
    ('damaged replicas vote', 'election.c', 'bool vote_is_free = !r->damaged && (', 'bool vote_is_free = ('),
    ('damaged replicas pre-vote', 'election.c', 'is_new && !waits && !r->damaged && log', 'is_new && !waits && log'),
    ('damaged replicas campaign', 'election.c', 'return is_voter(r) && !r->damaged;', 'return is_voter(r);'),
    ('pre-votes for short logs', 'election.c',
     '!r->damaged && log_is_current(r, m->index, m->index_term);\n    update__answer(',
     '!r->damaged;\n    update__answer('),
    ('votes for short logs', 'election.c',
     'vote_is_free && log_is_current(r, m->index, m->index_term);',
     'vote_is_free;'),
    ('two votes in a term', 'election.c', '(r->vote == m->from || (r->vote == 0 && !waits))', '(!waits)'),
    ('learners campaign', 'election.c',
     'if (config__votes_anywhere(&newest->config, r->self_place)) {',
     'if (r->self_place != PLACE_NONE) {'),
    ('who is removed gives up before it is committed', 'election.c',
     'if (newest->index <= r->commit_index || r->configs.count < 2) {',
     'if (true) {'),
    ('the vote counts before its sync', 'election.c',
     'r->role == RAFT_CANDIDATE && writes__hard_state_durable(&r->writes) && is',
     'r->role == RAFT_CANDIDATE && is'),
    ('quiet replicas vote', 'election.c', '(was_quiet || lease_holds(r))', '(lease_holds(r))'),
    ('one half of a joint configuration elects', 'config.c',
     'return now > voters_now / 2 && next > voters_next / 2;',
     'return next > voters_next / 2;'),
    ('half of the voters are a majority', 'config.c',
     'return now > voters_now / 2 && next > voters_next / 2;',
     'return now >= (voters_now + 1) / 2 && next >= (voters_next + 1) / 2;'),
    ('one half of a joint configuration commits', 'config.c',
     'return reached_now < reached_next ? reached_now : reached_next;',
     'return reached_next;'),
    ('learners are counted', 'config.c',
     'if (config->members[i].now == RAFT_VOTER) {\n            sort',
     'if (config->members[i].now != RAFT_ABSENT) {\n            sort'),
    ('voters change without a joint configuration', 'config.c',
     '*ret_config = same_voters ? *next : joint;',
     '*ret_config = *next;'),
    ('a configuration is not rolled back', 'follower.c', '    configs__truncate(&r->configs, from);\n', ''),
    ('a follower forgets a configuration', 'follower.c',
     'if (m->has_config) {\n        configs__push(&r->configs, end, &m->config);\n    }',
     ''),
    ('a second change before the first is committed', 'change.c',
     'raft_config_is_joint(&present->config) || present->index > r->commit_index || r->transfer_to != 0',
     'raft_config_is_joint(&present->config) || r->transfer_to != 0'),
    ('a change before an entry of the own term', 'change.c', 'if (!raft__own_term_committed(r)) {', 'if (false) {'),
    ('a voter that is behind', 'change.c',
     'return newcomer_is_behind(r, config) ? RAFT_CHANGE_BEHIND : RAFT_CHANGE_OK;',
     'return RAFT_CHANGE_OK;'),
    ('a joint configuration is left uncommitted', 'change.c',
     'return raft_accepts(r) && raft_config_is_joint(&present->config) && present->index <= r->commit_index &&',
     'return raft_accepts(r) && raft_config_is_joint(&present->config) &&'),
    ('leavers are not told', 'change.c',
     'if (p->leaving && (knows || r->now_ms >= p->leave_deadline_ms)) {',
     'if (p->leaving) {'),
    ('leavers are told for ever', 'change.c',
     'if (p->leaving && (knows || r->now_ms >= p->leave_deadline_ms)) {',
     'if (false) {'),
    ('a removed leader stays', 'change.c',
     'return r->role == RAFT_LEADER && present->index <= r->commit_index &&',
     'return false && present->index <= r->commit_index &&'),
    ('a removed leader goes at once', 'change.c',
     'return r->role == RAFT_LEADER && present->index <= r->commit_index &&',
     'return r->role == RAFT_LEADER &&'),
    ('commits older terms by counting', 'replication.c',
     'if (index > r->commit_index && trail__term(&r->trail, index) == r->term) {',
     'if (index > r->commit_index) {'),
    ('damaged replicas count for commit', 'replication.c',
     'if (p->place != PLACE_NONE && !p->damaged) {\n            held',
     'if (p->place != PLACE_NONE) {\n            held'),
    ('the own log counts before its sync', 'replication.c',
     'held[r->self_place] = r->writes.durable_index;',
     'held[r->self_place] = r->trail.last_index;'),
    ('configurations travel unnamed', 'replication.c',
     'm->has_config = config != NULL && m->index + m->count == config->index;',
     'm->has_config = false;'),
    ('more than a configuration behind one', 'replication.c', 'return config->index - first + 1;', 'return count;'),
    ('no check-quorum', 'beat.c', 'if (!config__majority_of(raft__config(r), active)) {', 'if (false) {'),
    ('damaged replicas count for check-quorum', 'beat.c',
     'active |= p->active && !p->damaged ?',
     'active |= p->active ?'),
    ('beats commit what is not there', 'follower.c',
     'commit_up_to(r, m->commit < r->matched_index ? m->commit : r->matched_index);',
     'commit_up_to(r, m->commit < r->trail.last_index ? m->commit : r->trail.last_index);'),
    ('reads need no answers', 'reads.c',
     'if (round > r->round_confirmed) {\n        r->round_confirmed = round;',
     'if (true) {\n        r->round_confirmed = r->round_asked;'),
    ('reads share a round that has left', 'reads.c',
     'if (r->round_asked == r->round_sent) {\n        r->round_asked++;\n    }',
     ''),
    ('damaged replicas confirm reads', 'reads.c',
     'if (p->place != PLACE_NONE && !p->damaged) {',
     'if (p->place != PLACE_NONE) {'),
    ('reads before an entry of the own term', 'update.c',
     'raft__own_term_committed(r) ? r->round_confirmed : 0',
     'r->round_confirmed'),
    ('healed at once', 'heal.c',
     'if (p->damaged && p->heal == 0 && r->commit_index > p->heal_after) {',
     'if (p->damaged && p->heal == 0) {'),
    ('healed without the entry', 'heal.c',
     'if (r->matched_index < r->heal_index || r->writes.durable_index < r->heal_index) {',
     'if (false) {'),
    ('healed before the entry is on the disk', 'heal.c',
     'if (r->matched_index < r->heal_index || r->writes.durable_index < r->heal_index) {',
     'if (r->matched_index < r->heal_index) {'),
    ('healed by an older damage', 'heal.c',
     'if (r->damaged && m->heal != 0 && m->damage == r->damage) {',
     'if (r->damaged && m->heal != 0) {'),
    ('healed by late answers', 'heal.c', 'p->heal != 0 && m->commit >= p->heal', 'p->heal != 0'),
    ('its lost vote is free again', 'heal.c', 'if (r->vote == 0) {', 'if (false) {'),
    ('no entry for the damaged', 'heal.c', 'p->heal_after == r->trail.last_index) {', 'false) {'),
    ('damage is kept secret', 'update.c', 'm->damaged = r->damaged;', 'm->damaged = false;'),
    ('transfer to who lacks entries', 'transfer.c',
     'p = p != NULL && p->match == r->trail.last_index ? p : NULL;',
     ''),
    ('a transfer never ends', 'transfer.c', 'if (r->now_ms >= r->transfer_deadline_ms) {', 'if (false) {'),
    ('entries are taken during a transfer', 'question.c',
     'return r->role == RAFT_LEADER && r->transfer_to == 0;',
     'return r->role == RAFT_LEADER;'),
    ('transfer to full ones', 'transfer.c', '!state.damaged && !state.full &&', '!state.damaged &&'),
    ('an old snapshot is wanted', 'question.c',
     'r->role != RAFT_LEADER && index > r->commit_index',
     'r->role != RAFT_LEADER'),
    ('a snapshot keeps any tail', 'snapshot.c',
     'bool holds = trail__term(&r->trail, index) == term;',
     'bool holds = index <= r->trail.last_index;'),
    ('a snapshot keeps no tail', 'snapshot.c',
     'bool holds = trail__term(&r->trail, index) == term;',
     'bool holds = false;'),
    ('a snapshot has no configuration', 'snapshot.c',
     'configs__install(&r->configs, index, event->installed.config_index, event->installed.config);',
     ''),
    ('half of a joint configuration comes with a snapshot', 'config.c',
     '.config = *config};\n    configs__compact(c, index);',
     '.config = *config};\n    raft_config_leave(config, &entry.config);\n    configs__compact(c, index);'),
    ('a snapshot does not raise the term', 'snapshot.c', 'if (term > r->term) {', 'if (false) {'),
    ('a failed snapshot is not repeated', 'progress.c', 'p->snapshot_retry = !p->snapshot_due;', ''),
    ('a snapshot that failed counts', 'progress.c', 'if (!ok) {', 'if (false) {'),
    ('a follower without room makes us spin', 'progress.c', 'if (p->barren == p->next) {', 'if (false) {'),
    ('sleeps with members that lack entries', 'quiet.c',
     'if (!peer_has_everything(r, &r->peers[i])) {',
     'if (false) {'),
    ('sleeps on one yes', 'quiet.c', 'all = all && r->peers[i].quiet;', 'all = all || r->peers[i].quiet;'),
    ('agrees to sleep with another log', 'quiet.c', 'return m->index == r->trail.last_index && m', 'return m'),
    ('messages do not wake', 'quiet.c', 'return !is_of_sleep(r, event->message);', 'return false;'),
    ('writes in flight keep their claim', 'writes.c', 'if (flight->index >= from) {', 'if (false) {'),
    ('what was durable stays so', 'writes.c',
     'if (w->durable_index >= from) {\n        w->durable_index = from - 1;\n    }',
     ''),
    ('an old append cuts', 'follower.c',
     'return true; /* nothing new: an old message',
     'truncate(r, end + 1); return true; /* old: a message'),
]


def run(command, seconds=300):
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds, check=False)
        return done.returncode, done.stdout.decode('utf-8', 'replace')
    except subprocess.TimeoutExpired:
        return 1, 'does not end'


def compile_one(scratch, source, folder):
    name = os.path.join(scratch, os.path.basename(source)[:-2] + '.o')
    code, text = run(['gcc', *FLAGS, '-I', folder, '-I', os.path.join(ROOT, 'src'), '-c', source, '-o', name])
    return name if code == 0 else sys.exit(text)


def link(scratch, objects, name):
    program = os.path.join(scratch, name)
    code, text = run(['gcc', *objects, '-o', program, '-lcmocka'])
    return program if code == 0 else sys.exit(text)


def notice(scratch, fixed, core):
    """What notices it: '' for nothing."""
    golden = link(scratch, core + fixed['base'] + fixed['owner'] + fixed['golden'], 'golden')
    code, text = run([golden, *sorted(glob.glob(os.path.join(ROOT, 'tests', 'golden', 'scripts', '*.txt')))], 60)
    told = []
    if code != 0:
        told.append('golden')
    swarm = link(scratch, core + fixed['base'] + fixed['owner'] + fixed['swarm'], 'swarm')
    code, text = run([swarm])
    if code != 0:
        lines = [line for line in text.splitlines() if 'ERROR: ' in line or 'assertion' in line or 'disturbed' in line]
        told.append('swarm (%s)' % (lines[0].split(': ', 1)[-1][:60] if lines else 'count'))
    for name, test in zip(SINGLE, fixed['single']):
        single = link(scratch, core + fixed['base'] + fixed['bench'] + [test], 'test_' + name)
        if run([single], 20)[0] != 0:
            told.append(name)
            break
    return ', '.join(told)


def main():
    scratch = os.path.abspath(sys.argv[1])
    folder = os.path.join(scratch, 'core')
    os.makedirs(os.path.join(folder, 'raft'), exist_ok=True)
    texts = {}
    for path in glob.glob(os.path.join(ROOT, 'src', 'raft', '*.[ch]')):
        with open(path, encoding='utf-8') as file:
            texts[os.path.basename(path)] = file.read()
    for name, text in texts.items():
        with open(os.path.join(folder, 'raft', name), 'w', encoding='utf-8') as file:
            file.write(text)
    tests = os.path.join(ROOT, 'tests')
    sources = {'base': [os.path.join(ROOT, 'src', 'base', n + '.c') for n in BASE],
               'owner': [os.path.join(tests, 'unit', n + '.c') for n in OWNER],
               'swarm': [os.path.join(tests, 'unit', n + '.c') for n in SWARM],
               'bench': [os.path.join(tests, 'unit', 'raft_bench.c')],
               'single': [os.path.join(tests, 'unit', 'test_raft_' + n + '.c') for n in SINGLE],
               'golden': sorted(glob.glob(os.path.join(tests, 'golden', '*.c')))}
    fixed = {kind: [compile_one(scratch, s, folder) for s in paths] for kind, paths in sources.items()}
    core = {n: compile_one(scratch, os.path.join(folder, 'raft', n), folder) for n in texts if n.endswith('.c')}
    if notice(scratch, fixed, list(core.values())):
        sys.exit('the tests fail without any change')
    missed = 0
    for name, path, old, new in MUTANTS:
        if len(sys.argv) > 2 and name not in sys.argv[2:]:
            continue
        if texts[path].count(old) != 1:
            print('%-50s STALE: the line occurs %d times' % (name, texts[path].count(old)), flush=True)
            missed += 1
            continue
        mutant = os.path.join(scratch, path)
        with open(mutant, 'w', encoding='utf-8') as file:
            file.write(texts[path].replace(old, new))
        objects = dict(core)
        os.makedirs(os.path.join(scratch, 'mutant'), exist_ok=True)
        objects[path] = compile_one(os.path.join(scratch, 'mutant'), mutant, folder)
        told = notice(scratch, fixed, list(objects.values()))
        missed += not told
        print('%-50s %s' % (name, told or 'NOT NOTICED'), flush=True)
    print('mutants: %d unnoticed' % missed)
    return 1 if missed else 0


if __name__ == '__main__':
    sys.exit(main())
