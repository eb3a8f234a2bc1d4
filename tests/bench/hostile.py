#!/usr/bin/env python3
"""`./dev bench hostile [ROUNDS [SECONDS]]`: what an honest client notices of 10,000 idle and 1,000 slow-loris
connections and 2,000 connects a second (tests/bench/hostile.c), and how much memory the broker takes for them.

Quiet and attack take turns, ROUNDS (5) times SECONDS (10) each; the crowd comes anew each time. The honest client sends
one record at a time and waits until it is acknowledged: every record is synced. Medians of its p99 count. Half of the
time a second one sends at a fixed rate; its latency counts from when a record was due, so that no stall is hidden."""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

from broker import BUILD, Broker

IDLE, LORIS, CONNECTS, ADDRESSES = 10000, 1000, 2000, 16
RATE = 500
CONNECTIONS = 15000
FLOOR, GOAL = 5, 2


class Target(Broker):
    def __init__(self, folder):
        super().__init__(folder, {'limits': {'connections': CONNECTIONS}})

    def honest(self, seconds):
        """(p50, p99, p99 at the fixed rate) in microseconds of clients that behave."""
        common = ['t', '--size', '100', '--seconds', str(seconds / 2), '--json', '--records', '100000000']
        trip, paced = (json.loads(self.flotilla('bench', *arguments, *common).splitlines()[-1])
                       for arguments in (['roundtrip'], ['produce', '--rate', str(RATE), '--linger-ms', '0']))
        assert trip['failed'] == paced['failed'] == 0 and trip['acked'] > 100, (trip, paced)
        return trip['p50_us'], trip['p99_us'], paced['p99_us']


class Crowd:
    """Hostile connections, all there when the constructor returns."""

    def __init__(self, broker):
        command = [os.path.join(BUILD, 'tests/bench/hostile'), broker.words['client'], str(IDLE), str(LORIS),
                   str(CONNECTS), '3600', str(ADDRESSES)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == b'steady\n'

    def leave(self):
        self.process.terminate()
        words = self.process.communicate(timeout=30)[0].decode().split()
        return {name: int(value) for name, value in zip(words[::2], words[1::2])}


def attack(broker, seconds):
    crowd = Crowd(broker)
    cpu = broker.cpu_seconds()
    try:
        p50, p99, paced = broker.honest(seconds)
        return {'p50': p50, 'p99': p99, 'paced': paced, 'cpu': (broker.cpu_seconds() - cpu) / seconds,
                'rss': broker.rss_mib(), 'metrics': broker.metrics()}
    finally:
        counts = crowd.leave()
        print('   crowd: ' + ', '.join('%s %d' % item for item in counts.items()))


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 10
    folder = tempfile.mkdtemp(prefix='hostile-', dir=BUILD)
    broker = None
    try:
        broker = Target(folder)
        broker.flotilla('topic', 'create', 't')
        broker.honest(2)
        quiet, attacked = [], []
        for number in range(rounds):
            p50, p99, paced = broker.honest(seconds)
            print('%d. quiet:  p50 %d, p99 %d us (at %d/s: %d); RSS %.0f MiB' % (
                number + 1, p50, p99, RATE, paced, broker.rss_mib()), flush=True)
            quiet.append(p99)
            one = attack(broker, seconds)
            attacked.append(one)
            text = '   attack: p50 %d, p99 %d us (%d); RSS %.0f MiB (account %.0f), broker %.2f cores, %d connections'
            print(text % (
                one['p50'], one['p99'], one['paced'], one['rss'], one['metrics'].get('memory_bytes', 0) / 2**20,
                one['cpu'], one['metrics']['connections']), flush=True)
        peak, budget = broker.rss_mib('VmHWM'), attacked[-1]['metrics']['memory_budget_bytes'] / 2**20
        quiet_p99, p99 = statistics.median(quiet), statistics.median(one['p99'] for one in attacked)
        ratio = p99 / quiet_p99
        verdict = 'goal' if ratio <= GOAL else 'floor' if ratio <= FLOOR else 'ABOVE'
        print('p99, medians of %d: quiet %d us, under attack %d us: %.2f x (floor %d, goal %d): %s' % (
            rounds, quiet_p99, p99, ratio, FLOOR, GOAL, verdict))
        print('RSS at its highest %.0f MiB of %.0f configured: %s' % (peak, budget,
                                                                      'within' if peak <= budget else 'ABOVE'))
    finally:
        if broker is not None:
            broker.stop()
        shutil.rmtree(folder)


if __name__ == '__main__':
    main()
