"""The comparers of bytes and files pass on what is right and fail on what is not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from comparers import files, streams
from conversations import FIRST_PORT, write_conversations
from corpus import Case
from verdicts import Finding

ASKED, ANSWERED = b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nhello"


def _case(folder: Path, source: str) -> Case:
    path = write_conversations(folder / "input.pcap", [[(0, ASKED), (1, ANSWERED)]])
    return Case(source=source, path=path, words=frozenset(), exercises="", note="")


def _facts(compare: Callable[[Case], Iterable[Finding]], case: Case) -> list[str]:
    return [str(getattr(finding, "fact", finding)) for finding in compare(case)]


def _side(address: str, port: int) -> str:
    return ".".join(f"{int(part):03}" for part in address.split(".")) + f".{port:05}"


def test_streams_are_compared_by_length_and_hash(tmp_path: Path) -> None:
    case = _case(tmp_path, "tcpflow")
    flow = f"{_side('192.0.2.1', FIRST_PORT)}-{_side('198.51.100.1', 80)}"
    digest = hashlib.md5(ASKED, usedforsecurity=False).hexdigest()
    for md5, size, facts in ((digest, len(ASKED), []), (digest, 1, ["bytes"]), ("0" * 32, len(ASKED), ["md5"])):
        (tmp_path / "input.md5.tsv").write_text(f"flow\tmd5\tbytes\n{flow}\t{md5}\t{size}\n")
        assert _facts(streams.tcpflow, case) == facts


def test_dialogues_are_compared_byte_for_byte(tmp_path: Path) -> None:
    case = _case(tmp_path, "pcapplusplus")
    for content, facts in ((ASKED + ANSWERED, []), (ASKED + ANSWERED[:-1], ["stream"])):
        (tmp_path / "input.stream.txt").write_bytes(content)
        assert _facts(streams.pcapplusplus_dialogues, case) == facts


def test_files_are_compared_by_packets_and_refusal(tmp_path: Path) -> None:
    case = _case(tmp_path, "libtrace")
    (tmp_path / "input.facts.txt").write_text("packets 1000\nVLAN id 7\n")
    assert _facts(files.libtrace, case) == ["packets", "vlan"]
    (tmp_path / "input.error.txt").write_text("must be refused\n")
    assert _facts(files.refused, case) == ["packets", "exit_code"]
    bad = tmp_path / "bad"
    bad.mkdir()
    other = _case(bad, "libpcap")
    other.path.write_bytes(b"this is no capture file")
    (bad / "input.error.txt").write_text("must be refused\n")
    assert _facts(files.refused, other) == []
