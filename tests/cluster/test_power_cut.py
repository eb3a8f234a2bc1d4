"""Power cuts for real: the broker's data lies in an ext4 image on a loop device. Stop the broker with SIGSTOP, copy the
image while it is mounted (what was never flushed is not in it), go on; then mount the copy, start a broker on it, and
read back."""
import fcntl
import os
import shutil
import struct
import subprocess
import termios
import threading
import time

import pytest

import protocol
from harness import Broker, wait_for

CUTS = 20
IMAGE_BYTES = 192 << 20
# Small files, so that rolls, releases and checkpoints happen between any two cuts.
CONFIG = {'wal': {'file_bytes': '1MiB', 'budget_bytes': '8MiB'},
          'topic': {'segment_bytes': '1MiB', 'retention_bytes': '4MiB'},
          'raft': {'snapshot_bytes': '1MiB', 'snapshot_entries': '200', 'timeout_entry_ms': '200'}}


def command(*arguments):
    subprocess.run(arguments, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def loop_devices_work(folder):
    """None, or why not."""
    if os.geteuid() != 0:
        return 'needs root to mount a loop device'
    for tool in ('mkfs.ext4', 'mount', 'umount'):
        if shutil.which(tool) is None:
            return 'there is no %s' % tool
    try:
        with Image(folder / 'probe', 16 << 20):
            return None
    except subprocess.CalledProcessError as error:
        return 'cannot mount a loop device: ' + error.stdout.decode().strip()


class Image:
    """An ext4 file system in a file, mounted at path/mount."""

    def __init__(self, path, size_bytes=None, copy_of=None):
        os.makedirs(path)
        self.file = os.path.join(path, 'image')
        self.mount = os.path.join(path, 'mount')
        os.makedirs(self.mount)
        if copy_of is not None:
            command('cp', '--sparse=always', copy_of, self.file)
        else:
            command('truncate', '-s', str(size_bytes), self.file)
            command('mkfs.ext4', '-q', '-F', self.file)

    def __enter__(self):
        # commit=300: the journal is not written behind the broker's back
        command('mount', '-o', 'loop,commit=300', self.file, self.mount)
        return self

    def __exit__(self, *_):
        command('umount', self.mount)

    def remove(self):
        shutil.rmtree(os.path.dirname(self.file))


class Writer(threading.Thread):
    """Produces batches of numbered records to one partition, a few in flight, and knows what was acknowledged."""

    def __init__(self, address, topic, partition):
        super().__init__(daemon=True)
        self.connection = protocol.Connection(address, timeout_s=120)
        self.group = self.connection.groups(topic)[partition]
        self.producer = self.connection.init_producer()
        self.partition = partition
        self.produced = 0
        self.acknowledged = 0 # records; they are acknowledged in order
        self.stopping = False
        self.error = None

    def value(self, number):
        return b'%d-%d-' % (self.partition, number) + b'x' * (number * 37 % 900)

    def run(self):
        in_flight = []
        try:
            while not self.stopping or in_flight:
                if not self.stopping and len(in_flight) < 4:
                    values = [self.value(self.produced + i) for i in range(8)]
                    data = protocol.batch(values, self.producer, self.produced)
                    in_flight.append(self.connection.ask(protocol.PRODUCE, {1: self.group, 2: 1, 3: 60000}, data))
                    self.produced += len(values)
                    continue
                _, request_id, reply, _ = self.connection.receive()
                assert request_id == in_flight.pop(0) and reply.get(1, 0) == protocol.OK, reply
                assert reply.get(2, 0) == self.acknowledged, reply
                self.acknowledged += 8
        except Exception as error: # shown by the test
            self.error = error


def stop_all_threads(process):
    """SIGSTOP, and every thread has come to rest: a system call under way is over."""
    process.send_signal(19)
    folder = '/proc/%d/task' % process.pid

    def stopped():
        stats = [open('%s/%s/stat' % (folder, task)).read() for task in os.listdir(folder)]
        return all(stat.rsplit(')', 1)[1].split()[0] == 'T' for stat in stats)
    wait_for(stopped, 'the broker to stand still')


def acknowledgements(writers):
    """What has been acknowledged, once the last words of a broker that stands still have been read."""
    def settled():
        before = [writer.acknowledged for writer in writers]
        unread = any(struct.unpack('i', fcntl.ioctl(writer.connection.socket, termios.FIONREAD, b'1234'))[0]
                     for writer in writers)
        time.sleep(0.01)
        return not unread and before == [writer.acknowledged for writer in writers]
    wait_for(settled, 'the last acknowledgements')
    return [writer.acknowledged for writer in writers]


def read_back(path, image_file, writers, acknowledged):
    """A broker starts on a copy of the disk: every acknowledged record once, in order, or trimmed by retention."""
    image = Image(path, copy_of=image_file)
    with image:
        broker = Broker(path / 'broker', config=CONFIG)
        broker.data = os.path.join(image.mount, 'data')
        try:
            broker.start()
            rows = broker.consume('t')
            described = broker.json('/v1/topics')
        finally:
            broker.clean_up()
    partitions = next(topic for topic in described if topic['name'] == 't')['partitions']
    for writer in writers:
        first = partitions[writer.partition]['log_start']
        mine = [(offset, value) for p, offset, value in rows if p == writer.partition]
        assert [offset for offset, _ in mine] == list(range(first, first + len(mine)))
        assert first + len(mine) >= acknowledged[writer.partition], 'acknowledged records are lost'
        assert first + len(mine) <= writer.produced
        for offset, value in mine:
            assert value.encode() == writer.value(offset)
    image.remove()
    return sum(partition['log_start'] > 0 for partition in partitions)


@pytest.mark.slow
def test_acknowledged_records_survive_power_cuts(tmp_path):
    reason = loop_devices_work(tmp_path)
    if reason:
        pytest.skip(reason)
    trimmed = 0
    with Image(tmp_path / 'disk', IMAGE_BYTES) as disk:
        broker = Broker(tmp_path / 'broker', config=CONFIG)
        broker.data = os.path.join(disk.mount, 'data')
        try:
            broker.start()
            broker.run('topic', 'create', 't', '-p', '3')
            writers = [Writer(broker.addresses['client'], 't', partition) for partition in range(3)]
            for writer in writers:
                writer.start()
            for cut in range(CUTS):
                target = broker.metric('wal_written_bytes_total') + (400 + 173 * (cut % 7)) * 1024
                wait_for(lambda: broker.metric('wal_written_bytes_total') > target, 'the next megabyte')
                stop_all_threads(broker.process)
                acknowledged = acknowledgements(writers)
                copy = tmp_path / ('copy.%d' % cut)
                command('cp', '--sparse=always', disk.file, str(copy))
                broker.process.send_signal(18)
                trimmed += read_back(tmp_path / ('cut.%d' % cut), str(copy), writers, acknowledged)
                os.unlink(copy)
                assert [writer.error for writer in writers] == [None] * 3
            assert broker.metric('wal_rolls_total') > 5
            assert broker.metric('checkpoints_total') > 5
            assert broker.metric('segment_rolls_total') > 5
            for writer in writers:
                writer.stopping = True
                writer.join(60)
                assert writer.error is None and writer.acknowledged == writer.produced
            assert broker.stop() == 0
            broker.start()
            check_end = {p['partition']: p['high_watermark'] for t in broker.json('/v1/topics') if t['name'] == 't'
                         for p in t['partitions']}
            assert check_end == {writer.partition: writer.produced for writer in writers}
            broker.stop()
        finally:
            broker.clean_up()
    assert trimmed > 0, 'retention never ran'
