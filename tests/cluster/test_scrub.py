"""The background scrub: a flipped bit at rest is found before anybody asks for the record, in segments, in the
checkpoint store and in the write-ahead log; what can be mended is."""
import glob
import json
import os
import struct

from harness import check_dense, wait_for
from lmdb_pages import keys_of_leaves

QUICK = {'limits': {'scrub_period_ms': 300}}


def flip(path, position, mask=1):
    """On the disk, under the running broker."""
    fd = os.open(path, os.O_RDWR)
    byte = os.pread(fd, 1, position)[0]
    os.pwrite(fd, bytes([byte ^ mask]), position)
    os.fsync(fd)
    os.close(fd)


def batches(path):
    """(position, size, base offset, end offset) of each batch of a segment."""
    with open(path, 'rb') as file:
        data = file.read()
    result, at = [], 0
    while at + 61 <= len(data):
        base, length = struct.unpack_from('>qi', data, at)
        delta, = struct.unpack_from('>i', data, at + 23)
        result.append((at, length + 12, base, base + delta + 1))
        at += length + 12
    return result


def rounds(broker, count):
    """Waits until so many more rounds of the scrub are through."""
    target = broker.metric('scrub_rounds_total') + count
    wait_for(lambda: broker.metric('scrub_rounds_total') >= target, 'rounds of the scrub')


def segments_of(broker, topic):
    group, = [p['group'] for p in broker.json('/v1/partitions') if p['topic'] == topic]
    return sorted(glob.glob(os.path.join(broker.data, 'parts', str(group), '*.log')))


def state_of(broker, topic):
    state, = [p['state'] for p in broker.json('/v1/partitions') if p['topic'] == topic]
    described, = json.loads(broker.run('--json', 'topic', 'describe', topic))['partitions']
    assert described['state'] == state
    return state


def test_a_flipped_bit_in_a_segment(make_broker):
    broker = make_broker(config=QUICK).start()
    broker.run('topic', 'create', 't', '-c', 'segment_bytes=64KiB', '-c', 'max_batch_bytes=32KiB')
    lines = [b'%06d %s' % (i, b'x' * 100) for i in range(4000)]
    broker.run('produce', 't', '--batch-bytes', '4096', stdin=b'\n'.join(lines) + b'\n')
    assert broker.stop() == 0 # so that memory holds none of it after the start
    broker.start()
    rounds(broker, 2)
    assert broker.metric('scrub_damaged_total') == 0 and state_of(broker, 't') == 'live'
    path = segments_of(broker, 't')[2]
    position, size, base, end = batches(path)[3]
    reads = broker.metric('segment_disk_reads_total')

    flip(path, position + size // 2)
    wait_for(lambda: broker.metric('scrub_damaged_ranges') == 1, 'the scrub to find it')
    assert broker.metric('scrub_damaged_total') == 1 and state_of(broker, 't') == 'damaged'
    status, text = broker.http('/health/ready')
    assert status == 200 and text.startswith('ready\n') and 'damaged ranges of offsets: 1,' in text
    assert broker.json('/v1/cluster')['damaged_ranges'] == 1
    described, = json.loads(broker.run('--json', 'topic', 'describe', 't'))['partitions']
    page, = [p for p in broker.json('/v1/partitions') if p['topic'] == 't']
    for told in (described, page):
        assert told['damaged'] == [[base, end]] and told['damaged_ranges'] == 1
    said = broker.run('topic', 'describe', 't').decode()
    assert 'partition 0: offsets %d to %d are damaged and not served' % (base, end - 1) in said
    assert 'scrub_segment_damaged topic=t' in broker.log()
    assert 'from_offset=%d end_offset=%d' % (base, end) in broker.log()
    rounds(broker, 2)
    assert broker.metric('scrub_damaged_total') == 1 # the same one is no news
    assert broker.log().count('scrub_segment_damaged') == 1

    for offset in (base, end - 1): # a client waits for another broker that may have it whole
        broker.run('--timeout', '1', 'consume', 't', '-o', str(offset), '-n', '1', code=1)
        assert 'damaged' in broker.stderr, broker.stderr
    assert broker.metric('segment_disk_reads_total') == reads # refused without a look at the disk
    before = broker.run('consume', 't', '-o', '0', '-n', str(base)).splitlines()
    behind = broker.run('consume', 't', '-o', str(end), '-e').splitlines()
    assert before == lines[:base] and behind == lines[end:]
    broker.run('produce', 't', stdin=b'more\n')
    assert broker.consume('t', '-o', str(end))[-1] == (0, 4000, 'more')

    flip(path, position + size // 2)
    wait_for(lambda: broker.metric('scrub_damaged_ranges') == 0, 'the scrub to find it good again')
    assert state_of(broker, 't') == 'live' and broker.http('/health/ready') == (200, 'ready\n')
    assert b'damaged' not in broker.run('topic', 'describe', 't')
    assert broker.run('consume', 't', '-e').splitlines() == lines + [b'more']


def test_a_mark_goes_with_its_segment(make_broker):
    broker = make_broker(config=QUICK).start()
    broker.run('topic', 'create', 't', '-c', 'segment_bytes=64KiB', '-c', 'max_batch_bytes=32KiB',
               '-c', 'retention_bytes=256KiB')
    lines = b'\n'.join([b'y' * 100] * 2000) + b'\n'
    broker.run('produce', 't', '--batch-bytes', '4096', stdin=lines)
    wait_for(lambda: broker.metric('segment_queue_bytes') == 0, 'segments to be written')
    flip(segments_of(broker, 't')[0], 30000)
    wait_for(lambda: broker.metric('scrub_damaged_ranges') == 1, 'the scrub to find it')
    for _ in range(3):
        broker.run('produce', 't', '--batch-bytes', '4096', stdin=lines)
    wait_for(lambda: broker.metric('scrub_damaged_ranges') == 0, 'retention')
    assert state_of(broker, 't') == 'live'
    rounds(broker, 2)
    assert broker.metric('scrub_damaged_total') == 1


def test_a_flipped_bit_in_the_checkpoint_store(make_broker):
    broker = make_broker(config=QUICK).start()
    broker.run('topic', 'create', 't')
    broker.run('produce', 't', '--producer', 'me', stdin=b'one\ntwo\n')
    assert broker.stop() == 0
    broker.start()
    rounds(broker, 1)
    group, = [p['group'] for p in broker.json('/v1/partitions') if p['topic'] == 't']
    path = os.path.join(broker.data, 'meta', 'data.mdb')
    with open(path, 'rb') as file:
        data = file.read()
    key = b'M' + struct.pack('>QQ', group, 0)
    places = list(keys_of_leaves(data, key))
    assert places
    for place in places: # older copies of the page hold it too
        flip(path, place + 30)
    wait_for(lambda: broker.metric('scrub_damaged_total') >= 1, 'the scrub to find it')
    assert 'scrub_row_damaged type=M group=%d mended=1' % group in broker.log()
    wait_for(lambda: broker.metric('checkpoints_total') >= 1, 'the checkpoint')
    found = wait_for(lambda: rounds(broker, 1) or broker.metric('scrub_damaged_total'), 'a round')
    rounds(broker, 3)
    assert broker.metric('scrub_damaged_total') == found # mended
    broker.kill9()
    broker.start()
    assert state_of(broker, 't') == 'live'
    broker.run('produce', 't', '--producer', 'me', stdin=b'three\n')
    assert broker.consume('t') == [(0, 0, 'one'), (0, 1, 'two'), (0, 2, 'three')]


def test_a_flipped_bit_in_the_registry(make_broker):
    """The row of a topic is in memory, too, and is written again before a start needs it."""
    broker = make_broker(config=QUICK).start()
    broker.run('topic', 'create', 't', '-p', '2')
    broker.run('produce', 't', '-p', '0', stdin=b'one\n')
    rounds(broker, 1)
    group = min(p['group'] for p in broker.json('/v1/partitions') if p['topic'] == 't')
    key = b'Rt' + struct.pack('>QI', group, 2) + b't'
    path = os.path.join(broker.data, 'meta', 'data.mdb')
    with open(path, 'rb') as file:
        data = file.read()
    places = list(keys_of_leaves(data, key))
    assert places
    for place in places: # older copies of the page hold it too
        flip(path, place + 4 + 6)
    wait_for(lambda: broker.metric('scrub_damaged_total') >= 1, 'the scrub to find it')
    assert 'scrub_row_damaged type=R row=t group=%d mended=1' % group in broker.log()
    found = wait_for(lambda: rounds(broker, 1) or broker.metric('scrub_damaged_total'), 'a round')
    rounds(broker, 3)
    assert broker.metric('scrub_damaged_total') == found # mended
    broker.kill9()
    broker.start()
    assert 'topic_unreadable' not in broker.log()
    assert broker.consume('t') == [(0, 0, 'one')]


def wal_files(broker):
    """(base lsn, path) of the files that were ever used, by base lsn."""
    result = []
    for path in glob.glob(os.path.join(broker.data, 'wal', '*.wal')):
        with open(path, 'rb') as file:
            base, = struct.unpack_from('<Q', file.read(64), 16)
        result.append((base, path))
    return sorted(row for row in result if row[0] > 0)


def test_a_flipped_bit_in_the_log(make_broker):
    broker = make_broker(config=dict(QUICK, wal={'file_bytes': '1MiB', 'budget_bytes': '64MiB'})).start()
    broker.run('topic', 'create', 't')
    lines = b'\n'.join(b'%06d %s' % (i, b'z' * 200) for i in range(20000)) + b'\n'
    broker.run('produce', 't', '--batch-bytes', '4096', stdin=lines)
    rounds(broker, 1)
    assert broker.metric('scrub_damaged_total') == 0
    flip(wal_files(broker)[1][1], 100000)
    wait_for(lambda: 'scrub_wal_damaged' in broker.log(), 'the scrub to find it')
    broker.run('produce', 't', stdin=b'more\n')
    wait_for(lambda: broker.metric('wal_used_bytes') <= 2 << 20, 'the damaged file to be released')
    broker.kill9()
    broker.start()
    assert 'group_damaged' not in broker.log() and state_of(broker, 't') == 'live'
    rows = broker.consume('t')
    check_dense(rows)
    assert '\n'.join(row[2] for row in rows) + '\n' == lines.decode() + 'more\n'


def test_quiet_while_everything_moves(make_broker):
    """Writes, rolls, retention, checkpoints and deletions meet the scrub, and nothing is called damaged."""
    broker = make_broker(config=dict(QUICK, wal={'file_bytes': '1MiB', 'budget_bytes': '8MiB'})).start()
    lines = b'\n'.join([b'w' * 300] * 5000) + b'\n'
    for turn in range(6):
        topic = 't%d' % turn
        broker.run('topic', 'create', topic, '-p', '3', '-c', 'segment_bytes=128KiB', '-c', 'max_batch_bytes=32KiB',
                   '-c', 'retention_bytes=512KiB')
        for _ in range(3):
            broker.run('produce', topic, '--batch-bytes', '8192', stdin=lines)
        if turn % 2 == 0:
            broker.run('topic', 'delete', topic)
    rounds(broker, 2)
    assert broker.metric('scrub_damaged_total') == 0 and broker.metric('scrub_bytes_total') > 1 << 20
    assert broker.metric('scrub_last_round_timestamp_seconds') > 1.7e9
    assert broker.stop() == 0
