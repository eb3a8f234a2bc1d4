"""What no good client would send: a clear error, nothing lost, and the broker lives."""
import random
import struct

import pytest

import protocol
from harness import check_dense, wait_for
from protocol import Closed, Connection, batch, frame, message


@pytest.fixture
def served(broker):
    """A broker with topic t of one record; after the test it must still hold it, take more, and have lost nothing."""
    broker.run('topic', 'create', 't')
    broker.run('produce', 't', stdin=b'before\n')
    yield broker
    assert broker.process.poll() is None, broker.log()
    broker.run('produce', 't', stdin=b'after\n')
    rows = broker.consume('t')
    check_dense(rows)
    assert rows[0][2] == 'before' and rows[-1][2] == 'after'


class Producer:
    def __init__(self, broker, topic='t', name=b''):
        self.connection = Connection(broker.addresses['client'])
        self.group = self.connection.groups(topic)[0]
        self.producer = self.connection.init_producer(name)

    def produce(self, values, sequence, **options):
        return self.connection.produce(self.group, batch(values, self.producer, sequence, **options))


def refused_frame(broker, data, *statuses):
    """The broker answers with an error frame of one of these statuses, then closes."""
    connection = Connection(broker.addresses['client'])
    connection.send(data)
    kind, _, reply, _ = connection.receive()
    assert kind == protocol.ERROR and reply[1] in statuses and reply[2], reply
    with pytest.raises(Closed):
        connection.receive()
    connection.close()


def test_batch_with_a_broken_crc(served):
    p = Producer(served)
    status, _, _ = p.produce([b'x'], 0, crc=1)
    assert status == protocol.CORRUPT_BATCH
    assert p.produce([b'good'], 0) == (protocol.OK, 1, 0) # the connection and the sequence live on


@pytest.mark.parametrize('fault', ['short length', 'long length', 'negative length', 'records', 'magic', 'delta',
                                   'empty', 'record length'])
def test_batch_that_lies(served, fault):
    p = Producer(served)
    data = bytearray(batch([b'one', b'two'], p.producer, 0))
    if fault == 'short length':
        struct.pack_into('>i', data, 8, len(data) - 12 - 5)
    elif fault == 'long length':
        struct.pack_into('>i', data, 8, len(data) - 12 + 5)
    elif fault == 'negative length':
        struct.pack_into('>i', data, 8, -1)
    elif fault == 'records':
        struct.pack_into('>i', data, 57, 3)
    elif fault == 'magic':
        data[16] = 1
    elif fault == 'delta':
        struct.pack_into('>i', data, 23, 7)
    elif fault == 'empty':
        data = data[:61]
        struct.pack_into('>i', data, 57, 0)
        struct.pack_into('>i', data, 23, -1)
        struct.pack_into('>i', data, 8, 49)
    elif fault == 'record length':
        data[61] += 40
    struct.pack_into('>I', data, 17, protocol.crc32c(bytes(data[21:])))
    status, _, _ = p.connection.produce(p.group, bytes(data))
    assert status in (protocol.CORRUPT_BATCH, protocol.INVALID, protocol.TOO_LARGE), status
    assert p.produce([b'good'], 0)[:2] == (protocol.OK, 1)


def test_no_payload_at_all(served):
    p = Producer(served)
    assert p.connection.produce(p.group, b'')[0] in (protocol.CORRUPT_BATCH, protocol.INVALID)


def test_frames_that_lie(served):
    good = message({1: b't'})
    refused_frame(served, frame(protocol.METADATA, 1, good, length=0xffffffff), protocol.BAD_FRAME, protocol.TOO_LARGE)
    refused_frame(served, frame(protocol.METADATA, 1, good, length=0x7fffffff), protocol.BAD_FRAME, protocol.TOO_LARGE)
    refused_frame(served, frame(protocol.METADATA, 1, good, length=3), protocol.BAD_FRAME)
    refused_frame(served, frame(protocol.METADATA, 1, good, crc=1), protocol.BAD_FRAME)
    refused_frame(served, frame(protocol.METADATA, 1, good, magic=0x5151), protocol.BAD_FRAME)
    refused_frame(served, frame(protocol.METADATA, 1, good, version=9), protocol.UNSUPPORTED)
    refused_frame(served, frame(77, 1, good), protocol.UNSUPPORTED)
    refused_frame(served, b'GET / HTTP/1.1\r\nHost: x\r\n\r\n', protocol.BAD_FRAME)
    assert served.metric('connections_closed_bad_frame_total') >= 7


def test_protobuf_that_does_not_fit(served):
    connection = Connection(served.addresses['client'])
    reply, _ = connection.request(protocol.METADATA, {1: b'n' * 300})
    assert reply[1] == protocol.BAD_FRAME
    connection.send(frame(protocol.METADATA, 9, b'\x0a\xff\xff\xff\xff\x0f'))
    assert connection.receive()[2][1] == protocol.BAD_FRAME


def test_half_frames_and_silence(served):
    whole = frame(protocol.METADATA, 1, message({1: b't'}))
    held = [Connection(served.addresses['client']) for _ in range(20)]
    for i, connection in enumerate(held):
        connection.send(whole[:i]) # the first says nothing at all
    for size in range(0, len(whole), 3):
        connection = Connection(served.addresses['client'])
        connection.send(whole[:size])
        connection.close()
    served.run('produce', 't', stdin=b'meanwhile\n')
    connection = held[5]
    connection.send(whole[5:])
    assert connection.receive()[2].get(1, 0) == protocol.OK # slow is not wrong


def test_half_a_batch(served):
    p = Producer(served)
    data = frame(protocol.PRODUCE, 5, message({1: p.group, 2: 1, 3: 10000}), batch([b'x' * 5000] * 10, p.producer, 0))
    p.connection.send(data[:len(data) // 2])
    p.connection.close()
    assert [value for _, _, value in served.consume('t')] == ['before']


def test_noise(served):
    rng = random.Random(1)
    good = frame(protocol.METADATA, 1, message({1: b't'}))
    for _ in range(150):
        connection = Connection(served.addresses['client'])
        data = bytearray(rng.choice([good * 3, rng.randbytes(rng.randrange(400))]))
        for _ in range(rng.randrange(4) if data else 0):
            data[rng.randrange(len(data))] = rng.randrange(256)
        connection.send(bytes(data))
        connection.close()


def test_unknown_topic(served):
    for arguments in (['produce', 'nowhere'], ['consume', 'nowhere', '-e'], ['topic', 'describe', 'nowhere'],
                      ['topic', 'delete', 'nowhere']):
        served.run(*arguments, stdin=b'x\n', code=1)
        assert served.stderr.startswith("flotilla: topic 'nowhere' does not exist"), served.stderr
    assert 'flotilla topic create nowhere' in served.stderr or arguments[1] == 'delete'
    connection = Connection(served.addresses['client'])
    assert connection.request(protocol.METADATA, {1: b'nowhere'})[0][1] == protocol.UNKNOWN_TOPIC


def test_wrong_partition(served):
    served.run('produce', 't', '-p', '7', stdin=b'x\n', code=1)
    assert served.stderr.startswith("flotilla: topic 't' has no such partition"), served.stderr
    served.run('consume', 't', '-p', '7', '-e', code=1)
    p = Producer(served)
    assert p.connection.produce(999999, batch([b'x'], p.producer, 0))[0] == protocol.UNKNOWN_PARTITION
    reply, _ = p.connection.request(protocol.FETCH, {1: 999999, 2: 0, 3: 1000})
    assert reply[1] == protocol.UNKNOWN_PARTITION
    reply, _ = p.connection.request(protocol.FETCH, {1: p.group, 2: 99, 3: 1000})
    assert reply.get(1, 0) in (protocol.OK, protocol.OUT_OF_RANGE)


def test_a_batch_that_the_log_cannot_hold(make_broker):
    """Topics may allow more than a small log has room for: it is refused, and the log never chokes on it."""
    broker = make_broker(config={'wal': {'file_bytes': '1MiB', 'budget_bytes': '4MiB'}})
    broker.start()
    broker.run('topic', 'create', 't', '-c', 'max_batch_bytes=8MiB')
    producer = Producer(broker)
    status, _, _ = producer.produce([b'x' * (2 << 20)], 0)
    assert status == protocol.TOO_LARGE
    for sequence in range(20):
        status, offset, _ = producer.produce([b'y' * (1000 << 10)], sequence)
        while status == protocol.BUSY: # for a moment, until a checkpoint has made room
            status, offset, _ = producer.produce([b'y' * (1000 << 10)], sequence)
        assert (status, offset) == (protocol.OK, sequence)
    assert broker.stop() == 0


def test_too_large_a_record(served):
    served.run('produce', 't', stdin=b'small\n' + b'x' * (3 << 20) + b'\nalso small\n', code=1)
    assert 'does not fit' in served.stderr and 'produced 1 records' in served.stderr and '1 failed' in served.stderr
    assert [value for _, _, value in served.consume('t')] == ['before', 'small'] # it stops where it failed, and says so
    p = Producer(served)
    status, _, _ = p.connection.produce(p.group, bytes(2 << 20))
    assert status in (protocol.TOO_LARGE, protocol.CORRUPT_BATCH)


@pytest.mark.parametrize('name', ['', '.', '..', 'a/b', 'a b', 'x' * 250, '__mine', 'ä'])
def test_topic_names_that_are_none(served, name):
    connection = Connection(served.addresses['client'])
    reply, _ = connection.request(protocol.CREATE_TOPIC, {1: name.encode(), 2: 1})
    assert reply[1] in (protocol.INVALID_TOPIC, protocol.BAD_FRAME)


def test_sequences(served):
    p = Producer(served)
    assert p.produce([b'no'], 1)[0] == protocol.UNKNOWN_PRODUCER # the first of an epoch is 0
    assert p.produce([b'a', b'b'], 0) == (protocol.OK, 1, 0)
    assert p.produce([b'a', b'b'], 0) == (protocol.OK, 1, 1) # known, same offset
    assert p.produce([b'gap'], 3)[0] == protocol.OUT_OF_ORDER
    for i in range(2, 12):
        assert p.produce([b'c'], i) == (protocol.OK, i + 1, 0)
    assert p.produce([b'a', b'b'], 0)[0] == protocol.STALE
    stranger = (123456789, 0)
    assert p.connection.produce(p.group, batch([b'x'], stranger, 5))[0] == protocol.UNKNOWN_PRODUCER
    assert len(served.consume('t')) == 13


def test_older_epoch_is_fenced(served):
    first, second = Producer(served, name=b'me'), None
    assert first.produce([b'one'], 0)[0] == protocol.OK
    second = Producer(served, name=b'me')
    assert second.producer[0] == first.producer[0] and second.producer[1] == first.producer[1] + 1
    assert second.produce([b'two'], 0)[0] == protocol.OK
    assert first.produce([b'three'], 1)[0] == protocol.FENCED
    assert [value for _, _, value in served.consume('t')] == ['before', 'one', 'two']


def test_connections_are_bounded(make_broker):
    broker = make_broker(config={'limits': {'connections': 8}}).start()
    broker.run('topic', 'create', 't')
    wait_for(lambda: broker.metric('connections') == 0, 'the command to go')

    def connect(source):
        return Connection(broker.addresses['client'], source=source)

    def refused(source):
        surplus = connect(source)
        kind, _, reply, _ = surplus.receive()
        assert (kind, reply[1], reply[2]) == (protocol.ERROR, protocol.BUSY, b'too many connections')
        with pytest.raises(Closed):
            surplus.receive()
        surplus.close()

    held = [connect('127.0.0.2') for _ in range(6)]
    for connection in held:
        assert connection.groups('t')
    refused('127.0.0.2') # a quarter of them is for other addresses
    assert broker.metric('connections_refused_address_total') == 1
    held += [connect('127.0.0.3') for _ in range(2)]
    for connection in held:
        assert connection.groups('t')
    refused('127.0.0.4')
    assert broker.metric('connections_refused_total') == 2
    assert broker.metric('connections_refused_address_total') == 1
    for connection in held:
        assert connection.groups('t') # those that were there live on
    held.pop().close()
    wait_for(lambda: broker.metric('connections') == 7, 'the connection to go')
    assert connect('127.0.0.4').groups('t')
