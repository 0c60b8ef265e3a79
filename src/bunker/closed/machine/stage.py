"""Process 1 of the quick image's initramfs: loads the listed modules, opens the verified root, becomes its process 1.

Only the quick image, for tests, has an initramfs: the sealed kernels have everything built in and map the root
themselves.

Rules of this file:
1. What to load and which root to trust stands in `/stage.json`, inside the initramfs, whose hash the manifest names.
2. The environment that the boot loader may have set is thrown away.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import NoReturn

from bunker.closed.machine import mapper, system
from bunker.closed.machine.disks import ROOT, by_name
from bunker.errors import BoxError

PLAN = Path("/stage.json")
NEW_ROOT = "/root"
INIT = "/sbin/init"
_WAIT_S = 10.0


def main() -> NoReturn:
    """Run as process 1 of the initramfs."""
    plan = json.loads(PLAN.read_text())
    try:
        _open_root(plan)
        os.chdir(NEW_ROOT)
        system.mount(".", "/", "", system.MS_MOVE)
        os.chroot(".")
        os.chdir("/")
        os.execve(INIT, [INIT], {"BUNKER_IMAGE": plan["image"], "BUNKER_KERNEL": "distribution"})  # noqa: S606
    except (BoxError, OSError) as error:
        Path("/dev/kmsg").write_text(f"<5>bunker: stage: {error}")
    system.end_machine()
    os._exit(1)


def _open_root(plan: dict[str, object]) -> None:
    system.mount("dev", "/dev", "devtmpfs", system.MS_NOSUID | system.MS_NOEXEC)
    system.mount("sys", "/sys", "sysfs", system.SEALED_FLAGS)
    for name in str(plan["modules"]).split():
        system.load_module(Path("/modules") / name)
    until = time.monotonic() + _WAIT_S
    while ROOT not in by_name():
        if time.monotonic() > until:
            raise BoxError("root disk", "it is not there", "Start the machine by bunker run")
        time.sleep(0.05)
    verity = mapper.Verity(
        root_hash=str(plan["root_hash"]), salt=str(plan["salt"]), data_blocks=int(str(plan["data_blocks"]))
    )
    node = mapper.open_verity("root", str(by_name()[ROOT]), verity)
    system.mount(node, NEW_ROOT, "squashfs", system.MS_RDONLY | system.MS_NODEV)
    system.mount("/dev", f"{NEW_ROOT}/dev", "", system.MS_MOVE)
