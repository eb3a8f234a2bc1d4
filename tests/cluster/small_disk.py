"""A small disk of one's own, and a ballast that fills it. Needs root; tests skip where it cannot be mounted."""
import errno
import os
import shutil
import subprocess

import pytest


class SmallDisk:
    """An ext4 image on a loop device, or a tmpfs where that cannot be had."""

    def __init__(self, folder, size_bytes, kind='tmpfs'):
        self.path = os.path.join(str(folder), 'disk')
        self.data = os.path.join(self.path, 'data')
        self.ballast_path = os.path.join(self.path, 'ballast')
        os.mkdir(self.path)
        if os.geteuid() != 0 or shutil.which('mount') is None:
            pytest.skip('needs root to mount a small disk')
        if kind == 'ext4':
            image = os.path.join(str(folder), 'image')
            with open(image, 'wb') as file:
                file.truncate(size_bytes)
            subprocess.run(['mkfs.ext4', '-q', '-m', '0', image], check=True)
            command = ['mount', '-o', 'loop', image, self.path]
        else:
            command = ['mount', '-t', 'tmpfs', '-o', 'size=%d' % size_bytes, 'tmpfs', self.path]
        mounted = subprocess.run(command, stderr=subprocess.PIPE)
        if mounted.returncode != 0:
            pytest.skip('cannot mount a small disk: ' + mounted.stderr.decode().strip())

    def unmount(self):
        subprocess.run(['umount', '-l', self.path], check=True)

    def fill(self, leave_bytes=0):
        """Takes all the room there is, but for leave_bytes."""
        with open(self.ballast_path, 'ab', buffering=0) as file:
            for piece in (1 << 20, 4096, 1):
                try:
                    while self.free_bytes() > leave_bytes:
                        file.write(b'b' * piece)
                except OSError as error:
                    assert error.errno == errno.ENOSPC
            try:
                os.fsync(file.fileno())
            except OSError as error:
                assert error.errno == errno.ENOSPC

    def free_bytes(self):
        status = os.statvfs(self.path)
        return status.f_bavail * status.f_frsize

    def give_back(self):
        os.unlink(self.ballast_path)


@pytest.fixture
def make_small_disk(tmp_path):
    made = []

    def make(size_bytes, kind='tmpfs'):
        made.append(SmallDisk(tmp_path, size_bytes, kind))
        return made[-1]
    yield make
    for disk in made:
        disk.unmount()
