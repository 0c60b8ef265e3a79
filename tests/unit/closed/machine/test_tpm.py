"""A TPM's quote: made by process 1, checked by the open box, refused when a byte of it or of the start was changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from tpms import appliance_start, entry, extend, software_tpm, start_machine

from bunker.closed.machine.tpm import Exchange, Tpm, measured, read_log
from bunker.errors import BoxError
from bunker.model.attestation import STARTED, Attestation, key_fingerprint, replayed
from bunker.model.heartbeat import Start, Tier, attested_hash, canonical, parse
from bunker.open.attestation import Expected, faults

LOADER, KERNEL, OTHER = (hashlib.sha256(name).digest() for name in (b"loader", b"kernel", b"other"))
IMAGE = Expected(kernels={KERNEL.hex()}, loaders={LOADER.hex()})


def start() -> Start:
    return appliance_start({})


@pytest.fixture(scope="module")
def chip(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exchange]:
    with software_tpm(tmp_path_factory.mktemp("tpm")) as exchange:
        yield exchange


@pytest.fixture(scope="module")
def attested(chip: Exchange) -> Start:
    log = start_machine(chip, [LOADER, KERNEL])
    one = start()
    tpm = Tpm(chip)
    quote = tpm.quote(attested_hash(one), log=log)
    tpm.forget()
    return msgspec.structs.replace(one, attestation=quote)


def quote_of(found: Start) -> Attestation:
    assert found.attestation is not None
    return found.attestation


def test_a_quote_over_the_images_kernel_holds(attested: Start) -> None:
    key = key_fingerprint(quote_of(attested).key)
    firmware = quote_of(attested).registers["0"]
    assert faults(attested, IMAGE) == []
    assert faults(attested, Expected(keys=[key], registers={0: firmware, 7: "0" * 64})) == []
    assert parse(canonical(attested), Start) == attested


def test_the_same_tpm_has_the_same_key_each_time_and_another_one_another(chip: Exchange, tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        tpm = Tpm(chip)
        keys.append(tpm.key)
        tpm.forget()
    with software_tpm(tmp_path / "other") as other:
        keys.append(Tpm(other).key)
    assert keys[0] == keys[1] != keys[2]


def test_a_start_without_a_quote_is_told(attested: Start) -> None:
    assert faults(start(), IMAGE) == ["no TPM has signed for it"]
    assert b"attestation" not in canonical(start())


def flip(text: str, at: int) -> str:
    return text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]


@pytest.mark.parametrize("field", ["key", "quoted", "signature"])
def test_every_byte_of_it_counts(field: str, attested: Start) -> None:
    found = quote_of(attested)
    text = getattr(found, field)
    for at in range(0, len(text), 2):
        changed = msgspec.structs.replace(found, **{field: flip(text, at)})
        assert faults(msgspec.structs.replace(attested, attestation=changed), IMAGE), (field, at)


@pytest.mark.parametrize(
    ("field", "value"),
    [("public_key", "ac" * 32), ("image", "9" * 64), ("bundle", "9" * 64), ("tier", Tier.VM), ("run", "1" * 32)],
)
def test_a_quote_of_another_run_is_refused(field: str, value: str, attested: Start) -> None:
    changed = msgspec.structs.replace(attested, **{field: value})
    assert faults(changed, IMAGE) == ["the TPM signed for another run"]


def test_registers_that_were_not_signed_are_refused(attested: Start) -> None:
    found = quote_of(attested)
    changed = msgspec.structs.replace(found, registers=found.registers | {"7": "1" * 64})
    wrong = faults(msgspec.structs.replace(attested, attestation=changed), Expected())
    assert wrong == ["the registers' values are not those that the TPM signed"]


def test_another_tpm_or_firmware_than_enrolled_is_refused(attested: Start) -> None:
    assert faults(attested, Expected(keys=["0" * 64])) == ["another TPM's key signed"]
    assert faults(attested, Expected(registers={0: "0" * 64})) == ["register 0 has another value"]


def _drop(started: list[str]) -> list[str]:
    return started[:-1]


def _add(started: list[str]) -> list[str]:
    return [*started, KERNEL.hex()]


@pytest.mark.parametrize("change", [_drop, _add], ids=["shorter", "longer"])
def test_a_log_that_does_not_explain_the_register_is_refused(
    change: Callable[[list[str]], list[str]], attested: Start
) -> None:
    found = quote_of(attested)
    changed = msgspec.structs.replace(found, started=change(found.started))
    wrong = faults(msgspec.structs.replace(attested, attestation=changed), IMAGE)
    assert wrong == ["the firmware's log does not explain what was started"]


@pytest.mark.parametrize(
    ("programs", "wrong"),
    [
        ([LOADER, OTHER], "another kernel than the image's was started"),
        ([OTHER, KERNEL], "1 programs that the image does not name were started before the kernel"),
        ([LOADER, KERNEL, OTHER], "another kernel than the image's was started"),
        ([], "another kernel than the image's was started"),
    ],
    ids=["other-kernel", "other-loader", "something-after", "nothing"],
)
def test_what_else_was_started_is_found(programs: list[bytes], wrong: str, tmp_path: Path) -> None:
    with software_tpm(tmp_path / "tpm") as exchange:
        log = start_machine(exchange, programs)
        quote = Tpm(exchange).quote(attested_hash(start()), log=log)
    assert wrong in faults(msgspec.structs.replace(start(), attestation=quote), IMAGE)
    # The control: without an image to compare with, it is a good quote.
    assert faults(msgspec.structs.replace(start(), attestation=quote), Expected()) == []


def test_the_firmwares_own_words_may_stand_behind_the_kernel(tmp_path: Path) -> None:
    with software_tpm(tmp_path / "tpm") as exchange:
        log = start_machine(exchange, [KERNEL], words_last=True)
        quote = Tpm(exchange).quote(attested_hash(start()), log=log)
    assert faults(msgspec.structs.replace(start(), attestation=quote), IMAGE) == []


def test_the_log_is_read_to_its_last_event_or_not_at_all() -> None:
    with_others = entry(0, OTHER) + entry(4, LOADER) + entry(4, OTHER, kind=3) + entry(4, KERNEL, data=bytes(5000))
    head = start_machine(_nobody, [])
    log = head + with_others
    assert measured(log, STARTED)[-2:] == [LOADER, KERNEL]
    assert replayed([digest.hex() for digest in measured(b"", STARTED)]) == "0" * 64
    for cut in (1, 3, 4999, 5010):
        with pytest.raises(BoxError, match="cannot be read"):
            measured(log[:-cut], STARTED)
    with pytest.raises(BoxError, match="cannot be read"):
        measured(head + entry(4, KERNEL) * 33, STARTED)


def _nobody(_command: bytes) -> bytes:
    return bytes(10)


def test_a_log_longer_than_the_limit_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(bytes(2 << 20))
    assert read_log(tmp_path / "none") == b""
    with pytest.raises(BoxError, match="longer than the limit"):
        read_log(tmp_path / "log")


def test_a_tpm_that_answers_something_else_stops_the_start(chip: Exchange) -> None:
    with pytest.raises(BoxError, match="refused"):
        Tpm(lambda command: chip(command[:6] + b"\0\0\1\xff" + command[10:]))
    with pytest.raises(BoxError, match="cut short"):
        Tpm(lambda _: b"\x80\x01\0\0\0\x0a\0\0\0\0")
    with pytest.raises(BoxError, match="not of the kind"):
        Tpm(lambda _: b"\x80\x01\0\0\0\x0b\0\0\0\0")

    def other_key(command: bytes) -> bytes:
        answer = bytearray(chip(command))
        answer[30] ^= 1
        return bytes(answer)

    with pytest.raises(BoxError, match="another key"):
        Tpm(other_key)


def test_a_register_that_moves_between_quote_and_reading_is_found(chip: Exchange) -> None:
    def moving(command: bytes) -> bytes:
        answer = chip(command)
        if command[6:10] == b"\0\0\x01\x58":
            extend(chip, 7, OTHER)
        return answer

    quote = Tpm(moving).quote(attested_hash(start()), log=b"")
    wrong = faults(msgspec.structs.replace(start(), attestation=quote), Expected())
    assert wrong == ["the registers' values are not those that the TPM signed"]
