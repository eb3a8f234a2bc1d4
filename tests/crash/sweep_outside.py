"""The outside of the sweep of faults: flotillad itself, with its threads, sockets and event loop, and a client that
insists. The order of calls is another one in each run, so a fault is aimed at a place: the chain of callers, and how
often it is called. Judged as inside: no signal, no hang, and the next start has every record that was acknowledged."""
import concurrent.futures
import linecache
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

import harness
import protocol

WORKERS = 2
DEADLINE_S = 30
DOCUMENTED = (0, 1, 2, 3, 4)
# Few connections, so that some are refused.
CONFIG = {'wal': {'file_bytes': '1MiB', 'budget_bytes': '4MiB'}, 'limits': {'connections': 8}}
CROWD = 7
FETCHES = 100
# Where libuv ends the process itself, by SIGABRT: (function, what the product asked of libuv) -> why that is accepted.
BY_LIBUV = {
    ('epoll_ctl', 'uv_run'): 'uv__io_poll: the kernel has no memory to watch one more socket, and the turn has begun',
    ('pipe2', 'uv_loop_init'): 'uv__signal_global_init: no descriptors for the first pipe of a process',
}

# struct fault_table and struct fault_site of faults.h
HEAD = struct.Struct('<QIIIIIIQ')
FUNCTIONS_BYTES, SITES_MAX, FRAMES = 200000, 8192, 8
SITES_OF_CALLS_BYTES = 2 * FUNCTIONS_BYTES
SITE = struct.Struct('<%dQIIII' % FRAMES)
NO_CALL, NO_SITE = (1 << 64) - 1, (1 << 32) - 1
PROGRAM, LMDB, UV = range(3)


class Site:
    def __init__(self, row):
        self.frames = tuple(frame for frame in row[:FRAMES] if frame)
        self.module, self.function, self.calls, self.is_failed = row[FRAMES:]

    def program_frames(self):
        return self.frames if self.module == PROGRAM else self.frames[1:]


class Table:
    """The file that a broker under the fault maker shares with us."""

    def __init__(self, path, other=None):
        self.path = path
        if other is not None:
            shutil.copy(other.path, path)
            return
        with open(path, 'wb') as file:
            file.truncate(HEAD.size + FUNCTIONS_BYTES + SITES_MAX * SITE.size + SITES_OF_CALLS_BYTES)
        self.aim(NO_SITE, 0, 0)

    def aim(self, site, call, variant):
        """The next run fails there; counts begin anew, the sites stay known."""
        with open(self.path, 'r+b') as file:
            data = bytearray(file.read())
            count = HEAD.unpack_from(data)[6]
            HEAD.pack_into(data, 0, NO_CALL, site, call, variant, 0, 0, count, 0)
            for i in range(count):
                struct.pack_into('<I', data, HEAD.size + FUNCTIONS_BYTES + i * SITE.size + SITE.size - 8, 0)
            file.seek(0)
            file.write(data)

    def read(self):
        """(has failed, sites)"""
        with open(self.path, 'rb') as file:
            data = file.read()
        head = HEAD.unpack_from(data)
        at = HEAD.size + FUNCTIONS_BYTES
        return head[4] != 0, [Site(SITE.unpack_from(data, at + i * SITE.size)) for i in range(head[6])]


# --- one life ---

class Ended(Exception):
    """The broker's process is gone."""


class Client:
    """Asks until it gets an answer that says OK. Every request may be lost with its connection."""

    def __init__(self, broker):
        self.broker = broker
        self.connection = None
        self.end = time.monotonic() + DEADLINE_S

    def alive(self):
        if self.broker.process.poll() is not None:
            raise Ended()
        assert time.monotonic() < self.end, 'hangs'

    def wait_ready(self):
        while True:
            self.alive()
            with open(self.broker.ready_path) as file:
                match = re.search(r'^ready (.*)\n', file.read(), re.M)
            if match:
                break
            time.sleep(0.005)
        words = dict(word.split('=', 1) for word in match.group(1).split())
        self.broker.addresses.update({name: words[name] for name in self.broker.addresses})

    def leave(self):
        if self.connection is not None:
            self.connection.close()
            self.connection = None

    def insist(self, ask, good=(0,)):
        while True:
            self.alive()
            try:
                if self.connection is None:
                    self.connection = protocol.Connection(self.broker.addresses['client'], 5)
                reply = ask(self.connection)
                status = reply[0] if isinstance(reply[0], int) else reply[0].get(1, 0)
                if status in good:
                    return reply
            except (OSError, protocol.Closed, AssertionError):
                self.leave()
            time.sleep(0.01)  # it may be that the broker pauses: nothing says when it goes on

    def request(self, kind, wish, good=(0,)):
        return self.insist(lambda c: c.request(kind, wish), good)


def visit(client, path, wanted):
    """A page of the admin address, again until it comes whole."""
    while True:
        client.alive()
        try:
            if client.broker.http(path)[0] == wanted:
                return
        except OSError:
            pass
        time.sleep(0.01)


def knock(address, count):
    """So many connections at once that say nothing; the broker closes some of them."""
    host, port = address.rsplit(':', 1)
    crowd = []
    try:
        for _ in range(count):
            crowd.append(socket.create_connection((host, int(port)), 5))
        crowd[-1].settimeout(5)
        while crowd[-1].recv(4096):
            pass
    except OSError:
        pass  # an answer too
    finally:
        for one in crowd:
            one.close()


def read_slowly(connection, group):
    """More replies under way than the kernel holds: the rest waits in the broker until there is room."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
    for _ in range(FETCHES):
        connection.ask(protocol.FETCH, {1: group, 2: 0, 3: 1 << 20})
    return [connection.receive() for _ in range(FETCHES)][-1][2], b''


def drive(broker, acknowledged):
    """What one life of the broker is used for. Values are appended to `acknowledged` at their offsets."""
    client = Client(broker)
    client.wait_ready()
    visit(client, '/health/ready', 200)
    client.request(protocol.CREATE_TOPIC, {1: b't', 2: 1, 5: 10000}, (0, 18))  # 18: it is there already
    group = client.insist(lambda c: (0, c.groups('t')[0]))[1]
    producer = client.insist(lambda c: (0, c.init_producer(b'ann')))[1]
    for number in range(4):
        value = b'%d' % number
        large = value * (400 if number > 0 else 60000)
        data = protocol.batch([value, large], producer, number * 2)
        _, offset, _ = client.insist(lambda c: c.produce(group, data))
        acknowledged += [(offset, value.decode()), (offset + 1, large.decode())]
        if number % 2 == 0:
            client.leave()  # the next request comes by a new connection
    client.insist(lambda c: read_slowly(c, group))
    client.request(protocol.LIST_OFFSETS, {1: group, 2: 2})
    broker.process.send_signal(signal.SIGHUP)
    visit(client, '/metrics', 200)
    visit(client, '/nowhere', 404)
    knock(broker.addresses['peer'], 1)
    client.leave()
    knock(broker.addresses['client'], CROWD)
    client.request(protocol.LIST_OFFSETS, {1: group, 2: 2})


def one_life(folder, library, table, may_abort=False):
    """Runs it with a fault, then without; (exit code, what is wrong or None)."""
    environment = {'LD_PRELOAD': library, 'FLOTILLA_FAULTS': table.path}
    broker = harness.Broker(folder, CONFIG, environment)
    acknowledged, code = [], None
    try:
        broker.launch()
        try:
            drive(broker, acknowledged)
            broker.process.send_signal(signal.SIGTERM)
        except Ended:
            pass
        code = broker.process.wait(DEADLINE_S)
        if code not in DOCUMENTED and not (may_abort and code == -signal.SIGABRT):
            return code, 'ends with %d: %s' % (code, broker.log()[-400:])
        broker.environment = {}
        broker.addresses = {name: '127.0.0.1:0' for name in broker.addresses}  # the old ones may not be free yet
        broker.start()
        rows = [(offset, value) for _, offset, value in broker.consume('t')] if acknowledged else []
        missing = [row for row in acknowledged if rows.count(row) != 1]
        if missing:
            return code, 'acknowledged records are not there once: %r' % missing[:3]
        after = broker.stop()
        return code, 'the start without a fault ends with %d' % after if after != 0 else None
    except (AssertionError, subprocess.TimeoutExpired) as fault:
        return code, '%s: %s' % (str(fault)[:300], broker.log()[-300:])
    finally:
        broker.clean_up()
        shutil.rmtree(folder)  # a run leaves much behind, and there are many


# --- all of them ---

def line_of(path, number):
    return linecache.getline(os.path.join(harness.ROOT, path), number)


class Target:
    def __init__(self, number, site, call, variant, function, places):
        self.number, self.call, self.variant = number, call, variant
        self.function, self.places = function, places
        self.is_libuvs = site.module == UV and any(function == name and asked in line_of(*places[0])
                                                   for name, asked in BY_LIBUV if places)

    def name(self):
        return '%s, way %d, call %d at %s' % (self.function, self.variant, self.call,
                                              ' < '.join('%s:%d' % place for place in self.places[:3]))


def targets_of(sites, functions, lines):
    """One target for each way of the first and the last call at each place. Places are told apart by four callers."""
    seen, targets = set(), []
    for number, site in enumerate(sites):
        function, ways = functions[site.function]
        key = site.function, site.module, site.frames[:4]
        places = lines.of(site.program_frames())
        if key in seen:
            continue
        seen.add(key)
        for call in sorted({1, site.calls}):
            targets += [Target(number, site, call, variant, function, places) for variant in range(ways)]
    return targets


class Sweep:
    def __init__(self, build, work, functions, lines):
        self.library = os.path.join(build, 'tests', 'crash', 'libcrash_faults.so')
        self.work, self.functions, self.lines = work, functions, lines
        self.table = Table(os.path.join(work, 'table'))
        self.local = threading.local()
        self.lock = threading.Lock()
        self.tables = []
        self.runs = self.untouched = self.ended = self.by_libuv = self.failures = 0

    def own_table(self):
        """Of this worker; site numbers are the same in all."""
        if not hasattr(self.local, 'table'):
            with self.lock:
                self.local.table = Table('%s.%d' % (self.table.path, len(self.tables)), self.table)
                self.tables.append(self.local.table)
        return self.local.table

    def try_target(self, target):
        table = self.own_table()
        with self.lock:
            self.runs += 1
            folder = os.path.join(self.work, 'run.%d' % self.runs)
        table.aim(target.number, target.call, target.variant)
        code, why = one_life(folder, self.library, table, target.is_libuvs)
        has_failed, _ = table.read()
        with self.lock:
            self.untouched += not has_failed
            self.ended += code != 0
            self.by_libuv += code == -signal.SIGABRT
            self.failures += why is not None
            if why:
                print('FAILED outside: %s: %s' % (target.name(), why), flush=True)

    def run(self, every):
        """Exit code; places that failed go to hits."""
        for number in range(2):  # what is called only now and then
            self.table.aim(NO_SITE, 0, 0)
            _, why = one_life(os.path.join(self.work, 'untouched.%d' % number), self.library, self.table)
            if why:
                print('sweep: the run without a fault fails: %s' % why)
                return 3
        sites = self.table.read()[1]
        targets = targets_of(sites, self.functions, self.lines)[::every]
        with concurrent.futures.ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(self.try_target, targets))
        print('sweep outside: places=%d runs=%d untouched=%d ended_with_code=%d ended_by_libuv=%d failures=%d' %
              (len(sites), self.runs, self.untouched, self.ended, self.by_libuv, self.failures), flush=True)
        return 1 if self.failures else 0

    def failed_places(self):
        frames = [site.program_frames() for table in self.tables for site in table.read()[1] if site.is_failed]
        return {place for chain in frames for place in self.lines.of(chain)}
