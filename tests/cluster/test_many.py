"""Thousands of partitions on one broker: open files stay bounded, idle ones cost nothing, a start finds all of them."""
import os
import time

from harness import wait_for

PARTITIONS = 3000
OPEN_FILES = 32
OTHER_FILES = 96 # WAL, checkpoint store, listeners, connections, what jobs open for a moment


def descriptors(broker):
    return len(os.listdir('/proc/%d/fd' % broker.process.pid))


def test_thousands_of_partitions(make_broker):
    broker = make_broker(config={'limits': {'open_files': OPEN_FILES}}).start()
    broker.run('topic', 'create', 't', '-p', str(PARTITIONS))
    broker.run('produce', 't', '-K', ':', stdin=b''.join(b'%d:%d\n' % (n, n) for n in range(10 * PARTITIONS)))
    wait_for(lambda: broker.metric('segment_queue_bytes') == 0, 'all segments to be written')
    assert len(os.listdir(broker.data + '/parts')) > PARTITIONS * 0.99
    assert descriptors(broker) <= OPEN_FILES + OTHER_FILES
    for _ in range(2):
        rows = broker.consume('t')
        assert sorted(int(row[2]) for row in rows) == list(range(10 * PARTITIONS))
        assert descriptors(broker) <= OPEN_FILES + OTHER_FILES
        broker.kill9()
        broker.start()


def test_idle_partitions_leave_the_log_alone(make_broker):
    broker = make_broker(config={'raft': {'timeout_entry_ms': 100}}).start()
    broker.run('topic', 'create', 't', '-p', str(PARTITIONS), '-c', 'retention_ms=1d')
    broker.run('produce', 't', '-K', ':', stdin=b''.join(b'%d:%d\n' % (n, n) for n in range(2 * PARTITIONS)))

    def settled():
        """No TIMEOUT entry is due any more."""
        before = broker.metric('wal_written_bytes_total')
        time.sleep(0.5) # several intervals
        return broker.metric('wal_written_bytes_total') == before
    wait_for(settled, 'the log to be quiet')
    before = broker.metric('apply_entries_total')
    time.sleep(1)
    assert broker.metric('apply_entries_total') == before
