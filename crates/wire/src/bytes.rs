//! Checked reading of integers: the only way this crate takes numbers out of traffic.

/// Big-endian u16 at `offset`.
#[must_use]
pub fn be16(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..offset.checked_add(2)?)?.try_into().ok().map(u16::from_be_bytes)
}

/// Big-endian u32 at `offset`.
#[must_use]
pub fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset.checked_add(4)?)?.try_into().ok().map(u32::from_be_bytes)
}

/// Little-endian u16 at `offset`.
#[must_use]
pub fn le16(bytes: &[u8], offset: usize) -> Option<u16> {
    bytes.get(offset..offset.checked_add(2)?)?.try_into().ok().map(u16::from_le_bytes)
}

/// Little-endian u32 at `offset`.
#[must_use]
pub fn le32(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes.get(offset..offset.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

/// Little-endian u64 at `offset`.
#[must_use]
pub fn le64(bytes: &[u8], offset: usize) -> Option<u64> {
    bytes.get(offset..offset.checked_add(8)?)?.try_into().ok().map(u64::from_le_bytes)
}

/// `N` bytes at `offset`.
#[must_use]
pub fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset.checked_add(N)?)?.try_into().ok()
}
