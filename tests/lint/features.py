"""tests/FEATURES.md: every feature names a test that exists, or says why it is not ours to test.

A row of the table is | feature | tests |; tests are `path` or `path::name`, separated by commas, or "not ours: why"."""
import re

TABLE = 'tests/FEATURES.md'


def test_fault(tree, test):
    path, _, name = test.partition('::')
    if path not in tree:
        return 'there is no file %s' % path
    if name and not re.search(r'\b%s\b' % re.escape(name), tree[path]):
        return '%s has no test %s' % (path, name)
    return None


def row_faults(tree, cells):
    if len(cells) != 2 or not cells[0]:
        return ['a row is | feature | tests |']
    if re.match(r'not ours: \w', cells[1]):
        return []
    tests = re.findall(r'`([^`]+)`', cells[1])
    if not tests:
        return ['"%s" names no test and no "not ours: why"' % cells[0]]
    return [fault for fault in (test_fault(tree, test) for test in tests) if fault]


def faults(tree):
    if TABLE not in tree:
        return ['%s:1: the table is missing' % TABLE]
    result = []
    for number, line in enumerate(tree[TABLE].splitlines(), 1):
        if not line.startswith('|') or re.match(r'^\|[\s:|-]+\|$', line) or line.startswith('| Feature'):
            continue
        cells = [cell.strip() for cell in line.strip().strip('|').split('|')]
        result += ['%s:%d: %s' % (TABLE, number, fault) for fault in row_faults(tree, cells)]
    return result


MADE_UP = [
    {},
    {TABLE: '| flies | |\n'},
    {TABLE: '| flies | not ours: |\n'},
    {TABLE: '| flies | `tests/unit/test_wings.c` |\n'},
    {TABLE: '| flies | `tests/unit/test_wings.c::flaps` |\n', 'tests/unit/test_wings.c': 'static void glides(void)\n'},
]
