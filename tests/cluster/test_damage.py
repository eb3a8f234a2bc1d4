"""Damage on the disk of a stopped broker: what was acknowledged is served right or answered CORRUPT, never missing or
different in silence; what was not hit is served; a repair says what it drops, and the partition lives on."""
import glob
import json
import os
import random
import struct
import subprocess

import pytest

import protocol
from harness import check_dense, wait_for
from lmdb_pages import keys_of_leaves

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
        assert 'damaged partitions: 1,' in broker.http('/health/ready')[1]
        assert b'partition 0 is damaged and not served' in broker.run('topic', 'describe', 't')
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


def test_rot_of_what_a_picture_holds_is_no_damage(broker):
    """A released file of the WAL is read by every start until it is written over; nobody needs what is in it."""
    make_topic(broker)
    produce(broker, 't', 0, lines(0, 0, 100))
    produce(broker, 't', 0, lines(0, 100, 100))
    groups = groups_of(broker)
    assert broker.stop() == 0 # with a picture of everything
    path, offset = wal_place(broker, data_batches(broker, groups[0])[0])
    flip(path, offset + 300, 8)
    for start in range(3): # as it was; with more behind it; after a kill
        broker.start()
        assert 'wal_damaged' in broker.log() and 'group_damaged' not in broker.log()
        assert broker.metric('damaged') == 0 and state_of(broker, 0) == 'live'
        assert values_of(broker, 't', 0) == lines(0, 0, 200 + start)
        produce(broker, 't', 0, lines(0, 200 + start, 1))
        broker.kill9()


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
    assert group['damaged'] == 'no' and 0 < group['snapshot_lsn'] <= group['repaired_lsn']
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


@pytest.mark.parametrize('place', [3, 8, 11, 16, 26])
def test_a_rotten_header_hides_nothing_behind_it(broker, place):
    """In the active segment, whose index a start does not have."""
    broker.run('topic', 'create', 't')
    group = groups_of(broker)[0]
    connection = protocol.Connection(broker.addresses['client'])
    for first in range(0, 2000, 10):
        assert connection.produce(group, protocol.batch(lines(0, first, 10)))[0] == protocol.OK
    connection.close()
    assert broker.stop() == 0
    path, = glob.glob(os.path.join(broker.data, 'parts', str(group), '*.log'))
    with open(path, 'rb') as file:
        size = len(file.read()) // 200
    flip(path, 77 * size + place)
    broker.start()
    for round in range(2):
        read = fetch_all(broker, group, 2000)
        assert [offset for offset, value in read.items() if value is None] == list(range(770, 780))
        assert all(value is None or value == lines(0, offset, 1)[0] for offset, value in read.items())
        produce(broker, 't', 0, lines(0, 2000 + round, 1))
    read = broker.run('consume', 't', '-p', '0', '-o', '780', '-e').splitlines()
    assert read == lines(0, 780, 1222)
    assert broker.stop() == 0


def test_a_segment_that_cannot_be_opened_holds_up_nobody(make_broker):
    """The disk fails at one segment of a start: its partition is withheld for this life, marked is nothing, and what it
    has in the log alone is kept, however much the others write meanwhile."""
    broker = make_broker(config={'wal': {'file_bytes': '1MiB', 'budget_bytes': '8MiB'}}).start()
    make_topic(broker)
    for partition in (0, 1):
        produce(broker, 't', partition, lines(partition, 0, 100))
    groups = groups_of(broker)
    assert broker.stop() == 0
    broker.start()
    produce(broker, 't', 0, lines(0, 100, 100)) # stand in the log alone
    produce(broker, 't', 1, lines(1, 100, 100))
    broker.kill9()
    path, = glob.glob(os.path.join(broker.data, 'parts', str(groups[0]), '*.log'))
    for life in range(2):
        os.rename(path, path + '.away')
        os.symlink(os.path.basename(path), path) # leads to itself: to open it is an error
        broker.start()
        assert status_of(broker, groups[0]) == (CORRUPT, CORRUPT, CORRUPT)
        assert 'group_withheld group=%d' % groups[0] in broker.log()
        assert state_of(broker, 0) == 'corrupt' and broker.metric('damaged') == 1
        if life == 1:
            broker.run('produce', 't', '-p', '1', '--batch-bytes', '16384', stdin=(b'y' * 1000 + b'\n') * 30000)
            assert broker.metric('wal_rolls_total') > 20 and 'group_given_up' not in broker.log()
        broker.kill9() if life == 0 else broker.stop()
        os.unlink(path)
        os.rename(path + '.away', path)
    broker.start()
    assert values_of(broker, 't', 0) == lines(0, 0, 200) and state_of(broker, 0) == 'live'
    assert values_of(broker, 't', 1)[:200] == lines(1, 0, 200)
    produce(broker, 't', 0, lines(0, 200, 1))
    assert broker.stop() == 0


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


# --- the checkpoint store ---

def key_of(kind, group, number=None):
    return kind.encode() + struct.pack('>Q', group) + (b'' if number is None else struct.pack('>q', number))


def flip_row(broker, key, at=4):
    """A byte of the row's value, wherever a leaf page has it."""
    path = os.path.join(broker.data, 'meta', 'data.mdb')
    with open(path, 'rb') as file:
        places = [place + at for place in keys_of_leaves(file.read(), key)]
    assert places, key
    for place in places:
        flip(path, place)


def two_partitions(broker):
    make_topic(broker)
    for first in (0, 1000, 2000):
        for partition in (0, 1):
            produce(broker, 't', partition, lines(partition, first, 1000))
    groups = groups_of(broker)
    assert broker.stop() == 0
    return groups


@pytest.mark.parametrize('kind', ['M', 'E', 'D'])
def test_a_bad_row_damages_its_group_only(broker, kind):
    groups = two_partitions(broker)
    snapshot = rows(broker, 'snapshot')
    mine = [row for row in snapshot if row.get('group') == groups[0]]
    number = {'M': 1000, 'E': min(row['term'] for row in mine if row['row'] == 'epoch'),
              'D': max(row['producer'] for row in mine if row['row'] == 'CDM')}[kind]
    flip_row(broker, key_of(kind, groups[0], number))
    damage, = [row for row in rows(broker, 'snapshot', 1) if row['row'] == 'damage']
    assert (damage['group'], damage['type'], damage['number']) == (groups[0], kind, number)
    for start in range(2):
        broker.start()
        assert status_of(broker, groups[0]) == (CORRUPT, CORRUPT, CORRUPT)
        assert state_of(broker, 0) == 'corrupt' and state_of(broker, 1) == 'live'
        assert 'row_damaged group=%d type=%s number=%d' % (groups[0], kind, number) in broker.log()
        assert values_of(broker, 't', 1) == lines(1, 0, 3000 + start)
        produce(broker, 't', 1, lines(1, 3000 + start, 1))
        broker.kill9() if start == 0 else broker.stop()
    files = sorted(os.listdir(os.path.join(broker.data, 'parts', str(groups[0]))))
    assert '00000000000000001000.log' in files # for the repair
    plan = repair(broker, 0, code=1)
    dropped = [row for row in plan if row['row'] == 'drop']
    assert bool(dropped) == (kind == 'D') # the others are written anew from what the files say
    if kind == 'D':
        assert dropped[0]['producer'] == number and 'retries' in dropped[0]['what']
    repair(broker, 0, accept=True)
    repair(broker, 0)
    broker.start()
    assert values_of(broker, 't', 0) == lines(0, 0, 3000)
    produce(broker, 't', 0, lines(0, 3000, 10))
    broker.kill9()
    broker.start()
    assert values_of(broker, 't', 0) == lines(0, 0, 3010)
    assert broker.stop() == 0
    assert not [row for row in rows(broker, 'snapshot') if row['row'] == 'damage']


def test_a_lost_group_row_leaves_a_topic_that_can_be_deleted(broker):
    groups = two_partitions(broker)
    flip_row(broker, key_of('G', groups[0]), at=60)
    for start in range(2):
        broker.start()
        assert status_of(broker, groups[0]) == (CORRUPT, CORRUPT, CORRUPT)
        assert state_of(broker, 0) == 'corrupt'
        assert values_of(broker, 't', 1) == lines(1, 0, 3000)
        assert len(os.listdir(os.path.join(broker.data, 'parts', str(groups[0])))) >= 3
        broker.kill9() if start == 0 else broker.stop()
    repair(broker, 0, accept=True, code=1)
    assert 'flotilla topic delete t' in broker.stderr
    broker.start()
    broker.run('topic', 'delete', 't')
    wait_for(lambda: not os.path.exists(os.path.join(broker.data, 'parts', str(groups[0]))), 'the files of the group')
    assert broker.stop() == 0
    assert not [row for row in rows(broker, 'snapshot') if row.get('group') in groups.values()]


def test_a_bad_row_of_the_producers(broker):
    """One name is lost: its partition of __producers is damaged, every other name goes on."""
    broker.run('topic', 'create', 't')
    names = ['name-%d' % n for n in range(40)]
    for name in names:
        broker.run('produce', 't', '--producer', name, stdin=b'one\n')
    assert broker.stop() == 0
    state = [row for row in rows(broker, 'snapshot') if row['row'] == 'state' and len(row['key']) > 10]
    flip_row(broker, b'S' + struct.pack('>Q', state[0]['group']) + bytes.fromhex(state[0]['key']), at=6)
    broker.start()
    failed = 0
    connection = protocol.Connection(broker.addresses['client'])
    for name in names:
        reply = {1: protocol.NOT_READY}
        while reply.get(1, 0) == protocol.NOT_READY:
            reply, _ = connection.request(protocol.INIT_PRODUCER, {1: name.encode(), 2: 1000})
        assert reply.get(1, 0) in (protocol.OK, CORRUPT), reply
        failed += reply.get(1, 0) == CORRUPT
    connection.close()
    assert 0 < failed < len(names) / 2
    assert len(broker.consume('t')) == 40
    assert broker.stop() == 0
    described = [row for row in rows(broker, 'snapshot', 1) if row['row'] == 'group' and row['damaged'] == 'yes']
    assert [row['group'] for row in described] == [state[0]['group']]


def key_of_topic(name, first_group, partitions):
    return b'Rt' + struct.pack('>QI', first_group, partitions) + name.encode()


def test_an_unreadable_topic_keeps_its_groups_from_nobody_else(broker):
    """The row says nothing any more, its key says whose it was: CORRUPT, and nothing of its records is touched."""
    groups = two_partitions(broker)
    broker.start()
    make_topic(broker, 'other', 1)
    produce(broker, 'other', 0, lines(0, 0, 100))
    assert broker.stop() == 0
    flip_row(broker, key_of_topic('t', groups[0], 2), at=8)
    for start in range(3):
        broker.start()
        for group in groups.values():
            assert status_of(broker, group) == (CORRUPT, CORRUPT, CORRUPT)
        assert state_of(broker, 0) == state_of(broker, 1) == 'corrupt' and state_of(broker, 0, 'other') == 'live'
        assert broker.metric('damaged') == 2
        assert 'topic_unreadable topic=t partitions=2' in broker.log()
        assert values_of(broker, 'other', 0) == lines(0, 0, 100 + start)
        produce(broker, 'other', 0, lines(0, 100 + start, 1))
        broker.run('topic', 'create', 't', code=1)
        assert 'exists' in broker.stderr
        for group in groups.values():
            assert len(os.listdir(os.path.join(broker.data, 'parts', str(group)))) >= 3
        broker.kill9() if start == 0 else broker.stop()
    broker.start()
    broker.run('topic', 'delete', 't')
    wait_for(lambda: not os.path.exists(os.path.join(broker.data, 'parts', str(groups[1]))), 'the files of the group')
    make_topic(broker)
    produce(broker, 't', 0, lines(0, 0, 10))
    broker.kill9()
    broker.start()
    assert values_of(broker, 't', 0) == lines(0, 0, 10) and broker.metric('damaged') == 0
    assert broker.stop() == 0


def test_repair_of_an_unreadable_topic(broker):
    """Its row is put together again from what its groups know; the records were never touched."""
    groups = two_partitions(broker)
    flip_row(broker, key_of_topic('t', groups[0], 2), at=8)
    broker.start()
    assert state_of(broker, 1) == 'corrupt'
    assert broker.stop() == 0
    plan = repair(broker, 1, code=1)
    assert [row['what'] for row in plan if row['row'] == 'drop'] == [
        'row of the topic: its id and max_batch_bytes, the rest is made anew from its partitions']
    assert repair(broker, 1, accept=True) == plan
    repair(broker, 0)
    assert 'nothing to repair' in broker.stderr
    for start in range(2):
        broker.start()
        assert groups_of(broker) == groups and broker.metric('damaged') == 0
        for partition in (0, 1):
            assert values_of(broker, 't', partition) == lines(partition, 0, 3000 + start)
            produce(broker, 't', partition, lines(partition, 3000 + start, 1))
        config = json.loads(broker.run('topic', 'describe', 't', '--json'))['config']
        assert config['segment_bytes'] == config['max_batch_bytes'] == 65536
        assert broker.stop() == 0


def test_a_topic_whose_key_is_none_ends_with_4(broker):
    """A byte of the name: which topic it was, and whose groups they are, nobody can say."""
    groups = two_partitions(broker)
    flip_row(broker, key_of_topic('t', groups[0], 2)[:-1], at=0)
    assert broker.launch().end() == 4
    assert 'registry' in broker.log() and 'keep a copy' in broker.log()


def test_an_unreadable_identity_ends_with_4(broker):
    two_partitions(broker)
    flip_row(broker, b'B\x01\x00', at=30)
    assert broker.launch().end() == 4
    assert 'keep a copy' in broker.log() and 'another data directory' in broker.log()
    repair(broker, 0, code=0) # its rows are whole, and so it is


# --- anything, anywhere ---

PARTITIONS = 3


def fill(broker, seed):
    """Records in segments and checkpoints, and more in the WAL alone; how many each partition acknowledged."""
    random.seed(seed)
    make_topic(broker, 't', PARTITIONS)
    broker.run('topic', 'create', 'tail')
    counts = [0] * PARTITIONS
    for life in range(2):
        for _ in range(random.randint(4, 8)):
            partition = random.randrange(PARTITIONS)
            count = random.choice([1, 10, 300, 1200])
            produce(broker, 't', partition, lines(partition, counts[partition], count))
            counts[partition] += count
        groups = groups_of(broker)
        if life == 0 or random.random() < 0.3:
            assert broker.stop() == 0
        else:
            for n in range(3): # what was acknowledged before is known to be durable
                produce(broker, 'tail', 0, [b'%d' % n])
            broker.kill9()
        if life == 0:
            broker.start()
    return counts, groups


def vandalise(path):
    """One kind of damage at one place of a file; what it was."""
    size = os.path.getsize(path)
    kind = random.choice(['flip', 'flips', 'zero', 'truncate', 'copy', 'noise'])
    at = random.randrange(max(size, 1))
    if path.endswith('.wal'): # most of it is empty
        with open(path, 'rb') as file:
            at = random.randrange(max(1, len(file.read().rstrip(b'\0'))))
    block = at // BLOCK * BLOCK
    with open(path, 'r+b') as file:
        if kind == 'flip':
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes([byte[0] ^ 1 << random.randrange(8)]) if byte else b'')
        elif kind == 'flips':
            for _ in range(20):
                where = min(size - 1, block + random.randrange(BLOCK))
                file.seek(where)
                byte = file.read(1)
                file.seek(where)
                file.write(bytes([byte[0] ^ 1 << random.randrange(8)]))
        elif kind == 'zero':
            file.seek(block)
            file.write(bytes(min(BLOCK, size - block)))
        elif kind == 'noise':
            file.seek(block)
            file.write(random.randbytes(min(BLOCK, size - block)))
        elif kind == 'copy': # from another block of the same file
            file.seek(random.randrange(size // BLOCK + 1) * BLOCK)
            data = file.read(BLOCK)
            file.seek(block)
            file.write(data[:max(0, size - block)])
        else:
            file.truncate(at)
    return '%s of %s at %d of %d' % (kind, path, at, size)


def check_promise(broker, counts, groups):
    """Every offset of every partition is right or CORRUPT; the number of the latter."""
    lost = 0
    for partition, count in enumerate(counts):
        read = fetch_all(broker, groups[partition], count)
        assert sorted(read) == list(range(count))
        for offset, value in read.items():
            assert value is None or value == lines(partition, offset, 1)[0], (partition, offset, value)
        lost += sum(value is None for value in read.values())
    return lost


def check_repaired(broker, counts):
    """What is left of each partition is right, and in its place."""
    for partition, count in enumerate(counts):
        read = broker.consume('t', '-p', str(partition))
        offsets = [offset for _, offset, _ in read]
        assert offsets == sorted(set(offsets))
        for _, offset, value in read:
            assert value.encode() == lines(partition, offset, 1)[0], (partition, offset, value)


def play(broker, seed):
    counts, groups = fill(broker, seed)
    target = random.choice(['wal', 'wal', 'segment', 'segment', 'meta'])
    paths = {'wal': glob.glob(os.path.join(broker.data, 'wal', '*.wal')),
             'segment': glob.glob(os.path.join(broker.data, 'parts', '*', '*.log')),
             'meta': [os.path.join(broker.data, 'meta', 'data.mdb')]}[target]
    what = vandalise(random.choice(sorted(paths)))
    print('seed', seed, what)
    broker.launch()
    wait_for(lambda: broker.process.poll() is not None or os.path.getsize(broker.ready_path), 'ready or the end')
    if broker.process.poll() is not None:
        assert broker.process.returncode == 4 and target == 'meta', (what, broker.process.returncode, broker.log())
        assert 'keep a copy' in broker.log()
        return 'refused'
    lost = check_promise(broker, counts, groups)
    broker.kill9()
    broker.start()
    assert check_promise(broker, counts, groups) == lost
    assert broker.stop() == 0
    for topic, partitions in (('t', PARTITIONS), ('tail', 1), ('__producers', 16)):
        for partition in range(partitions):
            process = broker.popen('repair', broker.data, '--partition', '%s/%d' % (topic, partition), '--accept-loss',
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            _, error = process.communicate()
            if b'topic delete' in error:
                return 'beyond repair'
            assert process.returncode == 0, error
    broker.start()
    for partition in range(PARTITIONS):
        wait_for(lambda p=partition: state_of(broker, p) == 'live', 'partition %d' % partition)
    check_repaired(broker, counts)
    for partition in range(PARTITIONS):
        produce(broker, 't', partition, [b'after'])
        assert broker.consume('t', '-p', str(partition))[-1][2] == 'after'
    assert broker.stop() == 0
    return 'damaged' if lost else 'unharmed'


@pytest.mark.parametrize('seed', range(int(os.environ.get('FLOTILLA_DAMAGE_SEEDS', 8))))
def test_anything_anywhere(make_broker, seed):
    play(make_broker().start(), seed)
