"""The admin pages of a real broker: health, counters that count, JSON that agrees with the command."""
import json
import re
import signal
import subprocess
import time

from harness import wait_for


def test_health_follows_the_broker(broker):
    assert broker.http('/health/live') == (200, 'alive\n')
    assert broker.http('/health/ready') == (200, 'ready\n')
    assert broker.http('/nothing')[0] == 404


def test_counters_count(broker):
    broker.run('topic', 'create', 't', '-p', '2')
    broker.run('produce', 't', stdin=b''.join(b'%d\n' % n for n in range(1000)))
    assert broker.metric('produce_records_total') == 1000
    assert broker.metric('topic_produced_records_total', '{topic="t"}') == 1000
    assert broker.metric('wal_written_bytes_total') > 0 and broker.metric('wal_sync_seconds_count') > 0
    assert broker.metric('elections_total') == broker.metric('leaders_elected_total') == broker.metric('leaders')
    broker.consume('t')
    assert broker.metric('fetch_bytes_total') == broker.metric('produce_bytes_total') > 4000
    wait_for(lambda: broker.metric('segment_written_bytes_total') > 4000, 'the segment to be written')
    wait_for(lambda: broker.metric('timeout_entries_applied_total') >= 1, 'a TIMEOUT entry after the traffic')
    proposed = broker.metric('timeout_entries_proposed_total')
    wait_for(lambda: broker.metric('timeout_entries_applied_total') >= proposed, 'each to be applied')
    before = broker.metric('wal_written_bytes_total')
    time.sleep(2.5) # more than two intervals: an idle log does not grow
    assert broker.metric('timeout_entries_proposed_total') <= proposed + 2
    assert broker.metric('wal_written_bytes_total') <= before + 3 * 8192


def test_metrics_are_prometheus_text(broker):
    broker.run('topic', 'create', 't')
    text = broker.http('/metrics')[1]
    typed = set()
    for line in text.splitlines():
        match = re.fullmatch(r'# TYPE (flotilla_\w+) (counter|gauge|histogram)', line)
        if match:
            assert match.group(1) not in typed
            typed.add(match.group(1))
            assert (match.group(2) == 'counter') == match.group(1).endswith('_total')
        elif not line.startswith('# HELP '):
            name = re.fullmatch(r'(flotilla_\w+)(\{[^}]*\})? [0-9.e+-]+', line).group(1)
            assert name in typed or re.sub('_(bucket|sum|count)$', '', name) in typed


def test_json_agrees_with_the_command(broker):
    broker.run('topic', 'create', 't', '-p', '3', '-c', 'segment_bytes=2MiB')
    broker.run('produce', 't', '-p', '1', stdin=b'a\nb\n')
    told = json.loads(broker.run('topic', 'describe', 't', '--json'))
    shown = next(topic for topic in broker.json('/v1/topics') if topic['name'] == 't')
    assert shown.pop('internal') is False
    assert shown == told
    assert [p['high_watermark'] for p in shown['partitions']] == [0, 2, 0]
    rows = [p for p in broker.json('/v1/partitions') if p['topic'] == 't']
    for number, row in enumerate(rows):
        assert (row['partition'], row['role'], row['leader'], row['state']) == (number, 'leader', 1, 'live')
    assert all(p['commit_index'] == p['applied_index'] > 0 for p in rows)
    cluster = broker.json('/v1/cluster')
    assert cluster['brokers'][0]['client'] == broker.addresses['client'] and cluster['damaged'] == 0


def test_closed_pipe_ends_quietly(broker):
    broker.run('topic', 'create', 't')
    broker.run('produce', 't', stdin=b'line\n' * 200000)
    consumer = broker.popen('consume', 't', '-e', stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    head = subprocess.run(['head', '-n', '3'], stdin=consumer.stdout, stdout=subprocess.PIPE)
    consumer.stdout.close()
    assert head.stdout == b'line\n' * 3
    assert consumer.wait(60) == 0


def test_a_stopping_broker_answers_what_it_took(broker):
    broker.run('topic', 'create', 't')
    producer = broker.popen('produce', 't', '--timeout', '60', stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    producer.stdin.write(b''.join(b'%d\n' % n for n in range(100000)))
    producer.stdin.flush()
    broker.process.send_signal(signal.SIGTERM)
    assert broker.end() == 0
    broker.start()
    error = producer.communicate()[1].decode()
    assert producer.returncode == 0 and 'produced 100000 records' in error, error
    assert [value for _, _, value in broker.consume('t')] == [str(n) for n in range(100000)]
