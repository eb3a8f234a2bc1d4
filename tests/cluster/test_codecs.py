"""The four codecs through real processes, and against programs that are not ours: what we write they open, what they
write we open. Blobs that are no blobs are the consumer's to refuse."""
import glob
import gzip
import os
import random
import struct
import subprocess

import pytest
import snappy

import protocol
from protocol import Connection, batch

NUMBERS = {'gzip': 1, 'snappy': 2, 'lz4': 3, 'zstd': 4}
XERIAL = b'\x82SNAPPY\0' + struct.pack('>ii', 1, 1)


def filter_through(*command):
    return lambda data: subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout


def snappy_java(data, block=32 << 10):
    blocks = [snappy.compress(data[at:at + block]) for at in range(0, len(data), block)]
    return XERIAL + b''.join(struct.pack('>i', len(one)) + one for one in blocks)


def open_snappy(blob):
    assert blob[:16] == XERIAL
    result, at = b'', 16
    while at < len(blob):
        size, = struct.unpack_from('>i', blob, at)
        result += snappy.decompress(blob[at + 4:at + 4 + size])
        at += 4 + size
    return result


WRITERS = {
    'gzip': ('gzip', gzip.compress),
    'gzip-1': ('gzip', lambda data: gzip.compress(data, 1)),
    'snappy-raw': ('snappy', snappy.compress),
    'snappy-java': ('snappy', snappy_java),
    'lz4': ('lz4', filter_through('lz4', '-c')),
    'lz4-linked-4MB-checksums': ('lz4', filter_through('lz4', '-c', '-9', '-B7', '-BD', '-BX')),
    'zstd': ('zstd', filter_through('zstd', '-c')),
    'zstd-19-long-window': ('zstd', filter_through('zstd', '-c', '-19', '--long=27')),
}
READERS = {'gzip': gzip.decompress, 'snappy': open_snappy, 'lz4': filter_through('lz4', '-dc'),
           'zstd': filter_through('zstd', '-dc')}


def lines(count):
    chance = random.Random(5)
    return [b'{"order":%d,"customer":"c%05d","amount":%d}' % (1000 + i, chance.randrange(50000), chance.randrange(1000))
            for i in range(count)]


def stored_batches(broker):
    """(codec, blob) of every batch in the segments of a stopped broker."""
    result = []
    for path in sorted(glob.glob(os.path.join(broker.data, 'parts', '*', '*.log'))):
        with open(path, 'rb') as file:
            data = file.read()
        at = 0
        while at + 61 <= len(data):
            size = 12 + struct.unpack_from('>i', data, at + 8)[0]
            result.append((struct.unpack_from('>h', data, at + 21)[0] & 7, data[at + 61:at + size]))
            at += size
    return result


def records_values(records):
    values, at = [], 0
    while at < len(records):
        size, at = zigzag_at(records, at)
        end = at + size
        _, at = zigzag_at(records, at + 1)
        _, at = zigzag_at(records, at)
        key_size, at = zigzag_at(records, at)
        value_size, at = zigzag_at(records, at + max(key_size, 0))
        values.append(records[at:at + value_size])
        at = end
    return values


def zigzag_at(data, at):
    number, at = protocol.read_varint(data, at)
    return number >> 1 ^ -(number & 1), at


def test_every_codec_there_and_back(broker):
    wanted = lines(20000)
    for codec in ('none', 'gzip', 'snappy', 'lz4', 'zstd'):
        topic = 't-' + codec
        broker.run('topic', 'create', topic)
        broker.run('produce', topic, '-z', codec, stdin=b'\n'.join(wanted) + b'\n')
        assert broker.run('consume', topic, '-e').splitlines() == wanted, codec
    broker.run('produce', 't-none', '-z', 'brotli', stdin=b'', code=2)
    assert "'brotli'" in broker.stderr


def test_other_programs_open_what_we_wrote(broker):
    wanted = lines(3000)
    broker.run('topic', 'create', 't')
    for codec in NUMBERS:
        broker.run('produce', 't', '-z', codec, stdin=b'\n'.join(wanted) + b'\n')
    assert broker.stop() == 0
    got = {number: [] for number in NUMBERS.values()}
    names = {number: name for name, number in NUMBERS.items()}
    for number, blob in stored_batches(broker):
        if number: # the rest are of __producers, or did not get smaller
            got[number] += records_values(READERS[names[number]](blob))
    for name, number in NUMBERS.items():
        assert got[number] == wanted, name


@pytest.mark.parametrize('writer', WRITERS)
def test_we_open_what_other_programs_wrote(broker, writer):
    codec, pack = WRITERS[writer]
    wanted = lines(5000)
    broker.run('topic', 'create', 't')
    connection = Connection(broker.addresses['client'])
    producer = connection.init_producer()
    data = batch(wanted, producer, 0, codec=NUMBERS[codec], pack=pack)
    assert connection.produce(connection.groups('t')[0], data)[:2] == (protocol.OK, 0)
    connection.close()
    assert broker.run('consume', 't', '-e').splitlines() == wanted



@pytest.mark.parametrize('codec', ('gzip', 'lz4', 'zstd'))
def test_a_bomb_is_refused_by_the_consumer(broker, codec):
    broker.run('topic', 'create', 't')
    connection = Connection(broker.addresses['client'])
    producer = connection.init_producer()
    data = batch([b'x'], producer, 0, codec=NUMBERS[codec], pack=lambda _: WRITERS[codec][1](bytes(100 << 20)))
    assert connection.produce(connection.groups('t')[0], data)[:2] == (protocol.OK, 0) # brokers do not open batches
    connection.close()
    broker.run('consume', 't', '-e', code=1)
    assert 'too large' in broker.stderr and broker.stderr.count('\n') <= 2, broker.stderr
    broker.run('produce', 't', '-z', codec, stdin=b'after\n')
    assert broker.run('consume', 't', '-e', '-o', '1') == b'after\n' # who starts behind it is not held up


@pytest.mark.parametrize('codec', sorted(NUMBERS))
def test_noise_under_a_codec_is_refused_by_the_consumer(broker, codec):
    broker.run('topic', 'create', 't')
    connection = Connection(broker.addresses['client'])
    producer = connection.init_producer()
    data = batch([b'x'], producer, 0, codec=NUMBERS[codec], pack=lambda _: bytes(range(1, 200)))
    assert connection.produce(connection.groups('t')[0], data)[:2] == (protocol.OK, 0)
    connection.close()
    broker.run('consume', 't', '-e', code=1)
    assert 'malformed' in broker.stderr, broker.stderr
