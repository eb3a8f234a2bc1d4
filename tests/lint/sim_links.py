#!/usr/bin/env python3
"""Holds the link line of the simulator against that of flotillad, as ninja has them: the same archives, but for what
talks to the real world. usage: sim_links.py BUILD.NINJA. Not one of run.py's lints: it judges a build, not the tree."""
import re
import sys

# What flotillad has and the simulator has not: the real ports, the admin server, the configuration file.
REAL_WORLD = {'src/os/libos.a', 'zk/libzk.a', 'broker/libadmin.a', 'broker/libconfig.a'}
MAIN = 'broker_main.c.o'


def link_inputs(ninja, target):
    """(objects, archives) that are linked into target."""
    match = re.search(r'^build %s: c_LINKER (.*)$' % re.escape(target), ninja.replace('$\n', ''), re.M)
    if match is None:
        return None
    words = match.group(1).replace('|', ' ').split()
    objects = {word for word in words if word.endswith('.o')}
    archives = {word for word in words if word.endswith('.a') and not word.startswith('/')}  # ours
    return objects, archives


def faults(ninja):
    broker = link_inputs(ninja, 'flotillad')
    sim = link_inputs(ninja, 'tests/sim/sim')
    if broker is None or sim is None:
        return ['build.ninja does not link %s' % ('flotillad' if broker is None else 'tests/sim/sim')]
    result = []
    for name in sorted(broker[1] - sim[1] - REAL_WORLD):
        result.append('flotillad links %s, the simulator does not' % name)
    for name in sorted(sim[1] - broker[1]):
        result.append('the simulator links %s, flotillad does not' % name)
    for name in sorted(sim[1] & REAL_WORLD):
        result.append('the simulator links %s, which talks to the real world' % name)
    for name in sorted(broker[0]):
        if not name.endswith('/' + MAIN):
            result.append('flotillad links %s on its own: put it into an archive' % name)
    for name in sorted(sim[0]):
        if not re.match(r'tests/sim/sim\.p/(sim|fleet|judge)_?\w*\.c\.o$', name):
            result.append('the simulator links %s, which is not its own' % name)
    return result


def link(broker, sim):
    return 'build flotillad: c_LINKER %s\nbuild tests/sim/sim: c_LINKER %s\n' % (broker, sim)


GOOD = ('flotillad.p/broker_main.c.o | broker/libbroker.a src/os/libos.a src/wal/libwal.a',
        'tests/sim/sim.p/sim_main.c.o | broker/libbroker.a src/wal/libwal.a')
MADE_UP = [
    link(GOOD[0], 'tests/sim/sim.p/sim_main.c.o | broker/libbroker.a'),
    link(GOOD[0], GOOD[1] + ' tests/sim/libfake_wal.a'),
    link(GOOD[0], GOOD[1] + ' src/os/libos.a'),
    link('flotillad.p/broker_session.c.o ' + GOOD[0], GOOD[1]),
    link(GOOD[0], 'tests/sim/sim.p/.._.._src_wal_wal.c.o ' + GOOD[1]),
    link(GOOD[0], '').split('\n')[0],
]


def main():
    blind = [made_up for made_up in MADE_UP if not faults(made_up)]
    if blind or faults(link(*GOOD)):
        print('sim_links is blind or sees ghosts: %r %r' % (blind, faults(link(*GOOD))))
        return 1
    with open(sys.argv[1], encoding='utf-8') as file:
        found = faults(file.read())
    for fault in found:
        print(fault)
    return 1 if found else 0


if __name__ == '__main__':
    sys.exit(main())
