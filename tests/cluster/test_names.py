"""Names are data: nothing is glued together, nothing is reserved by accident. Deleted is gone, a retry no duplicate."""
import os

import protocol
from harness import wait_for
from protocol import Connection, batch


def data_bytes(broker):
    """Bytes that segments take on the disk, files kept for reuse included."""
    total = 0
    for folder, _, names in os.walk(os.path.join(broker.data, 'parts')):
        for name in names:
            try:
                total += os.stat(os.path.join(folder, name)).st_blocks * 512
            except FileNotFoundError: # deleted while we look
                pass
    return total


def test_topics_whose_names_run_together(broker):
    """a + bc is not ab + c, whether letters or partition numbers follow."""
    names = ['a', 'bc', 'ab', 'c', 'a1', 'a11', 'a-1', 'a.1']
    for name in names:
        broker.run('topic', 'create', name, '-p', '12')
    for name in names:
        for partition in ('1', '11'):
            broker.run('produce', name, '-p', partition, stdin=('%s/%s\n' % (name, partition)).encode())
    for name in names:
        assert sorted(broker.consume(name)) == [(1, 0, name + '/1'), (11, 0, name + '/11')]
    broker.kill9()
    broker.start()
    for name in names:
        assert sorted(broker.consume(name)) == [(1, 0, name + '/1'), (11, 0, name + '/11')]


def test_producers_named_like_entries(broker):
    """LEADER and TIMEOUT are entry types in a field; a producer may have these names."""
    broker.run('topic', 'create', 't')
    names = ['Leader', 'TIMEOUT', 'LEADER', 'timeout', 'LOG_START', '']
    for i, name in enumerate(names):
        arguments = ['--producer', name] if name else []
        broker.run('produce', 't', *arguments, stdin=b'%d\n' % i)
    assert [value for _, _, value in broker.consume('t')] == [str(i) for i in range(len(names))]
    broker.kill9()
    broker.start()
    for i, name in enumerate(names):
        arguments = ['--producer', name] if name else []
        broker.run('produce', 't', *arguments, stdin=b'%d\n' % (i + len(names)))
    assert [value for _, _, value in broker.consume('t')] == [str(i) for i in range(2 * len(names))]


def test_first_record_of_a_producer(broker):
    """It is stored once, whether it is repeated at once, after a restart, or after kill -9 before any checkpoint."""
    broker.run('topic', 'create', 't')
    connection = Connection(broker.addresses['client'])
    group = connection.groups('t')[0]
    first = batch([b'first'], connection.init_producer(b'me'), 0)
    assert connection.produce(group, first) == (protocol.OK, 0, 0)
    assert connection.produce(group, first) == (protocol.OK, 0, 1)
    broker.kill9()
    broker.start()
    assert Connection(broker.addresses['client']).produce(group, first) == (protocol.OK, 0, 1)
    assert broker.stop() == 0
    broker.start()
    assert Connection(broker.addresses['client']).produce(group, first) == (protocol.OK, 0, 1)
    assert len(broker.consume('t')) == 1


def test_the_whole_window_is_known_after_restarts(broker):
    broker.run('topic', 'create', 't')
    connection = Connection(broker.addresses['client'])
    group = connection.groups('t')[0]
    producer = connection.init_producer() # without a name, idempotent too
    batches = [batch([b'%d.%d' % (i, j) for j in range(3)], producer, 3 * i) for i in range(7)]
    for i, data in enumerate(batches):
        assert connection.produce(group, data) == (protocol.OK, 3 * i, 0)
    for end in (broker.kill9, broker.stop, broker.kill9):
        end()
        broker.start()
        connection = Connection(broker.addresses['client'])
        for i in range(2, 7):
            assert connection.produce(group, batches[i]) == (protocol.OK, 3 * i, 1)
        assert connection.produce(group, batches[0])[0] == protocol.STALE
    assert connection.produce(group, batch([b'next'], producer, 21)) == (protocol.OK, 21, 0)
    assert len(broker.consume('t')) == 22


def test_producer_ids_are_never_given_twice(broker):
    seen = set()
    for _ in range(3):
        connection = Connection(broker.addresses['client'])
        for _ in range(40):
            producer, epoch = connection.init_producer()
            assert producer not in seen and epoch == 0
            seen.add(producer)
        broker.kill9()
        broker.start()


def test_deleted_topic_frees_its_disk_and_comes_back_empty(make_broker):
    broker = make_broker(config={'topic': {'segment_bytes': '1MiB'},
                                 'wal': {'file_bytes': '1MiB', 'budget_bytes': '8MiB'}}).start()
    broker.run('topic', 'create', 'kept')
    broker.run('produce', 'kept', stdin=b'kept\n')
    broker.run('topic', 'create', 't', '-p', '2')
    line = b'x' * 999 + b'\n'
    broker.run('produce', 't', stdin=line * 20000)
    wait_for(lambda: data_bytes(broker) > 15 << 20, 'the segments to be written')
    old = Connection(broker.addresses['client']).groups('t')
    broker.run('topic', 'delete', 't')
    wait_for(lambda: data_bytes(broker) < 2 << 20, 'the disk to be free again')
    broker.run('consume', 't', '-e', code=1)
    broker.run('topic', 'create', 't', '-p', '2')
    connection = Connection(broker.addresses['client'])
    new = connection.groups('t')
    assert not set(old.values()) & set(new.values())
    assert broker.consume('t') == []
    reply, _ = connection.request(protocol.FETCH, {1: old[0], 2: 0, 3: 1000})
    assert reply[1] == protocol.UNKNOWN_PARTITION # a request to the old life never reaches the new one
    broker.run('produce', 't', '-p', '0', stdin=b'new\n')
    for end in (broker.kill9, broker.stop):
        end()
        broker.start()
        assert broker.consume('t') == [(0, 0, 'new')]
        assert broker.consume('kept') == [(0, 0, 'kept')]


def test_marks_of_deleted_topics_are_forgotten(make_broker):
    """Each group that is deleted leaves a mark, until nothing in the log can bring it back."""
    broker = make_broker(config={'wal': {'file_bytes': '1MiB', 'budget_bytes': '8MiB'}}).start()
    broker.run('topic', 'create', 'stays')
    kept = [b'%d %s' % (n, b'x' * 1000) for n in range(3000)]

    def forgotten():
        return sum(int(line.rsplit('=', 1)[1]) for line in broker.log().splitlines() if 'deleted_forgotten' in line)
    for turn in range(3): # forgotten in the life of the deletion; after a kill; after a stop
        broker.run('topic', 'create', 'goes', '-p', '7')
        broker.run('produce', 'goes', stdin=b'one\ntwo\n')
        broker.run('topic', 'delete', 'goes')
        if turn == 1:
            broker.kill9()
        elif turn == 2:
            assert broker.stop() == 0
        if turn > 0:
            broker.start() # and a log of its own
        for _ in range(4): # the log moves on
            broker.run('produce', 'stays', '--batch-bytes', '16384', stdin=b'\n'.join(kept) + b'\n')
        wait_for(lambda: broker.run('produce', 'stays', stdin=kept[0] * 100 + b'\n') == b'' and forgotten() == 7,
                 'the marks to be taken away')
        assert [name for _, name in sorted((t['name'] == 'stays', t['name']) for t in broker.json('/v1/topics')
                                           if not t['internal'])] == ['stays']
    broker.kill9()
    broker.start()
    broker.run('topic', 'describe', 'goes', code=1)
    assert len(os.listdir(os.path.join(broker.data, 'parts'))) <= 2 # of `stays`, and spare files
    assert broker.stop() == 0


def test_delete_and_create_over_and_over(broker):
    for i in range(10):
        broker.run('topic', 'create', 'again', '-p', '3')
        broker.run('produce', 'again', stdin=b'%d\n' % i)
        assert [value for _, _, value in broker.consume('again')] == [str(i)]
        broker.run('topic', 'delete', 'again')
        if i % 3 == 2:
            broker.kill9()
            broker.start()
    assert broker.run('topic', 'list', '--json').strip() == b'[]'
