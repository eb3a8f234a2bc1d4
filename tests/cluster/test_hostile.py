"""Hostile clients, class by class (tests/HOSTILE.md): what they get, that memory and connections stay within their
bounds, and that nothing of it changes what the broker stores."""
import os
import random
import re
import resource
import socket
import struct
import subprocess
import time

import pytest

import protocol
from harness import BUILD, check_dense, wait_for
from protocol import Closed, Connection, batch, frame, message

FRAME_BYTES = 1 << 20


@pytest.fixture
def served(make_broker):
    """A broker with little memory and topic t of one record; afterwards it must hold that, take more, lose nothing."""
    broker = make_broker(config={'limits': {'memory_bytes': '64MiB', 'connections': 4000}}).start()
    broker.run('topic', 'create', 't')
    broker.run('produce', 't', stdin=b'before\n')
    yield broker
    assert broker.process.poll() is None, broker.log()
    broker.run('produce', 't', stdin=b'after\n')
    rows = broker.consume('t')
    check_dense(rows)
    assert rows[0][2] == 'before' and rows[-1][2] == 'after'


def connect(broker, source=1):
    return Connection(broker.addresses['client'], source='127.0.0.%d' % source)


def rss_bytes(broker):
    text = open('/proc/%d/status' % broker.process.pid).read()
    return int(re.search(r'VmRSS:\s+(\d+) kB', text).group(1)) * 1024


def is_closed(connection):
    """Reads what is there, without waiting; True when the broker closed."""
    connection.socket.setblocking(False)
    try:
        while connection.socket.recv(1 << 16):
            pass
        return True
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def produce_frame(size, group=1):
    return frame(protocol.PRODUCE, 1, message({1: group, 2: 1}), bytes(size))


# --- length lies and truncation ---

@pytest.mark.parametrize('kind', [protocol.METADATA, protocol.FETCH, protocol.PRODUCE, protocol.CREATE_TOPIC])
def test_every_prefix_and_every_split(served, kind):
    wish = {protocol.METADATA: {1: b't'}, protocol.FETCH: {1: 1, 2: 0, 3: 100}, protocol.PRODUCE: {1: 1, 2: 1},
            protocol.CREATE_TOPIC: {1: b'..', 2: 1}}[kind]
    payload = batch([b'x']) if kind == protocol.PRODUCE else b''
    whole = frame(kind, 7, message(wish), payload[:-1]) # the batch is cut, so nothing of it is stored
    split = connect(served)
    for size in range(len(whole)):
        half = connect(served)
        half.send(whole[:size])
        half.close()
        split.send(whole[:size])
        time.sleep(0.001) # so that the halves are read apart
        split.send(whole[size:])
        assert split.receive()[:2] == (kind + 1, 7)
    split.send(whole * 3 + whole[:9]) # pipelined, the last one half
    split.send(whole[9:])
    for _ in range(4):
        assert split.receive()[:2] == (kind + 1, 7)


def test_a_length_alone_brings_no_memory(served):
    before = rss_bytes(served)
    head = produce_frame(16 << 20)[:200]
    liars = [connect(served, 2) for _ in range(500)]
    for liar in liars:
        liar.send(head)
    wait_for(lambda: served.metric('memory_receive_bytes') > 0, 'the heads to arrive')
    served.run('produce', 't', stdin=b'meanwhile\n')
    assert served.metric('memory_receive_bytes') <= 3 << 20
    assert rss_bytes(served) - before < 16 << 20
    for liar in liars:
        liar.close()


def test_large_protobuf_is_refused(served):
    connection = connect(served)
    connection.send(frame(protocol.METADATA, 3, message({1: b't', 9: bytes(3000)})))
    assert connection.receive()[2].get(1, 0) == protocol.OK # a field of a later version
    connection.send(frame(protocol.METADATA, 3, message({9: bytes(5000)})))
    kind, _, reply, _ = connection.receive()
    assert (kind, reply[1]) == (protocol.ERROR, protocol.TOO_LARGE)


@pytest.mark.parametrize('proto', [
    b'\x08\x01', # the name as a number
    b'\x0a\x05ab', # cut off
    b'\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01', # a varint of eleven bytes
    b'\x0b' * 2000, # groups, nested
    b'\xff\xff\xff\xff\x0f', # a field number alone
    b'\x00\x00', # field 0
    b'\x0f\x00', # wire type 7
])
def test_protobuf_that_is_none(served, proto):
    connection = connect(served)
    connection.send(frame(protocol.METADATA, 3, proto))
    assert connection.receive()[2][1] == protocol.BAD_FRAME
    assert connection.groups('t') # only the request was wrong


# --- slow and many ---

@pytest.mark.slow
def test_slow_frames_end_and_idle_connections_stay(served):
    head = produce_frame(FRAME_BYTES)
    idle = [connect(served, 2) for _ in range(20)]
    slow = {connect(served, 3): 1 + 10 * i for i in range(20)}
    for one, size in slow.items():
        one.send(head[:size])
    honest = connect(served)
    honest.groups('t')

    def drip():
        for one, size in slow.items():
            try:
                one.send(head[size:size + 1])
                slow[one] += 1
            except OSError: # closed
                pass
        time.sleep(0.2)
        return served.metric('connections_closed_slow_frame_total') == 20
    wait_for(drip, 'the slow ones to be closed')
    assert all(wait_for(lambda: is_closed(one), 'the end') for one in slow)
    assert not any(is_closed(one) for one in idle)
    honest.socket.setblocking(True)
    assert honest.groups('t')


@pytest.mark.slow
def test_a_slow_frame_is_told_why(served):
    connection = connect(served)
    connection.send(produce_frame(FRAME_BYTES)[:300])
    kind, _, reply, _ = connection.receive()
    assert kind == protocol.ERROR and b'in time' in reply[2]
    with pytest.raises(Closed):
        connection.receive()


def test_slow_senders_hold_what_they_sent_and_no_more(served):
    """300 half frames of 600 KiB want 180 MiB; unfinished frames have 8."""
    data = produce_frame(FRAME_BYTES)[:600 << 10]
    heavy = {connect(served, 2 + i % 4): 0 for i in range(300)}

    def pump():
        for one, sent in heavy.items():
            try:
                one.socket.setblocking(False)
                heavy[one] += one.socket.send(data[sent:]) if sent < len(data) else 0
            except OSError: # full, or closed
                pass
        return served.metric('connections_closed_memory_total') > 0
    wait_for(pump, 'somebody to make room')
    served.run('bench', 'roundtrip', 't', '--records', '200', '--size', '100')
    served.run('bench', 'produce', 't', '--records', '2000', '--size', '1000', '--batch-bytes', '500000')
    assert served.metric('memory_bytes') <= served.metric('memory_budget_bytes')
    assert rss_bytes(served) < 64 << 20
    for one in heavy:
        one.close()


def test_who_does_not_read_gets_no_more(served):
    """Replies that nobody takes stay within their share, and others are served."""
    value = b'x' * 100000
    served.run('produce', 't', stdin=b'\n'.join([value] * 100) + b'\n')
    group = connect(served).groups('t')[0]
    fetch = frame(protocol.FETCH, 1, message({1: group, 2: 0, 3: 16 << 20}))
    deaf = [connect(served, 2 + i % 4) for i in range(200)]
    for one in deaf:
        one.socket.setblocking(False)
        try:
            one.socket.send(fetch * 1000) # 10 GB of replies
        except BlockingIOError:
            pass
    wait_for(lambda: served.metric('connections_closed_memory_total') > 0, 'the deaf to be closed')
    assert len(served.consume('t')) == 101
    assert served.metric('memory_bytes') <= served.metric('memory_budget_bytes')
    assert rss_bytes(served) < 96 << 20
    for one in deaf:
        one.close()


@pytest.mark.slow
def test_a_reader_that_takes_nothing_ends(served):
    served.run('produce', 't', stdin=b'\n'.join([b'x' * 100000] * 100) + b'\n')
    connection = connect(served)
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    group = connection.groups('t')[0]
    connection.send(frame(protocol.FETCH, 1, message({1: group, 2: 0, 3: 2600 << 10})) * 3)
    wait_for(lambda: served.metric('connections_closed_slow_reader_total') == 1, 'its end')
    wait_for(lambda: served.metric('memory_send_bytes') == 0, 'its replies to be dropped')


def test_idle_connections_cost_little(served):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    held = [connect(served, 2 + i % 8) for i in range(100)]
    for one in held:
        assert one.groups('t')
    before = rss_bytes(served)
    for i in range(2000):
        held.append(connect(served, 2 + i % 8))
        held[-1].send(frame(protocol.METADATA, 1, message({1: b't'})))
    for one in held[100:]:
        one.receive()
    each = (rss_bytes(served) - before) / 2000
    assert each < 8192, each
    assert served.metric('connections') == 2100
    for one in held:
        one.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_read_full_of_requests_holds_up_nobody(served):
    """100,000 requests at once: all are answered, in order, and somebody else in between."""
    count = 100000
    greedy, other = connect(served), connect(served, 2)
    one = frame(protocol.LIST_OFFSETS, 0, message({1: 999999, 2: 1}))
    sender = os.fork()
    if sender == 0:
        greedy.socket.sendall(one * count)
        os._exit(0)
    got, answered = 0, 0
    while got < count:
        data = greedy.socket.recv(1 << 16)
        assert data
        greedy.received += data
        size = 4 + struct.unpack_from('<I', greedy.received)[0]
        whole = len(greedy.received) // size # they are all alike
        assert greedy.received[:whole * size] == greedy.received[:size] * whole
        got, greedy.received = got + whole, greedy.received[whole * size:]
        if got < count and other.groups('t'):
            answered += 1
    os.waitpid(sender, 0)
    assert got == count and answered > 10


def test_a_crowd_in_small(served):
    """The crowd of ./dev bench hostile, a twentieth of it."""
    command = [os.path.join(BUILD, 'tests/bench/hostile'), served.addresses['client'], '500', '60', '200', '600', '16']
    crowd = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert crowd.stdout.readline() == b'steady\n'
    refused = served.metric('connections_refused_total')
    for _ in range(3):
        served.run('bench', 'roundtrip', 't', '--records', '300', '--size', '100')
        assert served.metric('memory_bytes') <= served.metric('memory_budget_bytes')
    assert rss_bytes(served) < 64 << 20
    assert len(served.log().splitlines()) < 50 # no line per connection
    assert served.metric('connections_refused_total') == refused
    crowd.terminate()
    words = crowd.communicate()[0].split()
    assert int(words[words.index(b'connected') + 1]) > 560
    wait_for(lambda: served.metric('connections') == 0, 'everybody to go')


def test_requests_that_wait_are_bounded(served):
    group = connect(served).groups('t')[0]
    waiting = connect(served)
    asked, bound = 16500, 16384 # of one connection; here their share of memory_bytes is less
    wish = protocol.message({1: group, 2: 1, 3: 1000, 4: 1, 5: 10000})
    waiting.send(b''.join(protocol.frame(protocol.FETCH, i + 1, wish) for i in range(asked)))
    statuses = [waiting.receive()[2].get(1, 0) for _ in range(asked)]
    waited = statuses.count(protocol.OK)
    assert statuses.count(protocol.BUSY) == asked - waited and bound / 4 < waited <= bound
    assert rss_bytes(served) < 64 << 20


def test_a_storm_of_reconnects(served):
    """Connections that end in every way there is, with replies under way."""
    rng = random.Random(1)
    host, port = served.addresses['client'].split(':')
    fetch = frame(protocol.METADATA, 1, message({}))
    for i in range(1500):
        one = socket.create_connection((host, int(port)), 20, ('127.0.0.%d' % (2 + i % 8), 0))
        if rng.random() < 0.7:
            one.send(fetch[:rng.randrange(1, len(fetch) + 1)])
        if rng.random() < 0.3:
            one.shutdown(socket.SHUT_WR)
        if rng.random() < 0.5:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        one.close()
    wait_for(lambda: served.metric('connections') == 0, 'all of them to go')
    assert served.metric('memory_send_bytes') == 0 and served.metric('connections_refused_total') == 0


def namespace_possible():
    return os.geteuid() == 0 and subprocess.run(['ip', 'netns', 'add', 'flotilla-probe'],
                                                stderr=subprocess.DEVNULL).returncode == 0


@pytest.mark.slow
def test_hosts_that_vanish(make_broker):
    """The other side's host is cut off: neither an idle connection nor one with replies under way stays for ever."""
    if not namespace_possible():
        pytest.skip('needs root and network namespaces')
    subprocess.run(['ip', 'netns', 'delete', 'flotilla-probe'], check=True)
    name, outside, inside = 'flot-%d' % os.getpid(), 'flo%d' % os.getpid(), 'fli%d' % os.getpid()

    def ip(*words):
        subprocess.run(['ip', *words], check=True)
    ip('netns', 'add', name)
    try:
        ip('link', 'add', outside, 'type', 'veth', 'peer', 'name', inside, 'netns', name)
        ip('address', 'add', '198.18.77.1/30', 'dev', outside)
        ip('link', 'set', outside, 'up')
        ip('-n', name, 'address', 'add', '198.18.77.2/30', 'dev', inside)
        ip('-n', name, 'link', 'set', inside, 'up')
        broker = make_broker()
        broker.addresses['client'] = '198.18.77.1:0'
        broker.start()
        broker.run('topic', 'create', 't')
        group = Connection(broker.addresses['client'], source='198.18.77.1').groups('t')[0]
        script = ('import sys, time; sys.path.insert(0, %r); import protocol as p;'
                  'cs = [p.Connection(%r, source="198.18.77.2") for _ in range(2)];'
                  '[c.groups("t") for c in cs];'
                  'cs[1].ask(p.FETCH, {1: %d, 2: 0, 3: 1000, 4: 1, 5: 3000});'
                  'print("there", flush=True); time.sleep(900)'
                  % (os.path.dirname(__file__), broker.addresses['client'], group))
        command = ['ip', 'netns', 'exec', name, '/usr/bin/python3', '-c', script]
        peer = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert peer.stdout.readline() == b'there\n'
        wait_for(lambda: broker.metric('connections') == 2, 'both')
        ip('link', 'set', outside, 'down')
        peer.kill()
        wait_for(lambda: broker.metric('connections') == 0, 'the broker to notice', 150)
        peer.wait()
        assert broker.stop() == 0
    finally:
        subprocess.run(['ip', 'link', 'delete', outside], stderr=subprocess.DEVNULL)
        ip('netns', 'delete', name)


# --- semantic ---

BIG = (1 << 63) - 1


@pytest.mark.parametrize('wish, statuses', [
    ({2: -1}, [protocol.OUT_OF_RANGE]), ({2: BIG}, [protocol.OUT_OF_RANGE]), ({2: -BIG - 1}, [protocol.OUT_OF_RANGE]),
    ({3: 0}, [protocol.OK]), ({3: 0xffffffff}, [protocol.OK]), ({3: 10, 4: 0xffffffff}, [protocol.OK]), # min > max
    ({1: 0}, [protocol.UNKNOWN_PARTITION]), ({1: (1 << 64) - 1}, [protocol.UNKNOWN_PARTITION]),
])
def test_fetches_that_make_no_sense(served, wish, statuses):
    connection = connect(served)
    group = connection.groups('t')[0]
    reply, body = connection.request(protocol.FETCH, {**{1: group, 2: 0, 3: 1000, 5: 200}, **wish})
    assert reply.get(1, 0) in statuses
    assert bool(body) == (reply.get(1, 0) == protocol.OK)


@pytest.mark.parametrize('timestamp, status', [(-3, protocol.INVALID), (-BIG - 1, protocol.INVALID),
                                               (BIG, protocol.OK), (0, protocol.OK)])
def test_list_offsets_of_any_time(served, timestamp, status):
    connection = connect(served)
    group = connection.groups('t')[0]
    reply, _ = connection.request(protocol.LIST_OFFSETS, {1: group, 2: timestamp})
    assert reply.get(1, 0) == status
    if status == protocol.OK:
        assert reply.get(2, 0) == (1 if timestamp else 0)


@pytest.mark.parametrize('acks', [2, -2, 1 << 30, -(1 << 31)])
def test_acks_that_nobody_knows(served, acks):
    connection = connect(served)
    reply, _ = connection.request(protocol.PRODUCE, {1: connection.groups('t')[0], 2: acks << 1 ^ acks >> 63},
                                  batch([b'x']))
    assert reply.get(1, 0) == protocol.INVALID
    assert len(served.consume('t')) == 1


def with_timestamps(data, first, last, delta=0):
    """The batch with other timestamps, its CRC right."""
    data = bytearray(data)
    struct.pack_into('>qq', data, 27, first, last)
    struct.pack_into('>I', data, 17, protocol.crc32c(bytes(data[21:])))
    return bytes(data)


@pytest.mark.parametrize('first', [9223372036854, 9223372036854775807, -1, -9223372036854775808, 0])
def test_timestamps_of_any_age(served, first):
    connection = connect(served)
    group = connection.groups('t')[0]
    status, offset, _ = connection.produce(group, with_timestamps(batch([b'odd']), first, first), acks=1)
    assert status in (protocol.OK, protocol.CORRUPT_BATCH, protocol.INVALID)
    stored = status == protocol.OK
    assert len(served.consume('t')) == 1 + stored
    served.run('produce', 't', stdin=b'normal\n')
    assert len(served.consume('t', '-o', 'beginning')) == 2 + stored


@pytest.mark.parametrize('sequence', [-1, 1, 0x7fffffff, -0x80000000])
@pytest.mark.parametrize('producer', [0, BIG, -BIG - 1, -2])
def test_sequences_of_producers_that_are_none(served, producer, sequence):
    connection = connect(served)
    group = connection.groups('t')[0]
    status, _, _ = connection.produce(group, batch([b'x'], (producer, 0), sequence))
    assert status in (protocol.UNKNOWN_PRODUCER, protocol.CORRUPT_BATCH, protocol.INVALID), status
    assert len(served.consume('t')) == 1


@pytest.mark.parametrize('kind', [0, 2, 4, 10, 17, 128, 254, 255])
def test_frames_that_are_no_request(served, kind):
    connection = connect(served)
    connection.send(frame(kind, 5, b''))
    got, request_id, reply, _ = connection.receive()
    assert (got, request_id, reply[1]) == (protocol.ERROR, 5, protocol.UNSUPPORTED)
    with pytest.raises(Closed):
        connection.receive()


def test_versions_that_nobody_knows(served):
    connection = connect(served)
    for version in (0, 2, 0xffffffff):
        reply, _ = connection.request(protocol.HELLO, {1: version})
        assert reply[1] == protocol.UNSUPPORTED and reply[2] == 1
    reply, _ = connection.request(protocol.HELLO, {1: 1, 2: b'\xff\xfe'})
    assert reply.get(1, 0) in (protocol.OK, protocol.BAD_FRAME)


@pytest.mark.parametrize('config', [{1: 1}, {1: 1 << 63}, {5: 1 << 31}, {5: 1}, {6: 8}, {2: -5}, {4: -BIG - 1}])
def test_topic_settings_beyond_reason(served, config):
    connection = connect(served)
    reply, _ = connection.request(protocol.CREATE_TOPIC, {1: b'odd', 2: 1, 4: message(config)})
    assert reply[1] != protocol.OK and reply[2]
    reply, _ = connection.request(protocol.CREATE_TOPIC, {1: b'odd', 2: 0xffffffff})
    assert reply[1] != protocol.OK
    assert connection.request(protocol.METADATA, {1: b'odd'})[0][1] == protocol.UNKNOWN_TOPIC


# --- names ---

@pytest.mark.parametrize('name', [b'../x', b'..', b'.', b'', b'a/b', b'a\\b', b'a\x00b', b'\xc0\xae\xc0\xae',
                                  b'n' * 250, b'a b', b'a\nb', b'%2e%2e', b'__producers', b'__x', '\u0430'.encode()])
def test_names_that_are_none(served, name):
    connection = connect(served)
    reply, _ = connection.request(protocol.CREATE_TOPIC, {1: name, 2: 1})
    if name == b'a\x00b': # reads as what stands before the NUL
        assert reply.get(1, 0) in (protocol.OK, protocol.INVALID_TOPIC, protocol.BAD_FRAME)
    else:
        assert reply[1] in (protocol.INVALID_TOPIC, protocol.BAD_FRAME)
    parts = os.path.join(served.data, 'parts')
    assert set(re.sub(r'\d+', 'N', entry) for entry in os.listdir(parts)) <= {'N', 'spare'}, os.listdir(parts)


def test_names_that_look_alike_are_different(served):
    for name in ('T', 't.', 't-', 't_', 'n' * 249):
        served.run('topic', 'create', name)
    assert [value for _, _, value in served.consume('t')] == ['before'] and served.consume('T') == []


# --- many topics ---

@pytest.mark.slow
def test_metadata_in_pages(make_broker):
    """More rows than one reply holds: pages, without a gap, in the order of group ids."""
    broker = make_broker().start()
    names = ['topic-%d' % i for i in range(7)]
    for name in names:
        broker.run('--timeout', '120', 'topic', 'create', name, '-p', '9000')
    connection = connect(broker)
    pages, after = [], 0
    while True:
        reply, body = connection.request(protocol.METADATA, {3: after} if after else {})
        assert reply.get(1, 0) == protocol.OK
        pages.append(reply.get(3, 0))
        assert len(body) < 2 << 20
        after = reply.get(5, 0)
        if after == 0:
            break
    assert len(pages) >= 2 and sum(pages) == 7
    lines = broker.run('topic', 'list').decode().splitlines()[1:]
    assert sorted(line.split()[0] for line in lines) == names
    assert {line.split()[1] for line in lines} == {'9000'}
    assert len(connection.groups('topic-6')) == 9000


# --- the admin listener ---

def admin_connect(broker):
    host, port = broker.addresses['admin'].split(':')
    return socket.create_connection((host, int(port)), 20)


def test_admin_requests_of_all_kinds(served):
    for data, status in ((b'GET /' + b'x' * 2000 + b' HTTP/1.1\r\n\r\n', b'414'),
                         (b'GET / HTTP/1.1\r\n' + b'A: b\r\n' * 3000 + b'\r\n', b'431'),
                         (b'POST /metrics HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n', b'405'),
                         (b'\x00\xff\x16\x03\x01' * 20, b'400'),
                         (b'GET /../../etc/passwd HTTP/1.1\r\n\r\n', b'404')):
        one = admin_connect(served)
        one.sendall(data)
        assert one.recv(100).split()[1] == status, data[:20]
        one.close()


@pytest.mark.slow
def test_admin_slow_loris(served):
    """All connections of the admin listener taken by silence: they end, and health is answered."""
    held = [admin_connect(served) for _ in range(64)]
    for one in held:
        one.sendall(b'GET /hea')
    assert served.http('/health/ready') == (200, 'ready\n') # waits in the backlog for their deadline
    for one in held:
        assert one.recv(100).split()[1] == b'408'
        one.close()
