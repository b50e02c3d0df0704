"""The proxy before real servers: what a cut means to PostgreSQL and to Kafka.

They fail where no servers answer; `./dev test` starts them first.
"""

from __future__ import annotations

import os

import psycopg
import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from chaos.proxy import Cut, Hold, Proxy, Slice
from chaos.servers import Servers

from .fake_processor import wait_for_markers

pytestmark = pytest.mark.usefixtures("needs_servers")
WAIT_SECONDS = 120.0
NAME = f"chaos-proxy-{os.getpid()}"


@pytest.fixture(scope="module")
def servers() -> Servers:
    return Servers()


# -- PostgreSQL ----------------------------------------------------------------------------------------------------------


@pytest.fixture()
def postgres(servers: Servers):
    made = Proxy.of_postgres(servers.database_url)
    name = NAME.replace("-", "_")
    url = servers.create_database(name)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE t (x int)")
    made.direct, made.url = url, made.through(url)
    yield made
    made.close()
    servers.drop_database(name)
    assert made.faults == []


def insert(proxy: Proxy) -> None:
    with psycopg.connect(proxy.url) as connection:
        connection.execute("INSERT INTO t VALUES (%s)", [1])


def rows(proxy: Proxy) -> int:
    with psycopg.connect(proxy.direct) as connection:
        return connection.execute("SELECT count(*) FROM t").fetchone()[0]


def test_a_commit_passes_also_in_slices(postgres: Proxy) -> None:
    for kind in ("startup", "INSERT", "COMMIT", "COMMIT reply"):
        postgres.add(kind, Slice())
    insert(postgres)
    assert rows(postgres) == 1
    assert postgres.book.seen["COMMIT"] == postgres.book.seen["COMMIT reply"] == 1
    assert sum(postgres.book.hits.values()) == 4


def test_a_commit_cut_before_it_arrives_and_after_it_took_effect_look_the_same(postgres: Proxy) -> None:
    for kind, due in (("COMMIT", 0), ("COMMIT reply", 1)):
        rule = postgres.add(kind, Cut())
        with pytest.raises(psycopg.OperationalError):
            insert(postgres)
        assert rule.hit.is_set()
        assert rows(postgres) == due


def test_a_held_commit_takes_effect_when_its_client_has_gone(postgres: Proxy) -> None:
    rule = postgres.add("COMMIT", Hold())
    connection = psycopg.connect(postgres.url)
    connection.execute("INSERT INTO t VALUES (1)")
    connection.pgconn.send_query(b"COMMIT")
    assert rule.hit.wait(WAIT_SECONDS)
    connection.pgconn.finish()
    assert rows(postgres) == 0
    rule.release()
    assert rule.answered.wait(WAIT_SECONDS)
    assert (rule.answer, rows(postgres)) == ("COMMIT", 1)


# -- Kafka ---------------------------------------------------------------------------------------------------------------


@pytest.fixture()
def kafka(servers: Servers, request):
    made = Proxy.of_kafka(servers.bootstrap)
    made.topic = f"{NAME}-{len(request.node.name)}"
    servers.create_topic(made.topic, 1)
    yield made
    made.close()
    servers.delete_topics([made.topic])
    assert made.faults == []


def producer(proxy: Proxy) -> Producer:
    """Why so patient: a busy broker must not make the client ask twice. That a connection was cut it sees at once."""
    patient = {name: int(WAIT_SECONDS) * 1_000 for name in ("transaction.timeout.ms", "socket.timeout.ms")}
    made = Producer({"bootstrap.servers": proxy.address, "log_level": 0, "transactional.id": proxy.topic, **patient})
    made.init_transactions(WAIT_SECONDS)
    made.begin_transaction()
    made.produce(proxy.topic, value=b"x", partition=0)
    return made


def committed(servers: Servers, topic: str) -> int:
    """How many messages a read-committed reader finds before the end of the log, once nothing in it is open."""
    wait_for_markers(servers.admin, topic, 1)
    consumer = Consumer(
        {"bootstrap.servers": servers.bootstrap, "group.id": topic, "isolation.level": "read_committed",
         "enable.partition.eof": True, "enable.auto.commit": False, "log_level": 0}
    )  # fmt: skip
    consumer.assign([TopicPartition(topic, 0, 0)])
    found = 0
    while message := consumer.poll(WAIT_SECONDS):
        if message.error() is None:
            found += 1
        elif message.error().code() == KafkaError._PARTITION_EOF:
            consumer.close()
            return found
    raise TimeoutError(f"the end of {topic} was not reached, {found} messages were")


def test_every_connection_comes_through_and_a_transaction_commits(servers: Servers, kafka: Proxy) -> None:
    for kind in ("Metadata", "Metadata reply", "InitProducerId", "EndTxn", "EndTxn reply"):
        kafka.add(kind, Slice())
    producer(kafka).commit_transaction(WAIT_SECONDS)
    assert committed(servers, kafka.topic) == 1
    for kind in ("InitProducerId", "AddPartitionsToTxn", "Produce", "EndTxn"):
        assert kafka.book.seen[kind] == kafka.book.seen[f"{kind} reply"] >= 1, kind
    # Why no more: the client asks for its coordinator again on a connection that it then closes, or waits for no answer.
    assert kafka.book.seen["FindCoordinator reply"] >= 1
    assert kafka.book.answers["EndTxn reply: ok"] == 1


def test_a_lost_end_is_repeated_by_the_client_and_takes_effect_once(servers: Servers, kafka: Proxy) -> None:
    before, after = kafka.add("EndTxn", Cut()), kafka.add("EndTxn reply", Cut())
    producer(kafka).commit_transaction(WAIT_SECONDS)
    assert (before.answer, after.answer) == ("lost", "ok")
    assert kafka.book.seen["EndTxn"] == 3
    assert committed(servers, kafka.topic) == 1


def test_an_end_released_after_a_new_producer_of_the_same_name_is_refused(
    servers: Servers, kafka: Proxy
) -> None:
    rule = kafka.add("EndTxn", Hold(until="AddPartitionsToTxn"))
    first = producer(kafka)
    first.flush(WAIT_SECONDS)
    with pytest.raises(KafkaException):
        first.commit_transaction(1.0)
    assert rule.hit.wait(WAIT_SECONDS)
    second = producer(kafka)
    second.commit_transaction(WAIT_SECONDS)
    assert rule.answered.wait(WAIT_SECONDS)
    assert rule.answer not in ("ok", "answered", "connection closed")
    assert committed(servers, kafka.topic) == 1
