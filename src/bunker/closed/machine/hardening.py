"""Switches of the kernel that process 1 sets, and what must not be there at all.

Rules of this file:
1. A switch whose file exists is set and read back; a switch that does not exist belongs to a feature the kernel lacks.
2. What the image's own kernel is built without is looked for, and its absence is what stands in the start statement.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from bunker.errors import BoxError
from bunker.model.heartbeat import Tier

_SYSCTL = Path("/proc/sys")

SWITCHES: Final[tuple[tuple[str, str, str], ...]] = (
    ("kernel/modules_disabled", "1", "no code is loaded into the kernel from here on"),
    ("kernel/kexec_load_disabled", "1", "no other kernel takes over with memory as it is"),
    ("kernel/sysrq", "0", "no keys to the kernel"),
    ("kernel/core_pattern", "", "no core dump goes anywhere"),
    ("kernel/dmesg_restrict", "1", "the kernel's log is not for processes"),
    ("kernel/kptr_restrict", "2", "no kernel addresses in files"),
    ("kernel/perf_event_paranoid", "3", "no performance counters on others"),
    ("kernel/unprivileged_bpf_disabled", "1", "no BPF programs"),
    ("kernel/unprivileged_userns_clone", "0", "user namespaces are the supervisor's launcher's alone"),
    ("kernel/yama/ptrace_scope", "3", "no process looks into another, whoever it is"),
    ("kernel/panic", "-1", "a kernel that went wrong restarts at once"),
    ("kernel/panic_on_oops", "1", "and does not go on"),
    ("fs/suid_dumpable", "0", "what has changed its user is not dumped"),
    ("vm/swappiness", "0", "nothing would be swapped, if there were a place"),
    ("net/ipv4/ip_forward", "0", "nothing passes through"),
    ("net/ipv4/icmp_echo_ignore_all", "1", "nothing answers"),
    ("net/ipv6/conf/all/disable_ipv6", "1", "IPv4 to the open box is the only way"),
    ("net/ipv6/conf/default/disable_ipv6", "1", "the same for interfaces that come later"),
)
"""(file, value, why)."""

ABSENT: Final[tuple[tuple[str, str], ...]] = (
    ("no_modules", "/proc/modules"),
    ("no_swap_code", "/proc/swaps"),
    ("no_kernel_core", "/proc/kcore"),
    ("no_physical_memory_device", "/dev/mem"),
    ("no_terminals", "/dev/tty"),
    ("no_console", "/dev/ttyS0"),
    ("no_input_devices", "/sys/class/input"),
    ("no_usb", "/sys/bus/usb"),
    ("no_kexec", "/sys/kernel/kexec_loaded"),
    ("no_hibernation", "/sys/power/resume"),
    ("no_firmware_config", "/sys/firmware/qemu_fw_cfg"),
    ("no_smbios", "/sys/firmware/dmi"),
    ("no_debug_files", "/sys/kernel/debug"),
)
"""(name in the start statement, path that a kernel without it does not have)."""


def apply(*, sysctl: Path = _SYSCTL, root: Path = Path("/")) -> dict[str, str]:
    """Set every switch, look for what must not be there.

    Returns:
        Entries for the start statement: "enforced" or "missing: …".
    Raises:
        BoxError: a switch does not stay set, or swap is in use.
    """
    for name, value, _ in SWITCHES:
        _set(sysctl / name, value)
    swaps = root / "proc/swaps"
    if swaps.exists() and len(swaps.read_text().splitlines()) > 1:
        raise BoxError("swap", "this machine swaps", "The image never switches it on: this is a bug")
    found = {
        name: "missing: this kernel has it" if (root / path.lstrip("/")).exists() else "enforced"
        for name, path in ABSENT
    }
    lockdown = root / "sys/kernel/security/lockdown"
    locked = lockdown.exists() and "[confidentiality]" in lockdown.read_text()
    return found | {"lockdown_confidentiality": "enforced" if locked else "missing: not seen"}


def tier(cpuinfo: Path = Path("/proc/cpuinfo")) -> Tier:
    """VM if the processor says that a hypervisor runs it, else APPLIANCE.

    A hypervisor that lies is not found out by this; the machine's TPM is what tells (docs/image.md).
    """
    flags = next((line for line in cpuinfo.read_text().splitlines() if line.startswith("flags")), "")
    return Tier.VM if "hypervisor" in flags.split() else Tier.APPLIANCE


def _set(path: Path, value: str) -> None:
    if not path.exists():
        return
    try:
        path.write_text(f"{value}\n")
        now = path.read_text().strip()
    except OSError as error:
        raise BoxError(
            f"switch {path.name}", f"cannot be set ({error.strerror})", "The machine does not start"
        ) from None
    if now != value:
        raise BoxError(f"switch {path.name}", "does not stay set", "The machine does not start")
