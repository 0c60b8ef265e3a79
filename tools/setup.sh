#!/usr/bin/env bash
# Debian packages that the project needs; run by `make setup`. As an ordinary user it only says what is missing.
set -euo pipefail

# name of the package          what it is for
packages=(
    python3-venv             # .venv
    libpcap0.8               # compiles capture filters (libpcap's expression language)
    iproute2                 # network namespaces and veth pairs: live demo, tests
    ethtool                  # offloads off on those
    tcpdump                  # peer in tests and benchmarks
    spamassassin             # engine and rules of the analyzer `spamassassin`
    e2fsprogs                # mkfs.ext4: the disk whose every byte bunker rehearse searches
)
# Wanted by some tests and benchmarks, not by Bunker itself: when one cannot be had, its test says so.
peers=(
    tshark                   # peer: analysis
    libtrace-tools           # peer: traceanon
    tcpreplay                # peer: tcprewrite
    pktanon                  # peer: PktAnon
    netsniff-ng              # peer: capture
    tcpflow                  # peer: streams
    libcap2-bin              # capsh, in tests of the jail
)
# Builds and starts the sealed image (docs/image.md).
image=(
    build-essential flex bison bc xz-utils zstd kmod ccache libelf-dev libssl-dev  # our kernel, from linux-source-6.1
    squashfs-tools           # root file system
    cryptsetup-bin           # veritysetup: its hash tree
    qemu-system-x86          # the machine; its tests
    nftables                 # tests of the rules
    ovmf dosfstools mtools gdisk systemd-boot-efi   # the appliance's disk, and a firmware to test it with
    swtpm swtpm-tools tpm2-tools                    # a TPM for tests
)

missing=()
for package in "${packages[@]}" "${peers[@]}" "${image[@]}"; do
    dpkg -s "$package" >/dev/null 2>&1 || missing+=("$package")
done
if [ "${#missing[@]}" -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -qq
        apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    else
        echo "setup: these Debian packages are missing: ${missing[*]} (install them as root: apt-get install ...)" >&2
    fi
fi

if ! command -v cargo >/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get install -y -qq --no-install-recommends rustup >/dev/null 2>&1 || true
    fi
    command -v cargo >/dev/null || {
        echo "setup: cargo is missing. Install a Rust toolchain (1.88 or newer), as your distribution or rustup provides it." >&2
        exit 1
    }
fi

version=$(cargo --version | sed -E 's/^cargo ([0-9]+)\.([0-9]+).*/\1 \2/')
read -r major minor <<<"$version"
if [ "$major" -lt 1 ] || { [ "$major" -eq 1 ] && [ "$minor" -lt 88 ]; }; then
    echo "setup: cargo $major.$minor is too old; 1.88 or newer is needed." >&2
    exit 1
fi
