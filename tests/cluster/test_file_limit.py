"""Few file descriptors: clients cannot take those that the storage needs."""
import socket

import protocol
from harness import check_dense

LIMIT = 64


def test_connections_never_starve_the_storage(make_broker):
    config = {'wal': {'file_bytes': '1MiB', 'budget_bytes': '4MiB'}, 'raft': {'snapshot_bytes': '1MiB'},
              'topic': {'segment_bytes': '64KiB', 'max_batch_bytes': '64KiB'}}
    broker = make_broker(config=config, wrapper=['sh', '-c', 'ulimit -n %d; exec "$@"' % LIMIT, 'sh']).start()
    broker.run('topic', 'create', 't', '-p', '40')
    producer = protocol.Connection(broker.addresses['client'])
    groups = producer.groups('t')
    host, port = broker.addresses['client'].split(':')
    idle = [socket.create_connection((host, int(port))) for _ in range(2 * LIMIT)]
    acknowledged = 0
    for n in range(200): # six WAL files, and many segments
        status, _, _ = producer.produce(groups[n % 40], protocol.batch([b'%d %s' % (n, b'x' * 30000)]))
        assert status in (protocol.OK, protocol.BUSY)
        acknowledged += status == protocol.OK
    for one in idle:
        one.close()
    producer.close()
    rows = broker.consume('t')
    check_dense(rows)
    assert acknowledged > 100 and len(rows) == acknowledged
    assert broker.stop() == 0
