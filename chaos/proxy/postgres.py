"""PostgreSQL's framing: a start-up message without a type, then a type byte and a length; no TLS.

Owns: which statement a message is or executes. A statement's kind is its first word, upper case; a reply's is the tag of
its completion and ` reply`, or `error reply`.
Source: manual, chapter "Message Formats". Tested: `tests/test_framing.py`.
"""

from __future__ import annotations

import struct

from .framing import Message, ProtocolFault

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80_877_103, 80_877_104, 80_877_102
PARSE, BIND, EXECUTE, QUERY = b"P", b"B", b"E", b"Q"
COMPLETE, ERROR, READY = b"C", b"E", b"Z"


class PostgresFraming:
    def __init__(self) -> None:
        self.from_client, self.from_server = bytearray(), bytearray()
        self.started = False
        self.bare_replies = 0
        self.statements: dict[bytes, str] = {}
        self.portals: dict[bytes, str] = {}
        self.unanswered = 0

    def waiting(self) -> bool:
        return self.unanswered > 0

    def client(self, arrived: bytes) -> list[Message]:
        self.from_client += arrived
        found = []
        while not self.started and (message := self.start()):
            found.append(message)
        if self.started:
            found += [self.request(kind, data) for kind, data in whole_messages(self.from_client)]
        return found

    def start(self) -> Message | None:
        """A message before the session: encryption is asked for, a query is cancelled, or the session starts."""
        data = take(self.from_client, 0)
        if data is None:
            return None
        (code,) = struct.unpack_from(">i", data, 4)
        if code in (SSL_REQUEST, GSS_REQUEST):
            self.bare_replies += 1
            return Message("encryption request", data)
        self.started = True
        return Message("cancel request" if code == CANCEL_REQUEST else "startup", data)

    def request(self, kind: bytes, data: bytes) -> Message:
        body = data[5:]
        if kind == QUERY:
            self.unanswered += 1
            return Message(first_word(body.rstrip(b"\0")), data)
        if kind == PARSE:
            name, text = body.split(b"\0", 2)[:2]
            self.statements[name] = first_word(text)
            return Message("Parse", data)
        if kind == BIND:
            portal, name = body.split(b"\0", 2)[:2]
            self.portals[portal] = self.statements.get(name, "unknown")
            return Message("Bind", data)
        if kind == EXECUTE:
            self.unanswered += 1
            return Message(self.portals.get(body.split(b"\0", 1)[0], "unknown"), data)
        return Message(f"client {kind.decode('latin-1')}", data)

    def server(self, arrived: bytes) -> list[Message]:
        self.from_server += arrived
        found = []
        while self.bare_replies and self.from_server:
            reply = bytes(self.from_server[:1])
            if reply != b"N":
                raise ProtocolFault(
                    f"the server answers {reply!r} to a request for encryption: only plain is read"
                )
            del self.from_server[:1]
            self.bare_replies -= 1
            found.append(Message("encryption reply", reply))
        return found + [self.reply(kind, data) for kind, data in whole_messages(self.from_server)]

    def reply(self, kind: bytes, data: bytes) -> Message:
        if kind == READY:
            self.unanswered = 0
        if kind == COMPLETE:
            self.unanswered = max(self.unanswered - 1, 0)
            tag = data[5:-1].decode("utf-8", "replace")
            return Message(f"{first_word(tag.encode())} reply", data, tag)
        if kind == ERROR:
            return Message("error reply", data, sqlstate(data))
        return Message(f"server {kind.decode('latin-1')}", data)


def whole_messages(buffer: bytearray) -> list[tuple[bytes, bytes]]:
    found = []
    while data := take(buffer, 1):
        found.append((data[:1], data))
    return found


def take(buffer: bytearray, type_bytes: int) -> bytes | None:
    """The first message, if it is whole; its length counts all but the type byte."""
    if len(buffer) < type_bytes + 4:
        return None
    (length,) = struct.unpack_from(">i", buffer, type_bytes)
    if length < 4:
        raise ProtocolFault(f"a message of {length} bytes")
    end = type_bytes + length
    if len(buffer) < end:
        return None
    data = bytes(buffer[:end])
    del buffer[:end]
    return data


def first_word(text: bytes) -> str:
    words = text.decode("utf-8", "replace").split(None, 1)
    return words[0].rstrip(";").upper() if words else "EMPTY"


def sqlstate(data: bytes) -> str:
    for part in data[5:].split(b"\0"):
        if part[:1] == b"C":
            return part[1:].decode()
    return "error"
