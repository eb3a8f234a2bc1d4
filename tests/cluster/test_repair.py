"""Repairs of what is rare: found by the crash states of repairs, here with real processes."""
import os

from harness import wait_for
from test_damage import flip_row, groups_of, key_of, lines, make_topic, produce, repair, rows, values_of


def test_a_short_segment_that_is_lost_is_made_anew_from_its_row(broker):
    """Its row repeats the bytes of the last, partial block: here that is all of them."""
    make_topic(broker, partitions=1)
    produce(broker, 't', 0, lines(0, 0, 20))
    group = groups_of(broker)[0]
    assert broker.stop() == 0
    path = os.path.join(broker.data, 'parts', str(group), '%020d.log' % 0)
    assert os.path.getsize(path) < 4096
    os.unlink(path)
    plan = repair(broker, 0, code=1)
    assert not [row for row in plan if row['row'] == 'drop']
    assert [row for row in plan if row['row'] == 'damage' and 'made anew' in row['what']]
    assert repair(broker, 0, accept=True) == plan
    repair(broker, 0)
    assert 'nothing to repair' in broker.stderr
    broker.start()
    assert values_of(broker, 't', 0) == lines(0, 0, 20)
    assert broker.stop() == 0


def test_the_last_block_of_a_segment_cut_short_is_kept(broker):
    """Its row repeats it, and a start lays it behind the hole: what is served so is not dropped."""
    make_topic(broker, partitions=1)
    values = lines(0, 0, 430)
    for n in range(0, 430, 10):
        produce(broker, 't', 0, values[n:n + 10])
    group = groups_of(broker)[0]
    assert broker.stop() == 0
    segment, = [row for row in rows(broker, 'snapshot') if row['row'] == 'segment' and row['group'] == group]
    assert segment['tail_bytes'] > 2 * segment['bytes'] // 43, 'no whole batch in the last block'
    os.truncate(os.path.join(broker.data, 'parts', str(group), '%020d.log' % 0), 5000)
    dropped, = [row for row in repair(broker, 0, accept=True) if row['row'] == 'drop']
    assert 0 < dropped['first_offset'] < dropped['last_offset'] < 429
    repair(broker, 0)
    assert 'nothing to repair' in broker.stderr
    broker.start()
    read = [(offset, value.encode()) for _, offset, value in broker.consume('t')]
    kept = [n for n in range(430) if not dropped['first_offset'] <= n <= dropped['last_offset']]
    assert read == [(n, values[n]) for n in kept]


def test_the_newest_term_is_known_again(broker):
    """Its row is lost, no segment has a batch of it, and the WAL goes on in it."""
    make_topic(broker, partitions=1)
    for n in range(30):
        produce(broker, 't', 0, lines(0, n, 1))
    group = groups_of(broker)[0]
    broker.kill9()
    broker.config = {'raft': {'snapshot_entries': 20}} # due as soon as the new term has begun
    broker.start()
    wait_for(lambda: broker.metric('checkpoints_total') >= 1, 'a checkpoint')
    produce(broker, 't', 0, lines(0, 30, 5))
    broker.kill9()
    snapshot = [row for row in rows(broker, 'snapshot') if row.get('group') == group]
    picture, = [row for row in snapshot if row['row'] == 'group']
    newest = max(row['term'] for row in snapshot if row['row'] == 'epoch')
    assert newest == picture['applied_term'] and picture['next_offset'] == 30
    flip_row(broker, key_of('E', group, newest))
    repair(broker, 0, accept=True)
    for _ in range(3): # first from memory, then from the segment
        broker.start()
        assert values_of(broker, 't', 0) == lines(0, 0, 35)
        assert broker.stop() == 0
