"""Real processes: a broker of one's own on free ports, and the flotilla command."""
import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
BUILD = os.environ.get('FLOTILLA_BUILD', os.path.join(ROOT, 'build'))
FLOTILLAD = os.path.join(BUILD, 'flotillad')
FLOTILLA = os.path.join(BUILD, 'flotilla')
DEADLINE_S = 60


def wait_for(condition, what, deadline_s=DEADLINE_S):
    """Polls until condition() is true; the deadline is for hangs only."""
    end = time.monotonic() + deadline_s
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < end, 'timed out waiting for ' + what
        time.sleep(0.01)


class Broker:
    """flotillad with its data in `folder`/data. Ports are free ones at the first start and kept at the next ones."""

    def __init__(self, folder, config=None, environment=None, wrapper=()):
        self.folder = str(folder)
        self.data = os.path.join(self.folder, 'data')
        self.config = config or {}
        self.environment = environment or {}
        self.wrapper = list(wrapper)
        self.addresses = {'client': '127.0.0.1:0', 'peer': '127.0.0.1:0', 'admin': '127.0.0.1:0'}
        self.process = None
        self.starts = 0
        os.makedirs(self.folder, exist_ok=True)

    def arguments(self, *more):
        path = os.path.join(self.folder, 'flotilla.conf')
        with open(path, 'w') as file:
            for section, keys in self.config.items():
                file.write('[%s]\n%s' % (section, ''.join('%s = %s\n' % item for item in keys.items())))
        result = self.wrapper + [FLOTILLAD, '-c', path, '--data', self.data]
        for name, address in self.addresses.items():
            result += ['--' + name, address]
        return result + list(more)

    def log_path(self):
        return os.path.join(self.folder, 'log.%d' % self.starts)

    def launch(self, *more):
        """Starts it without waiting for anything."""
        self.starts += 1
        self.ready_path = os.path.join(self.folder, 'ready.%d' % self.starts)
        with open(self.ready_path, 'wb') as out, open(self.log_path(), 'wb') as log:
            self.process = subprocess.Popen(self.arguments(*more), stdout=out, stderr=log,
                                            env=dict(os.environ, **self.environment))
        return self

    def start(self, *more):
        self.launch(*more)

        def ready():
            assert self.process.poll() is None, 'the broker ended: ' + self.log()
            return re.search(r'^ready (.*)\n', open(self.ready_path).read(), re.M)
        line = wait_for(ready, 'ready').group(1)
        words = dict(word.split('=', 1) for word in line.split())
        for name in self.addresses:
            self.addresses[name] = words[name]
        self.words = words
        return self

    def log(self):
        if not os.path.exists(self.log_path()): # never started
            return ''
        with open(self.log_path()) as file:
            return file.read()

    def end(self):
        """Exit code of a broker that ends by itself."""
        return self.process.wait(DEADLINE_S)

    def kill9(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE_S)

    def stop(self):
        """A clean stop; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(DEADLINE_S)
        assert code != 0 or 'stopped clean=1' in self.log(), self.log()
        return code

    def clean_up(self):
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.kill9()

    # --- the flotilla command ---

    def popen(self, *arguments, **options):
        environment = dict(os.environ, FLOTILLA_BROKERS=self.addresses['client'])
        return subprocess.Popen([FLOTILLA] + list(arguments), env=environment, **options)

    def run(self, *arguments, stdin=b'', code=0):
        """stdout of a command that must end with `code`; self.stderr is what it said."""
        process = self.popen(*arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, error = process.communicate(stdin, DEADLINE_S)
        self.stderr = error.decode()
        assert process.returncode == code, (arguments, process.returncode, self.stderr, self.log()[-2000:])
        return out

    def run_code(self, *arguments):
        """The exit code of a command that may fail."""
        return self.popen(*arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).wait(DEADLINE_S)

    def consume(self, topic, *arguments):
        """Every record there is: (partition, offset, value) in the order it came."""
        rows = self.run('consume', topic, '-e', '-f', '%p %o %s\\n', *arguments).decode().splitlines()
        return [(int(p), int(o), v) for p, o, v in (row.split(' ', 2) for row in rows)]

    # --- admin ---

    def http(self, path):
        """(status, text)"""
        try:
            url = 'http://%s%s' % (self.addresses['admin'], path)
            with urllib.request.urlopen(url, timeout=DEADLINE_S) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()

    def json(self, path):
        status, text = self.http(path)
        assert status == 200, (status, text)
        return json.loads(text)

    def metric(self, name, labels=''):
        line = r'^flotilla_%s%s (\S+)$' % (name, re.escape(labels))
        return float(re.search(line, self.http('/metrics')[1], re.M).group(1))


def check_dense(rows):
    """Offsets of each partition count up from 0 without a gap, in the order they came."""
    following = {}
    for partition, offset, _ in rows:
        assert offset == following.get(partition, 0), (partition, offset)
        following[partition] = offset + 1
