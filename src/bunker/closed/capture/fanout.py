"""Which lane the kernel gives a packet to: a program of classic BPF that hashes the pair of IP addresses.

The reader of capture files does the same (`crates/wire/src/flowhash.rs`).

Place in the flow: network interface ▶ kernel, this program ▶ one ring of each lane.

Rules of this file:
1. The kernel's own hash takes ports, which the second fragment of a datagram has not; to make up for it the kernel
   would put fragments together before anybody counts them, and a datagram of which one fragment is missing would be
   gone without a trace. So the pair of addresses decides, and every packet arrives as it stood on the wire.
2. Keyed by a seed of the run: nobody outside can aim at one lane. Direction-less: both ways of a flow are one lane.
3. Behind VLAN tags, PPPoE and MPLS labels it looks for IP; what has none is lane 0's.

Source: Documentation/networking/filter.rst (SKF_NET_OFF, SKF_AD_PROTOCOL); packet(7), PACKET_FANOUT_CBPF.
"""

from __future__ import annotations

import struct
from typing import Final

_NET_OFFSET: Final = -0x100000 & 0xFFFFFFFF
_PROTOCOL: Final = -0x1000 & 0xFFFFFFFF
_LD_W_ABS, _LD_W_IND, _LD_H_IND, _LD_B_IND = 0x20, 0x40, 0x48, 0x50
_LD_MEM, _LDX_MEM, _LDX_IMM, _ST, _STX = 0x60, 0x61, 0x01, 0x02, 0x03
_XOR_X, _ADD_X, _ADD_K, _MUL_K, _RSH_K, _AND_K = 0xAC, 0x0C, 0x04, 0x24, 0x74, 0x54
_JA, _JEQ, _RET_K, _RET_A, _TAX = 0x05, 0x15, 0x06, 0x16, 0x07
_FACTOR: Final = 0x9E3779B1
"""2^32 divided by the golden ratio, made odd: multiplicative hashing (Knuth, volume 3, section 6.4)."""
_VLANS, _LABELS = 2, 4
_ETHER_V4, _ETHER_V6, _ETHER_PPPOE = 0x0800, 0x86DD, 0x8864
_ETHER_VLAN, _ETHER_MPLS = (0x8100, 0x88A8), (0x8847, 0x8848)
_AT, _KEEP, _SUM = 0, 1, 2
"""Scratch words: where the network header is looked for, a value to combine with, the addresses' sum."""


class _Program:
    """Instructions with jumps to names; all of them lead forward."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, str | None]] = []
        self._places: dict[str, int] = {}

    def do(self, code: int, k: int = 0) -> None:
        self._code.append((code, k, None))

    def jump_if(self, value: int, to: str) -> None:
        """To `to` if the accumulator is `value`; else on."""
        self._code.append((_JEQ, value, to))

    def jump(self, to: str) -> None:
        self._code.append((_JA, 0, to))

    def place(self, name: str) -> None:
        self._places[name] = len(self._code)

    def assembled(self) -> bytes:
        """The program; a conditional jump, which reaches 255 instructions, is one over a plain jump."""
        code: list[tuple[int, int, str | None]] = []
        moved: dict[int, int] = {}
        for number, (word, k, to) in enumerate(self._code):
            moved[number] = len(code)
            if word == _JEQ:
                code += [(_JEQ, k, None), (_JA, 0, to)]
            else:
                code.append((word, k, to))
        out = b""
        for number, (word, k, to) in enumerate(code):
            ahead = 0 if to is None else moved[self._places[to]] - number - 1
            # jeq: fall into the plain jump, or step over it
            yes, no = (0, 1) if word == _JEQ else (0, 0)
            out += struct.pack("<HBBI", word, yes, no, ahead if word == _JA else k)
        return out


def lane_program(seed: int) -> bytes:
    """The program; the kernel takes its answer modulo the number of lanes.

    Args:
        seed: 32 random bits of the run.
    """
    program = _Program()
    program.do(_LDX_IMM, 0)
    program.do(_STX, _AT)
    program.do(_LD_W_ABS, _PROTOCOL)
    for number in range(_VLANS):
        for kind in _ETHER_VLAN:
            program.jump_if(kind, f"vlan-{number}")
        program.jump("link")
        program.place(f"vlan-{number}")
        _step(program, 4)
        _load(program, _LD_H_IND, -2)
    program.place("link")
    for kind, to in ((_ETHER_V4, "ip"), (_ETHER_V6, "ip"), (_ETHER_PPPOE, "pppoe")):
        program.jump_if(kind, to)
    for kind in _ETHER_MPLS:
        program.jump_if(kind, "label-0")
    program.jump("none")
    program.place("pppoe")
    _step(program, 8)
    program.jump("ip")
    for number in range(_LABELS):
        program.place(f"label-{number}")
        _step(program, 4)
        _load(program, _LD_B_IND, -2)
        program.do(_AND_K, 1)  # the bottom of the stack
        program.jump_if(1, "ip")
    program.jump("none")
    program.place("ip")
    _load(program, _LD_B_IND, 0)
    program.do(_RSH_K, 4)
    program.jump_if(4, "v4")
    program.jump_if(6, "v6")
    program.place("none")
    program.do(_RET_K, 0)
    program.place("v4")
    _addresses(program, seed, (12,), (16,))
    program.place("v6")
    _addresses(program, seed, (8, 12, 16, 20), (24, 28, 32, 36))
    return program.assembled()


def _step(program: _Program, size: int) -> None:
    """The network header is looked for so much later."""
    program.do(_LD_MEM, _AT)
    program.do(_ADD_K, size)
    program.do(_ST, _AT)


def _load(program: _Program, code: int, offset: int) -> None:
    """Bytes at an offset from where the network header is looked for."""
    program.do(_LDX_MEM, _AT)
    program.do(code, (_NET_OFFSET + offset) & 0xFFFFFFFF)


def _addresses(program: _Program, seed: int, one: tuple[int, ...], other: tuple[int, ...]) -> None:
    """Answer with a hash of the address whose words are at `one` and the one at `other`, whichever comes first."""
    for number, words in enumerate((one, other)):
        program.do(_LDX_IMM, seed)
        program.do(_STX, _KEEP)
        for offset in words:
            _load(program, _LD_W_IND, offset)
            program.do(_LDX_MEM, _KEEP)
            program.do(_XOR_X)
            program.do(_MUL_K, _FACTOR)
            _fold(program)
            program.do(_ST, _KEEP)
        if number == 0:
            program.do(_ST, _SUM)
    program.do(_LDX_MEM, _SUM)
    program.do(_ADD_X)
    program.do(_MUL_K, _FACTOR)
    program.do(_RSH_K, 8)  # the low bits of a product know little of the high ones of its factors
    program.do(_RET_A)


def _fold(program: _Program) -> None:
    """Let the high half have a say in the low one."""
    program.do(_TAX)
    program.do(_RSH_K, 15)
    program.do(_XOR_X)
