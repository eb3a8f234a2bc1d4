"""Writes the seeds that are scripts or rows rather than recordings: corpus/<target>/seed_<name>. What a run once found
lies beside them and is not touched. Run it after a target's input format has changed."""
import gzip
import os
import re
import struct
import zlib

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


# --- codec: every message of proto/, small and at its bounds; the first byte is its place in the tables of codec.h ---

def messages():
    """Message name -> [(type, field number, name)], and (message, field) -> the most bytes or items of a field."""
    found, bounds = {}, {}
    folder = os.path.join(HERE, '..', '..', 'proto')
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name)) as file:
            content = file.read()
        if name.endswith('.proto'):
            for message, body in re.findall(r'^message (\w+) \{(.*?)^\}', content, re.M | re.S):
                fields = re.findall(r'^  (?:optional |repeated )?(\w+) (\w+) = (\d+);', body, re.M)
                found[message] = [(kind, int(place), field) for kind, field, place in fields]
        elif name.endswith('.options'):
            for path, bound in re.findall(r'^(\w+\.\w+) +max_(?:length|size|count):(\d+)', content, re.M):
                bounds[path] = int(bound)
    return found, bounds


def encode(name, found, bounds, large):
    out = b''
    for kind, place, field in found[name]:
        bound = bounds.get('%s.%s' % (name, field))
        if kind in found:
            body = encode(kind, found, bounds, large)
            out += text(place, body)
        elif kind in ('string', 'bytes'):
            fixed = kind == 'bytes'
            out += text(place, b'n' * (bound if large or fixed else 3))
        elif bound is not None:
            out += text(place, b''.join(varint(2 ** 64 - 1 if large else i) for i in range(bound if large else 2)))
        else:
            bits = 1 if kind == 'bool' else 32 if kind.endswith('32') else 64
            out += number(place, 2 ** bits - 1 if large else 1)
    return out


def codec():
    found, bounds = messages()
    with open(os.path.join(HERE, '..', '..', 'src', 'wire', 'codec.h')) as file:
        table = re.findall(r'^ +X\(\w+, (\w+)\)', file.read(), re.M)
    nested = {kind for fields in found.values() for kind, _, _ in fields if kind in found}
    missing = set(found) - set(table) - nested
    assert not missing, 'fuzz_codec does not see %s' % missing
    seeds = {}
    for place, name in enumerate(table):
        for large in (False, True):
            body = encode(name, found, bounds, large)
            row = varint(len(body)) + body if name.endswith('Row') and name != 'ProducerRow' else body
            seeds['%s_%s' % (name, 'large' if large else 'small')] = bytes([place]) + row
    return seeds


# --- peer: rows of Raft messages and the payload behind them; byte 0: put right CRCs in ---

def raft_row(kind, values=(), runs=(), fields=((2, 1), (3, 5), (4, 6), (5, 7))):
    body = number(1, kind) + b''.join(number(place, value) for place, value in fields)
    body += text(13, b''.join(varint(term) for term, _ in runs)) + text(14, b''.join(varint(n) for _, n in runs))
    body += text(15, b''.join(varint(len(v)) for v in values)) + text(16, bytes([3] * len(values)))
    return varint(len(body)) + body


def peer():
    def framed(rows, payload=b''):
        return b'\1' + struct.pack('<H', len(rows)) + rows + payload
    beat, values = raft_row(5), (b'alpha', b'', b'gamma')
    append = raft_row(3, values, ((7, 2), (9, 1)))
    return {
        'beats': framed(beat * 3),
        'append': framed(append, b'alphagamma'),
        'mixed': framed(beat + append + raft_row(33) + raft_row(3, (b'z',), ((1, 1),)), b'alphagammaz'),
        'too_little': framed(append, b'alpha'),
        'too_much': framed(append, b'alphagammadelta'),
        'runs_differ': framed(raft_row(3, values, ((7, 2),)), b'alphagamma'),
    }


# --- connection: instructions for four clients ---

# --- snapshot: byte 0 options (1: rows, 2: right CRCs); a frame: size of its message, message, payload; or the rows ---

def snapshot():
    def framed(values, payload=b''):
        message = b''.join(number(field, value) for field, value in values)
        return bytes([2, len(message)]) + message + payload

    def rows(*found):
        out = b'FLTP' + (1).to_bytes(2, 'little') + bytes(2) + (7).to_bytes(8, 'little')
        for key, value in found:
            stored = value + bytes(4)
            out += len(key).to_bytes(2, 'little') + len(stored).to_bytes(4, 'little') + key + stored
        return bytes([3]) + out

    def key(kind, *numbers):
        return kind + (7).to_bytes(8, 'big') + b''.join(n.to_bytes(8, 'big') for n in numbers)

    who = [(2, 99), (3, 7), (4, 1), (5, 2)]
    group = (2).to_bytes(2, 'little') + bytes([1]) + bytes(269)
    segment = (2).to_bytes(2, 'little') + bytes(6) + b''.join(n.to_bytes(8, 'little') for n in (10, 500)) + bytes(40)
    done = (1).to_bytes(2, 'little') + bytes(126)
    return {
        'offer': framed([(1, 1)] + who + [(6, 3), (7, 40), (8, 2), (9, 5000), (10, 1)]),
        'have_it': framed([(1, 2)] + who),
        'want': framed([(1, 3)] + who + [(11, 1), (12, 100), (13, 777), (14, 1 << 20)]),
        'chunk': framed([(1, 4)] + who + [(13, 777)], b'payload'),
        'end': framed([(1, 6)] + who + [(16, 11)]),
        'rows': rows((key(b'G'), group), (key(b'M', 0), segment), (key(b'E', 1), (1).to_bytes(2, 'little') + bytes(14)),
                     (key(b'D', 5), done), (key(b'S') + b'k', b'value')),
        'rows_twice': rows((key(b'G'), group), (key(b'G'), group)),
        'rows_backwards': rows((key(b'G'), group), (key(b'D', 5), done), (key(b'D', 4), done)),
    }


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
    scripts = {
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
        'short_of_memory': op(7, 0, 200, 3) + produce(0, flags=0x40, value=255, records=7) * 6 + fetch(1) * 9
                           + op(7, 1, 255, 3) + produce(1, flags=0x40, value=255, records=7) * 3,
        'retention': other(0, CREATE, 1, 0x85) + pause(18) + produce(0, group=1, flags=0x40, value=255, records=7) * 9,
        'death': produce(0) + produce(0) + pause(12) + produce(1) + op(6, 0, 250) + produce(0) + pause(14)
                 + op(6, 0, 251) + fetch(2, 0),
        'death_of_topics': other(0, CREATE, 1, 2) + pause(8) + op(6, 0, 251) + other(1, DELETE, 1) + op(6, 0, 250)
                           + other(2, CREATE, 1, 2) + pause(20) + other(0, INIT, 1) + pause(9) + op(6, 0, 251),
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
    return {name: bytes([name.startswith('death') + 2 * name.startswith('short')]) + script
            for name, script in scripts.items()}


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


# --- meta: rows for the decoders, or instructions over a store ---

def meta():
    done = struct.pack('<HhB3xq32x', 1, 3, 2, 77) + struct.pack('<iiq', 0, 4, 9)
    done += struct.pack('<iiq', 5, 5, 14) + bytes(48)
    group = (struct.pack('<HBBIQQQQQqqqQqqqQQI', 2, 1, 0, 1, 5, 7, 5, 90, 7, 40, 10, 99, 1 << 20, -1, -1, -1, 0, 0, 0)
             + bytes(4) + struct.pack('<QQ', 5, 1) + bytes(96) + bytes(32))
    segment_row = struct.pack('<HxxIqQQIxxxxqqq', 2, 5, 20, 999, 3, 0xabcd, 70, 60, 61) + b'tails'
    row = lambda kind, value, number=7: bytes([0, 'GMEDSB'.index(kind)]) + struct.pack('>Q', number) + value
    picture = lambda group, seed: bytes([group << 3, seed, 3, 2, 4, 3])
    return {
        'done': row('D', done),
        'done_wrapped': row('D', done[:48] + struct.pack('<iiq', 2 ** 31 - 2, 1, 9) + done[64:]),
        'group': row('G', group),
        'segment': row('M', segment_row),
        'epoch': row('E', struct.pack('<Hxxxxxxq', 1, 55)),
        'identity': row('B', struct.pack('<Hxxxxxx16sQ16sQ', 1, b'c' * 16, 1, b'd' * 16, 9)),
        'pictures': bytes([1]) + picture(0, 1) + picture(1, 2) + picture(0, 7) + picture(3, 9),
        'flipped': bytes([1]) + picture(0, 1) + picture(1, 2) + bytes([3, 5, 0, 9])
                   + bytes([3, 1, 0, 70]) + bytes([6]),
        'removed': bytes([1]) + picture(0, 1) + picture(1, 2) + bytes([4, 4]) + picture(0, 3) + bytes([4, 1]),
        'foreign_rows': bytes([1]) + picture(2, 1) + bytes([1 | 2 << 3, 3, 9, 255, 4, 8])
                        + bytes([2 | 1 << 3, 2, 3, 2, 1, 1]),
        'deleted_group': bytes([1]) + picture(0, 1) + bytes([4, 0]) + bytes([5]) + picture(0, 4),
        'odd_keys': bytes([1]) + picture(0, 1) + bytes([7, 3]) + b'Gab' + bytes([7, 10]) + b'M' + bytes(7) + b'\1x',
    }


# --- registry: instructions ---

def registry():
    record = (text(1, b'i' * 16) + text(2, b'ab') + number(3, 2) + number(4, 1) + number(5, 3) + number(6, 9)
              + number(7, 9) + number(8, 1 << 20) + number(9, -1) + number(10, -1) + number(11, -1)
              + number(12, 1 << 20) + number(13, 1))
    put = lambda which, *arguments: bytes([3 | which << 3]) + bytes(arguments)
    row = lambda kind, key, value: bytes([1, 'ndlt'.index(kind), len(key)]) + key + bytes([len(value)]) + value
    return {
        'topic_row': bytes([0 | 1 << 3, len(record)]) + record + bytes([7]),
        'foreign_name': bytes([0, len(record)]) + record + bytes([7, 4]),
        'put_and_delete': put(0, 1, 0, 2, 5) + put(1, 1, 1, 1, 200) + bytes([7, 4, 7])
                          + put(0, 1, 0, 3, 6),
        'younger_topic': put(2, 1, 0, 2, 5) + bytes([4 | 2 << 3]) + put(2, 0, 0, 2, 9) + bytes([7, 4 | 2 << 3]),
        'flipped': put(0, 1, 0, 2, 5) + bytes([2, 0, 33]) + bytes([7, 4, 7]),
        'ids': bytes([5, 9, 5, 0, 5, 255]),
        'counter_at_the_end': row('n', b'', struct.pack('<HxxxxxxQ', 1, 2 ** 64 - 3)) + bytes([5, 1, 5, 1]),
        'counter_of_a_later_version': row('n', b'', struct.pack('<HxxxxxxQ', 2, 7)) + bytes([5, 1]),
        'leaders': bytes([6, 3, 9, 6, 3, 4]) + put(0, 1, 0, 4, 1) + bytes([4, 6, 2, 20, 7]),
        'marks': row('d', struct.pack('>Q', 9), b'x') + bytes([6, 8, 1]) + row('d', b'odd', b'') + bytes([7]),
        'leader_row': row('l', struct.pack('>Q', 4), struct.pack('<HxxxxxxQQ', 1, 1, 2 ** 63)) + bytes([6, 3, 1]),
    }


# --- admin: the sizes of pieces, then a request ---

def admin():
    get = b'GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n'
    pieces = bytes([5, 1, 2, 3, 4, 9])
    return {
        'get': b'\0' + get,
        'pieces': pieces + get,
        'twice': pieces + get * 2,
        'head': b'\0HEAD /health?x=1#y HTTP/1.0\r\n\r\n',
        'post': b'\0POST /topics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc',
        'chunked': b'\0GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
        'upgrade': b'\0GET / HTTP/1.1\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n',
        'connect': b'\0CONNECT a:1 HTTP/1.1\r\n\r\n',
        'absolute': b'\0GET http://a:1/b?c HTTP/1.1\r\n\r\n',
        'long_path': b'\0GET /' + b'x' * 1100 + b' HTTP/1.1\r\n\r\n',
        'long_header': b'\0GET / HTTP/1.1\r\nA: ' + b'b' * 5000,
        'noise': b'\0\x16\x03\x01\x02\0\x01\0',
        'http_2': b'\0PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
    }


# --- config: files ---

def config():
    return {
        'small': b'[broker]\nid = 7\ndata = /var/lib/flotilla\n[topic]\nreplicas = 3\nretention_ms = 7d\n',
        'units': b'64 MiB\n[topic]\nsegment_bytes=64MiB\nretention_bytes=-1\n[wal]\nfile_bytes=16 MiB\n'
                 b'budget_bytes=1GiB\n',
        'listeners': b'[listen]\nclient = in=10.0.0.1:9640, out=[::1]:9641\n'
                     b'peer = 0.0.0.0:9\n[advertise]\nclient = a:1\n',
        'unknown': b'[broker]\nname = x\n[nowhere]\nid = 1\nno equals sign\n',
        'comments': b'; a\n# b\n[log]\nlevel = debug ; c\n\xef\xbb\xbf[raft]\nelection_ms: 900\n',
        'continued': b'[broker]\ndata = /a\n  /b\nrack = r\n\tmore\n',
        'bounds': b'[broker]\nid=0\n[topic]\npartitions=10001\nsegment_bytes=18446744073709551615TiB\n'
                  b'auto_create=yes\n',
        'long_line': b'[broker]\ndata = ' + b'x' * 400 + b'\nrack = y\n',
        'no_newline': b'[limits]\nconnections = 99999999999999999999',
        'nul': b'[broker]\nid = 3\0 4\n\0\nrack=a\0b\n',
        'durations': b'7 d\n[topic]\nsegment_ms=1h\n[raft]\nheartbeat_ms=50 ms\nelection_ms=1 s\n'
                     b'producer_expiry_ms=1min\n',
    }


# --- text: what, then the text ---

def texts():
    kinds = {
        'name': (0, [b'a', b'.', b'..', b'...', b'__producers', b'x' * 249, b'x' * 250, b'a/b', b'\xc3\xa4']),
        'number': (1, [b'0', b'64MiB', b'1 GiB', b'-1', b'18446744073709551615', b'9007199254740993',
                       b'1.5KiB', b'7d']),
        'seconds': (2, [b'30', b'0.5', b'.001', b'4000000', b'1e3', b'0x10']),
        'time': (3, [b'1700000000000', b'2023-11-14T22:13:20Z', b'2023-11-14 22:13:20.123+02:00', b'-1h', b'-7d',
                     b'0000-01-01T00:00:00Z', b'9999-12-31T23:59:60-23:59']),
        'unescape': (4, [b'a\\n\\t\\\\', b'\\x41\\x4', b'\\', b'\\q']),
        'format': (5, [b'%o %t[%p] %k: %s\\n\0\x04keyvalue', b'%S %K %h %T%%\0\x06', b'%', b'%x', b'%s' * 70]),
        'json': (6, [b'\x04key and a value', b'\x06\xff\xfe\0', b'', b'\x01only a value', b'\x02only a key']),
    }
    return {'%s_%d' % (kind, i): bytes([what]) + text for kind, (what, list_) in kinds.items()
            for i, text in enumerate(list_)}


# --- compress: codec and options, the cap, then a blob or a recipe ---

def compress():
    GZIP, SNAPPY, LZ4, ZSTD = range(1, 5)
    plain = b'one record and another record and one record' * 3
    raw = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = raw.compress(plain) + raw.flush()
    tail = struct.pack('<II', zlib.crc32(plain), len(plain))
    member = b'\x1f\x8b\x08\0\0\0\0\0\0\x03' + body + tail
    named = b'\x1f\x8b\x08\x1e\0\0\0\0\0\x03' + struct.pack('<H', 2) + b'xx' + b'name\0why\0' + b'\0\0' + body + tail
    literal = bytes([44, 43 << 2]) + plain[:44] + bytes([0x5a, 44])
    java = b'\x82SNAPPY\0' + struct.pack('>II', 1, 1) + struct.pack('>I', len(literal)) + literal
    lz4 = b'\x04\x22\x4d\x18\x60\x40\x82' + struct.pack('<I', 1 << 31 | 5) + b'hello' + bytes(4)
    zstd = b'\x28\xb5\x2f\xfd\x20\x05' + b'\x29\0\0' + b'hello'
    bomb = gzip.compress(bytes(1 << 18), 9, mtime=0)
    seeds = {'gzip': bytes([GZIP, 16]) + member, 'gzip_fields': bytes([GZIP, 16]) + named,
             'gzip_twice': bytes([GZIP, 16]) + member * 2, 'gzip_bomb': bytes([GZIP, 10]) + bomb,
             'snappy_raw': bytes([SNAPPY, 16]) + literal, 'snappy_java': bytes([SNAPPY, 16]) + java,
             'snappy_lies': bytes([SNAPPY, 10]) + b'\xff\xff\xff\xff\x0f' + literal[1:], 'lz4': bytes([LZ4, 16]) + lz4,
             'lz4_cut': bytes([LZ4, 16]) + lz4[:-2], 'zstd': bytes([ZSTD, 16]) + zstd,
             'zstd_window': bytes([ZSTD, 10]) + b'\x28\xb5\x2f\xfd\0\xff' + b'\x29\0\0hello', 'none': b'\0\4plain',
             'unknown': bytes([7, 9]) + b'?'}
    recipe = bytes([200, 65, 129, 3, 255, 0, 60, 9, 255, 7])
    for codec in range(5):
        seeds['recipe_%d' % codec] = bytes([codec | 8, 17]) + recipe
        seeds['recipe_flipped_%d' % codec] = bytes([codec | 8 | 2 << 4, 17]) + b'\0\7\x10\1\2\x80' + recipe
    return seeds


if __name__ == '__main__':
    write('connection', connection())
    write('segment', segment())
    write('meta', meta())
    write('registry', registry())
    write('admin', admin())
    write('codec', codec())
    write('peer', peer())
    write('snapshot', snapshot())
    write('compress', compress())
    write('config', config())
    write('text', texts())
