#!/usr/bin/env python3
"""`./dev bench soak [MINUTES]`: the highest rate for MINUTES (10), with retention by size. Throughput must not sink
with time, and WAL and memory stay within their budgets all along. One line a minute, then the verdict."""
import os
import shutil
import subprocess
import sys
import tempfile
import time

from broker import BUILD, MIB, Broker

MEMORY_MIB, WAL_MIB = 1024, 1024 # the defaults of [limits] memory_bytes and [wal] budget_bytes
ROW = '%-8s %12s %12s %12s'


def watch(broker, seconds):
    """(records/s, highest WAL use, highest RSS) of the next `seconds`."""
    start, records = time.monotonic(), broker.metrics()['produce_records_total']
    wal = rss = 0
    while time.monotonic() < start + seconds:
        time.sleep(0.5)
        wal = max(wal, broker.metrics()['wal_used_bytes'] / MIB)
        rss = max(rss, broker.rss_mib())
    records = broker.metrics()['produce_records_total'] - records
    return records / (time.monotonic() - start), wal, rss


def main():
    minutes = int(sys.argv[1]) if len(sys.argv) > 1 else 10
    folder = tempfile.mkdtemp(prefix='bench-', dir=BUILD)
    broker = client = None
    try:
        broker = Broker(folder)
        broker.flotilla('topic', 'create', 't', '-p', '4', '-c', 'retention_bytes=1GiB')
        client = subprocess.Popen(broker.command(
            'bench', 'produce', 't', '--size', '1024', '--producers', '4', '--records', '100000000000', '--seconds',
            str(minutes * 60 + 60)), stdout=subprocess.DEVNULL)
        print(ROW % ('minute', 'records/s', 'WAL MiB', 'RSS MiB'))
        rows = []
        for minute in range(minutes):
            rows.append(watch(broker, 60))
            print(ROW % (minute + 1, '%.0f' % rows[-1][0], '%.0f' % rows[-1][1], '%.0f' % rows[-1][2]), flush=True)
        ratio = rows[-1][0] / rows[0][0]
        wal, rss = max(row[1] for row in rows), max(row[2] for row in rows)
        print('last minute / first: %.2f (floor 0.9: %s); WAL at most %.0f of %d MiB; memory at most %.0f of %d MiB' % (
            ratio, 'met' if ratio >= 0.9 else 'BELOW', wal, WAL_MIB, rss, MEMORY_MIB))
    finally:
        for process in (client, broker and broker.process):
            if process is not None:
                process.kill()
                process.wait()
        shutil.rmtree(folder)


if __name__ == '__main__':
    main()
