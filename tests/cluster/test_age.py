"""What time does: retention by age, producers that are forgotten, and a wall clock that runs away (libfaketime)."""
import glob
import json
import signal

import pytest

import protocol
from harness import wait_for

FAKETIME = (glob.glob('/usr/lib/*/faketime/libfaketime.so.1') or [None])[0]


def partition(broker, topic):
    return next(p for p in broker.json('/v1/partitions') if p['topic'] == topic)


def expire(broker, topic):
    """Waits until everything in partition 0 of the topic is gone by age."""
    def gone():
        row = partition(broker, topic)
        return row['log_start'] == row['high_watermark'] > 0
    wait_for(gone, 'the records to expire')


def test_records_expire_by_age_though_nothing_is_written(make_broker):
    broker = make_broker(config={'raft': {'snapshot_bytes': '64KiB'}}).start()
    broker.run('topic', 'create', 'short', '-c', 'retention_ms=1500', '-c', 'segment_bytes=64KiB',
               '-c', 'max_batch_bytes=32KiB')
    broker.run('topic', 'create', 'long', '-c', 'retention_ms=600000')
    broker.run('produce', 'short', stdin=b''.join(b'%d\n' % n for n in range(50000)))
    broker.run('produce', 'long', stdin=b'kept\n')
    expire(broker, 'short')
    assert broker.consume('long') == [(0, 0, 'kept')]
    broker.kill9()
    broker.start()
    wait_for(lambda: partition(broker, 'short')['log_start'] == 50000, 'the log to be applied')
    broker.run('produce', 'short', stdin=b'next\n')
    assert broker.consume('short') == [(0, 50000, 'next')]


def test_records_expire_without_timeout_entries_after_traffic(make_broker):
    broker = make_broker(config={'raft': {'timeout_entry_ms': '0'}}).start()
    broker.run('topic', 'create', 't', '-c', 'retention_ms=1500')
    broker.run('produce', 't', stdin=b'1\n')
    expire(broker, 't')


def test_one_record_a_second_does_not_keep_the_old_ones(make_broker):
    """A segment is no older than retention_ms, so little traffic does not keep the oldest records for ever."""
    broker = make_broker().start()
    broker.run('topic', 'create', 't', '-c', 'retention_ms=1000')
    broker.run('produce', 't', stdin=b'old\n')

    def moved():
        broker.run('produce', 't', stdin=b'more\n')
        return partition(broker, 't')['log_start'] > 0
    wait_for(moved, 'the log start to move')


@pytest.mark.skipif(FAKETIME is None, reason='libfaketime is not installed')
def test_a_clock_that_jumps_ahead_deletes_nothing(make_broker, tmp_path):
    offset = tmp_path / 'offset'
    offset.write_text('+0')
    environment = {'LD_PRELOAD': FAKETIME, 'FAKETIME_TIMESTAMP_FILE': str(offset), 'FAKETIME_NO_CACHE': '1',
                   'DONT_FAKE_MONOTONIC': '1', 'FAKETIME_DONT_RESET': '1'}
    broker = make_broker(environment=environment).start()
    broker.run('topic', 'create', 't', '-c', 'retention_ms=3600000')
    broker.run('produce', 't', stdin=b'precious\n')
    offset.write_text('+2d')

    def noticed():
        broker.run('produce', 't', stdin=b'more\n') # data brings TIMEOUT entries, and they look at the clock
        return broker.metric('clock_ahead_milliseconds') > 86400000
    wait_for(noticed, 'the alarm')
    proposed = broker.metric('timeout_entries_applied_total')
    wait_for(lambda: broker.metric('timeout_entries_applied_total') > proposed, 'a TIMEOUT entry by that clock')
    assert broker.consume('t')[0] == (0, 0, 'precious')
    assert 'clock_ahead' in broker.log()
    broker.process.send_signal(signal.SIGHUP) # the operator says that it is right
    expire(broker, 't')
    assert broker.metric('clock_ahead_milliseconds') == 0


def test_idle_producers_are_forgotten(make_broker):
    broker = make_broker(config={'raft': {'producer_expiry_ms': '2000', 'timeout_entry_ms': '100'}}).start()
    broker.run('topic', 'create', 't')
    client = protocol.Connection(broker.addresses['client'])
    group = client.groups('t')[0]
    producer = client.init_producer()
    assert client.produce(group, protocol.batch([b'a'], producer, 0))[:2] == (protocol.OK, 0)
    assert client.produce(group, protocol.batch([b'a'], producer, 0)) == (protocol.OK, 0, True)
    wait_for(lambda: broker.metric('producers_expired_total') == 1, 'the producer to be forgotten')
    assert client.produce(group, protocol.batch([b'b'], producer, 1))[0] == protocol.UNKNOWN_PRODUCER
    broker.kill9()
    broker.start()
    client = protocol.Connection(broker.addresses['client'])
    assert client.produce(group, protocol.batch([b'b'], producer, 1))[0] == protocol.UNKNOWN_PRODUCER
    assert client.produce(group, protocol.batch([b'c'], producer, 0))[:2] == (protocol.OK, 1)
    assert [row[2] for row in broker.consume('t')] == ['a', 'c']


def test_terms_that_own_nothing_are_forgotten(make_broker):
    """Every start begins a term; rows stand for those only in which something was stored that is still there."""
    broker = make_broker(config={'raft': {'snapshot_bytes': '64KiB'}}).start()
    broker.run('topic', 'create', 't', '-c', 'segment_bytes=64KiB', '-c', 'max_batch_bytes=32KiB',
               '-c', 'retention_bytes=200KiB')
    lines = b''.join(b'%06d %s\n' % (n, b'x' * 100) for n in range(300))
    group = partition(broker, 't')['group']

    def terms():
        assert broker.stop() == 0
        return [row['first_offset'] for row in rows('epoch') if row['group'] == group]

    def rows(kind):
        return [row for row in map(json.loads, broker.run('inspect', 'snapshot', '--json', broker.data).splitlines())
                if row['row'] == kind]
    for _ in range(4): # nothing is stored
        broker.kill9()
        broker.start()
    assert terms() == [0]
    for count in range(1, 4):
        broker.start()
        broker.run('produce', 't', stdin=lines)
        assert broker.stop() == 0
        broker.start()
        assert terms() == [300 * n for n in range(count + 1)]
    for _ in range(8): # retention takes the oldest of them along
        broker.start()
        broker.run('produce', 't', stdin=lines * 3)
        broker.stop()
    broker.start()
    row = wait_for(lambda: partition(broker, 't')['log_start'] > 0 and partition(broker, 't'), 'retention')
    values = broker.run('consume', 't', '-o', str(row['log_start']), '-e').splitlines(True)
    assert values == (lines.splitlines(True) * 30)[row['log_start'] % 300:][:len(values)] and len(values) > 900
    kept = terms()
    assert len(kept) <= 6 and kept[0] <= row['log_start'] < kept[1] and kept == sorted(set(kept))
