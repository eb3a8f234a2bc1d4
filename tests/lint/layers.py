"""Who may include whom: the table of ARCHITECTURE.md, held against every #include; and who links which archive."""
import re

import tree as trees

# folder -> folders it may include besides itself
LAYERS = {
    'src/base': set(),
    'src/port': {'base'},
    'src/raft': {'base'},
    'src/wal': {'base', 'port'},
    'src/store': {'base', 'port'},
    'src/meta': {'base', 'port'},
    'src/wire': {'base', 'proto'},
    'src/os': {'base', 'port'},
    'broker': {'base', 'port', 'raft', 'wal', 'store', 'meta', 'wire'},
    'client': {'base', 'wire', 'proto'},
    'zk': {'base', 'port'},
}
# files that see more than their folder does
MORE = {
    'broker/main.c': {'os'},
    'broker/admin': {'os'},
    'client/inspect': {'port', 'wal', 'meta', 'store', 'os'},  # offline reading, shares recovery's readers
    'client/repair': {'port', 'wal', 'meta', 'os'},  # the same, and it writes what the next start reads
}
# header of a library -> the only places that may include it
LIBRARIES = {
    'uv.h': ('src/os/', 'client/', 'zk/', 'broker/main.c', 'broker/admin.c'),
    'lmdb.h': ('src/os/',),
    'pb_encode.h': ('src/wire/codec.c',),
    'pb_decode.h': ('src/wire/codec.c',),
    'pb_common.h': ('src/wire/codec.c',),
    'zookeeper.h': ('zk/',),
    'http_parser.h': ('broker/admin.c',),
    'jansson.h': ('broker/', 'client/'),
    'ini.h': ('broker/config.c',),
    'lz4.h': ('src/wire/compress_lz4.c',),
    'lz4frame.h': ('src/wire/compress_lz4.c',),
    'lz4hc.h': ('src/wire/compress_lz4.c',),
    'snappy-c.h': ('src/wire/compress_snappy.c',),
    'zlib.h': ('src/wire/compress_gzip.c',),
    'zstd.h': ('src/wire/compress_zstd.c',),
    'zstd_errors.h': ('src/wire/compress_zstd.c',),
    'isa-l.h': ('src/base/crc32c.c',),
    'isa-l/crc.h': ('src/base/crc32c.c',),
    'cmocka.h': ('tests/',),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]')
# what flotillad has and the simulator has not
OUTSIDE_THE_ARCHIVE = {'broker/main.c'}  # config.c, admin.c and pages.c are archives of their own


def folder_of(path):
    return next((folder for folder in LAYERS if path.startswith(folder + '/')), None)


def judge(path, kind, header):
    """The complaint about one #include, or None."""
    if kind == '<':
        places = LIBRARIES.get(header)
        if places and not path.startswith(places) and not path.startswith('tests/'):
            return '<%s> belongs to %s' % (header, ', '.join(places))
        return None
    folder = folder_of(path)
    if folder is None:
        return None
    target = 'proto' if header.endswith('.pb.h') else header.split('/')[0]
    allowed = LAYERS[folder] | {folder.split('/')[-1]}
    for start, more in MORE.items():
        if path.startswith(start):
            allowed = allowed | more
    if target == header and target not in allowed:
        return '"%s": name the folder too' % header
    if target not in allowed:
        return '"%s": %s may include only %s' % (header, folder, ', '.join(sorted(allowed)))
    return None


def archive_faults(tree):
    """The simulator links the archives that flotillad links: neither names a source file of the product, but for what
    stands outside."""
    result = []
    for path in ('tests/sim/meson.build',):
        for number, line in enumerate(tree.get(path, '').splitlines(), 1):
            if re.search(r"\.\./(src|broker|client)/[a-z_/]*\.c'", line):
                result.append('%s:%d: compiles a product file; link its archive' % (path, number))
    for call in re.findall(r"executable\('flotillad',(.*?)\)\n", tree.get('meson.build', ''), re.S):
        for name in set(re.findall(r"'([a-z_/]+\.c)'", call)) - OUTSIDE_THE_ARCHIVE:
            result.append('meson.build:1: flotillad compiles %s; put it into an archive for the simulator' % name)
    return result


def faults(tree):
    result = []
    for path, number, line in trees.lines(tree, ('.c', '.h')):
        match = INCLUDE.match(line)
        complaint = match and judge(path, match.group(1), match.group(2))
        if complaint:
            result.append('%s:%d: %s' % (path, number, complaint))
    return result + archive_faults(tree)


MADE_UP = [
    {'src/raft/x.c': '#include "wal/wal.h"\n'},
    {'src/raft/x.c': '#include "port/clock.h"\n'},
    {'src/wal/x.c': '#include "client.pb.h"\n'},
    {'src/base/x.h': '#  include "os/loop.h"\n'},
    {'broker/session.c': '#include <uv.h>\n'},
    {'broker/session.c': '#include "os/loop.h"\n'},
    {'broker/session.c': '#include "impl.h"\n'},
    {'client/producer.c': '#include "wal/wal.h"\n'},
    {'src/meta/x.c': '#include <lmdb.h>\n'},
    {'broker/api.c': '#include <pb_encode.h>\n'},
    {'tests/sim/meson.build': "x = files('../../src/wal/wal.c')\n"},
    {'meson.build': "executable('flotillad', 'broker/main.c', 'broker/session.c', install: true)\n"},
]
