"""The capturer: takes blocks from the packet rings or from capture files, seals them, puts them into the spool.

Secrets: the block keys (to seal). Reads: the packet sockets or the capture files. Writes: spool files, its counter page, the links.
If it is taken over completely: sees traffic from now on; has no way to send it.

Rules of this file:
1. Nothing blocks capture: a full spool is a counted gap, a slow worker is the spool's business.
2. Files can wait, and do: nothing of a file is dropped because the spool is full.
3. A spool file's key dies as soon as its worker has said that it is done with it, and all keys die at the end.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator

from bunker.closed.capture.files import FileReader
from bunker.closed.capture.ring import Ring
from bunker.closed.process.link import Ended, FileDone, Link, Sealed
from bunker.closed.process.settings import CapturerSettings, LaneSettings, settings_of
from bunker.closed.spool.keys import KeyStore
from bunker.closed.spool.writer import Full, SpoolWriter
from bunker.errors import BoxError
from bunker.model.counters import Counter, CounterPage
from bunker.native.jail import lock_down

_POLL_S = 0.2


class Lane:
    """One lane's writer and link."""

    def __init__(self, settings: LaneSettings, keys: KeyStore, counters: CounterPage) -> None:
        self.settings = settings
        self.writer = SpoolWriter.attach(settings.spool, keys=keys)
        self.link = Link(settings.link_fd)
        self.counters = counters
        self.worker_gone = False

    def hear(self) -> None:
        """Take what the worker has said."""
        while not self.worker_gone:
            try:
                message = self.link.receive()
            except EOFError:
                self.worker_gone = True
                return
            if message is None:
                return
            if not isinstance(message, FileDone):
                raise BoxError("link between capturer and worker", "a message of the wrong side", "This is a bug")
            self.writer.recycle(message.file)

    def announce(self) -> None:
        """Tell the worker of the blocks that have reached the disk."""
        for block in self.writer.written():
            self.link.send(Sealed(descriptor=block.pack()))
        self.link.flush()


class Capturer:
    """All lanes of a box."""

    def __init__(self, settings: CapturerSettings) -> None:
        self.settings = settings
        self.counters = CounterPage.attach(settings.counters_fd, writable=True)
        self.keys = KeyStore.attach(settings.keys_fd, writable=True)
        self.lanes = [Lane(lane, self.keys, self.counters) for lane in settings.lanes]

    def stop_asked(self) -> bool:
        """Somebody wants the capture to end."""
        return bool(select.select([self.settings.stop_fd], [], [], 0)[0])
