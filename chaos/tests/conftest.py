"""What several test files need."""

from __future__ import annotations

import psycopg
import pytest
from confluent_kafka import KafkaException

from chaos.servers import Servers

ANSWER_SECONDS = 60


@pytest.fixture(scope="session")
def needs_servers() -> None:
    """Fails, rather than skips, where no servers answer."""
    servers = Servers()
    try:
        servers.admin.list_topics(timeout=ANSWER_SECONDS)
        psycopg.connect(servers.database_url, connect_timeout=ANSWER_SECONDS).close()
    except (KafkaException, psycopg.Error) as error:
        pytest.fail(f"no servers, run ./dev up: {error}", pytrace=False)
