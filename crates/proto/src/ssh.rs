//! SSH (RFC 4253): identification lines and the offer of algorithms, the last things said in the clear.
//!
//! Rules of this file:
//! 1. A server may say other lines first (RFC 4253 section 4.2); of them nothing is kept.
//! 2. The row is written once: when both sides have offered, when one breaks the rules, at a gap, or at the end.
//!
//! Limits: [`IDENTIFICATION_BYTES`], [`OFFER_BYTES`], [`LINES_BEFORE`].
use bunker_wire::Direction;
use bunker_wire::bytes::be32;
use md5::{Digest as _, Md5};

use crate::columns::{MessageKind, SshRow, push_hex};
use crate::parser::{Context, Service, Step, StreamParser};

/// An identification line. RFC 4253 section 4.2: 255 with CR and LF.
pub const IDENTIFICATION_BYTES: usize = 255;
/// One packet with an offer. RFC 4253 section 6.1: 35,000.
pub const OFFER_BYTES: usize = 35_000;
/// Lines that a server may say before it identifies itself. OpenSSH: 1,024; real ones none.
pub const LINES_BEFORE: u32 = 50;

const KEXINIT: u8 = 20;

/// Anomalies: bits of the column `flags`.
pub mod flags {
    /// Bytes were never captured.
    pub const GAP: u64 = 1;
    /// What followed the identification is no offer.
    pub const BAD_OFFER: u64 = 1 << 1;
}

#[derive(Default)]
struct Side {
    held: Vec<u8>,
    identification: Option<Vec<u8>>,
    lines: u32,
    offer: Option<Vec<Vec<u8>>>,
    over: bool,
}

/// SSH in a TCP flow.
#[derive(Default)]
pub struct SshStream {
    sides: [Side; 2],
    started_ns: Option<u64>,
    flags: u64,
    written: bool,
}

/// Whether a stream that begins with `bytes` is SSH: None while that cannot be said.
#[must_use]
pub fn looks_like_ssh(bytes: &[u8]) -> Option<bool> {
    const START: &[u8] = b"SSH-";
    let length = START.len().min(bytes.len());
    if bytes.get(..length) != START.get(..length) {
        return Some(false);
    }
    match bytes.get(4) {
        None => None,
        Some(version) => Some(matches!(version, b'1' | b'2')),
    }
}

/// Whether SSH follows lines of text, which a server may send before its identification (RFC 4253 section 4.2): None while there are
/// only such lines.
#[must_use]
pub fn ssh_behind_lines(bytes: &[u8]) -> Option<bool> {
    const START: &[u8] = b"\nSSH-";
    if let Some(at) = memchr::memmem::find(bytes, START) {
        return looks_like_ssh(bytes.get(at.saturating_add(1)..).unwrap_or_default());
    }
    let is_text = bytes.iter().all(|byte| *byte >= b' ' && *byte != 0x7F || matches!(byte, b'\t' | b'\r' | b'\n'));
    if is_text { None } else { Some(false) }
}

/// The ten lists of names of an offer (RFC 4253 section 7.1).
fn offer(payload: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut rest = payload.strip_prefix(&[KEXINIT])?.get(16..)?;
    let mut lists = Vec::with_capacity(10);
    for _ in 0..10 {
        let length = usize::try_from(be32(rest, 0)?).ok()?;
        let (list, after) = rest.get(4..)?.split_at_checked(length)?;
        lists.push(list.to_vec());
        rest = after;
    }
    Some(lists)
}

impl Side {
    /// Take bytes; false: this is no SSH.
    fn take(&mut self, bytes: &[u8]) -> bool {
        if self.over {
            return true;
        }
        self.held.extend_from_slice(bytes);
        while self.identification.is_none() {
            let Some(end) = memchr::memchr(b'\n', &self.held) else {
                return self.held.len() <= IDENTIFICATION_BYTES;
            };
            let line: Vec<u8> = self.held.drain(..=end).collect();
            let line = line.trim_ascii_end();
            if line.starts_with(b"SSH-") {
                self.identification =
                    Some(line.get(..line.len().min(IDENTIFICATION_BYTES)).unwrap_or_default().to_vec());
            } else {
                self.lines = self.lines.saturating_add(1);
                if self.lines > LINES_BEFORE {
                    return false;
                }
            }
        }
        let Some(length) = be32(&self.held, 0).and_then(|length| usize::try_from(length).ok()) else { return true };
        if length > OFFER_BYTES || length < 2 {
            self.give_up();
            return true;
        }
        let Some(packet) = self.held.get(4..length.saturating_add(4)) else { return true };
        let padding = packet.first().map_or(0, |padding| usize::from(*padding));
        let payload = packet.get(1..packet.len().saturating_sub(padding));
        self.offer = payload.and_then(offer);
        self.give_up();
        true
    }

    fn give_up(&mut self) {
        self.over = true;
        self.held = Vec::new();
    }

    fn hassh(&self, numbers: [usize; 4]) -> Option<Vec<u8>> {
        let lists = self.offer.as_ref()?;
        let text = numbers.iter().map(|number| lists.get(*number).map_or(&[][..], Vec::as_slice)).collect::<Vec<_>>();
        let mut out = Vec::with_capacity(32);
        push_hex(&mut out, &Md5::digest(text.join(&b';')));
        Some(out)
    }
}

/// The algorithm that both choose: the client's first that the server has (RFC 4253 section 7.1).
fn chosen<'a>(client: &'a Side, server: &Side, number: usize) -> Option<&'a [u8]> {
    let wanted = client.offer.as_ref()?.get(number)?;
    let offered = server.offer.as_ref()?.get(number)?;
    wanted.split(|byte| *byte == b',').find(|name| offered.split(|byte| *byte == b',').any(|other| other == *name))
}

impl SshStream {
    fn write(&mut self, context: &mut Context<'_>) {
        let [client, server] = &self.sides;
        if self.written || (client.identification.is_none() && server.identification.is_none()) {
            return;
        }
        self.written = true;
        context.confirm(Service::Ssh);
        if !context.wanted.has(MessageKind::Ssh) {
            return;
        }
        for side in &self.sides {
            if side.over && side.offer.is_none() {
                self.flags |= flags::BAD_OFFER;
            }
        }
        let old = |side: &Side| {
            let name = side.identification.as_deref();
            name.map(|name| name.starts_with(b"SSH-1.") && !name.starts_with(b"SSH-1.99"))
        };
        let version = match (old(client), old(server)) {
            (None, None) => None,
            (Some(true), _) | (_, Some(true)) => Some(1),
            _ => Some(2),
        };
        let (hassh, hassh_server) = (client.hassh([0, 2, 4, 6]), server.hassh([0, 3, 5, 7]));
        let origin = context.origin(self.started_ns.unwrap_or(context.now_ns));
        context.tables.Ssh.push(
            origin,
            SshRow {
                version,
                client: client.identification.as_deref(),
                server: server.identification.as_deref(),
                cipher_alg: chosen(client, server, 2),
                mac_alg: chosen(client, server, 4),
                compression_alg: chosen(client, server, 6),
                kex_alg: chosen(client, server, 0),
                host_key_alg: chosen(client, server, 1),
                hassh: hassh.as_deref(),
                hassh_server: hassh_server.as_deref(),
                flags: self.flags,
            },
        );
    }
}

impl StreamParser for SshStream {
    fn data(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        self.started_ns.get_or_insert(ts_ns);
        let good = self.sides.get_mut(direction.index()).is_some_and(|side| side.take(bytes));
        if good && !self.sides.iter().all(|side| side.over) {
            return Step::More;
        }
        self.write(context);
        if self.written { Step::Finished } else { Step::Violated }
    }

    fn gap(&mut self, context: &mut Context<'_>, _direction: Direction, _length: u64, _ts_ns: u64) -> Step {
        self.flags |= flags::GAP;
        self.write(context);
        Step::Finished
    }

    fn ended(&mut self, _context: &mut Context<'_>, _direction: Direction, _ts_ns: u64) {}

    fn closed(&mut self, context: &mut Context<'_>) {
        self.write(context);
    }

    fn live_bytes(&self) -> usize {
        self.sides.iter().fold(size_of::<Self>(), |sum, side| {
            let lists = side.offer.iter().flatten().fold(0usize, |sum, list| sum.saturating_add(list.capacity()));
            sum.saturating_add(side.held.capacity()).saturating_add(lists)
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn packet(lists: &[&str; 10]) -> Vec<u8> {
        let mut payload = vec![KEXINIT];
        payload.extend_from_slice(&[0; 16]);
        for list in lists {
            payload.extend_from_slice(&u32::try_from(list.len()).unwrap().to_be_bytes());
            payload.extend_from_slice(list.as_bytes());
        }
        payload.extend_from_slice(&[0; 5]);
        let mut out = u32::try_from(payload.len() + 1 + 4).unwrap().to_be_bytes().to_vec();
        out.push(4);
        out.extend_from_slice(&payload);
        out.extend_from_slice(&[0; 4]);
        out
    }

    fn side(bytes: &[u8], piece: usize) -> Side {
        let mut side = Side::default();
        bytes.chunks(piece).for_each(|part| assert!(side.take(part)));
        side
    }

    #[test]
    fn identification_and_offer_are_read_however_they_are_cut() {
        let client = ["k1,k2", "h1", "c2,c1", "c1", "m1", "m1", "none", "none", "", ""];
        let server = ["k2", "h1", "c1,c2", "c1", "m2", "m1", "none", "none", "", ""];
        let one = [b"SSH-2.0-a b\r\n".to_vec(), packet(&client)].concat();
        let other = [b"hello\nSSH-1.99-x\n".to_vec(), packet(&server)].concat();
        for piece in [1, 3, 1000] {
            let (one, other) = (side(&one, piece), side(&other, piece));
            assert_eq!(one.identification.as_deref().unwrap(), b"SSH-2.0-a b");
            assert_eq!(other.identification.as_deref().unwrap(), b"SSH-1.99-x");
            assert_eq!(chosen(&one, &other, 0).unwrap(), b"k2");
            assert_eq!(chosen(&one, &other, 2).unwrap(), b"c2");
            assert_eq!(chosen(&one, &other, 4), None);
            // md5 of "k1,k2;c2,c1;m1;none"
            assert_eq!(one.hassh([0, 2, 4, 6]).unwrap(), {
                let mut out = Vec::new();
                push_hex(&mut out, &Md5::digest(b"k1,k2;c2,c1;m1;none"));
                out
            });
        }
    }

    #[test]
    fn bounds_hold() {
        for (length, good) in [(IDENTIFICATION_BYTES, true), (IDENTIFICATION_BYTES + 1, false)] {
            assert_eq!(Side::default().take(&vec![b'x'; length]), good);
        }
        for (lines, good) in [(LINES_BEFORE, true), (LINES_BEFORE + 1, false)] {
            assert_eq!(Side::default().take(&b"x\n".repeat(lines as usize)), good);
        }
        for (length, over) in [(OFFER_BYTES, false), (OFFER_BYTES + 1, true)] {
            let mut side = Side::default();
            side.take(b"SSH-2.0-x\n");
            side.take(&u32::try_from(length).unwrap().to_be_bytes());
            assert_eq!(side.over, over);
        }
    }

    #[test]
    fn other_streams_are_not_taken() {
        assert_eq!(looks_like_ssh(b"SS"), None);
        assert_eq!(looks_like_ssh(b"SSH-2"), Some(true));
        assert_eq!(looks_like_ssh(b"SSH-x"), Some(false));
        assert_eq!(looks_like_ssh(b"GET "), Some(false));
        for (bytes, expected) in [
            (&b"hello\r\nthere\r\n"[..], None),
            (b"hello\r\nSSH", None),
            (b"hello\r\nSSH-2.0-x\r\n", Some(true)),
            (b"hello\nSSH-", None),
            (b"hello\nSSH-x", Some(false)),
            (b"hello\n\0", Some(false)),
        ] {
            assert_eq!(ssh_behind_lines(bytes), expected);
        }
    }
}
