"""A disk that fails while the broker runs: what passes is waited for, what does not ends the broker with 3 (strace
injects the errors)."""
import contextlib
import glob
import os
import shutil
import subprocess

import pytest

import protocol
from harness import check_dense, wait_for

pytestmark = pytest.mark.skipif(shutil.which('strace') is None, reason='there is no strace')

WRITES = 'pwrite64,pwritev,pwritev2'
TIMEOUT, CORRUPT = 12, 23 # enum err


@contextlib.contextmanager
def injected(broker, folder, calls, what, *paths):
    """The broker's calls fail (or wait) as strace says, those on `paths` only if any are given."""
    said = os.path.join(str(folder), 'strace')
    only = [word for path in paths for word in ('-P', path)]
    with open(said, 'wb') as trace:
        tracer = subprocess.Popen(['strace', '-f', '-p', str(broker.process.pid), '-e', 'trace=' + calls, '-e',
                                   'inject=%s:%s' % (calls, what)] + only, stderr=trace)
    wait_for(lambda: b'attached' in open(said, 'rb').read() or tracer.poll() is not None, 'strace')
    if b'attached' not in open(said, 'rb').read():
        pytest.skip('strace cannot attach: %s' % open(said, 'rb').read())
    yield
    tracer.terminate()
    tracer.wait(30)


def check_values(broker, topic, count):
    rows = broker.consume(topic)
    check_dense(rows)
    assert [value for _, _, value in rows] == [str(n) for n in range(count)]


def test_a_read_only_file_system_ends_the_broker(broker, tmp_path):
    broker.run('topic', 'create', 't')
    broker.run('produce', 't', stdin=b'0\n1\n')
    with injected(broker, tmp_path, WRITES, 'error=EROFS'):
        broker.popen('--timeout', '3', 'produce', 't', stdin=-1, stderr=subprocess.PIPE).communicate(b'lost?\n', 60)
        assert broker.end() == 3
    assert 'read-only' in broker.log()
    broker.start()
    assert [value for _, _, value in broker.consume('t')][:2] == ['0', '1']


def test_a_broken_segment_is_that_partitions_own(broker, tmp_path):
    broker.run('topic', 'create', 't', '-p', '2')
    connection = protocol.Connection(broker.addresses['client'])
    groups = connection.groups('t')
    for group in groups.values():
        assert connection.produce(group, protocol.batch([b'0']))[0] == protocol.OK
    pattern = os.path.join(broker.data, 'parts', str(groups[0]), '*.log')
    path = wait_for(lambda: glob.glob(pattern), 'the segment to be written')[0]
    with injected(broker, tmp_path, WRITES, 'error=EIO', path):
        status = wait_for(lambda: [s for s in [connection.produce(groups[0], protocol.batch([b'1']))[0]]
                                   if s != protocol.OK], 'the partition to take no more')[0]
        assert status == protocol.BUSY
        assert connection.produce(groups[1], protocol.batch([b'1']))[0] == protocol.OK
        rows = broker.consume('t') # from memory, what the file does not take
        assert {partition for partition, _, _ in rows} == {0, 1}
    wait_for(lambda: connection.produce(groups[0], protocol.batch([b'2']))[0] == protocol.OK, 'it to go on')
    connection.close()
    assert broker.stop() == 0
    broker.start()
    check_dense(broker.consume('t'))


@pytest.mark.slow
def test_a_segment_that_stays_broken_is_given_up_for_the_others(make_broker, tmp_path):
    """Its records pin the log; before nobody can write any more its partition is damaged, for good."""
    broker = make_broker(config={'wal': {'file_bytes': '1MiB', 'budget_bytes': '8MiB'}}).start()
    broker.run('topic', 'create', 't', '-p', '2')
    connection = protocol.Connection(broker.addresses['client'])
    groups = connection.groups('t')
    assert connection.produce(groups[0], protocol.batch([b'0']))[0] == protocol.OK
    pattern = os.path.join(broker.data, 'parts', str(groups[0]), '*.log')
    path = wait_for(lambda: glob.glob(pattern), 'the segment to be written')[0]
    connection.close()
    assert broker.stop() == 0 # what is there is checkpointed
    broker.start()
    connection = protocol.Connection(broker.addresses['client'])
    wait_for(lambda: connection.produce(groups[1], protocol.batch([b'0']))[0] == protocol.OK, 'a leader')
    data = protocol.batch([b'x' * 100000])
    with injected(broker, tmp_path, WRITES, 'error=EIO', path):
        assert wait_for(lambda: connection.produce(groups[0], protocol.batch([b'1']))[0] == protocol.OK, 'a leader')
        wait_for(lambda: connection.produce(groups[1], data)[0] == protocol.BUSY, 'the log to be over its budget')
        wait_for(lambda: 'group_given_up group=%d' % groups[0] in broker.log(), 'it to be given up', 120)
        wait_for(lambda: connection.produce(groups[1], data)[0] == protocol.OK, 'the log to be released')
        for _ in range(200):
            assert connection.produce(groups[1], data)[0] == protocol.OK
        assert connection.produce(groups[0], protocol.batch([b'2']))[0] == CORRUPT
        reply, _ = connection.request(protocol.FETCH, {1: groups[0], 2: 0})
        assert reply.get(1, 0) == CORRUPT
    connection.close()
    assert broker.metric('damaged') == 1
    for start in range(2):
        broker.kill9() if start == 0 else broker.stop()
        broker.start()
        assert [p['state'] for p in broker.json('/v1/partitions') if p['topic'] == 't'] == ['corrupt', 'live']
    assert broker.stop() == 0
    assert os.path.exists(path)
    broker.run('repair', broker.data, '--partition', 't/0', code=1)
    said = broker.run('repair', broker.data, '--partition', 't/0', '--accept-loss').decode()
    assert 'given up when the WAL was crowded' in said, said
    broker.start()
    assert broker.consume('t', '-p', '0') == [(0, 0, '0')]
    broker.run('produce', 't', '-p', '0', stdin=b'again\n')
    assert broker.consume('t', '-p', '0') == [(0, 0, '0'), (0, 1, 'again')]
    assert broker.stop() == 0


def test_slow_syncs_break_nothing(broker, tmp_path):
    broker.run('topic', 'create', 't')
    with injected(broker, tmp_path, 'fdatasync,fsync', 'delay_exit=2000000'):
        broker.run('produce', 't', stdin=b'0\n1\n2\n')
    check_values(broker, 't', 3)
    assert broker.stop() == 0


def test_interrupted_writes_go_on(broker, tmp_path):
    broker.run('topic', 'create', 't')
    with injected(broker, tmp_path, WRITES, 'error=EINTR:when=1+2'):
        broker.run('produce', 't', stdin=b''.join(b'%d\n' % n for n in range(100)))
    check_values(broker, 't', 100)
    assert broker.stop() == 0


@pytest.mark.parametrize('error, refusal', [('ENOSPC', protocol.STORAGE_FULL), ('EMFILE', protocol.BUSY)])
def test_a_stalled_log_refuses_at_once_and_goes_on(broker, tmp_path, error, refusal):
    """What is in the log waits for it, however long: nobody can say that it will not be stored. What comes later is
    not let in. Whoever hangs here runs into the connection's timeout."""
    broker.run('topic', 'create', 't')
    waiting = protocol.Connection(broker.addresses['client'])
    later = protocol.Connection(broker.addresses['client'])
    group = waiting.groups('t')[0]
    assert waiting.produce(group, protocol.batch([b'0']))[0] == protocol.OK
    with injected(broker, tmp_path, WRITES, 'error=' + error, *glob.glob(os.path.join(broker.data, 'wal', '*.wal'))):
        waiting.ask(protocol.PRODUCE, {1: group, 2: 1, 3: 600000}, protocol.batch([b'1']))
        wait_for(lambda: 'wal_stalled' in broker.log(), 'the log to find no way on')
        for _ in range(100):
            assert later.produce(group, protocol.batch([b'lost']))[0] == refusal
        assert later.request(protocol.CREATE_TOPIC, {1: b'more', 2: 1})[0][1] == refusal
        assert later.request(protocol.INIT_PRODUCER, {})[0][1] == refusal
        assert [value for _, _, value in broker.consume('t')] == ['0']
    status = waiting.receive()[2].get(1, 0)
    assert status in (protocol.OK, refusal) # refused: an entry of the broker's own stalled the log before it came
    wait_for(lambda: later.produce(group, protocol.batch([b'last']))[0] == protocol.OK, 'produce to go on')
    waiting.close()
    later.close()
    kept = ['0', '1', 'last'] if status == protocol.OK else ['0', 'last']
    assert [value for _, _, value in broker.consume('t')] == kept
    assert broker.stop() == 0


@pytest.mark.parametrize('error', ['ENOSPC', 'EDQUOT', 'EMFILE', 'ENFILE'])
def test_files_that_cannot_be_made_are_waited_for(make_broker, tmp_path, error):
    config = {'wal': {'file_bytes': '1MiB', 'budget_bytes': '4MiB'}, 'raft': {'snapshot_bytes': '1MiB'},
              'topic': {'segment_bytes': '64KiB', 'max_batch_bytes': '64KiB'}}
    broker = make_broker(config=config).start()
    broker.run('topic', 'create', 't')
    connection = protocol.Connection(broker.addresses['client'])
    group = connection.groups('t')[0]
    data = protocol.batch([b'x' * 60000])
    acknowledged = 0
    with injected(broker, tmp_path, 'openat', 'error=' + error):
        for _ in range(100): # a segment each
            status = connection.produce(group, data)[0]
            assert status in (protocol.OK, protocol.BUSY, protocol.STORAGE_FULL, TIMEOUT)
            acknowledged += status == protocol.OK
            if status == TIMEOUT: # the WAL itself waits for a file
                break
    wait_for(lambda: connection.produce(group, data)[0] == protocol.OK, 'produce to go on')
    connection.close()
    rows = broker.consume('t')
    check_dense(rows)
    assert len(rows) >= acknowledged + 1
    assert broker.stop() == 0
