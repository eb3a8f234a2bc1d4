"""The top of a file: a header has an include guard of its own, every C file begins by saying what it is for."""
import re

GUARD = re.compile(r'^#ifndef (FLOTILLA_[A-Z0-9_]+_H)\n#define \1\n', re.M)


def faults(tree):
    result, owners = [], {}
    for path, text in tree.items():
        if not path.endswith(('.c', '.h')):
            continue
        if not re.match(r"/\*[* ]?\s*[^\s*]", text):
            result.append('%s:1: does not begin with a comment that says what the file is for' % path)
        if not path.endswith('.h'):
            continue
        guard = GUARD.search(text)
        if not guard or not text.rstrip().endswith('#endif'):
            result.append('%s:1: no include guard FLOTILLA_..._H around the file' % path)
        elif guard.group(1) in owners:
            result.append('%s:1: the include guard is that of %s' % (path, owners[guard.group(1)]))
        else:
            owners[guard.group(1)] = path
    return result


MADE_UP = [
    {'src/a.c': '#include "base/err.h"\n'},
    {'src/a.h': '/* Nothing. */\nint x;\n'},
    {'src/a.h': '/* Nothing. */\n#ifndef FLOTILLA_A_H\n#define FLOTILLA_B_H\n#endif\n'},
    {'src/a.h': '/* Nothing. */\n#ifndef FLOTILLA_A_H\n#define FLOTILLA_A_H\n#endif\n',
     'src/b.h': '/* Nothing. */\n#ifndef FLOTILLA_A_H\n#define FLOTILLA_A_H\n#endif\n'},
]
