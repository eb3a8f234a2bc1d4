"""flotilla inspect: looks into a data directory without changing a byte of it."""
import hashlib
import os

from harness import wait_for


def fingerprint(folder):
    result = {}
    for parent, _, names in os.walk(folder):
        for name in set(names) - {'lock.mdb'}: # LMDB's table of readers
            path = os.path.join(parent, name)
            with open(path, 'rb') as file:
                result[path] = hashlib.sha256(file.read()).hexdigest()
    return result


def test_inspect_shows_all_and_changes_nothing(broker):
    broker.run('topic', 'create', 't')
    broker.run('produce', 't', '--producer', 'me', stdin=b'a\nb\nc\n')
    wait_for(lambda: broker.metric('timeout_entries_applied_total') >= 1, 'a TIMEOUT entry')
    broker.kill9()
    before = fingerprint(broker.data)
    wal = broker.run('inspect', 'wal', broker.data).decode()
    for word in ('file name=', 'verdict=ok', 'type=GROUP_NEW', 'type=HARD_STATE', 'entry=LEADER', 'entry=TIMEOUT',
                 'entry=DATA'):
        assert word in wal, word
    assert 'damaged' not in wal
    broker.run('inspect', 'snapshot', broker.data)
    assert fingerprint(broker.data) == before
    broker.start()
    assert broker.stop() == 0
    before = fingerprint(broker.data)
    snapshot = broker.run('inspect', 'snapshot', broker.data).decode()
    assert 'identity ' in snapshot and 'next_offset=3' in snapshot
    assert 'batches=0-2@0' in snapshot # the done table knows the batch and its offset
    assert 'end_offset=3' in snapshot
    assert fingerprint(broker.data) == before


def test_inspect_of_nothing(make_broker, tmp_path):
    nobody = make_broker()
    for kind in ('wal', 'snapshot'):
        nobody.run('inspect', kind, str(tmp_path / 'nowhere'), code=2)
        assert nobody.stderr.startswith('flotilla: ') and nobody.stderr.count('\n') == 1, nobody.stderr
