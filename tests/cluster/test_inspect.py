"""flotilla inspect: looks into a data directory without changing a byte of it."""
import glob
import hashlib
import json
import os

from harness import wait_for


def fingerprint(folder):
    result = {}
    for parent, _, names in os.walk(folder):
        for name in set(names) - {'lock.mdb'}: # LMDB's table of readers
            path = os.path.join(parent, name)
            with open(path, 'rb') as file:
                result[path] = hashlib.sha256(file.read()).hexdigest()
    return result


def test_inspect_shows_all_and_changes_nothing(broker):
    broker.run('topic', 'create', 't')
    broker.run('produce', 't', '--producer', 'me', stdin=b'a\nb\nc\n')
    wait_for(lambda: broker.metric('timeout_entries_applied_total') >= 1, 'a TIMEOUT entry')
    broker.kill9()
    before = fingerprint(broker.data)
    wal = broker.run('inspect', 'wal', broker.data).decode()
    for word in ('file name=', 'verdict=ok', 'type=GROUP_NEW', 'type=HARD_STATE', 'entry=LEADER', 'entry=TIMEOUT',
                 'entry=DATA'):
        assert word in wal, word
    assert 'damaged' not in wal
    broker.run('inspect', 'snapshot', broker.data)
    assert fingerprint(broker.data) == before
    broker.start()
    assert broker.stop() == 0
    before = fingerprint(broker.data)
    snapshot = broker.run('inspect', 'snapshot', broker.data).decode()
    assert 'identity ' in snapshot and 'next_offset=3' in snapshot
    assert 'batches=0-2@0' in snapshot # the done table knows the batch and its offset
    assert 'end_offset=3' in snapshot
    assert fingerprint(broker.data) == before


def test_inspect_of_nothing(make_broker, tmp_path):
    nobody = make_broker()
    for kind in ('wal', 'snapshot'):
        nobody.run('inspect', kind, str(tmp_path / 'nowhere'), code=2)
        assert nobody.stderr.startswith('flotilla: ') and nobody.stderr.count('\n') == 1, nobody.stderr


def make_segments(broker):
    """Partition 0 of topic t in several finished segments of four batches each; their paths."""
    broker.run('topic', 'create', 't', '-c', 'segment_bytes=65536', '-c', 'max_batch_bytes=16384')
    for part in range(4):
        broker.run('produce', 't', stdin=b''.join(b'%d %s\n' % (part * 1000 + n, b'x' * 40) for n in range(1000)))
    assert broker.stop() == 0
    group, = {row['group'] for row in inspect_segments(broker)[0] if row['row'] == 'file'}
    return sorted(glob.glob(os.path.join(broker.data, 'parts', str(group), '*.log')))


def inspect_segments(broker, path=None, code=0):
    """(all rows, the totals by file)"""
    out = broker.run('inspect', 'segment', '--json', path or broker.data, code=code)
    rows = [json.loads(line) for line in out.splitlines()]
    return rows, [row for row in rows if row['row'] == 'total']


def test_inspect_segment_judges_every_batch(broker):
    paths = make_segments(broker)
    before = fingerprint(broker.data)
    rows, totals = inspect_segments(broker)
    assert len(totals) == len(paths) and all(row['verdict'] == 'ok' for row in totals)
    assert [row['index'] for row in totals] == ['ok'] * (len(paths) - 1) + ['none'] # the active one has none yet
    batches = [row for row in rows if row['row'] == 'batch']
    assert sum(row['records'] for row in batches) == 4000
    following = 0
    for row in batches:
        assert row['offset'] == following and row['crc'] == 'ok' and row['codec'] == 'none'
        following = row['last_offset'] + 1
    assert b'verdict=ok' in broker.run('inspect', 'segment', paths[1])
    second = [row for row in batches if row['offset'] >= 1000][1]
    with open(paths[1], 'r+b') as file: # one byte of a record
        file.seek(second['position'] + 500)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    rows, totals = inspect_segments(broker, code=1)
    damage, = [row for row in rows if row['row'] == 'damage']
    assert damage['why'] == 'wrong crc'
    assert (damage['offset'], damage['last_offset']) == (second['offset'], second['last_offset'])
    assert [row['verdict'] for row in totals] == ['ok', 'damaged'] + ['ok'] * (len(totals) - 2)
    assert totals[1]['lost_offsets'] == second['records']
    with open(paths[1], 'r+b') as file: # its header, too: found again behind it
        file.seek(second['position'])
        file.write(bytes(61))
    rows, totals = inspect_segments(broker, paths[1], code=1)
    damage, = [row for row in rows if row['row'] == 'damage']
    assert (damage['offset'], damage['last_offset']) == (second['offset'], second['last_offset'])
    assert damage['bytes'] == second['bytes']
    os.truncate(paths[0], 20000)
    rows, totals = inspect_segments(broker, paths[0], code=1)
    damage, = [row for row in rows if row['row'] == 'damage']
    assert damage['last_offset'] == 999 and totals[0]['lost_offsets'] == 1000 - totals[0]['records']
    changed = {path for path, mark in fingerprint(broker.data).items() if before[path] != mark}
    assert changed == set(paths[:2]) # by us


def test_inspect_segment_tells_whole_batches_of_another_segment(broker):
    """Two partitions with the same offsets and sizes: only the manifest knows whose bytes these are."""
    broker.run('topic', 'create', 't', '-p', '2', '-c', 'segment_bytes=65536', '-c', 'max_batch_bytes=16384')
    for part in range(4):
        partition = b'%d' % (part % 2)
        lines = b''.join(b'%s %03d %s\n' % (partition, n, b'x' * 40) for n in range(1000))
        broker.run('produce', 't', '-p', partition.decode(), stdin=lines)
    assert broker.stop() == 0
    first, second = sorted(glob.glob(os.path.join(broker.data, 'parts', '*', '00000000000000000000.log')))
    assert os.path.getsize(first) == os.path.getsize(second)
    os.rename(first, first + '.x')
    os.rename(second, first)
    os.rename(first + '.x', second)
    rows, totals = inspect_segments(broker, code=1)
    assert [row['verdict'] for row in totals] == ['damaged', 'ok', 'damaged', 'ok']
    assert len([row for row in rows if row['row'] == 'damage']) == 2
