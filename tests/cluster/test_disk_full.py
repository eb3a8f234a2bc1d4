"""A full disk: produce is refused and says why, what was acknowledged stays and is served, retention and deletion go
on, and room ends it without anybody's help."""
import os
import threading
import time

import pytest

import protocol
from harness import check_dense, wait_for
from small_disk import make_small_disk  # noqa: F401, a fixture

# Small WAL files and frequent checkpoints: the disk fills with segments, and the WAL is the last to find room.
CONFIG = {'wal': {'file_bytes': '1MiB', 'budget_bytes': '4MiB'}, 'topic': {'segment_bytes': '1MiB'},
          'raft': {'snapshot_bytes': '1MiB'}}
KIND = os.environ.get('FLOTILLA_DISK_FULL_KIND', 'tmpfs')
ROUNDS = int(os.environ.get('FLOTILLA_DISK_FULL_ROUNDS', '3'))


@pytest.fixture
def small_disk(make_small_disk):  # noqa: F811
    return make_small_disk(40 << 20)


@pytest.fixture
def full_broker(make_broker, small_disk):
    broker = make_broker(config=CONFIG)
    broker.data = small_disk.data
    return broker.start()


BULK = protocol.batch([b'x' * 200000]) # made once: the CRC is slow in Python
SMALL = protocol.batch([b'x' * 2000])


def fill(broker, group):
    """Produces until the broker says that the disk is full; the offsets that it acknowledged."""
    connection = protocol.Connection(broker.addresses['client'])
    acknowledged = []

    def refused():
        status, offset, _ = connection.produce(group, BULK)
        assert status in (protocol.OK, protocol.STORAGE_FULL, protocol.BUSY)
        if status == protocol.OK:
            acknowledged.append(offset)
        return status == protocol.STORAGE_FULL
    wait_for(refused, 'the disk to fill')
    connection.close()
    return acknowledged


def status_of(broker, group):
    connection = protocol.Connection(broker.addresses['client'])
    status, _, _ = connection.produce(group, SMALL)
    connection.close()
    return status


def wait_for_status(broker, group, status):
    wait_for(lambda: status_of(broker, group) == status, 'produce to answer %d' % status)


def group_of(broker, topic):
    connection = protocol.Connection(broker.addresses['client'])
    group = connection.groups(topic)[0]
    connection.close()
    return group


def check_kept(broker, acknowledged):
    rows = broker.consume('t')
    check_dense(rows)
    assert acknowledged == list(range(len(acknowledged))) and len(acknowledged) <= len(rows)
    assert all(value == 'x' * len(value) for _, _, value in rows)


@pytest.mark.slow
@pytest.mark.parametrize('end', ['stay', 'kill9', 'stop'])
def test_refuses_keeps_and_goes_on(full_broker, end):
    broker = full_broker
    broker.run('topic', 'create', 't')
    broker.run('topic', 'create', 'victim')
    broker.run('produce', 'victim', stdin=(b'v' * 1000 + b'\n') * 3000)
    connection = protocol.Connection(broker.addresses['client'])
    group = connection.groups('t')[0]
    acknowledged = fill(broker, group)
    check_kept(broker, acknowledged) # fetches are not held up
    reply, _ = connection.request(protocol.INIT_PRODUCER, {})
    assert reply[1] in (protocol.STORAGE_FULL, protocol.NOT_READY)
    reply, _ = connection.request(protocol.CREATE_TOPIC, {1: b'more', 2: 1})
    assert reply[1] == protocol.STORAGE_FULL
    connection.close()
    if end == 'kill9':
        broker.kill9()
    elif end == 'stop':
        assert broker.stop() == 0 # cleanly: it does not wait for room that does not come
        assert 'saved=0' in broker.log()
    if end != 'stay':
        broker.start()
        check_kept(broker, acknowledged)
    broker.run('topic', 'delete', 'victim')
    wait_for_status(broker, group, protocol.OK)
    assert broker.stop() == 0


def test_a_young_log_has_its_room_already(make_broker, small_disk):
    """The disk fills while not a single spare file of the WAL was filled with zeros."""
    broker = make_broker(config=dict(CONFIG, wal={'file_bytes': '4MiB', 'budget_bytes': '16MiB'}))
    broker.data = small_disk.data
    broker.start()
    small_disk.fill()
    reply, _ = protocol.Connection(broker.addresses['client']).request(protocol.CREATE_TOPIC, {1: b't', 2: 1})
    if reply.get(1, 0) == protocol.OK: # not noticed yet
        fill(broker, group_of(broker, 't'))
    small_disk.give_back()
    wait_for(lambda: broker.run_code('topic', 'create', 'u') == 0, 'creation to go on')
    wait_for_status(broker, group_of(broker, 'u'), protocol.OK)
    assert broker.stop() == 0


def test_any_number_of_starts_on_a_full_disk(full_broker, small_disk):
    broker = full_broker
    broker.run('topic', 'create', 't')
    group = group_of(broker, 't')
    small_disk.fill(2 << 20)
    acknowledged = fill(broker, group)
    small_disk.fill()
    for n in range(12):
        if n % 3 == 2:
            assert broker.stop() == 0 # cleanly: the reserve takes what a start and a stop write
        else:
            broker.kill9()
        small_disk.fill() # whatever the end gave back
        broker.start()
        small_disk.fill()
        wait_for_status(broker, group, protocol.STORAGE_FULL)
    check_kept(broker, acknowledged)
    small_disk.give_back()
    wait_for_status(broker, group, protocol.OK)
    assert broker.stop() == 0


def test_a_full_disk_is_said_once(full_broker, small_disk):
    """Not for each group and each second: twenty groups whose segments cannot be written, and every try fails."""
    broker = full_broker
    broker.run('topic', 'create', 't', '-p', '20')
    connection = protocol.Connection(broker.addresses['client'])
    groups = connection.groups('t')
    small_disk.fill()
    before = len(broker.log().splitlines())
    for _ in range(2000):
        statuses = [connection.produce(group, SMALL)[0] for group in groups.values()]
        if all(status == protocol.STORAGE_FULL for status in statuses):
            break
    retries = time.monotonic() + 5 # each second a try of everything
    while time.monotonic() < retries:
        assert all(connection.produce(group, SMALL)[0] == protocol.STORAGE_FULL for group in groups.values())
        time.sleep(0.2)
    lines = broker.log().splitlines()[before:]
    assert any(' disk_full ' in line for line in lines)
    assert len(lines) < 15, lines
    small_disk.give_back()
    wait_for_status(broker, groups[0], protocol.OK)
    wait_for(lambda: 'disk_has_room' in broker.log(), 'the end to be said')
    connection.close()
    assert broker.stop() == 0


def test_retention_alone_makes_room(full_broker, small_disk):
    """Five times what the disk holds, and the only help is the topic's own retention: no spare segments are kept, and
    dropped ones go although no checkpoint finds room."""
    broker = full_broker
    broker.run('topic', 'create', 't', '-c', 'retention_ms=3000')
    connection = protocol.Connection(broker.addresses['client'])
    group = connection.groups('t')[0]
    small_disk.fill(8 << 20)
    acknowledged = 0
    data = BULK

    def produced_enough():
        nonlocal acknowledged, data
        if acknowledged % 20 == 0: # their timestamps count
            data = protocol.batch([b'x' * 200000])
        status, _, _ = connection.produce(group, data)
        assert status in (protocol.OK, protocol.STORAGE_FULL, protocol.BUSY)
        acknowledged += status == protocol.OK
        return acknowledged == 200 # 40 MB
    wait_for(produced_enough, 'retention to make room', 120)
    connection.close()
    assert broker.stop() == 0


# --- filled and freed, over and over, under load ---

ANSWERS = {protocol.OK: 'acknowledged', protocol.STORAGE_FULL: 'refused'}


class Pump(threading.Thread):
    """Produces 0, 1, 2 ... to a partition of its own, each exactly once, whatever happens to the broker."""

    def __init__(self, broker, topic):
        super().__init__(daemon=True)
        self.broker = broker
        self.topic = topic
        self.n = 0 # acknowledged
        self.refused = 0
        self.longest_s = {'acknowledged': 0, 'refused': 0, 'other': 0} # from a request to its answer
        self.bad = None
        self.stopping = threading.Event()
        connection = protocol.Connection(broker.addresses['client'])
        self.group = connection.groups(topic)[0]
        self.producer = connection.init_producer()
        connection.close()

    def produce(self, connection):
        begin = time.monotonic()
        data = protocol.batch([b'%d %s' % (self.n, b'x' * 300)], producer=self.producer, sequence=self.n)
        status, _, _ = connection.produce(self.group, data)
        answer = ANSWERS.get(status, 'other')
        self.longest_s[answer] = max(self.longest_s[answer], time.monotonic() - begin)
        if status == protocol.OK:
            self.n += 1
        elif status == protocol.STORAGE_FULL:
            self.refused += 1
            self.stopping.wait(0.02)
        elif status not in (protocol.BUSY, protocol.NOT_READY, protocol.SHUTTING_DOWN):
            self.bad = status

    def run(self):
        connection = None
        while not self.stopping.is_set() and self.bad is None:
            try:
                connection = connection or protocol.Connection(self.broker.addresses['client'], 60)
                self.produce(connection)
            except (OSError, protocol.Closed):
                connection = None
                self.stopping.wait(0.02)


class Weather:
    """Fills the disk in one of several ways, and frees it the way that belongs to it."""

    def __init__(self, broker, disk, pumps):
        self.broker, self.disk, self.pumps = broker, disk, pumps

    def wait_refused(self, topic):
        """What the broker gives up of its own when the disk is full is room again: large records take it."""
        seen = [pump.refused for pump in self.pumps]

        def refused():
            self.own_data(topic)
            return all(pump.bad is not None or pump.refused > was for pump, was in zip(self.pumps, seen))
        wait_for(refused, 'refusals', 60)

    def wait_progress(self, moves):
        """Until every pump goes on; the moment at which retention moved a log's start, or else this one."""
        seen = [pump.n for pump in self.pumps]
        begin = time.monotonic()
        moved = None

        def goes_on():
            nonlocal moved
            if moved is None and self.broker.metric('log_start_moves_total') > moves:
                moved = time.monotonic()
            return all(pump.bad is not None or pump.n > was for pump, was in zip(self.pumps, seen))
        wait_for(goes_on, 'produce to go on', 30)
        return moved or begin

    def wait_load(self, records=100):
        seen = [pump.n for pump in self.pumps]
        wait_for(lambda: all(pump.bad is not None or pump.n >= was + records for pump, was in zip(self.pumps, seen)),
                 'some load')

    def own_data(self, topic):
        """Large records into a topic until the disk is full."""
        connection = protocol.Connection(self.broker.addresses['client'], 60)
        group = connection.groups(topic)[0]
        data = protocol.batch([b'x' * 200000]) # of now: retention would drop older ones at once
        while True:
            status, _, _ = connection.produce(group, data)
            assert status in (protocol.OK, protocol.BUSY, protocol.STORAGE_FULL), status
            if status == protocol.STORAGE_FULL:
                break
        connection.close()

    def round(self, number):
        kind = ('ballast', 'delete', 'retention')[number % 3]
        topic = 'r%d' % number
        options = ('-c', 'retention_ms=6000') if kind == 'retention' else ()
        wait_for(lambda: self.broker.run_code('topic', 'create', topic, *options) == 0, 'creation to go on')
        moves = self.broker.metric('log_start_moves_total')
        begin = time.monotonic()
        self.disk.fill(0 if kind == 'ballast' else 6 << 20)
        self.own_data(topic)
        full = time.monotonic()
        self.wait_refused(topic)
        refused = time.monotonic()
        killed = number % 6 in (0, 4) # a ballast or a deletion: retention does not wait for a restart
        if killed:
            for _ in range(2):
                self.broker.kill9()
                self.broker.start()
            self.wait_refused(topic)
        assert self.broker.run('topic', 'list') # everything else goes on
        freed = time.monotonic()
        if kind == 'ballast':
            self.disk.give_back()
        elif kind == 'delete':
            self.broker.run('topic', 'delete', topic)
        room = self.wait_progress(moves)
        again = time.monotonic()
        if kind != 'ballast':
            self.disk.give_back()
        if kind != 'delete':
            wait_for(lambda: self.broker.run_code('topic', 'delete', topic) == 0, 'the topic to go')
        self.wait_load()
        print('round %2d %-9s killed=%d full after %.2f s, refused %.2f s later, room %.2f s after that, went on '
              '%.2f s after room; acknowledged %s, refused %s, answers %s' %
              (number, kind, killed, full - begin, refused - full, room - freed, again - room,
               [pump.n for pump in self.pumps], [pump.refused for pump in self.pumps], longest(self.pumps)), flush=True)
        return refused - full, again - room


def longest(pumps):
    return ', '.join('%s %.2f s' % (answer, max(pump.longest_s[answer] for pump in pumps))
                     for answer in pumps[0].longest_s)


@pytest.mark.slow
def test_filled_and_freed_under_load(make_broker, make_small_disk):  # noqa: F811
    """FLOTILLA_DISK_FULL_ROUNDS says how often, FLOTILLA_DISK_FULL_KIND on what (tmpfs, ext4)."""
    disk = make_small_disk(96 << 20, KIND)
    broker = make_broker(config=CONFIG)
    broker.data = disk.data
    broker.start()
    for n in range(2):
        broker.run('topic', 'create', 'kept%d' % n)
    pumps = [Pump(broker, 'kept%d' % n) for n in range(2)]
    for pump in pumps:
        pump.start()
    weather = Weather(broker, disk, pumps)
    times = [weather.round(number) for number in range(ROUNDS)]
    for pump in pumps:
        pump.stopping.set()
        pump.join(60)
        assert pump.bad is None, pump.bad
    print('%d rounds on %s: %d acknowledged, %d refused; the first refusal at most %.2f s after the disk was full, '
          'acceptance at most %.2f s after there was room; longest wait for an answer: %s' %
          (ROUNDS, KIND, sum(pump.n for pump in pumps), sum(pump.refused for pump in pumps),
           max(t[0] for t in times), max(t[1] for t in times), longest(pumps)))
    for n, pump in enumerate(pumps):
        rows = broker.consume('kept%d' % n)
        check_dense(rows)
        values = [int(value.split(' ')[0]) for _, _, value in rows]
        assert values == list(range(len(values))) and pump.n <= len(values) <= pump.n + 1
    assert broker.stop() == 0
