"""Every fault, on small servers of the test's own."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable

import pytest

from chaos.proxy import Book, Cut, Delay, HalfOpen, Hold, Orphan, Proxy, Reset, Slice
from chaos.proxy.kafka import KafkaFraming

from .test_framing import reply, request

END_TXN, HEARTBEAT, INIT = 26, 12, 22
OK = struct.pack(">ih", 0, 0)
# Beyond any time for which a machine stands still: what is waited for comes at once.
WAIT_SECONDS = 120.0


class Broker:
    """Answers each request with no error, and keeps what arrived, in order over all connections."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.arrived: list[tuple[int, int]] = []
        self.portions: list[int] = []
        self.connections: list[socket.socket] = []
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.listener.getsockname()[1]}"

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections.append(connection)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        framing = KafkaFraming(("", 0), 0)
        try:
            while data := connection.recv(65_536):
                self.portions.append(len(data))
                for message in framing.client(data):
                    api, _, number = struct.unpack_from(">hhi", message.data, 4)
                    self.arrived.append((api, number))
                    connection.sendall(reply(number, OK))
        except OSError:
            pass

    def stop_listening(self) -> None:
        """A close alone would not wake the thread that accepts."""
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def close(self) -> None:
        if self.listener.fileno() >= 0:
            self.stop_listening()
        for connection in self.connections:
            connection.close()


class Client:
    def __init__(self, proxy: Proxy) -> None:
        self.socket = socket.create_connection(("127.0.0.1", proxy.port), timeout=WAIT_SECONDS)
        self.file = self.socket.makefile("rb")

    def send(self, api: int, number: int) -> None:
        self.socket.sendall(request(api, number, 1))

    def receive(self) -> int | None:
        """The number of the next reply; None at the end of the connection."""
        head = self.file.read(8)
        if not head:
            return None
        length, number = struct.unpack(">ii", head)
        self.file.read(length - 4)
        return number

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def ask(self, api: int, number: int) -> int | None:
        self.send(api, number)
        return self.receive()


@pytest.fixture()
def broker():
    made = Broker()
    yield made
    made.close()


@pytest.fixture()
def proxy(broker: Broker):
    made = Proxy.of_kafka(broker.address)
    yield made
    made.close()
    assert made.faults == []


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, condition
        time.sleep(0.002)


def test_without_rules_everything_passes_and_is_counted(broker: Broker, proxy: Proxy) -> None:
    client = Client(proxy)
    assert [client.ask(END_TXN, number) for number in (1, 2, 3)] == [1, 2, 3]
    assert broker.arrived == [(END_TXN, 1), (END_TXN, 2), (END_TXN, 3)]
    assert proxy.book.seen == {"EndTxn": 3, "EndTxn reply": 3}
    assert proxy.book.answers == {"EndTxn reply: ok": 3}
    assert proxy.book.hits == {}


def test_a_request_cut_never_arrives_and_a_reply_cut_took_effect(broker: Broker, proxy: Proxy) -> None:
    before = proxy.add("EndTxn", Cut(), nth=2)
    client = Client(proxy)
    assert [client.ask(END_TXN, 1), client.ask(HEARTBEAT, 2), client.ask(END_TXN, 3)] == [1, 2, None]
    assert broker.arrived == [(END_TXN, 1), (HEARTBEAT, 2)]
    assert (before.hit.is_set(), before.answer) == (True, "lost")
    after = proxy.add("EndTxn reply", Cut())
    assert Client(proxy).ask(END_TXN, 4) is None
    assert broker.arrived[2:] == [(END_TXN, 4)]
    assert after.answer == "ok"
    assert proxy.book.hits == {"cut EndTxn": 1, "cut EndTxn reply": 1}
    assert Client(proxy).ask(END_TXN, 5) == 5


def test_what_came_before_a_cut_message_has_passed(broker: Broker, proxy: Proxy) -> None:
    proxy.add("EndTxn", Cut())
    client = Client(proxy)
    client.socket.sendall(request(HEARTBEAT, 1) + request(END_TXN, 2) + request(HEARTBEAT, 3))
    wait_until(lambda: proxy.book.hits["cut EndTxn"] == 1)
    wait_until(lambda: broker.arrived == [(HEARTBEAT, 1)])


def test_a_reset_is_seen_as_one(proxy: Proxy) -> None:
    proxy.add("EndTxn", Reset())
    with pytest.raises(ConnectionResetError):
        Client(proxy).ask(END_TXN, 1)


def test_a_delayed_message_passes_later_with_what_is_behind_it(broker: Broker, proxy: Proxy) -> None:
    proxy.add("EndTxn", Delay(0.3))
    client, began = Client(proxy), time.monotonic()
    client.send(END_TXN, 1)
    client.send(HEARTBEAT, 2)
    assert [client.receive(), client.receive()] == [1, 2]
    assert time.monotonic() - began >= 0.3


def test_a_held_request_outlives_its_client_and_is_released_before_the_next_one(
    broker: Broker, proxy: Proxy
) -> None:
    rule = proxy.add("EndTxn", Hold(until="InitProducerId"))
    first = Client(proxy)
    first.send(END_TXN, 1)
    assert rule.hit.wait(WAIT_SECONDS)
    first.close()
    second = Client(proxy)
    assert second.ask(HEARTBEAT, 2) == 2
    assert not rule.released.is_set()
    assert second.ask(INIT, 3) == 3
    assert broker.arrived == [(HEARTBEAT, 2), (END_TXN, 1), (INIT, 3)]
    assert (rule.released.is_set(), rule.answer) == (True, "ok")


def test_an_orphaned_request_arrives_behind_the_one_that_was_sent_again(
    broker: Broker, proxy: Proxy
) -> None:
    rule = proxy.add("EndTxn", Orphan(until="InitProducerId"))
    first = Client(proxy)
    first.send(END_TXN, 1)
    assert first.receive() is None
    second = Client(proxy)
    assert second.ask(END_TXN, 2) == 2
    assert not rule.released.is_set()
    assert second.ask(INIT, 3) == 3
    assert broker.arrived == [(END_TXN, 2), (END_TXN, 1), (INIT, 3)]
    assert (rule.released.is_set(), rule.answer) == (True, "ok")


def test_a_held_request_is_released_by_hand(broker: Broker, proxy: Proxy) -> None:
    rule = proxy.add("EndTxn", Hold())
    client = Client(proxy)
    client.send(END_TXN, 1)
    assert rule.hit.wait(WAIT_SECONDS)
    assert broker.arrived == []
    rule.release()
    assert client.receive() == 1
    assert rule.answer == "ok"


def test_a_held_reply_meets_a_client_that_is_gone_or_still_there(broker: Broker, proxy: Proxy) -> None:
    rule = proxy.add("EndTxn reply", Hold())
    client = Client(proxy)
    client.send(END_TXN, 1)
    assert rule.hit.wait(WAIT_SECONDS)
    client.close()
    assert rule.answered.wait(WAIT_SECONDS)
    assert rule.answer == "connection closed"
    rule = proxy.add("EndTxn reply", Hold(seconds=0.1))
    assert Client(proxy).ask(END_TXN, 2) == 2
    assert rule.answered.wait(WAIT_SECONDS)
    assert rule.answer == "passed"


def test_half_open_passes_nothing_and_tells_nobody(broker: Broker, proxy: Proxy) -> None:
    proxy.add("EndTxn", HalfOpen(seconds=0.4))
    client, began = Client(proxy), time.monotonic()
    # Why at once: what is sent after the cut would be answered by a reset.
    client.socket.sendall(request(END_TXN, 1) + request(HEARTBEAT, 2))
    assert client.receive() is None
    assert time.monotonic() - began >= 0.4
    assert broker.arrived == []


def test_slices_are_of_one_byte(broker: Broker, proxy: Proxy) -> None:
    """Long, since a reader that is late finds several bytes at once."""
    proxy.add("EndTxn", Slice())
    proxy.add("EndTxn reply", Slice())
    client = Client(proxy)
    client.socket.sendall(request(END_TXN, 1, 1, b"x" * 150))
    assert client.receive() == 1
    assert len(broker.portions) > 10


def test_all_connections_can_be_cut(proxy: Proxy) -> None:
    clients = [Client(proxy), Client(proxy)]
    assert [client.ask(HEARTBEAT, 1) for client in clients] == [1, 1]
    assert proxy.cut_all() == 2
    assert [client.receive() for client in clients] == [None, None]
    assert Client(proxy).ask(HEARTBEAT, 2) == 2


def test_a_server_that_is_away_closes_the_client(broker: Broker, proxy: Proxy) -> None:
    broker.stop_listening()
    client = Client(proxy)
    try:
        assert client.ask(HEARTBEAT, 1) is None
    except ConnectionResetError:
        pass


def test_rules_are_counted_from_when_they_are_added_and_can_be_taken_back() -> None:
    book = Book()
    assert book.meet("X") is None
    second, third = book.add("X", Cut(), 2), book.add("X", Delay(1.0), 3)
    assert [book.meet("X"), book.meet("Y"), book.meet("X"), book.meet("X")] == [None, None, second, third]
    gone = book.add("X", Cut())
    book.remove(gone)
    assert book.meet("X") is None
    assert book.hits == {"cut X": 1, "delay X": 1}
