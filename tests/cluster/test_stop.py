"""A clean stop ends in time whatever clients are doing."""
import protocol
from harness import wait_for

FETCHES = 900


def test_stop_under_waiting_reads(make_broker):
    """Reads that end while the broker stops must not begin to wait for more data."""
    broker = make_broker().start()
    broker.run('topic', 'create', 't')
    broker.run('produce', 't', stdin=b'%s\n' % (b'x' * 1000) * 5000)
    assert broker.stop() == 0
    broker.start() # now the records are in the segment, not in memory
    connection = protocol.Connection(broker.addresses['client'])
    group = connection.groups('t')[0]
    for _ in range(FETCHES):
        connection.ask(protocol.FETCH, {1: group, 2: 0, 3: 1 << 20, 4: 1 << 30, 5: 60000})
    wait_for(lambda: broker.metric('fetch_requests_total') >= FETCHES, 'the fetches to arrive')
    assert broker.stop() == 0 # and it was clean
    connection.close()
