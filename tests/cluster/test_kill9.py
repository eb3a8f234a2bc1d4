"""kill -9 in the middle of a stream: what was produced comes back whole, once, in order."""
import threading

import pytest

from harness import check_dense, wait_for

RECORDS = 1000000
CHUNK = 5000


class Feeder(threading.Thread):
    """Writes 1..RECORDS to a pipe, a line each; stops at each gate until it is opened, so that kills meet a stream."""

    def __init__(self, pipe, gates):
        super().__init__(daemon=True)
        self.pipe = pipe
        self.gates = {gate: (threading.Event(), threading.Event()) for gate in gates}
        self.error = None
        self.pace = threading.Event()

    def run(self):
        try:
            for first in range(1, RECORDS + 1, CHUNK):
                reached, opened = self.gates.get(first - 1, (None, None))
                if reached is not None:
                    reached.set()
                    opened.wait()
                self.pace.wait(0.005) # a stream, not a burst: a kill shall meet it
                self.pipe.write(b''.join(b'%d\n' % n for n in range(first, min(first + CHUNK, RECORDS + 1))))
            self.pipe.close()
        except OSError as error:
            self.error = error


@pytest.mark.slow
def test_every_record_once_after_three_kills(make_broker):
    broker = make_broker(config={'wal': {'file_bytes': '1MiB', 'budget_bytes': '8MiB'},
                                 'topic': {'segment_bytes': '1MiB'}, 'raft': {'snapshot_bytes': '1MiB'}}).start()
    broker.run('topic', 'create', 't', '-p', '4')
    producer = broker.popen('produce', 't', stdin=-1, stderr=-1)
    gates = [RECORDS // 4, RECORDS // 2, RECORDS * 3 // 4]
    feeder = Feeder(producer.stdin, gates)
    feeder.start()
    for gate in gates:
        reached, opened = feeder.gates[gate]
        assert reached.wait(60), (gate, feeder.error, producer.poll())
        before = broker.metric('produce_records_total')
        opened.set()
        wait_for(lambda: broker.metric('produce_records_total') > before, 'the stream to go on')
        broker.kill9()
        assert producer.poll() is None and feeder.is_alive(), 'the kill came after the stream'
        broker.start()
    feeder.join(60)
    error = producer.stderr.read().decode()
    assert producer.wait(60) == 0, error
    assert 'produced %d records' % RECORDS in error and ' 0 failed' in error
    rows = broker.consume('t')
    check_dense(rows)
    assert sorted(int(value) for _, _, value in rows) == list(range(1, RECORDS + 1))
    for partition in range(4):
        values = [int(value) for p, _, value in rows if p == partition]
        assert values == sorted(values)
    assert broker.stop() == 0
    broker.start()
    assert sorted(broker.consume('t')) == sorted(rows)


def test_restart_keeps_everything(make_broker):
    broker = make_broker().start()
    broker.run('topic', 'create', 't', '-p', '3')
    wanted = set()
    for round_number in range(4):
        lines = ['%d-%d' % (round_number, i) for i in range(1000)]
        broker.run('produce', 't', stdin='\n'.join(lines).encode() + b'\n')
        wanted.update(lines)
        if round_number % 2 == 0:
            broker.kill9()
        else:
            assert broker.stop() == 0
        broker.start()
        rows = broker.consume('t')
        check_dense(rows)
        assert len(rows) == len(wanted) and {value for _, _, value in rows} == wanted
