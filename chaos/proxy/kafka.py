"""Kafka's framing: four bytes of length; a request tells its API, a reply its request's number, in the requests' order.

Owns: names of the APIs, errors of the replies that decide transactions, and the broker's address in replies that tell it.
Never: parses a record. Why only the port is rewritten, in place: host and port stand together in every version, and a port
of the same four bytes moves nothing else.
Source: https://kafka.apache.org/protocol. Tested: `tests/test_framing.py`.
"""

from __future__ import annotations

import struct
from collections import deque

from confluent_kafka import KafkaError

from .framing import Message, ProtocolFault

NAMES = {
    0: "Produce", 1: "Fetch", 2: "ListOffsets", 3: "Metadata", 8: "OffsetCommit", 9: "OffsetFetch",
    10: "FindCoordinator", 11: "JoinGroup", 12: "Heartbeat", 13: "LeaveGroup", 14: "SyncGroup", 18: "ApiVersions",
    22: "InitProducerId", 24: "AddPartitionsToTxn", 25: "AddOffsetsToTxn", 26: "EndTxn", 28: "TxnOffsetCommit",
    60: "DescribeCluster",
}  # fmt: skip
TELL_ADDRESSES = ("Metadata", "FindCoordinator", "DescribeCluster")
FIRST_FLEXIBLE = {"InitProducerId": 2, "AddOffsetsToTxn": 3, "EndTxn": 3, "TxnOffsetCommit": 3}
MOST_BYTES = 128 << 20


class KafkaFraming:
    def __init__(self, upstream: tuple[str, int], port: int) -> None:
        host = upstream[0].encode()
        self.address, self.own_address = (host + struct.pack(">i", one) for one in (upstream[1], port))
        self.requests, self.replies = bytearray(), bytearray()
        self.pending: deque[tuple[int, str, int]] = deque()

    def waiting(self) -> bool:
        return bool(self.pending)

    def client(self, arrived: bytes) -> list[Message]:
        return [self.request(data) for data in whole_messages(self.requests, arrived)]

    def server(self, arrived: bytes) -> list[Message]:
        return [self.reply(data) for data in whole_messages(self.replies, arrived)]

    def request(self, data: bytes) -> Message:
        api, version, number = struct.unpack_from(">hhi", data, 4)
        name = NAMES.get(api, f"api {api}")
        self.pending.append((number, name, version))
        return Message(name, data)

    def reply(self, data: bytes) -> Message:
        (number,) = struct.unpack_from(">i", data, 4)
        if not self.pending:
            raise ProtocolFault(f"reply {number} without a request")
        expected, name, version = self.pending.popleft()
        if number != expected:
            raise ProtocolFault(f"reply {number}, due was {expected}")
        if name in TELL_ADDRESSES:
            data = data.replace(self.address, self.own_address)
        return Message(f"{name} reply", data, answer_of(name, version, data))


def whole_messages(buffer: bytearray, arrived: bytes) -> list[bytes]:
    buffer += arrived
    found, at = [], 0
    while len(buffer) - at >= 4:
        (length,) = struct.unpack_from(">i", buffer, at)
        if not 4 <= length <= MOST_BYTES:
            raise ProtocolFault(f"a message of {length} bytes")
        if len(buffer) - at < 4 + length:
            break
        found.append(bytes(buffer[at : at + 4 + length]))
        at += 4 + length
    del buffer[:at]
    return found


def answer_of(name: str, version: int, data: bytes) -> str | None:
    """The error a transaction's reply carries. All have a throttle time first; a flexible header ends with a tag count."""
    if name not in FIRST_FLEXIBLE:
        return None
    flexible = version >= FIRST_FLEXIBLE[name]
    at = 4 + 4 + flexible + 4
    if name != "TxnOffsetCommit":
        return error_name(struct.unpack_from(">h", data, at)[0])
    errors = offset_errors(data, at, flexible)
    return ", ".join(sorted({error_name(code) for code in errors} - {"ok"})) or "ok"


def offset_errors(data: bytes, at: int, flexible: bool) -> list[int]:
    """One code a partition, of all topics."""
    errors = []
    topics, at = count_at(data, at, flexible)
    for _ in range(topics):
        length, at = length_at(data, at, flexible)
        partitions, at = count_at(data, at + length, flexible)
        for _ in range(partitions):
            errors.append(struct.unpack_from(">h", data, at + 4)[0])
            at += 6 + flexible
        at += flexible
    return errors


def count_at(data: bytes, at: int, flexible: bool) -> tuple[int, int]:
    if not flexible:
        return struct.unpack_from(">i", data, at)[0], at + 4
    count, at = varint_at(data, at)
    return count - 1, at


def length_at(data: bytes, at: int, flexible: bool) -> tuple[int, int]:
    if not flexible:
        return struct.unpack_from(">h", data, at)[0], at + 2
    length, at = varint_at(data, at)
    return length - 1, at


def varint_at(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def error_name(code: int) -> str:
    return "ok" if code == 0 else KafkaError(code).name()
