#!/usr/bin/env python3
"""The whole sweep of faults: every call that can fail in src/wal, src/store, src/meta and src/os does so once.

usage: sweep.py BUILD [EVERY]      EVERY: only every so-manieth (a sample; nothing is said about what was missed)

1. Inside: BUILD/tests/crash/crash --sweep (sweep.c is its manual) takes one thread through the life of a broker.
2. Outside: BUILD/flotillad itself, with threads, sockets and event loop (sweep_outside.py).
3. The places that can fail, found in the source, are held against those that did (sweep_places.py). Lines are only
   exact in a build without optimisation (--buildtype=debug)."""
import glob
import os
import re
import subprocess
import sys
import tempfile

import sweep_places

ROOT = sweep_places.ROOT
MEMORY = '/dev/shm'


def function_names():
    """Names and number of ways to fail, from the fault maker's own table."""
    text = open(os.path.join(ROOT, 'tests', 'crash', 'faults_internal.h'), encoding='utf-8').read()
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


def inside(build, every, work, hits):
    crash = os.path.join(build, 'tests', 'crash', 'crash')
    sites = os.path.join(work, 'sites')
    done = subprocess.run([crash, '--sweep', str(every), '--sites', sites, '--jobs', str(os.cpu_count())])
    lines = Lines(crash)
    rows = []
    for path in glob.glob(sites + '.*'):
        for line in open(path):
            _, module, failed, _, *frames = line.split()
            if failed != '0':
                rows.append([int(frame, 16) for frame in frames[module != '0':]])
    lines.look_up([frame for frames in rows for frame in frames])
    for frames in rows:
        hits.update(lines.of(frames))
    return done.returncode


def outside(build, every, work, hits):
    os.environ['FLOTILLA_BUILD'] = build
    sys.path.insert(0, os.path.join(ROOT, 'tests', 'cluster'))
    import sweep_outside
    sweep = sweep_outside.Sweep(build, work, function_names(), Lines(os.path.join(build, 'flotillad')))
    code = sweep.run(every)
    hits.update(sweep.failed_places())
    return code


def main():
    build, every = os.path.abspath(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1
    hits = set()
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as work:
        codes = [inside(build, every, work, hits), outside(build, every, work, hits)]
    if every == 1:
        codes.append(1 if sweep_places.coverage(hits) else 0)
    return max(codes)


if __name__ == '__main__':
    sys.exit(main())
