"""Bytes to messages, in any portions."""

from __future__ import annotations

import struct

import pytest

from chaos.proxy.framing import ProtocolFault
from chaos.proxy.kafka import KafkaFraming
from chaos.proxy.postgres import PostgresFraming

UPSTREAM, PORT = ("127.0.0.1", 29092), 40000


def kafka() -> KafkaFraming:
    return KafkaFraming(UPSTREAM, PORT)


def request(api: int, number: int, version: int = 0, body: bytes = b"") -> bytes:
    data = struct.pack(">hhi", api, version, number) + b"\xff\xff" + body
    return struct.pack(">i", len(data)) + data


def reply(number: int, body: bytes = b"") -> bytes:
    data = struct.pack(">i", number) + body
    return struct.pack(">i", len(data)) + data


def shown(messages: list) -> list[tuple[str, str | None]]:
    return [(message.kind, message.answer) for message in messages]


def in_bytes(split, data: bytes) -> list:
    return [message for at in range(len(data)) for message in split(data[at : at + 1])]


@pytest.mark.parametrize("portion", [lambda split, data: split(data), in_bytes])
def test_kafka_requests_and_replies_in_any_portions(portion) -> None:
    framing = kafka()
    sent = request(18, 1) + request(26, 2, 1, b"x" * 9) + request(0, 3)
    messages = portion(framing.client, sent)
    assert [one.kind for one in messages] == ["ApiVersions", "EndTxn", "Produce"]
    assert b"".join(one.data for one in messages) == sent
    assert framing.waiting()
    answered = reply(1) + reply(2, struct.pack(">ih", 0, 0)) + reply(3, b"abc")
    messages = portion(framing.server, answered)
    assert shown(messages) == [("ApiVersions reply", None), ("EndTxn reply", "ok"), ("Produce reply", None)]
    assert b"".join(one.data for one in messages) == answered
    assert not framing.waiting()


@pytest.mark.parametrize(
    ("api", "version", "body", "due"),
    [
        (26, 1, struct.pack(">ih", 0, 47), "INVALID_PRODUCER_EPOCH"),
        (26, 3, b"\0" + struct.pack(">ih", 0, 90), "PRODUCER_FENCED"),
        (22, 1, struct.pack(">ihqh", 0, 0, 7, 0), "ok"),
        (22, 4, b"\0" + struct.pack(">ihqh", 0, 51, 7, 0), "CONCURRENT_TRANSACTIONS"),
        (28, 2, struct.pack(">iih2siihih", 0, 1, 2, b"ab", 2, 0, 0, 1, 22), "ILLEGAL_GENERATION"),
        (28, 2, struct.pack(">iih2siih", 0, 1, 2, b"ab", 1, 0, 0), "ok"),
        (28, 3, b"\0\0\0\0\0" + b"\x02\x03ab\x03" + b"\0\0\0\0\0\0\0" + b"\0\0\0\1\0\x19\0" + b"\0\0", "UNKNOWN_MEMBER_ID"),
    ],
)  # fmt: skip
def test_errors_of_transaction_replies(api: int, version: int, body: bytes, due: str) -> None:
    framing = kafka()
    framing.client(request(api, 5, version))
    (message,) = framing.server(reply(5, body))
    assert message.answer == due


def test_only_replies_that_tell_the_brokers_address_are_rewritten() -> None:
    framing = kafka()
    there, here = (b"127.0.0.1" + struct.pack(">i", port) for port in (29092, PORT))
    for api, due in ((3, here), (10, here), (1, there), (0, there)):
        framing.client(request(api, 9))
        (message,) = framing.server(reply(9, b"\0\x09" + there + b"\0"))
        assert message.data == reply(9, b"\0\x09" + due + b"\0")


@pytest.mark.parametrize("data", [reply(1), struct.pack(">i", -1), struct.pack(">i", 1 << 30)])
def test_what_kafka_does_not_allow_is_a_fault(data: bytes) -> None:
    with pytest.raises(ProtocolFault):
        kafka().server(data)


def test_replies_out_of_order_are_a_fault() -> None:
    framing = kafka()
    framing.client(request(3, 1) + request(3, 2))
    with pytest.raises(ProtocolFault):
        framing.server(reply(2))


# -- PostgreSQL ----------------------------------------------------------------------------------------------------------


def typed(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack(">i", 4 + len(body)) + body


def untyped(code: int, body: bytes = b"") -> bytes:
    return struct.pack(">ii", 8 + len(body), code) + body


STARTUP = untyped(196_608, b"user\0me\0\0")
SESSION = [
    (STARTUP, "startup"),
    (typed(b"Q", b"BEGIN\0"), "BEGIN"),
    (typed(b"P", b"s1\0  update t set x = $1\0\0\0"), "Parse"),
    (typed(b"B", b"\0s1\0\0\0\0\0\0\0"), "Bind"),
    (typed(b"E", b"\0\0\0\0\0"), "UPDATE"),
    (typed(b"S", b""), "client S"),
    (typed(b"Q", b"commit;\0"), "COMMIT"),
    (typed(b"Q", b"\0"), "EMPTY"),
    (typed(b"B", b"p\0unseen\0\0\0\0\0\0\0"), "Bind"),
    (typed(b"E", b"p\0\0\0\0\0"), "unknown"),
    (typed(b"X", b""), "client X"),
]


@pytest.mark.parametrize("portion", [lambda split, data: split(data), in_bytes])
def test_postgres_statements_by_simple_and_extended_queries(portion) -> None:
    framing = PostgresFraming()
    messages = portion(framing.client, b"".join(data for data, _ in SESSION))
    assert [(one.data, one.kind) for one in messages] == SESSION


@pytest.mark.parametrize("portion", [lambda split, data: split(data), in_bytes])
def test_postgres_replies(portion) -> None:
    framing = PostgresFraming()
    framing.client(STARTUP + typed(b"Q", b"COMMIT\0"))
    assert framing.waiting()
    data = typed(b"C", b"COMMIT\0") + typed(b"Z", b"I") + typed(b"E", b"SERROR\0C57P01\0Mgone\0\0")
    found = portion(framing.server, data + typed(b"C", b"INSERT 0 5\0"))
    assert shown(found) == [
        ("COMMIT reply", "COMMIT"),
        ("server Z", None),
        ("error reply", "57P01"),
        ("INSERT reply", "INSERT 0 5"),
    ]
    assert not framing.waiting()


def test_a_request_for_encryption_is_answered_by_one_byte() -> None:
    framing = PostgresFraming()
    assert shown(framing.client(untyped(80_877_103))) == [("encryption request", None)]
    assert shown(framing.server(b"N")) == [("encryption reply", None)]
    assert shown(framing.client(STARTUP)) == [("startup", None)]
    assert shown(framing.server(typed(b"R", b"\0\0\0\0"))) == [("server R", None)]


def test_encryption_cannot_be_read() -> None:
    framing = PostgresFraming()
    framing.client(untyped(80_877_103))
    with pytest.raises(ProtocolFault, match="plain"):
        framing.server(b"S")


def test_a_cancel_request() -> None:
    assert shown(PostgresFraming().client(untyped(80_877_102, b"12345678"))) == [("cancel request", None)]
