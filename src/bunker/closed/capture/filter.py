"""libpcap's filter expressions, compiled at set-up: for the kernel (live) and for the core (files).

libpcap is used for its compiler alone, through ctypes; it never sees a packet.
"""

from __future__ import annotations

import ctypes
import ctypes.util

from bunker.errors import ConfigurationError

# The link types that a capture file may have and an expression may mean something on.
LINKTYPES = (0, 1, 9, 12, 14, 51, 101, 104, 105, 108, 113, 127, 228, 229, 276)
# LINKTYPE_RAW (101) is DLT_RAW (12) for libpcap's compiler on Linux; likewise the loop and null types agree.
_DLT = {101: 12}
_NETMASK_UNKNOWN = 0xFFFF_FFFF


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.POINTER(_Instruction)))


def _library() -> ctypes.CDLL:
    name = ctypes.util.find_library("pcap") or "libpcap.so.0.8"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        raise ConfigurationError(
            "capture.filter",
            "libpcap is not installed",
            "Install it (Debian: apt-get install libpcap0.8), or leave the filter out",
        ) from None
    library.pcap_open_dead.restype = ctypes.c_void_p
    library.pcap_geterr.restype = ctypes.c_char_p
    library.pcap_geterr.argtypes = [ctypes.c_void_p]
    library.pcap_compile.argtypes = [
        ctypes.c_void_p,
        ctypes.POINTER(_Program),
        ctypes.c_char_p,
        ctypes.c_int,
        ctypes.c_uint32,
    ]
    library.pcap_freecode.argtypes = [ctypes.POINTER(_Program)]
    library.pcap_close.argtypes = [ctypes.c_void_p]
    return library


def compile_filter(expression: str, *, linktype: int, snaplen: int) -> bytes:
    """The program of an expression on a link type: eight bytes an instruction, as the kernel has them.

    Raises:
        ConfigurationError: libpcap is missing, or does not understand the expression (its own words say where).
    """
    library = _library()
    handle = library.pcap_open_dead(_DLT.get(linktype, linktype), snaplen)
    program = _Program()
    try:
        if library.pcap_compile(handle, ctypes.byref(program), expression.encode(), 1, _NETMASK_UNKNOWN) != 0:
            reason = library.pcap_geterr(handle).decode(errors="replace")
            raise ConfigurationError(
                "capture.filter", f"{expression!r} is no filter ({reason})", "See the manual page pcap-filter(7)"
            )
        data = ctypes.string_at(program.instructions, program.length * ctypes.sizeof(_Instruction))
        library.pcap_freecode(ctypes.byref(program))
    finally:
        library.pcap_close(handle)
    return data


def filters_for_files(expression: str, *, snaplen: int) -> dict[int, bytes] | None:
    """Programs by link type; None without an expression. On Ethernet the expression must compile; where else it does
    not, nothing of that link passes.

    Raises:
        ConfigurationError: as `compile_filter`, for Ethernet.
    """
    if not expression:
        return None
    programs = {1: compile_filter(expression, linktype=1, snaplen=snaplen)}
    for linktype in LINKTYPES:
        if linktype not in programs:
            try:
                programs[linktype] = compile_filter(expression, linktype=linktype, snaplen=snaplen)
            except ConfigurationError:
                continue
    return programs
