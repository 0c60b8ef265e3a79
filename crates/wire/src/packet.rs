//! A captured packet, as every reader of blocks and files hands it on.
use core::fmt;

/// One captured packet; may be cut short (`captured.len() < wire_len`).
///
/// `Debug` prints lengths only.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    /// Capture time, nanoseconds since the epoch, UTC.
    pub ts_ns: u64,
    /// The bytes that were captured.
    pub captured: &'a [u8],
    /// Length on the wire.
    pub wire_len: u32,
    /// Link type (the LINKTYPE_ registry).
    pub linktype: u16,
    /// Tag control information and protocol identifier of a VLAN tag that the kernel took out of the bytes.
    pub vlan: Option<(u16, u16)>,
    /// The sender's kernel left the checksum to the card: it is not wrong, it is not there yet.
    pub checksum_not_ready: bool,
}

impl fmt::Debug for Packet<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Packet({} of {} bytes)", self.captured.len(), self.wire_len)
    }
}
