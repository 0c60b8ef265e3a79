"""Process 1 of the sealed image: makes the machine a closed box, starts the process box in it, ends the machine.

    kernel ▶ here ▶ wipe memory ▶ harden ▶ spool under a new key ▶ firewall ▶ bundle ▶ way out ▶ box ▶ power off

Rules of this file:
1. The steps stand in one table, in order; each raises if it cannot do what it is for, and then the machine ends. There
   is no step that may fail.
2. However it ends, the keys go first: the box is killed, the spool's key is overwritten, then the power goes off.
3. Nobody is served and nothing is asked for: no login, no shell, no signal, no console. What is told goes to the
   kernel's log, in words of ours, which only a kernel with a console shows.
4. Nothing comes from outside but the run disk (`orders`), read once, and one bit: that the open box has sent anything
   on the link means that the run shall end in order. What it sent is not read.

Source: the paper's closed box (section 4); what differs: no virtual machine monitor's console, a jail inside.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from bunker import limits
from bunker.closed.egress.target import open_egress
from bunker.closed.machine import hardening, mapper, network, system, tpm
from bunker.closed.machine.disks import Disks, device_bytes, find_disks
from bunker.closed.machine.orders import Orders, unpack, whole_bytes
from bunker.closed.machine.tpm import Tpm
from bunker.closed.process.jail import Process
from bunker.closed.process.setup import Source, start_box
from bunker.errors import BoxError, BunkerError, ConfigurationError
from bunker.experiment.bundle import Bundle, open_bundle
from bunker.model.heartbeat import canonical
from bunker.policy.load import policy_of

SPOOL = Path("/spool")
_SPOOL_NAME = "spool"
_MKE2FS = "/usr/sbin/mke2fs"
_HEAD = 4096


class Machine:
    """What the steps leave for each other."""

    def __init__(self, *, image: str, walls: dict[str, str]) -> None:
        self.image, self.walls = image, walls
        self.disks: Disks
        self.orders: Orders
        self.bundle: Bundle
        self.capture: str | None = None
        self.egress_fd = -1
        self.link: socket.socket
        self.tpm: Tpm | None = None
        self.attest_fds = (-1, -1)
        self.box: Process | None = None

    def mount_system(self) -> None:
        """The kernel's own file systems: other processes' entries hidden, /sys read-only, two volatile directories."""
        system.mount("proc", "/proc", "proc", system.SEALED_FLAGS, "hidepid=invisible")
        system.mount("sys", "/sys", "sysfs", system.SEALED_FLAGS | system.MS_RDONLY)
        system.mount("security", "/sys/kernel/security", "securityfs", system.SEALED_FLAGS | system.MS_RDONLY)
        system.mount("run", "/run", "tmpfs", system.SEALED_FLAGS, "mode=0755,size=16m")
        system.mount("tmp", "/tmp", "tmpfs", system.SEALED_FLAGS, "mode=0700,size=16m")  # noqa: S108 - made here, ours alone

    def wipe_memory(self) -> None:
        """What an earlier start left in memory is overwritten before anything new is kept in it."""
        wiped = system.overwrite_free_memory(spare=limits.MACHINE_SPARE_BYTES.default)
        say(f"{wiped >> 20} MiB of memory overwritten")

    def harden(self) -> None:
        """Kernel switches, no core dumps, no swap; what the kernel enforces goes into the start statement."""
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        self.walls |= hardening.apply()

    def find_disks(self) -> None:
        """Which disk is which."""
        self.disks = find_disks()

    def find_tpm(self) -> None:
        """The machine's TPM, if it has one, with its key made; the start statement says if it has none."""
        if not tpm.DEVICE.exists():
            self.walls["tpm"] = "missing: no TPM here"
            return
        self.tpm = Tpm()
        self.walls["tpm"] = "enforced"

    def read_orders(self) -> None:
        """The run disk, once; the bundle is the one whose digest it names, and its policy holds."""
        with self.disks.run.open("rb", buffering=0) as disk:
            content = disk.read(_HEAD)
            rest = whole_bytes(content) - len(content)
            while rest > 0:
                piece = disk.read(rest)
                if not piece:
                    break
                content, rest = content + piece, rest - len(piece)
        self.orders, text = unpack(content)
        self.bundle = open_bundle(text)
        bundle = self.bundle
        policy_of(bundle.policy_text, bundle.schemas, bundle.lists, name=bundle.policy_name)
        if len(self.orders.captures) != len(self.disks.captures):
            raise BoxError("run disk", "it names another number of capture files than there are disks", "Start anew")

    def make_spool(self) -> None:
        """The spool's disk under plain dm-crypt with a key of this start; an empty file system on it."""
        sectors = device_bytes(self.disks.spool) // mapper.SECTOR
        node = mapper.open_encrypted(_SPOOL_NAME, str(self.disks.spool), sectors=sectors)
        # No journal: nothing of it is ever read again after a crash.
        made = subprocess.run(
            [_MKE2FS, "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-E", "nodiscard", node],
            capture_output=True,
            check=False,
            env={},
        )
        if made.returncode != 0:
            raise BoxError("spool disk", "no file system can be made on it", "Give a larger disk")
        system.mount(node, str(SPOOL), "ext4", system.SEALED_FLAGS | system.MS_NOATIME)

    def set_up_network(self) -> None:
        """Firewall, then interfaces."""
        self.capture = network.set_up(self.orders.way)
        if (self.capture is None) is not bool(self.orders.captures):
            raise BoxError("traffic", "comes from one place", "Give a capture interface or capture files, not both")

    def connect(self) -> None:
        """The way out, tried for a while: the open box may start a moment later."""
        way = self.orders.way
        until = time.monotonic() + limits.MACHINE_CONNECT_S.default
        while True:
            try:
                self.egress_fd = open_egress(f"{way.target}:{way.port}")
                self.link = socket.socket(fileno=os.dup(self.egress_fd))
                return
            except ConfigurationError:
                if time.monotonic() >= until:
                    raise
                time.sleep(1)

    def start(self) -> None:
        """The same box as `bunker run` starts on any machine."""
        captures = self.disks.captures if self.orders.captures else ()
        releaser_fds = None
        if self.tpm is not None:
            (asked, ask), (answer, answered) = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
            self.attest_fds, releaser_fds = (asked, answered), (ask, answer)
        self.box = start_box(
            self.bundle,
            Source(interface=self.capture, files=captures, lengths=self.orders.captures),
            egress_fd=self.egress_fd,
            base=SPOOL,
            spool_directory=SPOOL / "spool",
            tier=hardening.tier(),
            image=self.image,
            walls=self.walls,
            attest_fds=releaser_fds,
        )

    def attest(self) -> None:
        """Sign what was started here together with the start statement's hash, once."""
        if self.tpm is None:
            return
        asked, answered = self.attest_fds
        nonce = os.read(asked, hashlib.sha256().digest_size)
        os.close(asked)
        if nonce:  # else the box has ended already
            with suppress(BrokenPipeError):
                os.write(answered, canonical(self.tpm.quote(nonce, log=tpm.read_log())))
        os.close(answered)
        self.tpm.forget()

    def stay(self) -> None:
        """Until the box has ended; its statement has left or never will. The open box may ask for the end, in order."""
        assert self.box is not None
        asked = False
        while (status := self.box.wait(limits.MACHINE_LOOK_S.default)) is None:
            if not asked and network.asked_to_end(self.link):
                asked = True
                say("the open box asks for the end")
                self.box.terminate()
        say(f"the box ended with status {status}")
        until = time.monotonic() + limits.MACHINE_DELIVER_S.default
        network.close_link(self.link, timeout_s=limits.MACHINE_DELIVER_S.default)
        while time.monotonic() < until and not network.delivered(self.orders.way):
            time.sleep(0.1)

    def steps(self) -> tuple[Callable[[], None], ...]:
        """All of them, in order. Memory first; nothing of the outside before the firewall."""
        return (
            self.mount_system,
            self.wipe_memory,
            self.harden,
            self.find_disks,
            self.find_tpm,
            self.read_orders,
            self.make_spool,
            self.set_up_network,
            self.connect,
            self.start,
            self.attest,
            self.stay,
        )

    def destroy(self) -> None:
        """Keys first. Never raises."""
        if self.box is not None:
            with suppress(OSError, BunkerError):
                self.box.kill()
        if mapper.forget_key(_SPOOL_NAME):
            say("the spool's key is overwritten")


def say(words: str) -> None:
    """A line of ours in the kernel's log."""
    with suppress(OSError), Path("/dev/kmsg").open("wb", buffering=0) as log:
        log.write(f"<5>bunker: {words}".encode())


def main() -> NoReturn:
    """Run as process 1; never returns."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    machine = Machine(image=os.environ.get("BUNKER_IMAGE", ""), walls=_walls(os.environ.get("BUNKER_KERNEL", "")))
    os.environ.clear()
    run(machine)
    machine.destroy()
    system.end_machine()
    os._exit(1)  # the kernel did not switch off: without process 1 it panics, which restarts the machine


def run(machine: Machine) -> bool:
    """The steps, up to the first that fails. False: one did."""
    for step in machine.steps():
        try:
            step()
        except BunkerError as error:
            say(f"{step.__name__}: {error}")
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, the machine ends in order; class and line, no text
            say(f"{step.__name__}: {_place(error)}")
            return False
        say(f"{step.__name__} done")
    return True


def _place(error: BaseException) -> str:
    at = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    where = "" if at is None else f" at {Path(at.tb_frame.f_code.co_filename).name}, line {at.tb_lineno}"
    return f"{type(error).__name__}{where}"


def _walls(kernel: str) -> dict[str, str]:
    """Whether the kernel is the image's own: what Debian's lacks is said in the start statement."""
    if kernel == "own":
        return {"image_kernel": "enforced"}
    return {"image_kernel": "missing: a distribution kernel with an open command line, for tests"}
