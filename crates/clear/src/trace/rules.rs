//! The rules of a header trace: `[out.pcap]` of a policy, compiled.
//!
//! Rules of this file:
//! 1. Nothing is named, nothing leaves: the default of every rule is drop, and a dropped field is zeros.
//! 2. A rule is (key, word, numbers); what is not understood is refused ([`BadRule`]), not passed over.
use super::facts::Tunnel;
use crate::address_map::{Method, Sites};
use crate::keys::Rotation;

macro_rules! keys {
    ($($variant:ident $name:literal),+ $(,)?) => {
        /// Which rule a byte of the output is accounted to. `Format`: fixed by the standard. `Derived`: lengths and next-header
        /// numbers that follow from what was emitted. `Zero`: no rule named the field, so it says nothing.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        #[allow(missing_docs)]
        pub enum Key { Format, Derived, Zero, $($variant),+ }

        impl Key {
            /// All keys that a policy may set.
            pub const NAMED: &'static [Self] = &[$(Self::$variant),+];

            /// The name in the policy, below `out.pcap`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { Self::Format => "format", Self::Derived => "derived", Self::Zero => "zero", $(Self::$variant => $name),+ }
            }
        }
    };
}

keys!(
    Time "time",
    WireLen "wirelen",
    EthSource "eth.src",
    EthDestination "eth.dst",
    EthType "eth.type",
    Vlan "eth.vlan",
    ArpOperation "arp.op",
    ArpSender "arp.sha",
    ArpTarget "arp.tha",
    ArpSenderIp "arp.spa",
    ArpTargetIp "arp.tpa",
    V4Source "ipv4.src",
    V4Destination "ipv4.dst",
    V4Tos "ipv4.tos",
    V4Len "ipv4.len",
    V4Id "ipv4.id",
    V4Flags "ipv4.flags",
    V4Ttl "ipv4.ttl",
    V4Protocol "ipv4.proto",
    V4Options "ipv4.options",
    V4Checksum "ipv4.checksum",
    V6Source "ipv6.src",
    V6Destination "ipv6.dst",
    V6Class "ipv6.traffic_class",
    V6Label "ipv6.flow_label",
    V6Len "ipv6.len",
    V6Next "ipv6.next",
    V6Hops "ipv6.hop_limit",
    V6Fragment "ipv6.fragment",
    V6Extensions "ipv6.ext_headers",
    TcpSource "tcp.sport",
    TcpDestination "tcp.dport",
    TcpSequence "tcp.seq",
    TcpAcknowledgement "tcp.ack",
    TcpFlags "tcp.flags",
    TcpWindow "tcp.window",
    TcpUrgent "tcp.urg",
    TcpChecksum "tcp.checksum",
    TcpOptions "tcp.options",
    TcpSack "tcp.options.sack",
    TcpStamps "tcp.options.ts",
    TcpMss "tcp.options.mss",
    TcpScale "tcp.options.wscale",
    UdpSource "udp.sport",
    UdpDestination "udp.dport",
    UdpLen "udp.len",
    UdpChecksum "udp.checksum",
    IcmpTypes "icmp.types",
    IcmpId "icmp.echo_id",
    IcmpSequence "icmp.echo_seq",
    IcmpMtu "icmp.mtu",
    IcmpGateway "icmp.gateway",
    IcmpQuoted "icmp.quoted",
    IcmpChecksum "icmp.checksum",
    Icmp6Types "icmpv6.types",
    Icmp6Id "icmpv6.echo_id",
    Icmp6Sequence "icmpv6.echo_seq",
    Icmp6Mtu "icmpv6.mtu",
    Icmp6Quoted "icmpv6.quoted",
    Icmp6Target "icmpv6.nd_target",
    Icmp6LinkAddress "icmpv6.nd_lladdr",
    Icmp6Checksum "icmpv6.checksum",
    Tunnels "tunnels",
);

/// A field that is dropped, changed in one of its ways, or kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Ports {
    /// Zero.
    #[default]
    Drop,
    /// A port of the list; any other becomes 49152.
    Service,
    /// A port of the list; any other becomes another, by a permutation that is keyed for the pair of hosts.
    Shuffle,
    /// As it is.
    Keep,
}

/// Sequence numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sequence {
    /// Zero.
    #[default]
    Drop,
    /// Moved by an amount drawn for the direction of the connection.
    FlowOffset,
    /// The first seen becomes zero.
    Relative,
    /// As it is.
    Keep,
}

/// TCP time stamps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Stamps {
    /// The option becomes NOPs.
    #[default]
    Nop,
    /// Rank among the values of this direction of the connection, in the order they came.
    FlowRank,
    /// Rank among all values of this direction: needs a first pass.
    Rank,
}

/// Numbers of size.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Sizes {
    /// Zero.
    #[default]
    Drop,
    /// The largest edge that is not larger; the first edge below it. None: powers of two.
    Bucket(Option<Vec<u64>>),
    /// As it is.
    Keep,
}

impl Sizes {
    /// The size that leaves.
    #[must_use]
    pub fn of(&self, value: u64) -> u64 {
        match self {
            Self::Drop => 0,
            Self::Keep => value,
            Self::Bucket(None) => match value {
                0 => 0,
                value => 1_u64 << 63_u32.saturating_sub(value.leading_zeros()),
            },
            Self::Bucket(Some(edges)) => {
                let above = edges.partition_point(|edge| *edge <= value);
                edges.get(above.saturating_sub(1)).copied().unwrap_or(0)
            }
        }
    }
}

/// Eight- or sixteen-bit fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Small {
    /// Zero.
    #[default]
    Drop,
    /// Its keyed stand-in (VLAN, flow label, echo identifier), ECN bits (TOS), 64 minus hops (TTL), only of fragments (IP-ID).
    Changed,
    /// Since the first seen (echo sequence).
    Relative,
    /// This value (TTL).
    Const(u8),
    /// As it is.
    Keep,
}

/// What happens to a packet or header that no layer's rules are for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Otherwise {
    /// The packet does not exist in the output.
    #[default]
    DropPacket,
    /// What was read before it leaves.
    Prefix,
    /// The header is left out, what follows it leaves (IPv6 extension headers).
    Skip,
}

/// A set of byte values.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ByteSet([u64; 4]);

impl ByteSet {
    /// Whether the value is in it.
    #[must_use]
    pub fn has(&self, value: u8) -> bool {
        self.0.get(usize::from(value >> 6)).is_some_and(|word| word >> (value & 63) & 1 == 1)
    }

    fn add(&mut self, value: u64) -> Option<()> {
        let value = u8::try_from(value).ok()?;
        *self.0.get_mut(usize::from(value >> 6))? |= 1 << (value & 63);
        Some(())
    }
}

/// A set of ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortSet(Box<[u64]>);

impl Default for PortSet {
    fn default() -> Self {
        Self(vec![0; 1024].into_boxed_slice())
    }
}

impl PortSet {
    /// Whether the port is in it.
    #[must_use]
    pub fn has(&self, port: u16) -> bool {
        self.0.get(usize::from(port >> 6)).is_some_and(|word| word >> (port & 63) & 1 == 1)
    }

    fn add(&mut self, value: u64) -> Option<()> {
        let port = u16::try_from(value).ok()?;
        *self.0.get_mut(usize::from(port >> 6))? |= 1 << (port & 63);
        Some(())
    }
}

/// What happens to scanners' packets (first pass).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scanners {
    /// As everybody's.
    #[default]
    Same,
    /// Each scanner's packets have an address map of their own.
    Split,
    /// They do not leave.
    Drop,
}

/// How a scanner is recognised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ScannerMarks {
    /// New destinations in a row that are looked at.
    pub window: u32,
    /// How many of them, in order, must be larger (or smaller) than the one before.
    pub monotone: u32,
    /// Destinations above which a source is one in any case, if enough of its attempts fail.
    pub fanout: u32,
    /// That share of failed attempts, per mille.
    pub failed: u32,
}

impl Default for ScannerMarks {
    fn default() -> Self {
        Self { window: 20, monotone: 16, fanout: 256, failed: 800 }
    }
}

/// All rules. Fields are named as the keys.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
#[allow(clippy::struct_excessive_bools)] // one per place where something may stand
pub struct Rules {
    pub epoch: Rotation,
    pub addresses: Method,
    pub tcp_services: PortSet,
    pub udp_services: PortSet,
    pub scanners: Scanners,
    pub marks: ScannerMarks,
    /// Hosts whose packets leave: a draw must be below. None: all.
    pub sample: Option<u64>,
    /// Networks of the operator: of two hosts the one in them is drawn.
    pub sites: Sites,
    pub grain_ns: Option<u64>,
    pub relative_time: bool,
    pub wire_len: Sizes,
    pub malformed: Otherwise,
    pub truncated: Otherwise,
    pub unknown_ip_proto: Otherwise,
    pub fragments_first: bool,
    pub fragments_later: bool,
    pub tunnels: u8,
    pub eth_src: bool,
    pub eth_dst: bool,
    pub types: ByteSet,
    pub vlan: Small,
    pub arp: bool,
    pub arp_operations: ByteSet,
    pub arp_sha: bool,
    pub arp_tha: bool,
    pub arp_spa: bool,
    pub arp_tpa: bool,
    pub v4: bool,
    pub v4_src: bool,
    pub v4_dst: bool,
    pub v4_tos: Small,
    pub v4_id: Small,
    pub v4_flags: bool,
    pub v4_ttl: Small,
    pub v4_options: Option<ByteSet>,
    pub v4_checksum: bool,
    pub v6: bool,
    pub v6_src: bool,
    pub v6_dst: bool,
    pub v6_class: Small,
    pub v6_label: Small,
    pub v6_hops: Small,
    pub v6_fragment: bool,
    pub v6_other: Otherwise,
    pub tcp: bool,
    pub tcp_sport: Ports,
    pub tcp_dport: Ports,
    pub tcp_seq: Sequence,
    pub tcp_ack: Sequence,
    pub tcp_flags: bool,
    pub tcp_window: Sizes,
    pub tcp_urg: bool,
    pub tcp_checksum: bool,
    pub tcp_options: Option<ByteSet>,
    pub tcp_sack: Sequence,
    pub tcp_stamps: Stamps,
    pub tcp_mss: Sizes,
    pub tcp_scale: bool,
    pub udp: bool,
    pub udp_sport: Ports,
    pub udp_dport: Ports,
    pub udp_checksum: bool,
    pub icmp: ByteSet,
    pub icmp_id: Small,
    pub icmp_seq: Small,
    pub icmp_mtu: bool,
    pub icmp_gateway: bool,
    pub icmp_quoted: bool,
    pub icmp_checksum: bool,
    pub icmp6: ByteSet,
    pub icmp6_id: Small,
    pub icmp6_seq: Small,
    pub icmp6_mtu: bool,
    pub icmp6_quoted: bool,
    pub icmp6_target: bool,
    pub icmp6_lladdr: bool,
    pub icmp6_checksum: bool,
}

impl Default for Rules {
    /// Nothing is named, nothing leaves.
    fn default() -> Self {
        Self {
            epoch: Rotation::Run,
            addresses: Method::Pfx,
            tcp_services: Default::default(),
            udp_services: Default::default(),
            scanners: Default::default(),
            marks: Default::default(),
            sample: Default::default(),
            sites: Default::default(),
            grain_ns: Default::default(),
            relative_time: Default::default(),
            wire_len: Default::default(),
            malformed: Default::default(),
            truncated: Default::default(),
            unknown_ip_proto: Default::default(),
            fragments_first: Default::default(),
            fragments_later: Default::default(),
            tunnels: Default::default(),
            eth_src: Default::default(),
            eth_dst: Default::default(),
            types: Default::default(),
            vlan: Default::default(),
            arp: Default::default(),
            arp_operations: Default::default(),
            arp_sha: Default::default(),
            arp_tha: Default::default(),
            arp_spa: Default::default(),
            arp_tpa: Default::default(),
            v4: Default::default(),
            v4_src: Default::default(),
            v4_dst: Default::default(),
            v4_tos: Default::default(),
            v4_id: Default::default(),
            v4_flags: Default::default(),
            v4_ttl: Default::default(),
            v4_options: Default::default(),
            v4_checksum: Default::default(),
            v6: Default::default(),
            v6_src: Default::default(),
            v6_dst: Default::default(),
            v6_class: Default::default(),
            v6_label: Default::default(),
            v6_hops: Default::default(),
            v6_fragment: Default::default(),
            v6_other: Default::default(),
            tcp: Default::default(),
            tcp_sport: Default::default(),
            tcp_dport: Default::default(),
            tcp_seq: Default::default(),
            tcp_ack: Default::default(),
            tcp_flags: Default::default(),
            tcp_window: Default::default(),
            tcp_urg: Default::default(),
            tcp_checksum: Default::default(),
            tcp_options: Default::default(),
            tcp_sack: Default::default(),
            tcp_stamps: Default::default(),
            tcp_mss: Default::default(),
            tcp_scale: Default::default(),
            udp: Default::default(),
            udp_sport: Default::default(),
            udp_dport: Default::default(),
            udp_checksum: Default::default(),
            icmp: Default::default(),
            icmp_id: Default::default(),
            icmp_seq: Default::default(),
            icmp_mtu: Default::default(),
            icmp_gateway: Default::default(),
            icmp_quoted: Default::default(),
            icmp_checksum: Default::default(),
            icmp6: Default::default(),
            icmp6_id: Default::default(),
            icmp6_seq: Default::default(),
            icmp6_mtu: Default::default(),
            icmp6_quoted: Default::default(),
            icmp6_target: Default::default(),
            icmp6_lladdr: Default::default(),
            icmp6_checksum: Default::default(),
        }
    }
}

/// A rule that is not understood: its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadRule(pub String);

/// Members of `types`: which Ethernet types leave.
pub(super) const IPV4: u8 = 4;
/// IPv6.
pub(super) const IPV6: u8 = 6;
/// ARP.
pub(super) const ARP: u8 = 1;

fn only<T>(numbers: &[u64], value: T) -> Option<T> {
    numbers.is_empty().then_some(value)
}

fn small(word: &str, changed: &str, numbers: &[u64]) -> Option<Small> {
    match (word, numbers) {
        ("keep", []) => Some(Small::Keep),
        ("rel", []) => Some(Small::Relative),
        ("const", [value]) => Some(Small::Const(u8::try_from(*value).ok()?)),
        (word, []) if word == changed => Some(Small::Changed),
        _ => None,
    }
}

fn sizes(word: &str, numbers: &[u64]) -> Option<Sizes> {
    match (word, numbers) {
        ("keep", []) => Some(Sizes::Keep),
        ("bucket", []) => Some(Sizes::Bucket(None)),
        ("bucket", edges) if edges.is_sorted() => Some(Sizes::Bucket(Some(edges.to_vec()))),
        _ => None,
    }
}

fn ports(word: &str, numbers: &[u64]) -> Option<Ports> {
    only(numbers, ())?;
    match word {
        "service" => Some(Ports::Service),
        "shuffle" => Some(Ports::Shuffle),
        "keep" => Some(Ports::Keep),
        _ => None,
    }
}

fn sequence(word: &str, numbers: &[u64]) -> Option<Sequence> {
    only(numbers, ())?;
    match word {
        "flow_offset" => Some(Sequence::FlowOffset),
        "rel" => Some(Sequence::Relative),
        "keep" => Some(Sequence::Keep),
        _ => None,
    }
}

fn set(word: &str, numbers: &[u64]) -> Option<ByteSet> {
    let mut found = ByteSet::default();
    (word == "allow").then_some(())?;
    for number in numbers {
        found.add(*number)?;
    }
    Some(found)
}

fn port_set(word: &str, numbers: &[u64]) -> Option<PortSet> {
    let mut found = PortSet::default();
    (word == "list").then_some(())?;
    for number in numbers {
        found.add(*number)?;
    }
    Some(found)
}

fn flag(word: &str, expected: &str, numbers: &[u64]) -> Option<bool> {
    only(numbers, (word == expected).then_some(true)?)
}

fn otherwise(word: &str, prefix: &str, numbers: &[u64]) -> Option<Otherwise> {
    only(numbers, ())?;
    match word {
        "drop-packet" => Some(Otherwise::DropPacket),
        "skip" if prefix == "stop-parse" => Some(Otherwise::Skip),
        word if word == prefix => Some(Otherwise::Prefix),
        _ => None,
    }
}

impl Rules {
    /// Compile a policy's words.
    ///
    /// # Errors
    /// [`BadRule`]: the first that is not understood.
    pub fn of<'a>(words: impl IntoIterator<Item = (&'a str, &'a str, &'a [u64])>) -> Result<Self, BadRule> {
        let mut rules = Self::default();
        for (key, word, numbers) in words {
            rules.take(key, word, numbers).ok_or_else(|| BadRule(key.to_owned()))?;
        }
        Ok(rules)
    }

    #[allow(clippy::too_many_lines)] // a table
    fn take(&mut self, key: &str, word: &str, numbers: &[u64]) -> Option<()> {
        match key {
            "epoch" => {
                self.epoch = match word {
                    "run" => Rotation::Run,
                    "day" => Rotation::Day,
                    "hour" => Rotation::Hour,
                    _ => return None,
                }
            }
            "addresses" => {
                self.addresses = match (word, numbers) {
                    ("pfx", []) => Method::Pfx,
                    ("cryptopan", []) => Method::CryptoPan,
                    ("tag", []) => Method::Tag,
                    ("truncate", [v4, v6]) if *v4 <= 32 && *v6 <= 128 => {
                        Method::Truncate { v4: u8::try_from(*v4).ok()?, v6: u8::try_from(*v6).ok()? }
                    }
                    _ => return None,
                }
            }
            "services.tcp" => self.tcp_services = port_set(word, numbers)?,
            "services.udp" => self.udp_services = port_set(word, numbers)?,
            "scanners" => {
                self.scanners = match word {
                    "split" => Scanners::Split,
                    "drop" => Scanners::Drop,
                    _ => return None,
                };
                let [window, monotone, fanout, failed] = numbers else { return None };
                self.marks = ScannerMarks {
                    window: u32::try_from(*window).ok()?,
                    monotone: u32::try_from(*monotone).ok()?,
                    fanout: u32::try_from(*fanout).ok()?,
                    failed: u32::try_from(*failed).ok()?,
                };
            }
            "sample" => {
                let ("host", [below]) = (word, numbers) else { return None };
                self.sample = Some(*below);
            }
            "sites" => {
                let ("internal", [high, low, length]) = (word, numbers) else { return None };
                let address = u128::from(*high) << 64 | u128::from(*low);
                let length = u8::try_from(*length).ok().filter(|length| *length <= 128)?;
                self.sites.internal.push((address.to_be_bytes(), length));
            }
            "time" => match (word, numbers) {
                ("shift+grain", [grain]) if *grain > 0 => self.grain_ns = Some(*grain),
                ("rel", [grain]) if *grain > 0 => {
                    self.grain_ns = Some(*grain);
                    self.relative_time = true;
                }
                _ => return None,
            },
            "wirelen" => self.wire_len = sizes(word, numbers)?,
            "malformed" => self.malformed = otherwise(word, "emit-parsed-prefix", numbers)?,
            "truncated" => self.truncated = otherwise(word, "emit-parsed-prefix", numbers)?,
            "unknown_ethertype" => only(numbers, (word == "drop-packet").then_some(())?)?, // there is no other way
            "unknown_ip_proto" => self.unknown_ip_proto = otherwise(word, "l3-only", numbers)?,
            "fragments" => {
                only(numbers, ())?;
                (self.fragments_first, self.fragments_later) = match word {
                    "drop" => (false, false),
                    "first-only" => (true, false),
                    "headers" => (true, true),
                    _ => return None,
                };
            }
            "tunnels" => {
                (word == "allow").then_some(())?;
                for number in numbers {
                    let kind = Tunnel::ALL.get(usize::try_from(*number).ok()?)?;
                    self.tunnels |= 1 << kind.number();
                }
            }
            "eth.src" => self.eth_src = flag(word, "tag48", numbers)?,
            "eth.dst" => self.eth_dst = flag(word, "tag48", numbers)?,
            "eth.type" => self.types = set(word, numbers)?,
            "eth.vlan" => self.vlan = small(word, "tag", numbers)?,
            "arp" => self.arp = flag(word, "on", numbers)?,
            "arp.op" => self.arp_operations = set(word, numbers)?,
            "arp.sha" => self.arp_sha = flag(word, "tag48", numbers)?,
            "arp.tha" => self.arp_tha = flag(word, "tag48", numbers)?,
            "arp.spa" => self.arp_spa = flag(word, "map", numbers)?,
            "arp.tpa" => self.arp_tpa = flag(word, "map", numbers)?,
            "ipv4" => self.v4 = flag(word, "on", numbers)?,
            "ipv4.src" => self.v4_src = flag(word, "map", numbers)?,
            "ipv4.dst" => self.v4_dst = flag(word, "map", numbers)?,
            "ipv4.tos" => self.v4_tos = small(word, "ecn-only", numbers)?,
            "ipv4.id" => self.v4_id = small(word, "if-fragment", numbers)?,
            "ipv4.flags" => self.v4_flags = flag(word, "keep", numbers)?,
            "ipv4.ttl" => self.v4_ttl = small(word, "hops", numbers)?,
            "ipv4.options" => self.v4_options = Some(set(word, numbers)?),
            "ipv4.checksum" => self.v4_checksum = flag(word, "validity", numbers)?,
            "ipv6" => self.v6 = flag(word, "on", numbers)?,
            "ipv6.src" => self.v6_src = flag(word, "map", numbers)?,
            "ipv6.dst" => self.v6_dst = flag(word, "map", numbers)?,
            "ipv6.traffic_class" => self.v6_class = small(word, "ecn-only", numbers)?,
            "ipv6.flow_label" => self.v6_label = small(word, "tag", numbers)?,
            "ipv6.hop_limit" => self.v6_hops = small(word, "hops", numbers)?,
            "ipv6.fragment" => self.v6_fragment = flag(word, "on", numbers)?,
            "ipv6.ext_headers" => self.v6_other = otherwise(word, "stop-parse", numbers)?,
            "tcp" => self.tcp = flag(word, "on", numbers)?,
            "tcp.sport" => self.tcp_sport = ports(word, numbers)?,
            "tcp.dport" => self.tcp_dport = ports(word, numbers)?,
            "tcp.seq" => self.tcp_seq = sequence(word, numbers)?,
            "tcp.ack" => self.tcp_ack = sequence(word, numbers)?,
            "tcp.flags" => self.tcp_flags = flag(word, "keep", numbers)?,
            "tcp.window" => self.tcp_window = sizes(word, numbers)?,
            "tcp.urg" => self.tcp_urg = flag(word, "keep", numbers)?,
            "tcp.checksum" => self.tcp_checksum = flag(word, "validity", numbers)?,
            "tcp.options" => self.tcp_options = Some(set(word, numbers)?),
            "tcp.options.sack" => self.tcp_sack = sequence(word, numbers)?,
            "tcp.options.ts" => {
                self.tcp_stamps = match word {
                    "rank" => Stamps::Rank,
                    "flow_rank" => Stamps::FlowRank,
                    "nop" => Stamps::Nop,
                    _ => return None,
                }
            }
            "tcp.options.mss" => self.tcp_mss = sizes(word, numbers)?,
            "tcp.options.wscale" => self.tcp_scale = flag(word, "keep", numbers)?,
            "udp" => self.udp = flag(word, "on", numbers)?,
            "udp.sport" => self.udp_sport = ports(word, numbers)?,
            "udp.dport" => self.udp_dport = ports(word, numbers)?,
            "udp.checksum" => self.udp_checksum = flag(word, "validity", numbers)?,
            "icmp.types" => self.icmp = set(word, numbers)?,
            "icmp.echo_id" => self.icmp_id = small(word, "flow_tag16", numbers)?,
            "icmp.echo_seq" => self.icmp_seq = small(word, "rel", numbers)?,
            "icmp.mtu" => self.icmp_mtu = flag(word, "keep", numbers)?,
            "icmp.gateway" => self.icmp_gateway = flag(word, "map", numbers)?,
            "icmp.quoted" => self.icmp_quoted = flag(word, "recurse", numbers)?,
            "icmp.checksum" => self.icmp_checksum = flag(word, "validity", numbers)?,
            "icmpv6.types" => self.icmp6 = set(word, numbers)?,
            "icmpv6.echo_id" => self.icmp6_id = small(word, "flow_tag16", numbers)?,
            "icmpv6.echo_seq" => self.icmp6_seq = small(word, "rel", numbers)?,
            "icmpv6.mtu" => self.icmp6_mtu = flag(word, "keep", numbers)?,
            "icmpv6.quoted" => self.icmp6_quoted = flag(word, "recurse", numbers)?,
            "icmpv6.nd_target" => self.icmp6_target = flag(word, "map", numbers)?,
            "icmpv6.nd_lladdr" => self.icmp6_lladdr = flag(word, "tag48", numbers)?,
            "icmpv6.checksum" => self.icmp6_checksum = flag(word, "validity", numbers)?,
            // Lengths and protocol numbers follow from what is emitted; a policy names them so that a reader sees it.
            "ipv4.len" | "ipv6.len" | "udp.len" | "ipv4.proto" | "ipv6.next" => {
                only(numbers, (word == "derived").then_some(())?)?;
            }
            _ => return None,
        }
        Some(())
    }
}
