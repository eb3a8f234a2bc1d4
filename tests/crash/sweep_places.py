"""What of the source can fail, for the sweep of faults: the places are found by their text, and held against those that
did fail. What no run reached must be listed here with its reason."""
import collections
import glob
import os
import re

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
FOLDERS = ('src/wal/', 'src/store/', 'src/meta/', 'src/os/')

# What can fail: functions of the system, of libuv, of LMDB, doors of the ports, memory.
FALLIBLE = re.compile(
    r'\b(open|openat|pread|pwritev2?|fsync|fdatasync|syncfs|sync_file_range|ftruncate|fallocate|renameat|rename'
    r'|unlinkat|unlink|rmdir|mkdirat|mkdir|fstat|stat|flock|fdopendir|readdir|getrandom'
    r'|malloc|calloc|realloc|posix_memalign|strdup|mem_zeroed|mem_grow|mem_text|mem_aligned|buf_new|buf_pool_new'
    r'|buf_pool_take'
    r'|pthread_create|getaddrinfo|socket|bind|listen|accept4|setsockopt|getsockname|send|shutdown'
    r'|uv_loop_init|uv_run|uv_async_init|uv_async_send|uv_signal_init|uv_signal_start|uv_poll_init|uv_tcp_open'
    r'|uv_tcp_nodelay|uv_tcp_keepalive|uv_tcp_getpeername|uv_tcp_connect|uv_getaddrinfo|uv_try_write|uv_write'
    r'|mdb_env_create|mdb_env_open|mdb_env_sync|mdb_txn_begin|mdb_txn_commit|mdb_dbi_open|mdb_put|mdb_del|mdb_get'
    r'|mdb_cursor_open|mdb_cursor_get|mdb_env_set_mapsize'
    r'|ops->(?:open|size|read|write|sync|writeback|truncate|reserve|sync_all|make_dir|remove_dir|rename|unlink|sync_dir'
    r'|list|begin|commit|put|del|get|seek))\(')

# (file, the text of the line) -> why no run of the sweep makes this call fail
UNREACHED = [
    ('src/wal/batch.c', 'buf_new(payload.size)',
     'every record of the broker lies in refcounted memory; only tests/unit/test_wal_log.c hands in plain bytes'),
    ('src/wal/wal.c', 'PLANT(27)', 'only in builds with planted bugs'),
    ('src/meta/done.c', 'mem_zeroed(HASH_COUNT(done->entries) + 1',
     'of done_visit, which the broker does not call; tests/unit/test_meta_done.c does'),
    ('src/meta/meta.c', 'error = kv->ops->del(kv, txn, layout_bytes(&find.key))',
     'of meta_drop_bad_rows: only `flotilla repair` calls it, on a broker that is not running'),
    ('src/meta/picture.c', '(', 'of snapshots between brokers: fleets in the simulator let disks fail under them'),
    ('src/meta/row.c', 'bytes = malloc(size)',
     'of rows above 8 KiB: no row of today is so large; tests/unit/test_meta_rows.c stores them'),
    ('src/store/snapshot.c', '(', 'of snapshots between brokers: fleets in the simulator let disks fail under them'),
    ('src/os/ahead.c', 'mem_zeroed(', 'of starts with 64 segments and more; tests/unit/test_os_disk.c looks ahead'),
    ('src/os/ahead.c', 'pthread_create(', 'of starts with 64 segments and more; tests/unit/test_os_disk.c looks ahead'),
    ('src/os/ahead.c', 'openat(', 'of starts with 64 segments and more; tests/unit/test_os_disk.c looks ahead'),
    ('src/os/ahead.c', 'pread(', 'of starts with 64 segments and more; tests/unit/test_os_disk.c looks ahead'),
    ('src/os/connect.c', 'uv_tcp_connect(', 'one broker connects to nobody; tests/unit/test_os_link.c does'),
    ('src/os/connect.c', 'getaddrinfo(', 'one broker connects to nobody; tests/unit/test_os_link.c does'),
    ('src/os/connect.c', 'calloc(1, sizeof *c)', 'one broker connects to nobody; tests/unit/test_os_link.c does'),
    ('src/os/disk.c', 'uv_async_init(',
     'the descriptor behind it was made by uv_loop_init, whose failure is swept: nothing is left to fail'),
    ('src/os/link_queue.c', 'struct buf *alone = buf_new(size)',
     'of heads above 4 KiB: the broker sends none (CODEC_HEAD_BYTES_MAX is 512)'),
    ('src/os/lmdb.c', 'mdb_dbi_open(txn, NULL',
     'the unnamed database is always open: LMDB allocates nothing and reads nothing'),
    ('src/os/lmdb_check.c', 'uint8_t *list = malloc(size)',
     'of a free list: LMDB writes one that is too long for a leaf only after freeing some hundred pages at once'),
    ('src/os/loop.c', 'uv_signal_init(', 'the pipe behind it was made by uv_loop_init, whose failure is swept'),
    ('src/os/loop.c', 'uv_run(loop->uv, UV_RUN_DEFAULT)',
     'of os_loop_close: flotillad ends without it, since all that must be durable is; os_loop_run has the same call'),
    ('src/os/loop.c', 'uv_run(loop->uv, UV_RUN_ONCE)', 'of os_loop_run_once, which is for tests and tools'),
]


def places_that_fail():
    """(file, line, text)"""
    result = []
    for folder in FOLDERS:
        for path in sorted(glob.glob(os.path.join(ROOT, folder, '*.c'))):
            inside_comment = False
            for number, line in enumerate(open(path, encoding='utf-8'), 1):
                code = re.sub(r'/\*.*?\*/|"[^"]*"|//.*', '', line)
                if inside_comment:
                    inside_comment = '*/' not in code
                    continue
                inside_comment = '/*' in code
                code = code.split('/*')[0]
                if FALLIBLE.search(code) and not re.match(r'(static )?(enum|void|bool|int|struct) ', code):
                    result.append((folder + os.path.basename(path), number, line.strip()))
    return result


def coverage(hits):
    """Prints what did not fail; how many of these have no reason, or a reason that is no longer needed."""
    by_file = collections.defaultdict(set)
    for path, line in hits:
        by_file[path].add(line)
    existing = places_that_fail()
    reached = [p for p in existing if any(p[1] <= line <= p[1] + 3 for line in by_file[p[0]])]
    missed = [p for p in existing if p not in reached]
    unexplained = 0
    for path, number, text in missed:
        reason = next((why for file, part, why in UNREACHED if path == file and part in text), None)
        unexplained += reason is None
        print('not failed: %s:%d: %s (%s)' % (path, number, text, reason or 'NOT EXPLAINED'))
    for file, part, _ in UNREACHED:
        if not any(path == file and part in text for path, _, text in missed):
            unexplained += 1
            print('needs no reason: %s: %s' % (file, part))
    for folder in FOLDERS:
        count = sum(p[0].startswith(folder) for p in existing)
        print('%-10s %d of %d places failed' % (folder, sum(p[0].startswith(folder) for p in reached), count))
    print('sweep: places=%d failed=%d not_failed=%d unexplained=%d' %
          (len(existing), len(reached), len(missed), unexplained))
    return unexplained
