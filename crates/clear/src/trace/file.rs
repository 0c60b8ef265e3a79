//! The file of a header trace: pcapng of one section, one interface and packets, or classic pcap. Nothing else is written.
//!
//! Source: draft-ietf-opsawg-pcapng, draft-ietf-opsawg-pcap.

/// Which format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// Section header, one interface (Ethernet, nanoseconds), enhanced packets.
    Pcapng,
    /// Magic of nanoseconds.
    Pcap,
}

/// The longest packet that can come out: all layers with all their options. Stated as the interface's snapshot length.
pub const LONGEST: u32 = 4_096;

impl Format {
    /// The bytes before the first packet.
    pub fn start(self, out: &mut Vec<u8>) {
        match self {
            Self::Pcapng => {
                let words: [u32; 7] = [0x0A0D_0D0A, 28, 0x1A2B_3C4D, 1, u32::MAX, u32::MAX, 28];
                words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
                // if_tsresol (9): 10^-9; end of options.
                let words: [u32; 8] = [1, 32, 1, LONGEST, 9 | 1 << 16, 9, 0, 32];
                words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
            }
            Self::Pcap => {
                let words: [u32; 6] = [0xA1B2_3C4D, 2 | 4 << 16, 0, 0, LONGEST, 1];
                words.iter().for_each(|word| out.extend_from_slice(&word.to_le_bytes()));
            }
        }
    }

    /// Room for a packet's head; the packet's bytes follow, then `close` with the same place.
    #[must_use]
    pub fn open(self, out: &mut Vec<u8>) -> usize {
        let start = out.len();
        out.resize(start.saturating_add(if self == Self::Pcapng { 28 } else { 16 }), 0);
        start
    }

    /// Fill in the head of the packet that began at `start`, and end it.
    pub fn close(self, out: &mut Vec<u8>, start: usize, ts_ns: u64, wire_len: u32) {
        let head = if self == Self::Pcapng { 28 } else { 16 };
        let captured = out.len().saturating_sub(start.saturating_add(head));
        let captured = u32::try_from(captured).unwrap_or(u32::MAX);
        let [a, b, c, d, e, f, g, h] = ts_ns.to_be_bytes();
        let (high, low) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
        let words: &[u32] = match self {
            Self::Pcapng => {
                out.resize(out.len().next_multiple_of(4), 0);
                let length = u32::try_from(out.len().saturating_sub(start).saturating_add(4)).unwrap_or(u32::MAX);
                out.extend_from_slice(&length.to_le_bytes());
                &[6, length, 0, high, low, captured, wire_len]
            }
            Self::Pcap => {
                let seconds = u32::try_from(ts_ns.checked_div(1_000_000_000).unwrap_or(0)).unwrap_or(u32::MAX);
                let rest = u32::try_from(ts_ns.checked_rem(1_000_000_000).unwrap_or(0)).unwrap_or(0);
                &[seconds, rest, captured, wire_len]
            }
        };
        if let Some(place) = out.get_mut(start..start.saturating_add(head)) {
            for (place, word) in place.chunks_exact_mut(4).zip(words) {
                place.copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}
