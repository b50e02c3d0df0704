"""One connection of a client and its twin to the server: two pumps, and what a rule does to a message.

Owns: passing, losing, holding. Never: chooses a message; `book` does.
Order: what arrived before a message has been written before anything is done to it; what is behind it waits.
Tested: `tests/test_proxy.py`.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time

from .actions import Cut, Delay, HalfOpen, Hold, Orphan, Reset, Slice
from .book import Book, Rule
from .framing import Framing, Message

CHUNK_BYTES = 1 << 18
ANSWER_SECONDS = 30.0
LOOK_SECONDS = 0.005
SLICE_SECONDS = 0.001


class Ended(Exception):
    """The connection is over, by a fault."""


class Link:
    def __init__(
        self,
        book: Book,
        framing: Framing,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self.book, self.framing = book, framing
        self.client_reader, self.client_writer = client
        self.server_reader, self.server_writer = server
        self.frozen = False
        self.open_rules: list[Rule] = []
        self.expected: dict[str, list[Rule]] = {}

    async def run(self) -> None:
        """Until either end is closed, and what was held for the server is answered. Raises `ProtocolFault`."""
        up = asyncio.ensure_future(self.pump(self.client_reader, self.server_writer, self.framing.client))
        down = asyncio.ensure_future(self.pump(self.server_reader, self.client_writer, self.framing.server))
        try:
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            if up.done() and not up.exception() and self.expected:
                await asyncio.wait({down}, timeout=ANSWER_SECONDS)
        finally:
            for task in (up, down):
                task.cancel()
            ends = await asyncio.gather(up, down, return_exceptions=True)
            self.close()
            for rule in self.open_rules:
                rule.close_with("connection closed")
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, Ended):
                raise end

    def close(self) -> None:
        for writer in (self.client_writer, self.server_writer):
            writer.close()

    # -- passing -----------------------------------------------------------------------------------------------------

    async def pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, split) -> None:
        while data := await self.read(reader):
            passing = b""
            for message in split(data):
                rule = self.book.meet(message.kind)
                released = self.book.held_until(message.kind)
                if message.answer is not None:
                    self.book.note_answer(message.kind, message.answer)
                if rule or released:
                    await self.write(writer, passing)
                    passing = b""
                    await self.wait_for(released)
                if rule:
                    await self.act(rule, message, writer)
                else:
                    passing += message.data
                self.answered(message)
            await self.write(writer, passing)

    @staticmethod
    async def read(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(CHUNK_BYTES)
        except ConnectionError:
            return b""

    async def write(self, writer: asyncio.StreamWriter, data: bytes) -> bool:
        """False where the other end is gone; that end's own pump notices."""
        if self.frozen:
            await asyncio.Event().wait()
        try:
            writer.write(data)
            await writer.drain()
        except ConnectionError:
            return False
        return not writer.is_closing()

    def answered(self, message: Message) -> None:
        """Tells those who wait for this reply; an error answers whatever was asked."""
        kinds = list(self.expected) if message.kind == "error reply" else [message.kind]
        for kind in kinds:
            for rule in self.expected.pop(kind, []):
                rule.close_with(message.answer or "answered")

    @staticmethod
    async def wait_for(rules: list[Rule]) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while any(not rule.answered.is_set() for rule in rules) and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS)

    # -- faults ------------------------------------------------------------------------------------------------------

    async def act(self, rule: Rule, message: Message, writer: asyncio.StreamWriter) -> None:
        action = rule.action
        if isinstance(action, (Cut, Reset)):
            rule.close_with(message.answer or "lost")
            if isinstance(action, Reset):
                self.reset()
            raise Ended
        if isinstance(action, HalfOpen):
            self.frozen = True
            await asyncio.sleep(action.seconds)
            rule.close_with(message.answer or "lost")
            raise Ended
        if isinstance(action, Hold):
            await self.hold(rule, message, writer)
            return
        at = 0
        if isinstance(action, Delay):
            await asyncio.sleep(action.seconds)
        else:
            assert isinstance(action, Slice), action
            at = min(action.sliced, len(message.data))
            await self.slice(writer, message.data[:at])
        await self.write(writer, message.data[at:])
        rule.close_with("passed")

    async def slice(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """A pause lets the other end read before the next byte comes."""
        for one in data:
            await self.write(writer, bytes([one]))
            await asyncio.sleep(SLICE_SECONDS)

    async def hold(self, rule: Rule, message: Message, writer: asyncio.StreamWriter) -> None:
        """A held request is answered when its reply has come, a held reply when it is written."""
        self.open_rules.append(rule)
        if isinstance(rule.action, Orphan):
            self.client_writer.close()
        deadline = time.monotonic() + rule.action.seconds
        while not rule.released.is_set() and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS)
        rule.released.set()
        to_server = writer is self.server_writer
        if to_server:
            self.expected.setdefault(f"{message.kind} reply", []).append(rule)
        written = await self.write(writer, message.data)
        if not to_server:
            rule.close_with("passed" if written else "client gone")

    def reset(self) -> None:
        """A close with unsent data thrown away is a reset on the wire."""
        client = self.client_writer.get_extra_info("socket")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.client_writer.transport.abort()
