#!/usr/bin/env python3
"""The whole sweep of faults: every call that can fail in src/wal, src/store, src/meta and src/os does so once.

usage: sweep.py BUILD [EVERY]      EVERY: only every so-manieth (a sample; nothing is said about what was missed)

1. Inside: BUILD/tests/crash/crash --sweep (sweep.c is its manual) takes one thread through the life of a broker.
2. Outside: BUILD/flotillad itself, with its threads, sockets and event loop, and a client that insists. The order of
   calls is another one each time there, so a fault is aimed at a place: the chain of callers, and how often it is
   called. Judged as inside: no signal, no hang, and the next start has every record that was acknowledged.
3. The places that can fail, found in the source, are held against those that did. What no run reached must be listed
   in UNREACHED with its reason. Lines are only exact in a build without optimisation (--buildtype=debug)."""
import collections
import glob
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
sys.path.insert(0, os.path.join(ROOT, 'tests', 'cluster'))
FOLDERS = ('src/wal/', 'src/store/', 'src/meta/', 'src/os/')
DEADLINE_S = 30
DOCUMENTED = (0, 1, 2, 3, 4)
# libuv ends the process itself when its own event descriptor or signal pipe fails, as no system lets them.
BY_LIBUV = {'read', 'write', 'pipe2'}

# struct fault_table and struct fault_site of faults.h
HEAD = struct.Struct('<QIIIIIIQ')
FUNCTIONS_BYTES, SITES_MAX, FRAMES = 200000, 8192, 8
SITE = struct.Struct('<%dQIIII' % FRAMES)
NO_CALL, NO_SITE = (1 << 64) - 1, (1 << 32) - 1

# What can fail: functions of the system, of LMDB, doors of the ports, memory.
FALLIBLE = re.compile(
    r'\b(open|openat|pread|pwritev2?|fsync|fdatasync|syncfs|sync_file_range|ftruncate|fallocate|renameat|rename'
    r'|unlinkat|unlink|rmdir|mkdirat|mkdir|fstat|stat|flock|fdopendir|readdir'
    r'|malloc|calloc|realloc|posix_memalign|strdup|mem_zeroed|mem_grow|mem_text|mem_aligned|buf_new|buf_pool_take'
    r'|pthread_create|socket|bind|listen|accept4|setsockopt|getsockname|uv_loop_init|uv_async_init'
    r'|mdb_env_create|mdb_env_open|mdb_env_sync|mdb_txn_begin|mdb_txn_commit|mdb_dbi_open|mdb_put|mdb_del|mdb_get'
    r'|mdb_cursor_open|mdb_cursor_get|mdb_env_set_mapsize'
    r'|ops->(?:open|size|read|write|sync|writeback|truncate|reserve|sync_all|make_dir|remove_dir|rename|unlink|sync_dir'
    r'|list|begin|commit|put|del|get|seek))\(')

# (file, the text of the line) -> why no run of the sweep makes this call fail
UNREACHED = [
]


# --- the table ---

class Table:
    def __init__(self, path):
        self.path = path
        self.size = HEAD.size + FUNCTIONS_BYTES + SITES_MAX * SITE.size
        with open(path, 'wb') as file:
            file.truncate(self.size)
        self.aim(NO_SITE, 0, 0)

    def aim(self, site, call, variant):
        """The next run fails there; counts begin anew, the sites stay known."""
        with open(self.path, 'r+b') as file:
            data = bytearray(file.read())
            count = HEAD.unpack_from(data)[6]
            HEAD.pack_into(data, 0, NO_CALL, site, call, variant, 0, 0, count, 0)
            for i in range(count):
                at = HEAD.size + FUNCTIONS_BYTES + i * SITE.size
                row = list(SITE.unpack_from(data, at))
                row[FRAMES + 2] = 0
                SITE.pack_into(data, at, *row)
            file.seek(0)
            file.write(data)

    def read(self):
        """(has failed, [(function number, module, calls, is failed, frames)])"""
        with open(self.path, 'rb') as file:
            data = file.read()
        head = HEAD.unpack_from(data)
        sites = []
        for i in range(head[6]):
            row = SITE.unpack_from(data, HEAD.size + FUNCTIONS_BYTES + i * SITE.size)
            frames = [frame for frame in row[:FRAMES] if frame]
            sites.append((row[FRAMES + 1], row[FRAMES], row[FRAMES + 2], row[FRAMES + 3], frames))
        return head[4] != 0, sites


def function_names():
    """Names and number of ways to fail, from the table of faults.c."""
    text = open(os.path.join(ROOT, 'tests', 'crash', 'faults.c'), encoding='utf-8').read()
    rows = re.findall(r'X\((\w+), "(\w+)", (\w+), (\w+), (\w+)\)', text)
    return [(name, sum(way != '0' for way in ways)) for _, name, *ways in rows]


class Lines:
    """Return addresses to lines of the source."""

    def __init__(self, program):
        self.program = program
        self.known = {}

    def look_up(self, addresses):
        wanted = sorted({a for a in addresses if a not in self.known})
        if not wanted:
            return
        text = '\n'.join(hex(a - 1) for a in wanted)
        out = subprocess.run(['addr2line', '-a', '-i', '-e', self.program], input=text, capture_output=True, text=True,
                             check=True).stdout
        for part in re.split(r'^0x', out, flags=re.M)[1:]:
            address, *places = part.splitlines()
            self.known[int(address, 16) + 1] = [self.place(line) for line in places]

    @staticmethod
    def place(line):
        match = re.match(r'(.*?):(\d+)', line)
        if not match:
            return None
        path = os.path.normpath(match.group(1))
        for folder in ('src/', 'broker/', 'tests/'):
            at = path.rfind('/' + folder)
            if at >= 0:
                return path[at + 1:], int(match.group(2))
        return None

    def of(self, frames):
        """Every (path, line) of a chain, innermost first."""
        self.look_up(frames)
        return [place for frame in frames for place in self.known.get(frame, []) if place]


# --- inside ---

def inside(build, every, work, hits):
    crash = os.path.join(build, 'tests', 'crash', 'crash')
    sites = os.path.join(work, 'sites')
    done = subprocess.run([crash, '--sweep', str(every), '--sites', sites, '--jobs', str(os.cpu_count())])
    lines = Lines(crash)
    rows = []
    for path in glob.glob(sites + '.*'):
        for line in open(path):
            name, module, failed, _, *frames = line.split()
            if failed != '0' and module == '0':
                rows.append([int(frame, 16) for frame in frames])
    lines.look_up([frame for frames in rows for frame in frames])
    for frames in rows:
        hits.update(lines.of(frames))
    return done.returncode


# --- outside ---

class Ended(Exception):
    """The broker's process is gone."""


class Client:
    """Asks until it gets an answer that says OK. Every request may be lost with its connection."""

    def __init__(self, broker, protocol):
        self.broker = broker
        self.protocol = protocol
        self.connection = None
        self.end = time.monotonic() + DEADLINE_S

    def alive(self):
        if self.broker.process.poll() is not None:
            raise Ended()
        assert time.monotonic() < self.end, 'hangs'

    def insist(self, ask, good=(0,)):
        while True:
            self.alive()
            try:
                if self.connection is None:
                    self.connection = self.protocol.Connection(self.broker.addresses['client'], 5)
                reply = ask(self.connection)
                status = reply[0] if isinstance(reply[0], int) else reply[0].get(1, 0)
                if status in good:
                    return reply
            except (OSError, self.protocol.Closed, AssertionError):
                if self.connection is not None:
                    self.connection.close()
                self.connection = None
            time.sleep(0.02)  # it may be that the broker pauses: nothing says when it goes on


def drive(broker, protocol, acknowledged):
    """What one life of the broker is used for. Values are appended to `acknowledged` at their offsets."""
    client = Client(broker, protocol)

    def ready():
        client.alive()
        match = re.search(r'^ready (.*)\n', open(broker.ready_path).read(), re.M)
        if not match:
            time.sleep(0.01)
        return match
    while True:
        match = ready()
        if match:
            break
    words = dict(word.split('=', 1) for word in match.group(1).split())
    broker.addresses.update({name: words[name] for name in broker.addresses})
    client.insist(lambda c: c.request(protocol.CREATE_TOPIC, {1: b't', 2: 1, 5: 10000}), (0, 18))
    group = client.insist(lambda c: (0, c.groups('t')[0]))[1]
    producer = client.insist(lambda c: (0, c.init_producer(b'ann')))[1]
    for number in range(4):
        value = b'%d' % number
        data = protocol.batch([value, value * 400], producer, number * 2)
        _, offset, _ = client.insist(lambda c: c.produce(group, data))
        acknowledged += [(offset, value.decode()), (offset + 1, value.decode() * 400)]
        if number % 2 == 0:
            client.connection.close()  # the next request comes by a new connection
            client.connection = None
    client.insist(lambda c: c.request(protocol.FETCH, {1: group, 2: 0, 3: 1 << 20}))
    client.insist(lambda c: c.request(protocol.LIST_OFFSETS, {1: group, 2: 2}))
    try:
        broker.http('/metrics')
    except OSError:
        client.alive()  # an answer too


def one_life(folder, library, table, protocol, harness, documented=DOCUMENTED):
    """Runs it with a fault, then without; what is wrong, or None. The topic exists already: 18 is its error."""
    environment = {'LD_PRELOAD': library, 'FLOTILLA_FAULTS': table.path}
    broker = harness.Broker(folder, {'wal': {'file_bytes': '1MiB', 'budget_bytes': '4MiB'}}, environment)
    acknowledged = []
    try:
        broker.launch()
        try:
            drive(broker, protocol, acknowledged)
            broker.process.send_signal(signal.SIGTERM)
        except Ended:
            pass
        code = broker.process.wait(DEADLINE_S)
        if code not in documented:
            return 'ends with %d: %s' % (code, broker.log()[-400:])
        broker.environment = {}
        broker.start()
        rows = [(offset, value) for _, offset, value in broker.consume('t')] if acknowledged else []
        missing = [row for row in acknowledged if rows.count(row) != 1]
        if missing:
            return 'acknowledged records are not there once: %r' % missing[:3]
        code = broker.stop()
        return 'the start without a fault ends with %d' % code if code != 0 else None
    except (AssertionError, subprocess.TimeoutExpired) as fault:
        return '%s: %s' % (str(fault)[:300], broker.log()[-300:])
    finally:
        broker.clean_up()
        shutil.rmtree(folder)  # a run leaves much behind, and there are many


def outside(build, every, work, hits):
    os.environ['FLOTILLA_BUILD'] = build
    import harness
    import protocol
    library = os.path.join(build, 'tests', 'crash', 'libcrash_faults.so')
    lines = Lines(os.path.join(build, 'flotillad'))
    functions = function_names()
    table = Table(os.path.join(work, 'table'))
    why = one_life(os.path.join(work, 'untouched'), library, table, protocol, harness)
    if why:
        print('sweep: the run without a fault fails: %s' % why)
        return 3
    _, sites = table.read()
    targets = []
    for number, (function, module, calls, _, frames) in enumerate(sites):
        places = lines.of(frames) if module == 0 else []
        # Inside has all of wal, store, meta; what is left is the loop, its threads and its sockets.
        if module == 2 or any(path.startswith('src/os/') and path[7:] not in ('file.c', 'lmdb.c', 'lmdb_check.c')
                              for path, _ in places[:3]):
            for call in sorted({1, calls}):
                targets += [(number, call, variant) for variant in range(functions[function][1])]
    runs = failures = 0
    for number, call, variant in targets[::every]:
        runs += 1
        table.aim(number, call, variant)
        by_libuv = sites[number][1] == 2 and functions[sites[number][0]][0] in BY_LIBUV
        why = one_life(os.path.join(work, 'run.%d' % runs), library, table, protocol, harness,
                       DOCUMENTED + (-signal.SIGABRT,) * by_libuv)
        function, module, _, _, frames = table.read()[1][number]
        if why:
            failures += 1
            place = lines.of(frames)[:2] if module == 0 else 'a library'
            print('FAILED outside: %s, way %d, call %d at %s: %s' % (functions[function][0], variant, call, place, why))
    for _, module, _, failed, frames in table.read()[1]:
        if failed and module == 0:
            hits.update(lines.of(frames))
    print('sweep outside: places=%d targets=%d runs=%d failures=%d' % (len(sites), len(targets), runs, failures))
    return 1 if failures else 0


# --- what there is ---

def places_that_fail():
    result = []
    for folder in FOLDERS:
        for path in sorted(glob.glob(os.path.join(ROOT, folder, '*.c'))):
            inside_comment = False
            for number, line in enumerate(open(path, encoding='utf-8'), 1):
                code = re.sub(r'/\*.*?\*/|"[^"]*"|//.*', '', line)
                if inside_comment:
                    inside_comment = '*/' not in code
                    continue
                inside_comment = '/*' in code
                code = code.split('/*')[0]
                if FALLIBLE.search(code) and not re.match(r'(static )?(enum|void|bool|int|struct) ', code):
                    result.append((folder + os.path.basename(path), number, line.strip()))
    return result


def coverage(hits):
    by_file = collections.defaultdict(set)
    for path, line in hits:
        by_file[path].add(line)
    existing = places_that_fail()
    reached = [p for p in existing if any(p[1] <= line <= p[1] + 3 for line in by_file[p[0]])]
    missed = [p for p in existing if p not in reached]
    unexplained = []
    for path, number, text in missed:
        reason = next((why for file, part, why in UNREACHED if path == file and part in text), None)
        if reason is None:
            unexplained.append((path, number, text))
            reason = 'NOT EXPLAINED'
        print('not failed: %s:%d: %s (%s)' % (path, number, text, reason))
    for folder in FOLDERS:
        count = sum(p[0].startswith(folder) for p in existing)
        print('%-10s %d of %d places failed' % (folder, sum(p[0].startswith(folder) for p in reached), count))
    print('sweep: places=%d failed=%d not_failed=%d unexplained=%d' %
          (len(existing), len(reached), len(missed), len(unexplained)))
    return 1 if unexplained else 0


def main():
    build, every = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    hits = set()
    with tempfile.TemporaryDirectory() as work:
        codes = [inside(build, every, work, hits), outside(build, every, work, hits)]
    if every == 1:
        codes.append(coverage(hits))
    return max(codes)


if __name__ == '__main__':
    sys.exit(main())
