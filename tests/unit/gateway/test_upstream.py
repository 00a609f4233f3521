"""A connection to a replica: whose it is, and what becomes of it when answer, time and clients meet in one moment."""

import asyncio

import pytest

from penstock.routing.load import ModelLoad
from penstock.routing.snapshot import Replica, ServedModel
from penstock_gateway.discovery.live import LiveModel, LiveReplica
from penstock_gateway.load.fetch import FetchError, fetch
from penstock_gateway.relay.pool import Pool
from penstock_gateway.relay.upstream import UpstreamConnection

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
EVIL = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and tells a test when."""

    def __init__(self):
        super().__init__()
        self.written = []
        self.closed = False
        self.on_write = lambda: None

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def write(self, data):
        self.written.append(bytes(data))
        self.on_write()

    def is_closing(self):
        return self.closed

    def close(self):
        self.closed = True

    abort = close


class Heard:
    """A receiver that keeps what it is told."""

    def __init__(self):
        self.told = []

    def upstream_head(self, status, content_type):
        self.told.append(status)

    def upstream_data(self, data):
        self.told.append(bytes(data))

    def upstream_end(self):
        self.told.append("end")

    def upstream_lost(self):
        self.told.append("lost")


@pytest.fixture
def pool():
    return Pool("127.0.0.1", 1, connect_s=1.0)


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def connection(pool, wire):
    """A connection that is idle in its pool."""
    connection = UpstreamConnection(pool)
    connection.connection_made(wire)
    pool.give_back(connection)
    return connection


def ask(pool):
    heard = Heard()
    connection = pool.take()
    assert connection is not None
    connection.send(heard, b"GET / HTTP/1.1\r\n\r\n", b"")
    return heard


def test_an_answer_is_delivered_and_the_connection_kept(pool, wire, connection):
    heard = ask(pool)
    connection.data_received(OK)
    assert heard.told == [200, b"ok", "end"]
    assert pool.take() is connection
    assert not wire.closed


@pytest.mark.parametrize("time_first", [False, True])
async def test_a_time_out_leaves_a_connection_alone_that_has_gone_to_somebody_else(pool, wire, connection, time_first):
    """A loop that stood still finds the time-out, the answer and the next request at once, in one order or another."""
    loop = asyncio.get_running_loop()
    model = LiveModel(ServedModel(name="m"), ModelLoad(model="m"))
    replica = LiveReplica(
        Replica(id="r", model="m", variant="v", address="127.0.0.1", port=1), model, ModelLoad(model="m"), pool
    )
    others = []

    def answer_and_next_request():
        connection.data_received(OK)
        others.append(ask(pool))

    def asked():
        # The time-out of 0 s fires one step after this, and the fetch hears of it two steps after this.
        wire.on_write = lambda: None
        if time_first:
            loop.call_soon(loop.call_soon, answer_and_next_request)
        else:
            loop.call_soon(answer_and_next_request)

    wire.on_write = asked
    with pytest.raises(FetchError):
        await fetch(replica, "/metrics", timeout_s=0)
    assert others, "the next request came too late for the race that this is about"
    assert not wire.closed
    connection.data_received(OK)
    assert others[0].told == [200, b"ok", "end"]


def test_a_receiver_that_gives_up_in_time_takes_the_connection_with_it(pool, wire, connection):
    heard = ask(pool)
    connection.abandon(heard)
    connection.connection_lost(None)
    assert wire.closed
    assert heard.told == []
    assert pool.take() is None


@pytest.mark.parametrize(
    "rude", [EVIL, b"HTTP/1.1 200 OK\r\nx: ", b"\r\n", b"\0"], ids=["whole", "part", "line", "nul"]
)
def test_bytes_on_an_idle_connection_close_it(pool, wire, connection, rude):
    heard = ask(pool)
    connection.data_received(OK)
    connection.data_received(rude)
    assert heard.told == [200, b"ok", "end"]
    assert wire.closed
    assert pool.take() is None


@pytest.mark.parametrize(
    "rude", [EVIL, b"HTTP/1.1 200 OK\r\nx: ", b"junk", b"\0"], ids=["whole", "part", "junk", "nul"]
)
def test_bytes_behind_an_answer_are_nobodys_and_close_the_connection(pool, wire, connection, rude):
    heard = ask(pool)
    nexts = []
    heard.upstream_end = lambda: nexts.append(pool.take())
    connection.data_received(OK + rude)
    assert heard.told == [200, b"ok"]
    assert nexts == [None]
    assert wire.closed


def test_interim_answers_are_passed_over(pool, wire, connection):
    heard = ask(pool)
    connection.data_received(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + OK)
    assert heard.told == [200, b"ok", "end"]
    assert not wire.closed


def test_an_answer_in_any_pieces_is_the_same(pool, connection):
    for cut in range(1, len(OK)):
        heard = ask(pool)
        connection.data_received(OK[:cut])
        connection.data_received(OK[cut:])
        assert b"".join(part for part in heard.told if isinstance(part, bytes)) == b"ok"
        assert heard.told[0] == 200
        assert heard.told[-1] == "end"
