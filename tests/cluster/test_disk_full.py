"""A full disk: produce is refused and says why, what was acknowledged stays and is served, and room ends it."""
import os
import shutil
import subprocess

import pytest

import protocol
from harness import check_dense, wait_for

DISK_BYTES = 24 << 20
# Small WAL files and frequent checkpoints: the disk fills with segments, and the WAL is the last to find room.
CONFIG = {'wal': {'file_bytes': '1MiB', 'budget_bytes': '4MiB'}, 'topic': {'segment_bytes': '1MiB'},
          'raft': {'snapshot_bytes': '1MiB'}}


@pytest.fixture
def small_disk(tmp_path):
    path = tmp_path / 'disk'
    path.mkdir()
    if os.geteuid() != 0 or shutil.which('mount') is None:
        pytest.skip('needs root to mount a small disk')
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=%d' % DISK_BYTES, 'tmpfs', str(path)],
                             stderr=subprocess.PIPE)
    if mounted.returncode != 0:
        pytest.skip('cannot mount a small disk: ' + mounted.stderr.decode().strip())
    yield path
    subprocess.run(['umount', '-l', str(path)], check=True)


def fill(broker, group):
    """Produces until the broker says that the disk is full; the offsets that it acknowledged."""
    connection = protocol.Connection(broker.addresses['client'])
    acknowledged = []

    def refused():
        status, offset, _ = connection.produce(group, protocol.batch([b'%d %s' % (len(acknowledged), b'x' * 20000)]))
        assert status in (protocol.OK, protocol.STORAGE_FULL)
        if status == protocol.OK:
            acknowledged.append(offset)
        return status == protocol.STORAGE_FULL
    wait_for(refused, 'the disk to fill')
    connection.close()
    return acknowledged


def check_kept(broker, acknowledged):
    rows = broker.consume('t')
    check_dense(rows)
    kept = {offset: value.split(' ')[0] for _, offset, value in rows}
    assert [kept.get(offset) for offset in acknowledged] == [str(i) for i in range(len(acknowledged))]


@pytest.mark.slow
@pytest.mark.parametrize('end', ['stay', 'kill9', 'stop'])
def test_refuses_keeps_and_goes_on(make_broker, small_disk, end):
    broker = make_broker(config=CONFIG)
    broker.data = str(small_disk / 'data')
    broker.start()
    broker.run('topic', 'create', 't')
    broker.run('topic', 'create', 'victim')
    broker.run('produce', 'victim', stdin=(b'v' * 1000 + b'\n') * 3000)
    connection = protocol.Connection(broker.addresses['client'])
    group = connection.groups('t')[0]
    acknowledged = fill(broker, group)
    check_kept(broker, acknowledged) # fetches are not held up
    reply, _ = connection.request(protocol.INIT_PRODUCER, {})
    assert reply[1] in (protocol.STORAGE_FULL, protocol.NOT_READY)
    connection.close()
    if end == 'kill9':
        broker.kill9()
    elif end == 'stop': # in time and in order, though no checkpoint finds room
        broker.process.terminate()
        assert broker.end() == 0
    if end != 'stay':
        broker.start()
        check_kept(broker, acknowledged)
    broker.run('topic', 'delete', 'victim')
    connection = protocol.Connection(broker.addresses['client'])
    wait_for(lambda: connection.produce(group, protocol.batch([b'%d again' % len(acknowledged)]))[0] == protocol.OK,
             'produce to go on')
    connection.close()
    acknowledged.append(acknowledged[-1] + 1)
    check_kept(broker, acknowledged)
    assert broker.stop() == 0
