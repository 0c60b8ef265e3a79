"""Puts packets into the receive path of a veth end as a driver would: BPF_PROG_RUN with live XDP frames that all pass.

    python -m bunker.cli.bench.inject INTERFACE SIZE PACKETS

Several million packets a second on one core, where sending through the other end yields half a million: without another
machine the only way to offer more than a capture tool can take. Prints what `sender` prints. Exit code 3: this kernel
or this user may not do it. Linux 5.18 or newer, root.

Source: the kernel's Documentation/bpf/bpf_prog_run.rst.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import socket
import struct
import sys
import time

from bunker.cli.bench.sender import packet

UNSUPPORTED = 3
FLOWS = 8
_BPF = {"x86_64": 321, "aarch64": 280}
_PROG_LOAD, _PROG_RUN, _LINK_CREATE = 5, 10, 28
_XDP_PROGRAM, _XDP_ATTACH, _LIVE_FRAMES, _BATCH = 6, 37, 2, 64
# r0 = XDP_PASS; exit
_PASS = struct.pack("<BBhi", 0xB7, 0, 0, 2) + struct.pack("<BBhi", 0x95, 0, 0, 0)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, 128)
    result = int(ctypes.CDLL(None, use_errno=True).syscall(_BPF[platform.machine()], command, buffer, len(buffer)))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Injector:
    """A program that lets all packets pass, attached to the interface (else a veth has no queue for XDP)."""

    def __init__(self, interface: str) -> None:
        self._index = socket.if_nametoindex(interface)
        code, licence = ctypes.create_string_buffer(_PASS), ctypes.create_string_buffer(b"GPL")
        places = (ctypes.addressof(code), ctypes.addressof(licence))
        head = struct.pack("=IIQQIIQII16sII", _XDP_PROGRAM, 2, *places, 0, 0, 0, 0, 0, b"bench", 0, _XDP_ATTACH)
        self._program = _bpf(_PROG_LOAD, head)
        self._link = _bpf(_LINK_CREATE, struct.pack("=IIII", self._program, self._index, _XDP_ATTACH, 0))

    def send(self, size: int, packets: int) -> float:
        """Put in `packets` packets of `size` bytes, of a few flows; returns the seconds it took."""
        started = time.monotonic()
        for flow in range(FLOWS):
            count = packets // FLOWS + (flow < packets % FLOWS)
            if not count:
                continue
            data = ctypes.create_string_buffer(packet(flow, size), size)
            context = ctypes.create_string_buffer(struct.pack("=IIIIII", 0, size, 0, self._index, 0, 0))
            places = (ctypes.addressof(data), 0)
            head = struct.pack("=IIIIQQII", self._program, 0, size, 0, *places, count, 0)
            tail = struct.pack("=IIQQIIII", 24, 0, ctypes.addressof(context), 0, _LIVE_FRAMES, 0, _BATCH, 0)
            _bpf(_PROG_RUN, head + tail)
        return time.monotonic() - started


def main() -> None:
    """The command line."""
    interface, size, packets = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    try:
        injector = Injector(interface)
        seconds = injector.send(size, packets)
    except (OSError, KeyError) as error:
        print(f"live XDP frames: {error}", file=sys.stderr)
        sys.exit(UNSUPPORTED)
    print(json.dumps({"packets": packets, "seconds": seconds, "cpu_s": time.process_time(), "way": "xdp"}))


if __name__ == "__main__":
    main()
