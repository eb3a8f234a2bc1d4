"""A second, naive implementation of the client protocol, so that the tests can say what no well-behaved client would:
frames (src/wire/frame.h), protobuf fields (proto/client.proto), RecordBatch v2 (src/base/batch.h)."""
import socket
import struct
import time

HELLO, METADATA, CREATE_TOPIC, DELETE_TOPIC, PRODUCE, FETCH, LIST_OFFSETS, INIT_PRODUCER = 1, 3, 5, 7, 9, 11, 13, 15
ERROR = 255

# enum err, the numbers that travel (src/base/err.h)
OK, INVALID, UNSUPPORTED, UNKNOWN_TOPIC, UNKNOWN_PARTITION = 0, 2, 3, 4, 5
TOO_LARGE, CORRUPT_BATCH, OUT_OF_RANGE, FENCED, OUT_OF_ORDER, STALE, UNKNOWN_PRODUCER = 8, 9, 10, 14, 15, 16, 17
NOT_READY, BUSY, INVALID_TOPIC, STORAGE_FULL, SHUTTING_DOWN, BAD_FRAME = 7, 11, 19, 22, 24, 25


def _crc_table():
    table = []
    for n in range(256):
        for _ in range(8):
            n = n >> 1 ^ (0x82f63b78 if n & 1 else 0)
        table.append(n)
    return table


CRC_TABLE = _crc_table()


def crc32c(data):
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ CRC_TABLE[(crc ^ byte) & 255]
    return crc ^ 0xffffffff


# --- protobuf: a dict of field number -> int or bytes ---

def varint(value):
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def zigzag(value):
    return varint(value << 1 ^ value >> 63)


def message(fields):
    out = b''
    for number, value in fields.items():
        if isinstance(value, bytes):
            out += varint(number << 3 | 2) + varint(len(value)) + value
        else:
            out += varint(number << 3) + varint(value)
    return out


def read_varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def fields(data):
    """Repeated fields: the last one."""
    out, at = {}, 0
    while at < len(data):
        key, at = read_varint(data, at)
        value, at = read_varint(data, at)
        if key & 7 == 2:
            value, at = data[at:at + value], at + value
        elif value >> 63:
            value -= 1 << 64
        out[key >> 3] = value
    return out


# --- frames and batches ---

def frame(kind, request_id, proto, payload=b'', length=None, magic=0x4c46, version=1, crc=None):
    if length is None:
        length = 20 + len(proto) + len(payload)
    head = struct.pack('<IHBBQI', length, magic, version, kind, request_id, len(proto))
    return head + struct.pack('<I', crc32c(head + proto) if crc is None else crc) + proto + payload


def batch(values, producer=(-1, -1), sequence=-1, crc=None, codec=0, pack=bytes):
    """A batch; values: bytes or (key, value). With a codec, pack(records) makes the blob."""
    records = b''
    now = int(time.time() * 1000)
    for i, value in enumerate(values):
        key, value = value if isinstance(value, tuple) else (None, value)
        body = b'\0' + zigzag(0) + zigzag(i)
        for part in (key, value):
            body += zigzag(-1) if part is None else zigzag(len(part)) + part
        body += zigzag(0)
        records += zigzag(len(body)) + body
    sealed = struct.pack('>hiqqqhii', codec, len(values) - 1, now, now, *producer, sequence, len(values))
    sealed += pack(records)
    crc = crc32c(sealed) if crc is None else crc
    return struct.pack('>qiibI', 0, 9 + len(sealed), -1, 2, crc) + sealed


class Closed(Exception):
    """The broker closed the connection."""


class Connection:
    """One connection; request() sends a frame and waits for the reply with its id."""

    def __init__(self, address, timeout_s=20, source='127.0.0.1'):
        host, port = address.rsplit(':', 1)
        self.socket = socket.create_connection((host, int(port)), timeout_s, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b''
        self.next_id = 1

    def close(self):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        """The next frame: (type, request id, fields, payload)."""
        while True:
            if len(self.received) >= 24:
                size = 4 + struct.unpack_from('<I', self.received)[0]
                if len(self.received) >= size:
                    break
            try:
                data = self.socket.recv(1 << 20)
            except ConnectionError:
                raise Closed()
            if not data:
                raise Closed()
            self.received += data
        one, self.received = self.received[:size], self.received[size:]
        _, _, _, kind, request_id, proto_size, _ = struct.unpack_from('<IHBBQII', one)
        return kind, request_id, fields(one[24:24 + proto_size]), one[24 + proto_size:]

    def ask(self, kind, wish, payload=b''):
        request_id = self.next_id
        self.next_id += 1
        self.send(frame(kind, request_id, message(wish), payload))
        return request_id

    def request(self, kind, wish, payload=b''):
        request_id = self.ask(kind, wish, payload)
        got_kind, got_id, reply, body = self.receive()
        assert (got_kind, got_id) == (kind + 1, request_id), (got_kind, got_id, reply)
        return reply, body

    def groups(self, topic):
        """The group id of each partition, by number."""
        reply, body = self.request(METADATA, {1: topic.encode(), 2: 1})
        assert reply.get(1, 0) == OK, reply
        rows, at = [], 0
        while at < len(body):
            size, at = read_varint(body, at)
            rows.append(fields(body[at:at + size]))
            at += size
        return {row.get(1, 0): row[2] for row in rows[reply.get(2, 0) + 1:]}

    def init_producer(self, name=b''):
        end = time.monotonic() + 20
        reply = {1: NOT_READY} # while the partitions of __producers are made or elect
        while reply.get(1, 0) == NOT_READY and time.monotonic() < end:
            reply, _ = self.request(INIT_PRODUCER, {1: name, 2: 10000} if name else {2: 10000})
        assert reply.get(1, 0) == OK, reply
        return reply.get(2, 0), reply.get(3, 0)

    def produce(self, group, data, acks=-1):
        """(status, base offset, duplicate)"""
        reply, _ = self.request(PRODUCE, {1: group, 2: acks << 1 ^ acks >> 63, 3: 10000}, data)
        return reply.get(1, 0), reply.get(2, 0), reply.get(5, 0)
