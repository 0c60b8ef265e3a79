//! Bytes of the traffic as text: valid UTF-8 stays, every other byte is written `\xNN`, as Zeek does.

/// Append `value` to `out`, escaped where it is not UTF-8.
pub fn push_text(out: &mut Vec<u8>, value: &[u8]) {
    // Nearly all is ASCII, which is told faster.
    if value.is_ascii() || core::str::from_utf8(value).is_ok() {
        out.extend_from_slice(value);
        return;
    }
    for chunk in value.utf8_chunks() {
        out.extend_from_slice(chunk.valid().as_bytes());
        for byte in chunk.invalid() {
            push_escape(out, *byte);
        }
    }
}

/// Append `\xNN`, lower-case hex.
pub fn push_escape(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(b"\\x");
    push_hex(out, &[byte]);
}

/// Append bytes as lower-case hex.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        for nibble in [byte >> 4, byte & 15] {
            out.push(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'?'));
        }
    }
}

/// Append a number in decimal.
pub fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut used = 0usize;
    for place in digits.iter_mut().rev() {
        *place = b'0'.wrapping_add((number % 10) as u8);
        number /= 10;
        used = used.wrapping_add(1);
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(20usize.saturating_sub(used)..).unwrap_or_default());
}

/// Several texts in one buffer: what a list cell is filled from.
///
/// Invariant: `ends` grows; the last end is the length of `bytes`.
#[derive(Default, Clone, PartialEq, Eq)]
pub struct TextItems {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl core::fmt::Debug for TextItems {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "TextItems({} of {} bytes)", self.ends.len(), self.bytes.len())
    }
}

impl TextItems {
    /// No items.
    #[must_use]
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), ends: Vec::new() }
    }

    /// Forget the items, keep the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }

    /// Add an item.
    pub fn push(&mut self, item: &[u8]) {
        self.bytes.extend_from_slice(item);
        self.ends.push(self.bytes.len());
    }

    /// Add an item by writing it.
    pub fn push_with(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        self.ends.push(self.bytes.len());
    }

    /// Number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.bytes.capacity().saturating_add(self.ends.capacity().saturating_mul(size_of::<usize>()))
    }

    /// The items in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0usize;
        self.ends.iter().map(move |end| {
            let item = self.bytes.get(start..*end).unwrap_or_default();
            start = *end;
            item
        })
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for TextItems {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut made = Self::new();
        for item in items {
            made.push(item.as_ref());
        }
        made
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn text(value: &[u8]) -> String {
        let mut out = Vec::new();
        push_text(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn valid_text_stays_and_other_bytes_are_escaped() {
        assert_eq!(text("grün".as_bytes()), "grün");
        assert_eq!(text(b"a\xffb\xc3"), "a\\xffb\\xc3");
        assert_eq!(text(b""), "");
    }

    #[test]
    fn decimals_are_exact_at_both_ends() {
        for number in [0, 1, 9, 10, 123, u64::MAX] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }

    #[test]
    fn items_keep_their_bounds() {
        let mut items: TextItems = ["a", "", "bc"].into_iter().collect();
        assert_eq!(items.iter().collect::<Vec<_>>(), [&b"a"[..], b"", b"bc"]);
        assert!(!format!("{items:?}").contains("bc"));
        items.clear();
        assert!(items.is_empty());
    }
}
