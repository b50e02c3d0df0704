"""The listener: accepts clients in a thread of its own and pairs each with a connection to the server.

Owns: the thread, the event loop, the open links. Never: reads a message.
Tested: `tests/test_proxy.py`, `tests/test_proxy_servers.py`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

from .actions import Action
from .book import Book, Rule
from .framing import Framing, ProtocolFault
from .kafka import KafkaFraming
from .link import Link
from .postgres import PostgresFraming

HOST = "127.0.0.1"
START_SECONDS = 120.0


class Proxy:
    """Listens on a free port from construction on. `faults` holds what it could not read; it must stay empty."""

    def __init__(self, upstream: tuple[str, int], framing: Callable[[Proxy], Framing]) -> None:
        self.upstream, self.framing = upstream, framing
        self.book = Book()
        self.faults: list[ProtocolFault] = []
        self.tasks: set[asyncio.Task] = set()
        self.port = 0
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.serve, name=f"proxy of {upstream[1]}", daemon=True)
        self.thread.start()
        if not self.ready.wait(START_SECONDS):
            raise TimeoutError("the proxy does not listen")

    @classmethod
    def of_kafka(cls, bootstrap: str) -> Proxy:
        """`bootstrap` is the one broker's address, spelled as the broker advertises it."""
        host, port = bootstrap.rsplit(":", 1)
        upstream = (host, int(port))
        return cls(upstream, lambda proxy: KafkaFraming(upstream, proxy.port))

    @classmethod
    def of_postgres(cls, url: str) -> Proxy:
        parts = urlsplit(url)
        return cls((parts.hostname, parts.port or 5432), lambda proxy: PostgresFraming())

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def through(self, url: str) -> str:
        """The URL with this proxy's address instead of its server's."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return urlunsplit(parts._replace(netloc=f"{login}@{self.address}" if login else self.address))

    def add(self, kind: str, action: Action, nth: int = 1) -> Rule:
        return self.book.add(kind, action, nth)

    def cut_all(self) -> int:
        """Every open connection ends, as when a network breaks; how many there were."""
        return self.call(self.cut_links)

    def close(self) -> None:
        """Ends all connections and the thread."""
        if self.thread.is_alive():
            self.loop.call_soon_threadsafe(self.stopping.set)
            self.thread.join(START_SECONDS)

    # -- inside the thread -------------------------------------------------------------------------------------------

    def call(self, function: Callable[[], int]) -> int:
        async def inside() -> int:
            return function()

        return asyncio.run_coroutine_threadsafe(inside(), self.loop).result(START_SECONDS)

    def cut_links(self) -> int:
        count = len(self.tasks)
        for task in self.tasks:
            task.cancel()
        return count

    def serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.listen())
        self.loop.close()

    async def listen(self) -> None:
        self.stopping = asyncio.Event()
        server = await asyncio.start_server(self.accept, HOST, 0)
        self.port = server.sockets[0].getsockname()[1]
        self.ready.set()
        await self.stopping.wait()
        server.close()
        self.cut_links()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self.tasks.add(task)
        try:
            server = await asyncio.open_connection(*self.upstream)
            await Link(self.book, self.framing(self), (reader, writer), server).run()
        except OSError:
            pass
        except ProtocolFault as fault:
            self.faults.append(fault)
        except asyncio.CancelledError:
            pass
        finally:
            self.tasks.discard(task)
            writer.close()
