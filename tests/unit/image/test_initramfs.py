"""The quick image's archive is one that cpio reads, the same each time."""

from __future__ import annotations

import subprocess
from pathlib import Path

from bunker.image.initramfs import archive
from bunker.image.packages import matches, merged


def test_cpio_reads_the_archive(tmp_path: Path) -> None:
    files = {"init": (b"#!", 0o755), "usr/lib/a/b": (b"12345", 0o644)}
    content = archive(files)
    assert content == archive(dict(reversed(files.items())))
    subprocess.run(["cpio", "-id", "--quiet"], input=content, cwd=tmp_path, check=True)
    assert (tmp_path / "usr/lib/a/b").read_bytes() == b"12345"
    assert (tmp_path / "init").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "lib").resolve() == tmp_path / "usr/lib"
    assert (tmp_path / "dev").is_dir()


def test_paths_are_those_of_a_merged_usr() -> None:
    assert merged("./bin/ls") == "usr/bin/ls"
    assert merged("./lib64/ld-linux-x86-64.so.2") == "usr/lib64/ld-linux-x86-64.so.2"
    assert merged("./usr/bin/nft") == "usr/bin/nft"
    assert merged("./etc/fstab") == "etc/fstab"
    assert merged("./library/x") == "library/x"


def test_a_pattern_crosses_folders() -> None:
    assert matches("usr/lib/x/y.so", ["usr/lib/*.so"])
    assert not matches("usr/share/x", ["usr/lib/*"])
