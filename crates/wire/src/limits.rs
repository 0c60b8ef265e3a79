//! Every bound of this crate: name, unit, default, precedent. The Python twin is `bunker.limits`; a test keeps the two equal.
//!
//! Reaching a bound is a counted outcome, and the oldest or the offending one pays, not the newest neighbour.

/// Bounds of decoding, reassembly and flow tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Headers of layers 2 and 3 read in one packet. Zeek's tunnel depth is 4; each tunnel costs up to 4 headers.
    pub headers: u32,
    /// Tunnels inside tunnels. Zeek: 4 (`Tunnel::max_depth` is 2 there, 4 since 5.0).
    pub tunnels: u32,
    /// Flows alive at once. At ~400 bytes each this is 400 MB. nDPI and Suricata grow past it without a word.
    pub flows: u32,
    /// Bytes that one direction of one flow may hold out of order, `PLACE_BYTES` a piece included. libnids: ~64 KiB beyond the
    /// window; ours is a full window.
    pub out_of_order_bytes: u32,
    /// Segments of one direction that wait and are compared by their edges, under overlap policies that do so. A new segment is
    /// compared with each: Suricata keeps as many as its memory cap allows; 64 KiB of window in segments of 256 bytes is this.
    pub overlap_segments: u32,
    /// Bytes held out of order by all flows. Suricata's reassembly memcap: 256 MiB.
    pub reassembly_bytes: u64,
    /// Packets of the same flow after which a hole that the peer has acknowledged is given up. Zeek gives up at the ACK alone and
    /// makes gaps of mere reordering (issue 335).
    pub hole_packets: u32,
    /// Packet time after which a hole that the peer has acknowledged is given up, ns.
    pub hole_ns: u64,
    /// Bytes of fragments held, places included. Suricata's defrag memcap: 32 MiB.
    pub fragment_bytes: u64,
    /// Fragments of one datagram. A full datagram in fragments of 64 bytes (Zeek's minimum) has 1,024.
    pub fragments: u32,
    /// Time a datagram may stay incomplete, ns. RFC 8200 section 4.5: 60 s.
    pub fragment_ns: u64,
    /// Idle time of an established TCP flow, ns. Zeek: 5 min.
    pub tcp_idle_ns: u64,
    /// Life of a SYN that nobody answers, however often it is sent, ns. Zeek: 5 s (`tcp_attempt_delay`).
    pub tcp_attempt_ns: u64,
    /// Idle time of a TCP flow whose SYN was answered and whose handshake is not complete, ns. Suricata: 60 s for new flows.
    pub tcp_handshake_ns: u64,
    /// Time after a reset or after both sides have closed, whatever still comes, ns. Zeek: 5 s (`tcp_close_delay`).
    pub tcp_close_ns: u64,
    /// Idle time of a UDP flow, ns. Zeek: 1 min.
    pub udp_idle_ns: u64,
    /// Idle time of an ICMP flow, ns. Zeek: 1 min.
    pub icmp_idle_ns: u64,
}

/// What a piece held for reassembly costs besides its bytes: its place in a tree and on the heap. Counted with the bytes, so that
/// a limit on bytes is one on memory, however small the pieces are. Measured: 24 bytes of vector, 8 of key, 8 of time, 16 of
/// allocator, some of the node.
pub const PLACE_BYTES: usize = 64;

const SECOND: u64 = 1_000_000_000;

impl Default for Limits {
    fn default() -> Self {
        Self {
            headers: 24,
            tunnels: 4,
            flows: 1_000_000,
            out_of_order_bytes: 1 << 20,
            overlap_segments: 256,
            reassembly_bytes: 256 << 20,
            hole_packets: 64,
            hole_ns: SECOND,
            fragment_bytes: 32 << 20,
            fragments: 1_024,
            fragment_ns: 60 * SECOND,
            tcp_idle_ns: 300 * SECOND,
            tcp_attempt_ns: 5 * SECOND,
            tcp_handshake_ns: 60 * SECOND,
            tcp_close_ns: 5 * SECOND,
            udp_idle_ns: 60 * SECOND,
            icmp_idle_ns: 60 * SECOND,
        }
    }
}

impl Limits {
    /// (name, default) of each, as the Python twin has them.
    #[must_use]
    pub fn table() -> Vec<(&'static str, u64)> {
        let limits = Self::default();
        vec![
            ("HEADERS", u64::from(limits.headers)),
            ("TUNNELS", u64::from(limits.tunnels)),
            ("FLOWS", u64::from(limits.flows)),
            ("OUT_OF_ORDER_BYTES", u64::from(limits.out_of_order_bytes)),
            ("OVERLAP_SEGMENTS", u64::from(limits.overlap_segments)),
            ("REASSEMBLY_BYTES", limits.reassembly_bytes),
            ("HOLE_PACKETS", u64::from(limits.hole_packets)),
            ("HOLE_NS", limits.hole_ns),
            ("FRAGMENT_BYTES", limits.fragment_bytes),
            ("FRAGMENTS", u64::from(limits.fragments)),
            ("FRAGMENT_NS", limits.fragment_ns),
            ("TCP_IDLE_NS", limits.tcp_idle_ns),
            ("TCP_ATTEMPT_NS", limits.tcp_attempt_ns),
            ("TCP_HANDSHAKE_NS", limits.tcp_handshake_ns),
            ("TCP_CLOSE_NS", limits.tcp_close_ns),
            ("UDP_IDLE_NS", limits.udp_idle_ns),
            ("ICMP_IDLE_NS", limits.icmp_idle_ns),
        ]
    }
}
