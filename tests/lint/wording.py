"""What does not belong into a tree that others read: paths of one machine, notes to oneself, papers that are not here.

The patterns are written so that they do not match themselves."""
import re

import tree as trees

RULES = [
    (re.compile(r'/wor[k]/|/far[m]/|/hom[e]/[a-z]|/tmp/bash_job[s]'), 'a path of one machine'),
    (re.compile(r'\bTOD[O]\b|\bFIXM[E]\b|\bXX[X]\b|not implemente[d]|unimplemente[d]'), 'unfinished work'),
    (re.compile(r'\bDESIG[N]\b|\b(reliability|peers|seeds)\.m[d]\b|\bmq-anchor[s]\b|\bINTERFAC[E](\.md)?\b'),
     'cites a paper that is not in the tree; cite ARCHITECTURE.md, or say the rule itself'),
    (re.compile(r'\bissue #?\d', re.I), 'speaks of an issue; speak of the product'),
]
SUFFIXES = ('.c', '.h', '.py', '.md', '.sh', '.build', '.txt', '.proto', '.options', '.conf', 'dev', 'run', '.service')


def faults(tree):
    result = []
    for path, number, line in trees.lines(tree, SUFFIXES):
        for pattern, complaint in RULES:
            match = pattern.search(line)
            if match:
                result.append('%s:%d: "%s": %s' % (path, number, match.group(0), complaint))
    return result


MADE_UP = [
    {'src/a.c': '/* see /wor' + 'k/main */\n'},
    {'README.md': 'cd /hom' + 'e/me\n'},
    {'dev': '# TO' + 'DO: the rest\n'},
    {'src/a.c': '/* DESIG' + 'N section 6 */\n'},
    {'broker/a.h': '/* reliability.m' + 'd S7 */\n'},
    {'broker/a.h': '/* every key of INTERFAC' + 'E */\n'},
    {'src/a.c': '/* for issu' + 'e 3 */\n'},
]
