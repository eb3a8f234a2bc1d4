"""What the benches share: one broker with data in a folder of its own, what it says about itself, and its clients."""
import json
import os
import re
import signal
import subprocess
import urllib.request

ROOT = os.path.abspath(os.path.join(os.path.dirname(__file__), '..', '..'))
BUILD = os.environ.get('FLOTILLA_BUILD', os.path.join(ROOT, 'build'))
KIB, MIB = 1 << 10, 1 << 20


class Broker:
    """Starts at once; config: {section: {key: value}}."""

    def __init__(self, folder, config=None):
        path = os.path.join(folder, 'conf')
        with open(path, 'w') as conf:
            for section, keys in (config or {}).items():
                conf.write('[%s]\n%s' % (section, ''.join('%s = %s\n' % item for item in keys.items())))
        command = [os.path.join(BUILD, 'flotillad'), '-c', path, '--data', os.path.join(folder, 'data')]
        for listener in ('--client', '--peer', '--admin'):
            command += [listener, '127.0.0.1:0']
        log = open(os.path.join(folder, 'log'), 'ab')
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        line = self.process.stdout.readline().decode()
        assert line.startswith('ready '), open(os.path.join(folder, 'log')).read()
        self.words = dict(word.split('=', 1) for word in line.split()[1:])

    def command(self, *arguments):
        return [os.path.join(BUILD, 'flotilla'), '-q', '-b', self.words['client'], *arguments]

    def flotilla(self, *arguments, **options):
        return subprocess.run(self.command(*arguments), check=True, stdout=subprocess.PIPE, **options).stdout.decode()

    def bench(self, *arguments):
        return json.loads(self.flotilla('bench', *arguments, '--json').splitlines()[-1])

    def metrics(self):
        """{name: value} of everything without labels."""
        text = urllib.request.urlopen('http://%s/metrics' % self.words['admin']).read().decode()
        return {name: float(value) for name, value in re.findall(r'^flotilla_(\w+) (\S+)$', text, re.M)}

    def rss_mib(self, name='VmRSS'):
        text = open('/proc/%d/status' % self.process.pid).read()
        return int(re.search(name + r':\s+(\d+) kB', text).group(1)) / 1024

    def cpu_seconds(self):
        fields = open('/proc/%d/stat' % self.process.pid).read().rsplit(')', 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def kill9(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
