//! TLS over TCP: records out of stream bytes, handshake messages out of records.
use bunker_wire::Direction;
use bunker_wire::bytes::be16;

use super::handshake::{Handshake, NotTls, Transport};
use super::{HANDSHAKE_BYTES, RECORD_BYTES, flags};
use crate::parser::{Context, Step, StreamParser};

/// A client's encrypted Finished of TLS 1.3 is at least this long; a shorter first record is an encrypted alert.
const FINISHED_RECORD: usize = 37;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const HEARTBEAT: u8 = 24;

/// One direction: the record in hand and the handshake message in hand.
#[derive(Default)]
struct Side {
    header: [u8; 5],
    have: usize,
    kind: u8,
    left: usize,
    body: Vec<u8>,
    handshake: Vec<u8>,
    /// Nothing was read yet.
    begun: bool,
    /// A hello in the form of SSL 2, while it is not complete.
    old: Vec<u8>,
}

/// TLS in a TCP flow.
#[derive(Default)]
pub struct TlsStream {
    sides: [Side; 2],
    handshake: Handshake,
}

impl TlsStream {
    fn side(&mut self, direction: Direction) -> &mut Side {
        let [orig, resp] = &mut self.sides;
        match direction {
            Direction::Orig => orig,
            Direction::Resp => resp,
        }
    }

    /// Cut bytes into records.
    fn records(&mut self, direction: Direction, bytes: &[u8]) -> Result<(), NotTls> {
        let mut rest = bytes;
        while !rest.is_empty() && !self.handshake.is_done() {
            let (is_first, side) = (self.handshake.client.is_none(), self.side(direction));
            if !side.old.is_empty() || (!side.begun && is_first && rest.first().is_some_and(|byte| byte & 0x80 != 0)) {
                rest = self.old_hello(direction, rest)?;
                continue;
            }
            side.begun = true;
            if side.have < side.header.len() {
                let Some((byte, after)) = rest.split_first() else { return Ok(()) };
                if let Some(place) = side.header.get_mut(side.have) {
                    *place = *byte;
                }
                side.have = side.have.saturating_add(1);
                rest = after;
                if side.have == side.header.len() {
                    let [kind, major, _, high, low] = side.header;
                    let length = usize::from(u16::from_be_bytes([high, low]));
                    if !(CHANGE_CIPHER_SPEC..=HEARTBEAT).contains(&kind) || major != 3 || length > RECORD_BYTES {
                        return Err(NotTls);
                    }
                    (side.kind, side.left) = (kind, length);
                    side.body.clear();
                    if kind == APPLICATION_DATA {
                        self.application_data(direction, length);
                    }
                    if length == 0 {
                        self.record(direction)?;
                    }
                }
                continue;
            }
            let count = side.left.min(rest.len());
            let (now, after) = rest.split_at_checked(count).unwrap_or((rest, &[]));
            if side.kind != APPLICATION_DATA {
                side.body.extend_from_slice(now);
            }
            side.left = side.left.saturating_sub(count);
            rest = after;
            if side.left == 0 {
                self.record(direction)?;
            }
        }
        Ok(())
    }

    /// A hello in the form of SSL 2: two bytes of length, then the message. What follows are records.
    fn old_hello<'a>(&mut self, direction: Direction, bytes: &'a [u8]) -> Result<&'a [u8], NotTls> {
        let side = self.side(direction);
        let mut rest = bytes;
        while let Some((byte, after)) = rest.split_first() {
            rest = after;
            side.old.push(*byte);
            let length = be16(&side.old, 0).map_or(usize::MAX, |length| usize::from(length & 0x7FFF));
            if side.old.len().saturating_sub(2) >= length {
                side.begun = true;
                let message = core::mem::take(&mut side.old);
                self.handshake.old_hello(direction, message.get(2..).unwrap_or_default())?;
                break;
            }
        }
        Ok(rest)
    }

    /// A record is complete.
    fn record(&mut self, direction: Direction) -> Result<(), NotTls> {
        let side = self.side(direction);
        side.have = 0;
        let body = core::mem::take(&mut side.body);
        let kind = side.kind;
        let changed = self.handshake.has_changed(direction);
        match kind {
            CHANGE_CIPHER_SPEC => self.handshake.change(direction),
            ALERT if !changed => self.handshake.alert(direction, &body),
            HANDSHAKE if changed => self.handshake.encrypt(direction), // Finished of TLS 1.2 and older
            HANDSHAKE => {
                self.side(direction).handshake.extend_from_slice(&body);
                self.messages(direction)?;
            }
            HEARTBEAT => self.handshake.letter(direction, b'B'),
            _ => {}
        }
        let side = self.side(direction);
        if side.body.capacity() == 0 {
            side.body = body;
        }
        Ok(())
    }

    fn application_data(&mut self, direction: Direction, length: usize) {
        let is_13 = self.handshake.is_13();
        if !self.handshake.is_client(direction) || length >= FINISHED_RECORD || !is_13 {
            self.handshake.encrypt(direction);
        }
        // Clear application data inside a handshake is worth a letter; encrypted data are not (Zeek's rule).
        if !is_13 && !self.handshake.has_changed(direction) {
            self.handshake.letter(direction, b'D');
        }
    }

    /// Cut held bytes into handshake messages.
    fn messages(&mut self, direction: Direction) -> Result<(), NotTls> {
        let held = core::mem::take(&mut self.side(direction).handshake);
        let mut rest = held.as_slice();
        while let (Some([kind, high, middle, low]), Some(after)) = (rest.first_chunk::<4>(), rest.get(4..)) {
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            if length > HANDSHAKE_BYTES {
                self.handshake.flags |= flags::TOO_LONG;
                self.handshake.ended = true;
                return Ok(());
            }
            let Some((body, next)) = after.split_at_checked(length) else { break };
            self.handshake.message(direction, *kind, body, false)?;
            rest = next;
        }
        self.side(direction).handshake = rest.to_vec();
        Ok(())
    }
}

impl StreamParser for TlsStream {
    fn data(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        self.handshake.started_ns.get_or_insert(ts_ns);
        let outcome = self.records(direction, bytes);
        if outcome.is_err() {
            self.handshake.write(context, Transport::Tls);
            return if self.handshake.is_written() { Step::Finished } else { Step::Violated };
        }
        if self.handshake.is_done() {
            self.handshake.write(context, Transport::Tls);
            return Step::Finished;
        }
        Step::More
    }

    fn gap(&mut self, context: &mut Context<'_>, _direction: Direction, _length: u64, _ts_ns: u64) -> Step {
        self.handshake.flags |= flags::GAP;
        self.handshake.write(context, Transport::Tls);
        Step::Finished
    }

    fn ended(&mut self, _context: &mut Context<'_>, _direction: Direction, _ts_ns: u64) {}

    fn closed(&mut self, context: &mut Context<'_>) {
        self.handshake.write(context, Transport::Tls);
    }

    fn live_bytes(&self) -> usize {
        let sides = self.sides.iter().fold(0usize, |sum, side| {
            [side.body.capacity(), side.handshake.capacity(), side.old.capacity()]
                .iter()
                .fold(sum, |sum, bytes| sum.saturating_add(*bytes))
        });
        size_of::<Self>().saturating_add(sides).saturating_add(self.handshake.live_bytes())
    }
}

/// Whether a stream that begins with `bytes` is TLS: None while that cannot be said.
#[must_use]
pub fn looks_like_tls(bytes: &[u8]) -> Option<bool> {
    const HEAD: usize = 6;
    if let [first, _, kind, major, ..] = bytes
        && first & 0x80 != 0
    {
        // A hello in the form of SSL 2 that offers a version since SSL 3, and lengths that add up.
        let Some(header) = bytes.get(..11) else { return if *kind == 1 && *major == 3 { None } else { Some(false) } };
        let part = |at: usize| be16(header, at).map_or(0, usize::from);
        let parts = part(5).saturating_add(part(7)).saturating_add(part(9)).saturating_add(9);
        return Some(*kind == 1 && *major == 3 && part(5) % 3 == 0 && parts == part(0) & 0x7FFF);
    }
    if bytes.len() < 4 && bytes.first().is_some_and(|first| first & 0x80 != 0) {
        return None;
    }
    let expected = |index: usize, byte: u8| match index {
        0 => byte == HANDSHAKE || byte == ALERT,
        1 => byte == 3,
        2 => byte <= 4,
        _ => true,
    };
    if !bytes.iter().take(HEAD).enumerate().all(|(index, byte)| expected(index, *byte)) {
        return Some(false);
    }
    if bytes.len() < HEAD {
        return None;
    }
    let length = be16(bytes, 3).map(usize::from)?;
    Some(match (bytes.first().copied(), bytes.get(5).copied()) {
        // A hello, whole or in small pieces: some clients cut it after every byte.
        (Some(HANDSHAKE), Some(kind)) => (kind <= 2) && (1..=RECORD_BYTES).contains(&length),
        // A server that refuses the first hello.
        (Some(ALERT), Some(level)) => length == 2 && (level == 1 || level == 2),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::hello::ClientHello;
    use super::*;

    /// A ClientHello with a server name, in records of at most `cut` bytes.
    fn client_hello(cut: usize) -> Vec<u8> {
        let mut extension = vec![0, 0, 0, 15, 0, 13, 0, 0, 10];
        extension.extend_from_slice(b"a.b.exampl");
        let mut body = vec![3, 3];
        body.extend_from_slice(&[7; 32]);
        body.extend_from_slice(&[0, 0, 4, 0x13, 0x01, 0x13, 0x02, 1, 0]);
        body.extend_from_slice(&u16::try_from(extension.len()).unwrap().to_be_bytes());
        body.extend_from_slice(&extension);
        let mut message = vec![1, 0, 0, u8::try_from(body.len()).unwrap()];
        message.extend_from_slice(&body);
        message.chunks(cut).fold(Vec::new(), |mut stream, part| {
            stream.extend_from_slice(&[22, 3, 1, 0, u8::try_from(part.len()).unwrap()]);
            stream.extend_from_slice(part);
            stream
        })
    }

    fn fed(stream: &[u8], pieces: usize) -> Handshake {
        let mut tls = TlsStream::default();
        for piece in stream.chunks(pieces) {
            assert!(tls.records(Direction::Orig, piece).is_ok());
        }
        tls.handshake
    }

    #[test]
    fn records_and_segments_may_be_cut_anywhere() {
        let expected = fed(&client_hello(255), usize::MAX).client.unwrap();
        assert_eq!(expected.server_name.as_deref(), Some(b"a.b.exampl".as_slice()));
        for cut in [1, 2, 3, 5, 40] {
            let stream = client_hello(cut);
            for pieces in [1, 2, 7, 64] {
                assert_eq!(fed(&stream, pieces).client.unwrap().ja4('t'), expected.ja4('t'));
            }
        }
    }

    #[test]
    fn a_hello_cut_at_any_byte_is_no_hello_and_no_panic() {
        let stream = client_hello(255);
        let body = stream.get(9..).unwrap();
        for end in 0..body.len() {
            // A hello may end before its extensions; nowhere else.
            let read = ClientHello::read(body.get(..end).unwrap(), false);
            assert_eq!(read.is_some(), end == 43, "cut at {end}");
        }
    }

    #[test]
    fn a_message_at_the_limit_is_awaited_and_one_beyond_it_ends_the_parse() {
        for (length, ends) in [(HANDSHAKE_BYTES - 1, false), (HANDSHAKE_BYTES, false), (HANDSHAKE_BYTES + 1, true)] {
            let mut tls = TlsStream::default();
            let [_, high, middle, low] = u32::try_from(length).unwrap().to_be_bytes();
            assert!(tls.records(Direction::Resp, &[22, 3, 3, 0, 4, 11, high, middle, low]).is_ok());
            assert_eq!(tls.handshake.is_done(), ends);
            assert_eq!(tls.handshake.flags & flags::TOO_LONG != 0, ends);
        }
    }

    #[test]
    fn hello_in_the_old_form_is_taken_however_it_is_cut() {
        let mut hello = vec![0x80, 28, 1, 3, 0, 0, 3, 0, 0, 0, 16, 0, 0, 4];
        hello.extend_from_slice(&[9; 16]);
        assert_eq!(looks_like_tls(&hello), Some(true));
        assert_eq!(looks_like_tls(&[0x80, 28, 1]), None);
        assert_eq!(looks_like_tls(&[0x80, 28, 2, 3]), Some(false));
        for pieces in [1, 5, 100] {
            let found = fed(&hello, pieces);
            assert_eq!(found.client.unwrap().ciphers, [4]);
            assert_eq!(found.flags, flags::OLD_HELLO);
        }
    }

    #[test]
    fn other_protocols_are_not_taken() {
        for other in [b"GET / HTTP/1.1\r\n".as_slice(), b"SSH-2.0-x\r\n", &[22, 3, 1, 0, 2, 9, 9], &[0x16, 2]] {
            assert_eq!(looks_like_tls(other), Some(false));
        }
        assert_eq!(looks_like_tls(&[22, 3]), None);
        assert_eq!(looks_like_tls(&client_hello(255)), Some(true));
        assert_eq!(looks_like_tls(&client_hello(1)), Some(true));
        assert_eq!(looks_like_tls(&[21, 3, 1, 0, 2, 2, 40]), Some(true));
        let mut tls = TlsStream::default();
        assert!(tls.records(Direction::Orig, b"GET / HTTP/1.1\r\n").is_err());
    }
}
