#!/usr/bin/env python3
"""`./dev bench [SECONDS]`: what this machine can do, what Flotilla does on it, and the ratio. SECONDS (60) is for each
produce run; below that the page cache flatters: a run counts only when it wrote more than three times what the kernel
lets lie dirty.

One broker and its clients share the machine, every record is synced before it is acknowledged. The limits are measured
before and after, the better of both counts. With perf (linux-perf) it also says where the broker's time goes."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

from broker import BUILD, Broker

PROFILE_SECONDS = 10


def written_bytes(broker):
    metrics = broker.metrics()
    return metrics['wal_written_bytes_total'] + metrics['segment_written_bytes_total']


def measure_limits(folder):
    command = [os.path.join(BUILD, 'tests/bench/limits'), folder]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()
    return {name: float(value) for name, value, _ in (line.split() for line in out.splitlines())}


def dirty_limit_bytes():
    def number(path):
        return int(open('/proc/sys/vm/' + path).read())
    available = int(re.search(r'MemAvailable:\s+(\d+)', open('/proc/meminfo').read()).group(1)) * 1024
    return number('dirty_bytes') or available * number('dirty_ratio') // 100


def run_produce(broker, name, size, seconds):
    broker.flotilla('topic', 'create', name, '-p', '4', '-c', 'retention_bytes=1GiB')
    written, cpu = written_bytes(broker), broker.cpu_seconds()
    profile = start_profile(broker, seconds) if name == 'kib' else None
    result = broker.bench('produce', name, '--size', str(size), '--producers', '4', '--seconds', str(seconds),
                          '--records', '100000000000')
    result['written'] = written_bytes(broker) - written
    result['cores'] = (broker.cpu_seconds() - cpu) / result['seconds']
    result['profile'] = profile and finish_profile(profile)
    broker.flotilla('topic', 'delete', name)
    return result


# --- profile ---

def start_profile(broker, seconds):
    if shutil.which('perf') is None or seconds < PROFILE_SECONDS + 5:
        return None
    path = tempfile.mktemp(prefix='flotilla-perf.')
    command = 'sleep 3; exec perf record -q -F 499 -p %d -o %s -- sleep %d' % (
        broker.process.pid, path, PROFILE_SECONDS)
    return subprocess.Popen(['sh', '-c', command], stderr=subprocess.DEVNULL), path


def finish_profile(profile):
    """[(percent, symbol)], largest first; [] when perf could not."""
    process, path = profile
    process.wait()
    text = subprocess.run(['perf', 'report', '-i', path, '--stdio', '--no-children', '-F', 'overhead,sym'],
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    if os.path.exists(path):
        os.unlink(path)
    return [(float(percent), symbol) for percent, symbol in re.findall(r'^\s+([\d.]+)%\s+(\[[.k]\] \S+)', text, re.M)]


def print_profile(rows):
    if rows is None:
        print('\n(no profile: perf is not installed, or the run was too short)')
        return
    copies = sum(percent for percent, symbol in rows if re.search(r'\[\.\] .*(memcpy|memmove)', symbol))
    print('\nthe broker in the 1 KiB run, top ten of its samples:')
    for percent, symbol in rows[:10]:
        print('  %5.2f %%  %s' % (percent, symbol))
    print('  memcpy and memmove together: %.2f %% (bound: 5 %%)' % copies)


# --- report ---

ROW = '%-34s %-34s %-8s %-8s %-6s %s'


def print_row(name, text, value, bounds, against):
    """bounds: (floor, goal); a floor below its goal means that more is better."""
    floor, goal = bounds
    sign = 1 if floor < goal else -1
    verdict = 'goal' if value * sign >= goal * sign else 'floor' if value * sign >= floor * sign else 'BELOW'
    print(ROW % (name, text, '%g' % floor, '%g' % goal, verdict, against))


def print_produce(name, result, bounds, limits, dirty):
    disk = result['written'] / 1e6 / result['seconds']
    against = '%.2f x in-place write (log and segments: %.2f); broker %.2f cores; wrote %.1f x dirty limit%s' % (
        result['mb_per_s'] / limits['write'], disk / limits['write'], result['cores'], result['written'] / dirty,
        '' if result['written'] > 3 * dirty else ': TOO SHORT')
    text = '%.0f/s, %.0f MB/s, p99 %.0f us' % (result['records_per_s'], result['mb_per_s'], result['p99_us'])
    print_row(name, text, result['records_per_s'], bounds, against)


def print_report(limits, runs, dirty):
    print('machine: %d cores; 4 KiB in-place fdatasync p50 %.0f us (p99 %.0f); loopback round trip p50 %.0f us; '
          'in-place write %.0f MB/s; memcpy %.1f GB/s; dirty limit %.1f GB\n' % (
              os.cpu_count(), limits['sync_p50'], limits['sync_p99'], limits['loopback_p50'], limits['write'],
              limits['memcpy'] / 1e3, dirty / 1e9))
    print(ROW % ('', 'measured', 'floor', 'goal', '', 'against the machine'))
    print_produce('produce 1 KiB, 4 x 4', runs['kib'], (400000, 1300000), limits, dirty)
    print_produce('produce 100 B, 4 x 4', runs['small'], (1500000, 5000000), limits, dirty)
    unit = limits['sync_p50'] + limits['loopback_p50']
    p50, p99 = runs['trip']['p50_us'], runs['trip']['p99_us']
    print_row('one record at a time, p50', '%.0f us = %.2f x' % (p50, p50 / unit), p50 / unit, (1.5, 1.2),
              'fdatasync + round trip = %.0f us' % unit)
    print_row('one record at a time, p99', '%.0f us = %.2f x' % (p99, p99 / p50), p99 / p50, (4, 4),
              'its own p50; fdatasync alone: %.2f x' % (limits['sync_p99'] / limits['sync_p50']))
    rate = runs['consume']['mb_per_s']
    print_row('consume 1 KiB from memory or cache', '%.0f MB/s' % rate, rate, (1000, 3000),
              '%.2f x memcpy' % (rate / limits['memcpy']))


def run_consume(broker):
    broker.flotilla('topic', 'create', 'read', '-p', '4')
    broker.bench('produce', 'read', '--size', '1024', '--producers', '4', '--records', '2000000')
    return max((broker.bench('consume', 'read') for _ in range(3)), key=lambda result: result['mb_per_s'])


def run_trip(broker):
    return broker.bench('roundtrip', 'trip', '--size', '100', '--records', '10000')


def main():
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    folder = tempfile.mkdtemp(prefix='bench-', dir=BUILD)
    broker = None
    try:
        before = measure_limits(folder)
        broker = Broker(folder)
        broker.flotilla('topic', 'create', 'trip')
        trips = [run_trip(broker)]
        runs = {'kib': run_produce(broker, 'kib', 1024, seconds), 'small': run_produce(broker, 'small', 100, seconds),
                'consume': run_consume(broker)}
        trips.append(run_trip(broker))
        runs['trip'] = min(trips, key=lambda trip: trip['p50_us'])
        broker.stop()
        broker = None
        after = measure_limits(folder)
        better = {name: (min if '_p' in name else max)(before[name], after[name]) for name in before}
        print_report(better, runs, dirty_limit_bytes())
        print_profile(runs['kib']['profile'])
    finally:
        if broker is not None:
            broker.stop()
        shutil.rmtree(folder)


if __name__ == '__main__':
    main()
