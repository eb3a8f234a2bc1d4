"""Fixtures of the tests with real processes."""
import shutil

import pytest

from harness import Broker


def pytest_configure(config):
    config.addinivalue_line('markers', 'slow: takes more than a few seconds; left out of ./dev test quick')


@pytest.fixture
def make_broker(tmp_path):
    """make_broker(name, config=...): brokers that are ended with the test."""
    made = []

    def make(name='broker', **options):
        made.append(Broker(tmp_path / name, **options))
        return made[-1]
    yield make
    for broker in made:
        broker.clean_up()
        shutil.rmtree(broker.data, ignore_errors=True) # a broker sets 200 MiB aside, and there are hundreds


@pytest.fixture
def broker(make_broker):
    return make_broker().start()
