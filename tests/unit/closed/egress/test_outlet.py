"""The outlet never blocks, never reads, and loses nothing that it took."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from enveloping import Clearing, birth_of, cut, pulse_at, read_available, sightings, usual, visits

from bunker.closed.egress.envelopes import Envelopes
from bunker.closed.egress.outlet import Outlet, OutletState
from bunker.errors import BoxError
from bunker.model.heartbeat import EndReason
from bunker.native.clear import ClearedBatch

QUEUE, RESERVE, RESEND = 64_000, 16_000, 20_000


class Way:
    """Both ends of a way out: `writing` is the box's, `reading` the open box's."""

    def __init__(self, writing: int, reading: int) -> None:
        self.writing, self.reading = writing, reading

    def vanish(self) -> None:
        """The open box is gone."""
        os.close(self.reading)
        self.reading = -1


def _pipe() -> Way:
    reading, writing = os.pipe()
    return Way(writing, reading)


def _unix() -> Way:
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
    return Way(one.detach(), two.detach())


def _tcp() -> Way:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one = socket.create_connection(server.getsockname())
        one.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        two, _ = server.accept()
    return Way(one.detach(), two.detach())


@pytest.fixture(params=[_pipe, _unix, _tcp])
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    make: Callable[[], Way] = request.param
    made = make()
    yield made
    if made.reading >= 0:
        os.close(made.reading)


@pytest.fixture
def open_way() -> Iterator[Callable[[Callable[[], Way]], Way]]:
    with ExitStack() as stack:

        def make(kind: Callable[[], Way]) -> Way:
            way = kind()
            stack.callback(lambda: way.reading >= 0 and os.close(way.reading))
            return way

        yield make


def outlet_at(fd: int) -> Outlet:
    return Outlet(fd, queue_bytes=QUEUE, reserve_bytes=RESERVE, resend_bytes=RESEND)


def finished(outlet: Outlet, reading: int) -> bytes:
    """Drain to the end."""
    out = bytearray()
    while not outlet.finish():
        assert outlet.state is OutletState.OPEN
        out += read_available(reading)
    return bytes(out + read_available(reading))


def test_a_stalled_receiver_blocks_nobody_and_loses_nothing(way: Way) -> None:
    clearing = Clearing()
    maker = Envelopes(birth_of(clearing), cleared=ClearedBatch)
    outlet = outlet_at(way.writing)
    sent = [maker.start()]
    outlet.put(sent[0])
    second = 0
    while True:  # nobody reads: each of these returns at once
        batch = clearing.clear("visit", visits(20))
        if not outlet.room(len(batch.ipc()) + 4096, records=True):
            break
        sent.append(maker.records(batch))
        outlet.put(sent[-1])
    assert outlet.state is OutletState.OPEN
    assert 0 < outlet.waiting <= QUEUE - RESERVE
    while outlet.room(4000, records=False):  # the reserve is there for signs of life
        second += 1
        sent.append(maker.heartbeat(pulse_at(second)))
        outlet.put(sent[-1])
    assert second >= 3
    assert outlet.flush() == 0
    read = bytearray(read_available(way.reading))  # it wakes up
    while outlet.waiting:
        outlet.flush()
        read += read_available(way.reading)
    sent.append(maker.end(pulse_at(second + 1), reason=EndReason.DONE))
    outlet.put(sent[-1])
    read += finished(outlet, way.reading)
    assert [one.raw for one in cut(bytes(read))] == sent


def test_a_vanished_receiver_is_a_state_and_no_error(way: Way) -> None:
    outlet = outlet_at(way.writing)
    story = usual().envelopes
    outlet.put(story[0])
    way.vanish()
    for envelope in story[1:]:
        outlet.put(envelope)
    assert outlet.state is OutletState.LOST
    assert outlet.fileno() == -1
    assert outlet.waiting > 0
    assert not outlet.finish()
    assert outlet.flush() == 0
    outlet.peer_gone()
    assert outlet.state is OutletState.LOST


def test_a_queue_without_a_receiver_stays_within_its_bound(way: Way) -> None:
    outlet = outlet_at(way.writing)
    way.vanish()
    envelope = usual().envelopes[2]
    count = 0
    while outlet.room(len(envelope), records=True):
        outlet.put(envelope)
        count += 1
    assert outlet.waiting <= QUEUE - RESERVE
    with pytest.raises(BoxError, match="an envelope too many"):
        for _ in range(QUEUE):
            outlet.put(envelope)
    assert outlet.waiting <= QUEUE


def test_poll_tells_that_the_receiver_is_gone(way: Way) -> None:
    outlet = outlet_at(way.writing)
    outlet.peer_gone()
    assert outlet.state is OutletState.LOST
    with pytest.raises(OSError, match="Bad file") as caught:
        os.fstat(way.writing)
    assert caught.value.errno == errno.EBADF


@pytest.mark.parametrize("read_before", [0, 1, 1000, 6000])
def test_a_reconnect_repeats_from_an_envelope_boundary(
    open_way: Callable[[Callable[[], Way]], Way], read_before: int
) -> None:
    first, second = open_way(_unix), open_way(_tcp)
    story = usual().envelopes
    outlet = outlet_at(first.writing)
    for envelope in story[:5]:
        outlet.put(envelope)
    before = b""
    while len(before) < read_before:
        before += os.read(first.reading, read_before - len(before))
        outlet.flush()
    outlet.peer_gone()
    for envelope in story[5:7]:
        outlet.put(envelope)
    outlet.reconnected(second.writing)
    for envelope in story[7:]:
        outlet.put(envelope)
    after = cut(finished(outlet, second.reading))
    assert [one.raw for one in after] == list(story[after[0].number :])
    # Nothing of what the first receiver may not have got is left out.
    assert after[0].number == 0


def test_a_reconnect_repeats_at_least_what_a_kernel_can_lose_and_not_everything(
    open_way: Callable[[Callable[[], Way]], Way],
) -> None:
    first, second = open_way(_pipe), open_way(_pipe)
    clearing = Clearing()
    maker = Envelopes(birth_of(clearing), cleared=ClearedBatch)
    story = [maker.start(), *(maker.records(clearing.clear("sighting", sightings(90))) for _ in range(100))]
    outlet = outlet_at(first.writing)
    for envelope in story:
        outlet.put(envelope)
        while outlet.waiting:
            read_available(first.reading)
            outlet.flush()
    outlet.peer_gone()
    outlet.reconnected(second.writing)
    again = cut(finished(outlet, second.reading))
    size = sum(len(one.raw) for one in again)
    assert RESEND <= size < RESEND + max(map(len, story))
    assert [one.raw for one in again] == story[again[0].number :]


def test_repeats_take_no_room_of_the_queue(open_way: Callable[[Callable[[], Way]], Way]) -> None:
    first, second = open_way(_unix), open_way(_unix)
    outlet = outlet_at(first.writing)
    envelope = usual().envelopes[2]
    for _ in range(6):
        outlet.put(envelope)
        read_available(first.reading)
    outlet.flush()
    assert outlet.waiting == 0
    outlet.peer_gone()
    outlet.reconnected(second.writing)
    assert outlet.room(QUEUE, records=False)
    while outlet.room(len(envelope), records=False):
        outlet.put(envelope)
    assert QUEUE - len(envelope) < outlet.waiting <= QUEUE + RESEND + len(envelope)


def test_a_second_descriptor_needs_the_first_to_be_lost(open_way: Callable[[Callable[[], Way]], Way]) -> None:
    first, second = open_way(_pipe), open_way(_pipe)
    outlet = outlet_at(first.writing)
    with pytest.raises(BoxError, match="a second descriptor"):
        outlet.reconnected(second.writing)
    assert outlet.finish()
    with pytest.raises(BoxError):
        outlet.reconnected(second.writing)
    os.close(second.writing)


def test_after_the_end_nothing_is_put(way: Way) -> None:
    outlet = outlet_at(way.writing)
    assert outlet.finish()
    assert outlet.state is OutletState.CLOSED
    assert outlet.finish()
    with pytest.raises(BoxError):
        outlet.put(b"x")
    assert os.read(way.reading, 1) == b""


@pytest.mark.parametrize("kind", [_unix, _tcp])
def test_nothing_that_the_open_box_sends_is_read(
    open_way: Callable[[Callable[[], Way]], Way], kind: Callable[[], Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    way = open_way(kind)
    outlet = outlet_at(way.writing)
    with socket.socket(fileno=os.dup(way.writing)) as box:
        box.setblocking(False)
        for envelope in usual().envelopes:
            try:
                os.write(way.reading, b"GET /raw HTTP/1.1\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                assert kind is _unix  # the kernel says that nobody listens
            outlet.put(envelope)
            read_available(way.reading)
        assert not hasattr(outlet, "read")
        if kind is _unix:
            assert box.recv(100) == b""  # the reading half is shut
    assert outlet.state is OutletState.OPEN


def test_a_full_disk_is_a_lost_receiver() -> None:
    outlet = outlet_at(os.open("/dev/full", os.O_WRONLY))
    outlet.put(usual().envelopes[0])
    assert outlet.state is OutletState.LOST
    assert outlet.waiting == len(usual().envelopes[0])


def test_a_file_takes_everything_at_once(tmp_path: Path) -> None:
    path = tmp_path / "stream.env"
    outlet = outlet_at(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    for envelope in usual().envelopes:
        outlet.put(envelope)
        assert outlet.waiting == 0
    assert outlet.finish()
    assert path.read_bytes() == usual().whole


def test_an_outlet_that_keeps_nothing_can_be_made() -> None:
    way = _pipe()
    outlet = Outlet(way.writing, resend_bytes=0)
    outlet.put(usual().envelopes[0])
    assert outlet.finish()
    way.vanish()
