"""Starting, refusing to start, stopping: messages of one line and exit codes."""
import glob
import os
import re
import shutil
import signal
import socket
import subprocess

import pytest

from harness import FLOTILLA, FLOTILLAD, wait_for


def ended(broker, code, *words):
    """The broker ended with this code, and said why: one line with these words."""
    assert broker.end() == code, broker.log()
    complaints = [line for line in broker.log().splitlines() if not re.match(r'\d{4}-\d\d-\d\dT', line)]
    assert len(complaints) == 1, complaints
    for word in words:
        assert word in complaints[0], complaints[0]
    assert open(broker.ready_path).read() == ''


def test_ready_line(broker):
    line = open(broker.ready_path).read()
    address = r'127\.0\.0\.1:\d+'
    assert re.fullmatch(r'ready id=1 client=%s peer=%s admin=%s registry=embedded\n' % ((address,) * 3), line)
    for name in ('client', 'peer', 'admin'):
        host, port = broker.addresses[name].split(':')
        socket.create_connection((host, int(port)), 5).close()
    assert broker.http('/health/ready') == (200, 'ready\n')


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_signals_stop_cleanly(broker, number):
    broker.run('topic', 'create', 't')
    broker.run('produce', 't', stdin=b'one\ntwo\n')
    broker.process.send_signal(number)
    assert broker.end() == 0
    assert 'stopped clean=1' in broker.log()


def test_sighup_rereads_the_log_level(broker):
    broker.config['log'] = {'level': 'error'}
    broker.arguments() # writes the file
    broker.process.send_signal(signal.SIGHUP)
    broker.config['log'] = {'level': 'info'}
    broker.arguments()
    broker.process.send_signal(signal.SIGHUP)
    wait_for(lambda: 'reload level=info' in broker.log(), 'the new level')
    assert broker.stop() == 0


@pytest.mark.parametrize('arguments, code, word', [
    (['--help'], 0, 'Usage: flotillad'),
    (['--version'], 0, 'flotillad '),
    (['--nonsense'], 2, 'unrecognized option'),
    (['--id', '0'], 2, '--id'),
    (['--id', 'x'], 2, '--id'),
    (['surplus'], 2, 'surplus'),
    (['-c', '/nonexistent.conf'], 2, '/nonexistent.conf'),
    (['--zookeeper', 'localhost:2181'], 2, 'not in this version'),
    (['--zookeeper', 'localhost:2181', '--check'], 2, 'not in this version'),
])
def test_arguments(tmp_path, arguments, code, word):
    result = subprocess.run([FLOTILLAD] + arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            timeout=30)
    assert result.returncode == code, result.stdout
    assert word in result.stdout.decode()
    assert os.listdir(tmp_path) == []


def test_unknown_key_names_the_line(make_broker):
    broker = make_broker(config={'broker': {'id': 1, 'idd': 2}})
    ended(broker.launch(), 2, 'flotilla.conf:3:', 'idd')
    ended(broker.launch('--check'), 2, 'flotilla.conf:3:', 'idd')


def test_check_says_ok(make_broker):
    broker = make_broker(config={'wal': {'file_bytes': '4MiB', 'budget_bytes': '64MiB'}}).launch('--check')
    assert broker.end() == 0
    assert open(broker.ready_path).read() == 'configuration ok\n'
    assert not os.path.exists(broker.data)


def test_second_broker_on_one_directory(broker, make_broker):
    other = make_broker('other')
    other.data = broker.data
    ended(other.launch(), 1, 'in use by another broker', broker.data)
    broker.run('topic', 'create', 't')


@pytest.mark.parametrize('name', ['client', 'peer', 'admin'])
def test_port_in_use(broker, make_broker, name):
    other = make_broker('other')
    other.addresses[name] = broker.addresses[name]
    ended(other.launch(), 1, broker.addresses[name], name)


def test_data_of_another_broker(broker, make_broker):
    assert broker.stop() == 0
    ended(broker.launch('--id', '2'), 1, 'belongs to another broker', broker.data)
    broker.start()


def test_data_directory_is_a_file(make_broker):
    broker = make_broker()
    open(broker.data, 'w').close()
    assert broker.launch().end() in (1, 3)
    assert broker.data in broker.log()


@pytest.mark.parametrize('damage', ['garbage', 'cut', 'empty page'])
def test_unreadable_checkpoint_store(broker, damage):
    broker.run('topic', 'create', 't')
    broker.run('produce', 't', stdin=b'one\n')
    assert broker.stop() == 0
    path = os.path.join(broker.data, 'meta', 'data.mdb')
    size = os.path.getsize(path)
    with open(path, 'r+b') as file:
        if damage == 'garbage':
            file.write(os.urandom(size))
        elif damage == 'cut':
            file.truncate(100)
        else:
            file.write(bytes(2 * 4096)) # both meta pages
    ended(broker.launch(), 4, 'unreadable')
    assert os.path.exists(path)


@pytest.mark.skipif(shutil.which('strace') is None, reason='there is no strace')
def test_failed_sync_ends_the_broker(broker, tmp_path):
    broker.run('topic', 'create', 't')
    broker.run('produce', 't', stdin=b''.join(b'%d\n' % n for n in range(1000)))
    trace = open(tmp_path / 'strace', 'wb')
    tracer = subprocess.Popen(['strace', '-f', '-p', str(broker.process.pid), '-e', 'trace=fdatasync,fsync', '-e',
                               'inject=fdatasync,fsync:error=EIO'], stderr=trace)
    def said():
        return open(tmp_path / 'strace', 'rb').read()
    wait_for(lambda: b'attached' in said() or tracer.poll() is not None, 'strace')
    if b'attached' not in said():
        pytest.skip('strace cannot attach: %s' % said())
    producer = broker.popen('--timeout', '3', 'produce', 't', stdin=-1, stderr=subprocess.PIPE)
    error = producer.communicate(b'lost?\n', 60)[1].decode()
    assert producer.returncode == 1, error
    assert broker.end() == 3
    assert 'flotillad: ' in broker.log()
    tracer.wait(30)
    broker.start()
    values = [value for _, _, value in broker.consume('t')]
    assert values[:1000] == [str(n) for n in range(1000)] and values[1000:] in ([], ['lost?'])


def test_restarts_count_and_reuse_files(broker):
    for expected in (2, 3, 4):
        assert broker.stop() == 0
        broker.start()
        assert broker.metric('boot') == expected
    assert len(glob.glob(os.path.join(broker.data, 'wal', '*.wal'))) <= 4


def test_command_without_a_broker(make_broker):
    nobody = make_broker()
    with socket.socket() as holder: # a port that nobody listens on
        holder.bind(('127.0.0.1', 0))
        nobody.addresses['client'] = '127.0.0.1:%d' % holder.getsockname()[1]
        nobody.run('topic', 'list', code=1)
    assert nobody.stderr.startswith('flotilla: ') and nobody.stderr.count('\n') == 1
    assert subprocess.run([FLOTILLA], stdout=subprocess.PIPE).returncode == 0
    nobody.run('nonsense', code=2)
