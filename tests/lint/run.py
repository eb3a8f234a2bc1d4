#!/usr/bin/env python3
"""Runs the lints over the tree: first each one over its made-up faults, which it must find, then over the tree.
Prints every fault; the last line is "lint: N passed, M failed"; exit 1 on a fault."""
import importlib
import os
import sys

import tree as trees

LINTS = ('layers', 'sizes', 'features', 'headers', 'wording')


def main():
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
    names = sys.argv[1:] or LINTS
    tree = trees.read(root)
    passed = failed = 0
    for name in names:
        lint = importlib.import_module(name)
        blind = [made_up for made_up in lint.MADE_UP if not lint.faults(made_up)]
        found = lint.faults(tree)
        for made_up in blind:
            print('lint %s is blind: it finds no fault in %r' % (name, made_up))
        for fault in found:
            print(fault)
        for bad in (blind, found):  # two tests each: that it sees, and that the tree is clean
            passed, failed = (passed, failed + 1) if bad else (passed + 1, failed)
        print('lint %s: %s' % (name, '%d faults' % len(found) if found else 'clean'))
    print('lint: %d passed, %d failed' % (passed, failed))
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
