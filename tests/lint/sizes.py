"""Small enough to be read: files of at most 800 lines, functions of at most 70, lines of at most 120 columns."""
import tree as trees

FILE_LINES_MAX = 800
FUNCTION_LINES_MAX = 70
COLUMNS_MAX = 120


def c_functions(text):
    """(first line, count of lines) of every function: a "{" in column 1 opens one, a "}" in column 1 ends it."""
    start = None
    for number, line in enumerate(text.splitlines(), 1):
        if line == '{':
            start = number
        elif line.startswith('}') and start is not None:
            yield start, number - start + 1
            start = None


def python_functions(text):
    """The same for functions and methods of Python: up to the last line that is indented deeper."""
    all_lines = text.splitlines()
    for i, line in enumerate(all_lines):
        if not line.lstrip().startswith('def '):
            continue
        indent = len(line) - len(line.lstrip())
        last = i
        for j in range(i + 1, len(all_lines)):
            if all_lines[j].strip():
                if len(all_lines[j]) - len(all_lines[j].lstrip()) <= indent:
                    break
                last = j
        yield i + 1, last - i + 1


def faults(tree):
    result = []
    for path, text in tree.items():
        if not path.endswith(('.c', '.h', '.py')) and path != 'dev':
            continue
        count = len(text.splitlines())
        if count > FILE_LINES_MAX:
            result.append('%s:%d: %d lines, at most %d' % (path, count, count, FILE_LINES_MAX))
        functions = python_functions(text) if path.endswith('.py') else c_functions(text)
        for start, size in functions:
            if size > FUNCTION_LINES_MAX:
                result.append('%s:%d: a function of %d lines, at most %d' % (path, start, size, FUNCTION_LINES_MAX))
    for path, number, line in trees.lines(tree, ('.c', '.h', '.py')):
        if len(line) > COLUMNS_MAX:
            result.append('%s:%d: %d columns, at most %d' % (path, number, len(line), COLUMNS_MAX))
    return result


MADE_UP = [
    {'src/a.c': 'x\n' * 801},
    {'src/a.c': 'int f(void)\n{\n' + '    x();\n' * 69 + '}\n'},
    {'tests/a.py': 'def f():\n' + '    x()\n' * 70},
    {'src/a.h': '/* ' + 'x' * 118 + ' */\n'},
]
