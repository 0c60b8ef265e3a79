"""An analyzer that is a program in another language: messages to it as JSON lines, its answers as records.

Place in the flow: Dispatcher ▶ here ▶ keeper (`process/external.py`) ▶ program, and back.

Rules of this file:
1. A message is answered by an empty line; what stood before it are its records. They count only then: of a message that
   was not answered nothing is kept, so after a restart it is neither lost nor twice there.
2. At most EXTERNAL_WINDOW messages of EXTERNAL_WINDOW_BYTES are under way. When the program dies, hangs or writes too
   much, the oldest of them is to blame: its flow is condemned, and the others are given to the next program.
3. A program that fails EXTERNAL_BARREN times in a row without an answer is not failing on flows: the worker ends, and
   with it the run.
4. What is said of a failure is an exception's name: BrokenPipeError (it died), CallTimedOut (no answer within the time
   of a call), OverflowError (too much output, or a message too long for it), ValueError (a line that is no record).
"""

from __future__ import annotations

import base64
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import msgspec

from bunker import limits
from bunker.closed.analyze.dialogue import Channel, Word
from bunker.closed.analyze.runner import AnalyzerFailed, CallTimedOut, Failed, Page, Phases, Runner, TooManyRecords
from bunker.errors import BoxError
from bunker.model.analyzer import Analyzer
from bunker.model.fields import FieldType
from bunker.model.record import Record
from bunker.native.wire import Batch, message_schema

_WAIT_S = 0.05


class _Failed(Exception):  # noqa: N818 - named in the past tense, as events are
    """The program failed on the oldest message under way; `cause` is what is reported."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__()
        self.cause = cause


class _Reborn(_Failed):
    """Another keeper is there already."""


def _room(waiting: deque[tuple[int, bytes]]) -> bool:
    """Whether one message more may be under way."""
    return (
        len(waiting) < limits.EXTERNAL_WINDOW.default
        and sum(len(line) for _, line in waiting) < limits.EXTERNAL_WINDOW_BYTES.default
    )


def writer_of(kind: FieldType) -> Callable[[Any], Any] | None:
    """How a cell of this type is made fit for JSON; None: as it is."""
    if kind is FieldType.ADDRESS:
        return str
    if kind is FieldType.ADDRESS_LIST:
        return lambda value: [str(item) for item in value]
    if kind in (FieldType.CONTENT, FieldType.MAC):
        return lambda value: base64.b64encode(value).decode()
    return None


class Lines:
    """Rows of one kind of message as lines of JSON; cells that are empty are left out.

    Times and durations are integers of nanoseconds, addresses text, raw bytes base64.
    """

    def __init__(self, analyzer: Analyzer) -> None:
        assert analyzer.program is not None
        wanted = analyzer.program.fields
        self._columns = [
            (name, writer_of(FieldType(word)))
            for name, word, _ in message_schema(analyzer.message)
            if not wanted or name in wanted
        ]

    def of(self, batch: Batch) -> Iterator[tuple[int, bytes]]:
        """(flow, line) of each row."""
        known = set(batch.column_names)
        columns = [(name, write) for name, write in self._columns if name in known]
        encode = msgspec.json.encode
        for row in batch.rows():
            cells = ((name, write, getattr(row, name)) for name, write in columns)
            found = {
                name: value if write is None else write(value) for name, write, value in cells if value is not None
            }
            yield row.uid, encode(found) + b"\n"


class Answers:
    """Bytes of a program, cut into what stands before each empty line."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._lines: list[bytes] = []
        self._size = 0

    def forget(self) -> None:
        """What was begun came from a program that is gone."""
        self._held.clear()
        self._lines.clear()
        self._size = 0

    def feed(self, piece: bytes) -> Iterator[list[bytes]]:
        """The lines of each answer that is complete now.

        Raises:
            OverflowError: an answer is longer than EXTERNAL_OUTPUT_BYTES.
        """
        self._held += piece
        start = 0
        try:
            while (end := self._held.find(b"\n", start)) >= 0:
                line = bytes(memoryview(self._held)[start:end]).strip()
                start = end + 1
                self._size += len(line)
                if self._size > limits.EXTERNAL_OUTPUT_BYTES.default:
                    raise OverflowError("an answer is too long")
                if line:
                    self._lines.append(line)
                    continue
                answer, self._lines, self._size = self._lines, [], 0
                yield answer
        finally:
            del self._held[:start]
        if self._size + len(self._held) > limits.EXTERNAL_OUTPUT_BYTES.default:
            raise OverflowError("an answer is too long")

    def rest(self) -> list[bytes]:
        """What stands after the last empty line, at the end."""
        last = bytes(self._held).strip()
        found = [*self._lines, last] if last else list(self._lines)
        self.forget()
        return found


class ExternalRunner(Runner):
    """One external analyzer at work in one worker.

    Args:
        fd: The worker's end of the dialogue with the program's keeper.
        revive: Starts a keeper that has ended; None where the supervisor does it.
    Invariants:
        The oldest message under way is the one that a failure is blamed on.
    """

    def __init__(
        self,
        analyzer: Analyzer,
        fd: int,
        *,
        number: int,
        hand: Page,
        phases: Phases,
        on_error: Callable[[BaseException], None] | None = None,
        revive: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(analyzer, number=number, hand=hand, phases=phases, on_error=on_error)
        self.stateful = False
        self._channel = Channel(fd, keeper=False)
        self._revive = revive
        self._lines = Lines(analyzer)
        self._answers = Answers()
        self._token: bytes | None = None
        self._next_token: bytes | None = None
        self._asked = False
        self._barren = 0
        self._kinds = {
            schema.name: (cls, frozenset(cls.__struct_fields__))
            for cls, schema in zip(analyzer.record_types, analyzer.emits, strict=True)
        }

    @property
    def _flow(self) -> int | None:
        """The flow in hand, as the hand page shows it."""
        return self._hand.get(self._phases.uid) or None

    @_flow.setter
    def _flow(self, flow: int | None) -> None:
        self._hand.set(self._phases.uid, flow or 0)

    def _moves(self) -> None:
        """Tell the watchdogs that the program is not standing still."""
        self._hand.set(self._phases.calls, self._hand.get(self._phases.calls) + 1)

    def fault(self, error: BaseException, flow: int | None) -> AnalyzerFailed:
        """What is said of a failure."""
        return replace(super().fault(error, flow), word="external")

    def run(self, batch: Batch, failed: Failed, *, muted: bool = False) -> None:
        """As of any analyzer; messages of a flow that has failed in this batch are not given."""
        assert not muted, "a program is not given what its predecessor has answered"
        self._hand.set(self._phases.analyzer, self._number)
        self._hand.set(self._phases.phase, self._phases.call)
        if self._left_out and self.analyzer.message == "flow":
            batch = batch.filter_out(set(self._left_out))
        source = self._lines.of(batch)
        waiting: deque[tuple[int, bytes]] = deque()  # under way, the oldest first
        given, exhausted, guilty = 0, False, set[int]()

        def blame(error: BaseException) -> None:
            flow, _ = waiting.popleft()
            guilty.add(flow)
            failed(self.fault(error, flow))

        while True:
            try:
                while not exhausted or waiting:
                    while not exhausted and _room(waiting):
                        following = next(source, None)
                        if following is None:
                            exhausted = True
                        elif following[0] not in guilty:
                            waiting.append(following)
                    given = self._exchange(waiting, given, blame)
                break
            except BoxError:
                raise
            except (Exception, CallTimedOut) as error:  # noqa: BLE001 - its failure, or a time-out
                failure = error if isinstance(error, _Failed) else _Failed(error)
                self._lost(failure)
                given = 0
                if waiting:
                    self._flow = waiting[0][0]
                    blame(failure.cause)
                self._drop(waiting, guilty)
        self._flow = None

    @staticmethod
    def _drop(waiting: deque[tuple[int, bytes]], guilty: set[int]) -> None:
        kept = [(flow, line) for flow, line in waiting if flow not in guilty]
        waiting.clear()
        waiting.extend(kept)

    def _exchange(self, waiting: deque[tuple[int, bytes]], given: int, blame: Callable[[BaseException], None]) -> int:
        """Give what is not given yet, take the answers that are there; how many of those waiting are given."""
        if not waiting:
            return 0
        self._flow = waiting[0][0]
        token = self._keeper()
        while given < len(waiting) and not self._channel.waiting:
            piece = bytearray()
            while given < len(waiting) and len(piece) < limits.EXTERNAL_DATAGRAM_BYTES.default:
                line = waiting[given][1]
                if len(line) > limits.EXTERNAL_LINE_BYTES.default:
                    if given == 0:
                        blame(OverflowError())
                        return 0
                    break
                piece += line
                given += 1
            if not piece:
                break  # a line that is too long waits until it is the oldest
            self._channel.say(Word.GIVE, token, bytes(piece))
        for answer in self._hear(token):
            if not given:
                raise _Failed(ValueError("an answer to nothing"))
            self._moves()
            self._barren = 0
            given -= 1
            self._flow = waiting[0][0]
            try:
                records = [self._record(line) for line in answer]
                for record in records:
                    self._emit_record(record)
            except (ValueError, TypeError, OverflowError, TooManyRecords) as error:
                blame(error)
                continue
            waiting.popleft()
        if waiting:
            self._flow = waiting[0][0]
        return given

    def _record(self, line: bytes) -> Record:
        """The record in a line.

        Raises:
            ValueError: no JSON object, another record, an unknown field, one that is missing or of another type.
        """
        try:
            found = msgspec.json.decode(line, type=dict[str, Any])
            name = found.pop("record", next(iter(self._kinds)) if len(self._kinds) == 1 else None)
            cls, fields = self._kinds[name]
            if found.keys() - fields:
                raise ValueError("an unknown field")
            return msgspec.convert(found, cls)
        except (msgspec.MsgspecError, KeyError, TypeError, UnicodeDecodeError):
            raise ValueError("a line is no record") from None

    def _hear(self, token: bytes) -> Iterator[list[bytes]]:
        """Answers, once something of this keeper's is there or a little time is over."""
        heard = False
        while True:
            said = self._channel.hear()
            if said is None:
                if heard:
                    return
                self._channel.wait(_WAIT_S)
                heard = True
                if self._revive is not None:
                    self._revive()
                continue
            heard = True
            if said.word is Word.HELLO:
                if said.token != token:
                    self._next_token = said.token
                    raise _Reborn(BrokenPipeError())
            elif said.token != token:
                continue
            elif said.word is Word.ENDED:
                raise _Failed(BrokenPipeError())
            else:
                try:
                    yield from self._answers.feed(said.body)
                except OverflowError as error:
                    raise _Failed(error) from None

    def _keeper(self) -> bytes:
        """The token of the keeper there is; waits until one has said hello.

        Raises:
            BoxError: none comes within EXTERNAL_START_S.
        """
        if self._token is not None:
            return self._token
        if not self._asked:
            self._channel.say(Word.ASK)
            self._asked = True
        until = time.monotonic() + limits.EXTERNAL_START_S.default
        while self._next_token is None:
            if self._revive is not None:
                self._revive()
            self._moves()  # the time of a call does not run while nobody is called
            said = self._channel.hear()
            if said is None:
                if time.monotonic() > until:
                    raise BoxError("external analyzer", "its process does not start", "See the diagnostics")
                self._channel.wait(_WAIT_S)
            elif said.word is Word.HELLO:
                self._next_token = said.token
        self._token, self._next_token = self._next_token, None
        return self._token

    def _lost(self, failure: _Failed) -> None:
        """This keeper and its program are of no use any more; see to it that the next one comes.

        Raises:
            BoxError: that happened EXTERNAL_BARREN times without an answer between.
        """
        self._channel.unsay()
        self._answers.forget()
        if self._token is not None and not isinstance(failure, _Reborn):
            self._channel.say(Word.RESET, self._token)
        self._token = None
        self._moves()
        self._barren += 1
        if self._barren >= limits.EXTERNAL_BARREN.default:
            raise BoxError(
                f"external analyzer {self.analyzer.name}",
                f"failed {self._barren} times in a row without an answer",
                "Run it over a capture file with --closed-box none",
            )

    def finish(self, failed: Failed) -> None:
        """Close the program's input and take what it says then: records of no flow."""
        self._flow = None
        self._hand.set(self._phases.phase, self._phases.finish)
        lines: list[bytes] = []
        try:
            token = self._keeper()
            self._channel.say(Word.FINISH, token)
            for answer in self._last(token):
                lines += answer
            for record in [self._record(line) for line in lines]:
                self._emit_record(record)
        except _Failed as failure:
            failed(self.fault(failure.cause, None))
        except (ValueError, TypeError, OverflowError) as error:
            failed(self.fault(error, None))

    def _last(self, token: bytes) -> Iterator[list[bytes]]:
        until = time.monotonic() + limits.EXTERNAL_START_S.default
        while True:
            said = self._channel.hear()
            if said is None:
                if time.monotonic() > until:
                    self._channel.say(Word.RESET, token)
                    raise _Failed(TimeoutError())
                self._channel.wait(_WAIT_S)
            elif said.word is Word.HELLO and said.token != token:
                raise _Failed(BrokenPipeError())
            elif said.token != token:
                continue
            elif said.word is Word.TOOK:
                yield from self._answers.feed(said.body)
            elif said.word is Word.ENDED:
                if said.body != b"\1":
                    raise _Failed(BrokenPipeError())
                yield self._answers.rest()
                return
