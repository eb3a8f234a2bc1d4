#!/usr/bin/env python3
"""`./dev bench restart`: how long a start takes after kill -9 with a cold page cache (dropping it needs root): with
1 GiB of WAL to replay, because checkpoints were held off, and with 10,000 partitions; and what idle ones cost."""
import os
import shutil
import subprocess
import sys
import tempfile
import time

from broker import BUILD, KIB, MIB, Broker

PARTITIONS = 10000
HELD_OFF = {'wal': {'budget_bytes': '8GiB'}, 'raft': {'snapshot_bytes': '100GiB', 'snapshot_entries': '4000000000'}}


def forget_pages():
    os.sync()
    try:
        with open('/proc/sys/vm/drop_caches', 'w') as file:
            file.write('3')
    except OSError:
        print('(not root: the page cache stays warm)')


def restart(broker, folder, config=None):
    """Kills, drops the page cache, starts; (the new broker, seconds to ready)."""
    broker.kill9()
    forget_pages()
    start = time.monotonic()
    broker = Broker(folder, config)
    return broker, time.monotonic() - start


def verdict(value, floor, goal):
    return 'goal met' if value <= goal else 'floor met' if value <= floor else 'BELOW the floor'


def run_wal(folder):
    broker = Broker(folder, HELD_OFF)
    broker.flotilla('topic', 'create', 't', '-p', '4')
    while broker.metrics()['wal_written_bytes_total'] < 1024 * MIB:
        broker.bench('produce', 't', '--size', '1024', '--producers', '4', '--records', '100000')
    size = broker.metrics()['wal_written_bytes_total'] / MIB
    for _ in range(3):
        broker, seconds = restart(broker, folder, HELD_OFF)
        ready_rss = broker.rss_mib('VmHWM')
        start = time.monotonic()
        broker.flotilla('consume', 't', '-p', '0', '-o', '-1', '-n', '1')
        print('%.0f MiB of WAL: ready after %.2f s (3 / 1: %s), the newest record read %.2f s later, RSS %.0f MiB' % (
            size, seconds, verdict(seconds, 3, 1), time.monotonic() - start, ready_rss))
    broker.kill9()


def idle(broker, what, bounds):
    cpu, written = broker.cpu_seconds(), broker.metrics()['wal_written_bytes_total']
    time.sleep(30)
    share = (broker.cpu_seconds() - cpu) / 30 * 100
    print('%s: %.2f %% of a core (%g / %g: %s), %.1f KiB each, %d bytes of log in 30 s' % (
        what, share, *bounds, verdict(share, *bounds), broker.rss_mib() * MIB / KIB / broker.partitions,
        broker.metrics()['wal_written_bytes_total'] - written))


def run_partitions(folder):
    for count, bounds in ((1000, (1, 1)), (PARTITIONS, (2, 0.5))):
        data = os.path.join(folder, str(count))
        os.mkdir(data)
        broker = Broker(data)
        broker.partitions = count
        broker.flotilla('topic', 'create', 't', '-p', str(count))
        time.sleep(2)
        idle(broker, '%d new partitions' % count, bounds)
        lines = ''.join('%d:%d\n' % (n, n) for n in range(10 * count))
        broker.flotilla('produce', 't', '-K', ':', input=lines.encode())
        time.sleep(3) # the TIMEOUT entries after the traffic
        idle(broker, '%d partitions that have records' % count, bounds)
        broker, seconds = restart(broker, data)
        print('%d partitions: ready after %.2f s (5 / 2: %s)' % (count, seconds, verdict(seconds, 5, 2)))
        broker.stop()
        with open(os.path.join(data, 'log')) as log: # else the next line would measure a replay of the WAL
            assert 'clean=1' in log.read(), 'the stop was broken off'
        broker = Broker(data)
        broker, seconds = restart(broker, data)
        print('%d partitions, all checkpointed: ready after %.2f s (5 / 2: %s)' % (
            count, seconds, verdict(seconds, 5, 2)))
        broker.kill9()


def main():
    folder = tempfile.mkdtemp(prefix='bench-', dir=BUILD)
    try:
        os.mkdir(os.path.join(folder, 'wal'))
        run_wal(os.path.join(folder, 'wal'))
        run_partitions(folder)
    finally:
        subprocess.run(['pkill', '-KILL', '-f', folder], check=False) # whatever is left after an error
        shutil.rmtree(folder)


if __name__ == '__main__':
    sys.exit(main())
