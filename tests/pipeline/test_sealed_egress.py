"""A run that seals its stream to a remote open box: only the owner of the private key can read or verify it."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

import pytest
from boxes import BUNKER, TRAFFIC, Study, balanced, bunker, counters, rows, study


def sealed_study(folder: Path, *, box_key: str) -> Study:
    made = study(folder)
    made.file.write_text(made.file.read_text() + f'seal_to = "{box_key}"\n')
    return made


@pytest.fixture
def private_key(tmp_path: Path) -> tuple[Path, str]:
    path = tmp_path / "open-box.pem"
    made = bunker("receive", "--new-key", str(path))
    assert made.returncode == 0, made.stderr
    return path, made.stdout.decode().strip()


@pytest.mark.parametrize("box", ["process", "none"])
def test_a_sealed_stream_is_the_same_run_for_its_owner_and_noise_for_others(
    box: str, private_key: tuple[Path, str], tmp_path: Path
) -> None:
    path, public = private_key
    stream = tmp_path / "stream"
    one = sealed_study(tmp_path / "s", box_key=public)
    done = bunker("run", str(one.file), "--to", f"file:{stream}", "--closed-box", box, "--read", str(TRAFFIC))
    assert done.returncode == 0, done.stderr
    content = stream.read_bytes()
    assert not any(word in content for word in (b"BNKR", b"bundle", b"counters", b"ARROW", b"status_code"))

    opened = bunker("receive", "--from", str(stream), "-o", str(tmp_path / "out"), "--private-key", str(path))
    assert opened.returncode == 0, opened.stderr
    assert b"WHOLE" in opened.stdout
    assert bunker("verify", str(tmp_path / "out")).returncode == 0
    assert len(rows(tmp_path / "out", "http")) == 464 and balanced(counters(tmp_path / "out"))

    for number, words in enumerate(([], ["--private-key", str(tmp_path / "stranger.pem")])):
        if words:
            bunker("receive", "--new-key", words[1])
        refused = bunker("receive", "--from", str(stream), "-o", str(tmp_path / f"no-{number}"), *words)
        assert refused.returncode == 1 and b"WHOLE" not in refused.stdout
        assert (b"--private-key" in refused.stdout) is not bool(words)
        assert not list((tmp_path / f"no-{number}").rglob("*.parquet"))


def test_a_listening_open_box_opens_what_is_sealed_to_it(private_key: tuple[Path, str], tmp_path: Path) -> None:
    path, public = private_key
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    out = tmp_path / "out"
    receiver = subprocess.Popen(
        [*BUNKER, "receive", "--listen", address, "-o", str(out), "--private-key", str(path)], stderr=subprocess.PIPE
    )
    assert receiver.stderr is not None and b"listening" in receiver.stderr.readline()
    one = sealed_study(tmp_path / "s", box_key=public)
    done = bunker("run", str(one.file), "--to", address, "--read", str(TRAFFIC))
    assert done.returncode == 0, done.stderr
    receiver.terminate()
    receiver.communicate(timeout=60)
    assert receiver.returncode == 0
    assert bunker("verify", str(out)).returncode == 0 and len(rows(out, "http")) == 464


def test_a_receiver_on_the_spot_cannot_open_it_and_is_told_so_before_the_start(
    private_key: tuple[Path, str], tmp_path: Path
) -> None:
    one = sealed_study(tmp_path / "s", box_key=private_key[1])
    done = one.run(tmp_path / "out", "--read", str(TRAFFIC))
    assert done.returncode == 2 and b"--private-key" in done.stderr and not (tmp_path / "out").exists()


def test_a_key_that_is_none_is_refused_with_its_line(tmp_path: Path) -> None:
    one = sealed_study(tmp_path / "s", box_key="00ff")
    done = one.run(tmp_path / "out", "--read", str(TRAFFIC))
    assert done.returncode == 2 and b"egress.seal_to" in done.stderr and b"line" in done.stderr
