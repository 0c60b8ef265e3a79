//! Lines out of stream bytes, and the dotted end of a message (RFC 5321 section 4.5.2, RFC 1939 section 3).

/// Bytes of one line of a dialogue that are kept; the rest of a longer one is dropped. RFC 5321: 512, with extensions 12,288;
/// what is kept of commands stands at their beginning.
pub const LINE_BYTES: usize = 4_096;

/// One direction's line in hand.
#[derive(Default)]
pub struct Lines {
    held: Vec<u8>,
    /// A longer line was cut.
    pub cut: bool,
    /// The beginning of this line is not known: it is dropped.
    skip: bool,
}

impl Lines {
    /// Bytes are missing: what is held belongs to no line, and the next bytes begin in the middle of one.
    pub fn lost(&mut self) {
        self.held.clear();
        self.skip = true;
    }

    /// Move the next line out of `bytes` into `line`, without its end; false: it is not complete.
    pub fn next(&mut self, bytes: &mut &[u8], line: &mut Vec<u8>) -> bool {
        loop {
            let all = *bytes;
            let end = memchr::memchr(b'\n', all);
            let (now, rest) = all.split_at_checked(end.unwrap_or(all.len())).unwrap_or((all, &[]));
            if !self.skip {
                let room = LINE_BYTES.saturating_sub(self.held.len());
                self.cut |= now.len() > room;
                self.held.extend_from_slice(now.get(..room.min(now.len())).unwrap_or_default());
            }
            *bytes = rest.get(1..).unwrap_or_default();
            if end.is_none() {
                return false;
            }
            if core::mem::take(&mut self.skip) {
                continue;
            }
            line.clear();
            line.append(&mut self.held);
            if line.last() == Some(&b'\r') {
                line.pop();
            }
            return true;
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.held.capacity()
    }
}

/// Undoes dot-stuffing and finds the line that is a dot alone.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
pub enum Dots {
    /// At the beginning of a line.
    #[default]
    Start,
    /// Inside a line.
    Middle,
    /// Behind a dot that began a line.
    Dot,
    /// Behind such a dot and CR.
    DotCr,
}

impl Dots {
    /// Give message bytes to `out`; Some: the message ended after that many bytes, and whether by the full CRLF.
    pub fn feed(&mut self, bytes: &[u8], mut out: impl FnMut(&[u8])) -> Option<(usize, bool)> {
        let mut at = 0usize;
        while let Some(byte) = bytes.get(at) {
            let next = at.saturating_add(1);
            match self {
                Self::Start if *byte == b'.' => {
                    *self = Self::Dot;
                    at = next;
                }
                Self::Dot if *byte == b'\r' => {
                    *self = Self::DotCr;
                    at = next;
                }
                Self::Dot | Self::DotCr if *byte == b'\n' => {
                    let full = *self == Self::DotCr;
                    *self = Self::Start;
                    return Some((next, full));
                }
                Self::Start | Self::Dot => *self = Self::Middle,
                Self::DotCr => {
                    out(b"\r");
                    *self = Self::Middle;
                }
                Self::Middle => {
                    let rest = bytes.get(at..).unwrap_or_default();
                    let end = memchr::memchr(b'\n', rest).map(|end| end.saturating_add(1));
                    out(rest.get(..end.unwrap_or(rest.len())).unwrap_or_default());
                    if end.is_some() {
                        *self = Self::Start;
                    }
                    at = at.saturating_add(end.unwrap_or(rest.len()));
                }
            }
        }
        None
    }
}

/// The first word of a line in upper case (16 letters at most), and what follows it without blanks around it.
#[must_use]
pub fn word(line: &[u8]) -> (Vec<u8>, &[u8]) {
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(line.len());
    let (word, rest) = line.split_at_checked(end).unwrap_or((line, &[]));
    (word.get(..word.len().min(16)).unwrap_or_default().to_ascii_uppercase(), rest.trim_ascii())
}

/// The mechanism's word if it is a known one: what follows AUTH may be a secret typed into the wrong place.
#[must_use]
pub fn mechanism(argument: &[u8]) -> &'static str {
    const KNOWN: [&str; 16] = [
        "PLAIN",
        "LOGIN",
        "CRAM-MD5",
        "DIGEST-MD5",
        "NTLM",
        "GSSAPI",
        "XOAUTH2",
        "OAUTHBEARER",
        "EXTERNAL",
        "ANONYMOUS",
        "SCRAM-SHA-1",
        "SCRAM-SHA-256",
        "SCRAM-SHA-1-PLUS",
        "SCRAM-SHA-256-PLUS",
        "KERBEROS_V4",
        "SPNEGO",
    ];
    let name = argument.split(|byte| *byte == b' ').next().unwrap_or_default();
    KNOWN.into_iter().find(|known| name.eq_ignore_ascii_case(known.as_bytes())).unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let (mut lines, mut found, mut line) = (Lines::default(), Vec::new(), Vec::new());
        for piece in pieces {
            let mut rest = *piece;
            while lines.next(&mut rest, &mut line) {
                found.push(line.clone());
            }
        }
        found
    }

    fn undotted(bytes: &[u8], piece: usize) -> (Vec<u8>, Option<(usize, bool)>) {
        let (mut dots, mut out, mut before) = (Dots::default(), Vec::new(), 0usize);
        for part in bytes.chunks(piece) {
            if let Some((used, full)) = dots.feed(part, |bytes| out.extend_from_slice(bytes)) {
                return (out, Some((before + used, full)));
            }
            before += part.len();
        }
        (out, None)
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        let whole: &[u8] = b"EHLO a\r\nMAIL\n\r\nhalf";
        let expected: Vec<Vec<u8>> = vec![b"EHLO a".to_vec(), b"MAIL".to_vec(), Vec::new()];
        assert_eq!(lines(&[whole]), expected);
        assert_eq!(lines(&whole.chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn line_at_the_limit_is_whole_and_a_longer_one_is_cut() {
        for (length, kept) in [(LINE_BYTES - 1, LINE_BYTES - 1), (LINE_BYTES, LINE_BYTES), (LINE_BYTES + 1, LINE_BYTES)]
        {
            let line = [vec![b'x'; length], b"\nnext\n".to_vec()].concat();
            let found = lines(&line.chunks(7).collect::<Vec<_>>());
            assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [kept, 4]);
        }
    }

    #[test]
    fn a_line_that_began_in_a_gap_is_dropped() {
        let (mut all, mut line) = (Lines::default(), Vec::new());
        assert!(!all.next(&mut &b"RCPT TO:<"[..], &mut line));
        all.lost();
        let mut rest: &[u8] = b"tail>\r\nDATA\r\n";
        assert!(all.next(&mut rest, &mut line));
        assert_eq!(line, b"DATA");
    }

    #[test]
    fn dots_are_undone_wherever_the_pieces_end() {
        let message = b"a\r\n..b\r\n.c\r\n.\rd\r\n\r\n.\r\nQUIT";
        for piece in 1..=message.len() {
            assert_eq!(
                undotted(message, piece),
                (b"a\r\n.b\r\nc\r\n\rd\r\n\r\n".to_vec(), Some((22, true))),
                "{piece}"
            );
        }
        assert_eq!(undotted(b".\r\n", 9).1, Some((3, true)));
        assert_eq!(undotted(b"a\n.\nb", 9), (b"a\n".to_vec(), Some((4, false))));
        assert_eq!(undotted(b"a\r\n.", 9).1, None);
    }

    #[test]
    fn unknown_mechanisms_have_no_name() {
        assert_eq!(mechanism(b"plain AGFsaWNlAHNlY3JldA=="), "PLAIN");
        assert_eq!(mechanism(b"SCRAM-SHA-256-PLUS"), "SCRAM-SHA-256-PLUS");
        assert_eq!(mechanism(b"c2VjcmV0"), "other");
    }
}
