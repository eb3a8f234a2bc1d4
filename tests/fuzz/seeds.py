"""Writes the seeds that are scripts or rows rather than recordings: corpus/<target>/seed_<name>. What a run once found
lies beside them and is not touched. Run it after a target's input format has changed."""
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))


def write(target, seeds):
    folder = os.path.join(HERE, 'corpus', target)
    os.makedirs(folder, exist_ok=True)
    for name, data in seeds.items():
        with open(os.path.join(folder, 'seed_' + name), 'wb') as file:
            file.write(data)


# --- protobuf and frames, as far as scripts need them ---

def varint(number):
    number &= (1 << 64) - 1
    out = b''
    while number >= 0x80:
        out += bytes([number & 0x7f | 0x80])
        number >>= 7
    return out + bytes([number])


def number(field, value):
    return varint(field << 3) + varint(value)


def text(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


# --- connection: instructions for four clients ---

def op(code, client, *arguments):
    return bytes([code | client << 3]) + bytes(arguments)


def frame(client, kind, request, proto=b'', payload=b''):
    return op(1, client, kind, request, len(proto)) + proto + bytes([len(payload)]) + payload


def produce(client, acks=2, producer=None, epoch=0, sequence=0, records=2, value=9, group=0, flags=0):
    flags |= acks | group << 4 | (0 if producer is None else 4)
    return op(2, client, flags, producer or 0, epoch, sequence, records, value)


def fetch(client, offset=0, wait=0, bytes_max=255, group=0):
    return op(3, client, group, offset & 255, wait, bytes_max)


def pause(n=10):
    return op(5, 0, n)


HELLO, METADATA, LIST, CREATE, DELETE, INIT = range(6)


def other(client, which, one=0, two=0):
    return op(4, client, which, one, two)


def connection():
    window = b''.join(produce(0, producer=1, sequence=3 * i) for i in range(5))
    return {
        'honest': other(0, HELLO, 1) + other(0, METADATA) + produce(0) + pause() + fetch(0) + other(0, LIST, 0, 2),
        'window': window + pause(14) + window + pause(14) + produce(0, producer=1, sequence=15),
        'in_flight_twice': produce(0, producer=2) + produce(1, producer=2) + produce(2, producer=2, epoch=1) + pause(),
        'gap': produce(0, producer=1) + produce(0, producer=1, sequence=9) + produce(1, producer=3, sequence=7),
        'acks': produce(0, acks=0) + produce(0, acks=1) + produce(0, acks=3) + produce(0, acks=2),
        'wrong_crc': produce(0, flags=8) + produce(0, flags=0x80, sequence=1) + produce(0),
        'long_values': other(0, HELLO, 1) + b''.join(produce(0, flags=0x40, value=200, records=7) for _ in range(12)),
        'waiting_fetches': fetch(0, 0, 200) + fetch(1, 0, 100) + fetch(2, 5, 20) + pause(16) + produce(3) + pause(16),
        'fetch_and_leave': fetch(0, 0, 200) + op(6, 0, 0) + fetch(1, 0, 200) + op(6, 1, 2) + fetch(2, 0, 9)
                           + op(6, 2, 1),
        'produce_and_leave': produce(0) + op(6, 0, 0) + produce(1) + op(6, 1, 1) + produce(2) + op(6, 2, 2) + pause(14),
        'topics': other(0, CREATE, 1, 2) + other(1, CREATE, 1, 2) + other(2, DELETE, 1) + pause(18)
                  + other(2, DELETE, 1) + other(0, CREATE, 1, 1) + produce(0, group=2),
        'delete_under_load': produce(0) + fetch(1, 1, 99) + other(2, DELETE, 0) + produce(0) + other(2, LIST, 0, 9)
                             + pause(17) + other(3, CREATE, 0, 1) + produce(0),
        'producers': other(0, INIT, 1) + other(1, INIT, 5) + pause(18) + other(0, INIT, 1) + other(2, DELETE, 7),
        'pieces': op(7, 0, 7, 1) + produce(0) + other(0, HELLO, 1) + op(7, 1, 1, 3) + fetch(1) + produce(1),
        'slow_reader': op(7, 0, 0, 2) + produce(0, flags=0x40, value=255, records=7) * 3 + fetch(0) * 6,
        'retention': other(0, CREATE, 1, 0x85) + pause(18) + produce(0, group=1, flags=0x40, value=255, records=7) * 9,
        'bad_frames': op(0, 0, 8) + b'GET / HT' + op(0, 1, 4) + b'\xff\xff\xff\xff' + frame(2, 200, 1) + frame(3, 2, 1),
        'frames': frame(0, 1, 1, number(1, 1) + text(2, b'me')) + frame(0, 3, 2, text(1, b't') + number(2, 1))
                  + frame(0, 5, 3, text(1, b'new') + number(2, 9999) + text(4, number(5, 70) + number(1, 65536)))
                  + frame(0, 11, 4, number(1, 1) + number(2, 1 << 62) + number(3, 1 << 31) + number(5, 1 << 31))
                  + frame(0, 13, 5, number(1, 1) + number(2, -3)) + frame(0, 15, 6, text(1, b'Leader'))
                  + frame(0, 9, 7, number(1, 1) + number(2, 1) + number(3, 1), b'no batch')
                  + frame(0, 7, 8, text(1, b'..')),
        'broken_proto': frame(0, 3, 1, b'\x0a\xff') + frame(0, 9, 2, b'\x08') + frame(0, 5, 3, b'\x0a\x02\xff\xfe')
                        + frame(0, 15, 4, text(1, b'x' * 200) + b'\x0b'),
    }


# --- segment: options, a lie, the first offset, then what the files hold ---

def segment():
    good = bytes([0, 2, 20, 5])
    large = bytes([0, 1, 250, 9])
    index = struct.pack('>II', 3, 400)
    return {
        'good': bytes([0, 0, 0]) + good * 3,
        'two_segments': bytes([0, 0, 2]) + large * 3 + bytes([6, 0]) + good * 2,
        'three_segments': bytes([8, 0, 1]) + large * 4 + bytes([6, 0]) + large * 3 + bytes([6, 0]) + good,
        'high_offsets': bytes([0x20, 0, 1]) + good * 3,
        'old_bytes_behind': bytes([0, 0, 0]) + good * 2 + bytes([7, 0]) + good * 2,
        'flipped': bytes([0, 0, 0]) + good + bytes([3, 0, 40, 1, 0, 30, 7]) + good,
        'flipped_delta': bytes([0, 0, 0]) + good * 2 + large + bytes([3, 0, 0, 0, 0, 26, 99]),
        'misplaced': bytes([0, 0, 0]) + good + bytes([2, 7, 40, 1]) + bytes([2, 0xf0, 4, 1]) + good,
        'wrong_length': bytes([0, 0, 0]) + good + bytes([4, 0, 40, 1, 200]) + good + bytes([4, 255, 4, 1, 0]),
        'wrong_header': bytes([0, 0, 0]) + good + bytes([5, 23, 40, 1]) + b'\x7f\xff\xff\xff' * 2 + good,
        'noise': bytes([0, 0, 0]) + good + bytes([1, 70]) + bytes(range(70)),
        'missing': bytes([0x10, 0, 0]) + large * 3 + bytes([6, 0]) + good,
        'torn_tail': bytes([4, 0x55, 0]) + large + good * 2,
        'size_lies': bytes([1, 9, 0]) + good * 3,
        'end_lies': bytes([2, 100, 0]) + good * 3,
        'index_lies': bytes([0, 0, 0]) + large * 5 + bytes([8, 16]) + index + struct.pack('>II', 0xffffffff, 1 << 31)
                      + bytes([6, 0]) + good,
        'time_index_lies': bytes([0, 0, 0]) + large * 5 + bytes([9, 12]) + struct.pack('>qI', 7, 3) + bytes([6, 0])
                           + good,
        'odd_index': bytes([0, 0, 0]) + large * 5 + bytes([8, 7]) + bytes(7) + bytes([6, 0]) + good,
    }


if __name__ == '__main__':
    write('connection', connection())
    write('segment', segment())
