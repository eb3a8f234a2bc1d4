"""Damage on the disk of a stopped broker: what was acknowledged is served right or answered CORRUPT, never missing or
different in silence; what was not hit is served; a repair says what it drops, and the partition lives on."""
import glob
import json
import os
import random
import shutil
import struct
import subprocess

import pytest

import protocol
from harness import check_dense, wait_for

CORRUPT = 23
BLOCK = 4096


# --- a broker's data, and finding one's way in it ---

def lines(partition, first, count):
    return [b'p%d %06d %s' % (partition, n, b'x' * 40) for n in range(first, first + count)]


def produce(broker, topic, partition, values):
    broker.run('produce', topic, '-p', str(partition), stdin=b''.join(v + b'\n' for v in values))


def make_topic(broker, name='t', partitions=2):
    broker.run('topic', 'create', name, '-p', str(partitions), '-c', 'segment_bytes=65536', '-c',
               'max_batch_bytes=16384')


def rows(broker, kind, code=0):
    return [json.loads(line) for line in broker.run('inspect', kind, '--json', broker.data, code=code).splitlines()]


def groups_of(broker, topic='t'):
    """Group ids by partition, from the running broker."""
    described = json.loads(broker.run('topic', 'describe', topic, '--json'))
    connection = protocol.Connection(broker.addresses['client'])
    groups = connection.groups(topic)
    connection.close()
    assert len(groups) == len(described['partitions'])
    return groups


def flip(path, offset, size=1):
    with open(path, 'r+b') as file:
        file.seek(offset)
        data = file.read(size)
        assert data, (path, offset)
        file.seek(offset)
        file.write(bytes(byte ^ 0xff for byte in data))


def wal_place(broker, lsn, code=0):
    """(path, offset) of a batch."""
    files = [row for row in rows(broker, 'wal', code) if row['row'] == 'file' and row['base_lsn'] <= lsn]
    file = max(files, key=lambda row: row['base_lsn'])
    return os.path.join(broker.data, 'wal', file['name']), BLOCK + lsn - file['base_lsn']


def data_batches(broker, group):
    """lsns of WAL batches that hold records of the group alone among the data, in order."""
    records = [row for row in rows(broker, 'wal') if row['row'] == 'record' and row.get('entry') == 'DATA']
    mine = sorted({row['lsn'] for row in records if row['group'] == group})
    others = {row['lsn'] for row in rows(broker, 'wal') if row['row'] == 'record' and row['group'] != group}
    return [lsn for lsn in mine if lsn not in others]


def repair(broker, partition, accept=False, code=0, topic='t'):
    arguments = ['repair', broker.data, '--partition', '%s/%d' % (topic, partition), '--json']
    out = broker.run(*arguments, *(['--accept-loss'] if accept else []), code=code)
    return [json.loads(line) for line in out.splitlines()]


def status_of(broker, group, offset=0):
    """(status of a fetch, status of ListOffsets, status of a produce)"""
    connection = protocol.Connection(broker.addresses['client'])
    fetched, _ = connection.request(protocol.FETCH, {1: group, 2: offset})
    listed, _ = connection.request(protocol.LIST_OFFSETS, {1: group, 2: protocol_zigzag(-1)})
    produced, _, _ = connection.produce(group, protocol.batch([b'probe']))
    connection.close()
    return fetched.get(1, 0), listed.get(1, 0), produced


def protocol_zigzag(value):
    return value << 1 ^ value >> 63


def state_of(broker, partition, topic='t'):
    described = json.loads(broker.run('topic', 'describe', topic, '--json'))
    return described['partitions'][partition]['state']


def values_of(broker, topic, partition):
    read = broker.consume(topic, '-p', str(partition))
    check_dense(read)
    return [value.encode() for _, _, value in read]


# --- a group damaged in the WAL ---

def damaged_in_the_wal(broker):
    """Two partitions; in partition 0 the records from 400 on stand in the WAL only, and the batch of 500 rots."""
    make_topic(broker)
    for first in (0, 100, 200, 300):
        for partition in (0, 1):
            produce(broker, 't', partition, lines(partition, first, 100))
    assert broker.stop() == 0
    broker.start()
    groups = groups_of(broker)
    for first in (400, 500, 600):
        for partition in (0, 1):
            produce(broker, 't', partition, lines(partition, first, 100))
    broker.kill9()
    batches = data_batches(broker, groups[0])
    path, offset = wal_place(broker, batches[-2])
    flip(path, offset + 300, 8)
    return groups


def test_a_damaged_group_is_kept_from_the_others(broker):
    groups = damaged_in_the_wal(broker)
    for start in range(3): # found; after a kill; after a clean stop
        broker.start()
        assert status_of(broker, groups[0]) == (CORRUPT, CORRUPT, CORRUPT)
        assert state_of(broker, 0) == 'corrupt' and state_of(broker, 1) == 'live'
        assert [p['state'] for p in broker.json('/v1/partitions') if p['topic'] == 't'] == ['corrupt', 'live']
        assert broker.metric('damaged') == 1
        assert 'group_damaged group=%d' % groups[0] in broker.log()
        assert broker.http('/health/live')[0] == 200
        assert values_of(broker, 't', 1) == lines(1, 0, 700 + start)
        produce(broker, 't', 1, lines(1, 700 + start, 1))
        broker.run('consume', 't', '-p', '0', '-e', '--timeout', '1', code=1)
        assert 'damaged' in broker.stderr
        if start == 0:
            broker.kill9()
        else:
            assert broker.stop() == 0
    group, = [row for row in rows(broker, 'snapshot') if row['row'] == 'group' and row['group'] == groups[0]]
    assert group['damaged'] == 'yes'
    broker.start()
    broker.run('topic', 'delete', 't')
    wait_for(lambda: not os.path.exists(os.path.join(broker.data, 'parts', str(groups[0]))), 'the files of the group')
    assert broker.metric('damaged') == 0
    make_topic(broker)
    produce(broker, 't', 0, lines(0, 0, 10))
    assert values_of(broker, 't', 0) == lines(0, 0, 10)
    assert broker.stop() == 0
    assert not [row for row in rows(broker, 'snapshot') if row.get('group') == groups[0]]


def test_repair_of_the_wal_says_what_it_drops(broker):
    groups = damaged_in_the_wal(broker)
    broker.start()
    repair(broker, 0, accept=True, code=1)
    assert 'in use by a broker' in broker.stderr
    assert broker.stop() == 0
    plan = repair(broker, 0, code=1)
    assert '--accept-loss' in broker.stderr
    kept, = [row for row in plan if row['row'] == 'keep' and row['what'] == 'entries']
    dropped, = [row for row in plan if row['row'] == 'drop' and row['what'] == 'entries']
    damage, = [row for row in plan if row['row'] == 'damage']
    assert kept['records'] == 100 and dropped['records'] == 100 and damage['unreadable_batches'] == 1
    assert repair(broker, 1) and 'nothing to repair' in broker.stderr
    assert repair(broker, 0, accept=True) == plan
    repair(broker, 0)
    assert 'nothing to repair' in broker.stderr
    expected = lines(0, 0, 500)
    for start in range(4):
        broker.start()
        assert values_of(broker, 't', 0) == expected
        assert values_of(broker, 't', 1) == lines(1, 0, 700)
        assert broker.metric('damaged') == 0 and state_of(broker, 0) == 'live'
        if start == 1:
            produce(broker, 't', 0, lines(0, 900, 5))
            expected += lines(0, 900, 5)
        if start % 2 == 0:
            broker.kill9()
        else:
            assert broker.stop() == 0
    group, = [row for row in rows(broker, 'snapshot', 0) if row['row'] == 'group' and row['group'] == groups[0]]
    assert group['damaged'] == 'no' and group['snapshot_lsn'] == group['repaired_lsn'] > 0
    assert 'REPAIRED' in broker.run('inspect', 'wal', broker.data, code=1).decode() # the rot is still there to see


def test_a_second_damage_and_repair(broker):
    groups = damaged_in_the_wal(broker)
    repair(broker, 0, accept=True) # at once, no broker has seen the damage
    broker.start()
    wait_for(lambda: broker.metric('checkpoints_total') >= 1, 'the checkpoint that settles the repair')
    produce(broker, 't', 0, lines(0, 800, 10))
    produce(broker, 't', 0, lines(0, 810, 10))
    produce(broker, 't', 0, lines(0, 820, 10))
    broker.kill9()
    records = [row for row in rows(broker, 'wal', 1) if row['row'] == 'record' and row.get('entry') == 'DATA']
    lsns = sorted(row['lsn'] for row in records if row['group'] == groups[0])
    path, offset = wal_place(broker, lsns[-2], 1) # the last one may look like a torn write
    flip(path, offset + 200)
    broker.start()
    assert status_of(broker, groups[0])[0] == CORRUPT
    broker.kill9()
    repair(broker, 0, code=1)
    repair(broker, 0, accept=True)
    broker.start()
    assert values_of(broker, 't', 0) == lines(0, 0, 500) + lines(0, 800, 10)
    assert values_of(broker, 't', 1) == lines(1, 0, 700)
    assert broker.stop() == 0


# --- segments ---

def make_segments(broker):
    """Partition 0 and 1 of t in five segments of a thousand records each; the paths of partition 0's, and its group."""
    make_topic(broker)
    for first in range(0, 5000, 1000):
        for partition in (0, 1):
            produce(broker, 't', partition, lines(partition, first, 1000))
    groups = groups_of(broker)
    assert broker.stop() == 0
    return [sorted(glob.glob(os.path.join(broker.data, 'parts', str(groups[p]), '*.log'))) for p in (0, 1)], groups


def fetch_all(broker, group, end):
    """What every offset answers, from the first to the last: its value, or None where it is CORRUPT."""
    connection = protocol.Connection(broker.addresses['client'])
    result = {}
    offset = 0
    while offset < end:
        reply, body = connection.request(protocol.FETCH, {1: group, 2: offset, 3: 65536})
        status = reply.get(1, 0)
        if status == protocol.NOT_READY:
            continue
        if status == CORRUPT:
            result[offset] = None
            offset += 1
            continue
        assert status == protocol.OK and body, (offset, reply)
        following = offset
        for base, last, values in batches(body):
            assert base <= following <= last, (base, following, last)
            for n, value in enumerate(values):
                if base + n >= offset:
                    result[base + n] = value
            following = last + 1
        offset = following
    connection.close()
    return result


def batches(data):
    """(base offset, last offset, values) of uncompressed batches."""
    at = 0
    while at < len(data):
        base, length = struct.unpack_from('>qi', data, at)
        assert protocol.crc32c(data[at + 21:at + 12 + length]) == struct.unpack_from('>I', data, at + 17)[0]
        delta, = struct.unpack_from('>i', data, at + 23)
        count, = struct.unpack_from('>i', data, at + 57)
        values, where = [], at + 61
        for _ in range(count):
            size, where = read_zigzag(data, where)
            end = where + size
            where += 1
            _, where = read_zigzag(data, where)
            _, where = read_zigzag(data, where)
            key_size, where = read_zigzag(data, where)
            where += max(key_size, 0)
            value_size, where = read_zigzag(data, where)
            values.append(data[where:where + value_size])
            where = end
        yield base, base + delta, values
        at += 12 + length


def read_zigzag(data, at):
    value, at = protocol.read_varint(data, at)
    return value >> 1 ^ -(value & 1), at


def hit_byte(paths, others):
    flip(paths[1], 20000)
    return 1


def hit_header(paths, others):
    flip(paths[1], 16332 + 8, 4) # the length of a batch
    return 1


def hit_block(paths, others):
    with open(paths[2], 'r+b') as file:
        file.seek(5 * BLOCK)
        file.write(bytes(BLOCK))
    return 2


def hit_length(paths, others):
    os.truncate(paths[1], 30000)
    return 1


def hit_name(paths, others):
    os.unlink(paths[3])
    return 3


def hit_chunk(paths, others):
    """A chunk of another partition's segment, where batches begin at the very same places."""
    with open(others[1], 'rb') as source, open(paths[1], 'r+b') as target:
        source.seek(0)
        target.write(source.read(16332))
    return 1


def hit_swap(paths, others):
    os.rename(paths[1], paths[1] + '.x')
    os.rename(others[1], paths[1])
    os.rename(paths[1] + '.x', others[1])
    return 1


SEGMENT_HITS = [hit_byte, hit_header, hit_block, hit_length, hit_name, hit_chunk, hit_swap]


@pytest.mark.parametrize('hit', SEGMENT_HITS, ids=[hit.__name__ for hit in SEGMENT_HITS])
def test_damage_of_a_segment_stays_in_its_range(broker, hit):
    (paths, others), groups = make_segments(broker)
    segment = hit(paths, others)
    broker.start()
    for round in range(2): # what a read has found once it finds again
        read = fetch_all(broker, groups[0], 5000)
        lost = [offset for offset, value in read.items() if value is None]
        assert lost and segment * 1000 <= min(lost) and max(lost) < segment * 1000 + 1000, (min(lost), max(lost))
        for offset, value in read.items():
            assert value is None or value == lines(0, offset, 1)[0]
        produce(broker, 't', 0, lines(0, 5000 + round, 1)) # life goes on at its end
    if hit is not hit_swap:
        assert values_of(broker, 't', 1) == lines(1, 0, 5000)
    assert broker.stop() == 0
    plan = repair(broker, 0, code=1)
    dropped = [row for row in plan if row['row'] == 'drop' and row['what'] == 'offsets']
    assert dropped and dropped[0]['segment'] == segment * 1000
    assert repair(broker, 0, accept=True) == plan
    repair(broker, 0)
    assert 'nothing to repair' in broker.stderr
    gone = {offset for row in dropped for offset in range(row['first_offset'], row['last_offset'] + 1)}
    assert gone == set(lost)
    broker.start()
    read = [(offset, value.encode()) for _, offset, value in broker.consume('t', '-p', '0')]
    assert read == [(n, lines(0, n, 1)[0]) for n in range(5002) if n not in gone]
    produce(broker, 't', 0, lines(0, 5002, 1))
    some = min(gone)
    reply = broker.run('consume', 't', '-p', '0', '-o', str(some), '-n', '1', '-f', '%o')
    assert int(reply) == max(gone) + 1
    connection = protocol.Connection(broker.addresses['client'])
    reply, _ = connection.request(protocol.LIST_OFFSETS, {1: groups[0], 2: 1000})
    assert reply.get(1, 0) == protocol.OK # by time, over the empty batches
    connection.close()
    broker.kill9()
    broker.start()
    assert [offset for _, offset, _ in broker.consume('t', '-p', '0')] == [n for n in range(5003) if n not in gone]
    assert broker.stop() == 0
    rows_, = [row for row in [json.loads(line) for line in broker.run(
        'inspect', 'segment', '--json', paths[segment]).splitlines()] if row['row'] == 'total'],
    assert rows_[0]['verdict'] == 'ok'


def test_an_empty_batch_cannot_be_produced(broker):
    broker.run('topic', 'create', 't')
    group = groups_of(broker)[0]
    connection = protocol.Connection(broker.addresses['client'])
    empty = bytearray(protocol.batch([]))
    empty[23:27] = struct.pack('>i', 9)
    empty[17:21] = struct.pack('>I', protocol.crc32c(bytes(empty[21:])))
    for data in (protocol.batch([]), bytes(empty)):
        assert connection.produce(group, data)[0] == protocol.CORRUPT_BATCH
    connection.close()
    assert broker.consume('t') == []
