//! DTLS (RFC 6347, RFC 9147): handshake messages out of datagrams, whose facts are those of TLS.
//!
//! Rules of this file:
//! 1. Messages may be cut into fragments, and both may come twice or out of order: each message is taken once.
//! 2. A datagram that is no DTLS ends nothing, unless none was before it.
//! 3. Of records behind the first epoch only their being there counts.
//!
//! Limits: [`HANDSHAKE_BYTES`] a message, [`MESSAGES`] of a side, [`ASSEMBLIES`] of a side at once, [`DATAGRAMS`] a handshake.
use std::collections::BTreeMap;

use bunker_wire::Direction;
use bunker_wire::bytes::be16;

use crate::parser::{Context, DatagramParser, Step};
use crate::pieces::Pieces;
use crate::tls::{HANDSHAKE_BYTES, Handshake, Transport, flags};

/// Handshake messages read of one side. A full handshake with client certificate has 8.
pub const MESSAGES: u16 = 64;
/// Messages of one side that may be incomplete at once. A flight of a server has 5.
pub const ASSEMBLIES: usize = 8;
/// Datagrams after which a handshake that came to no end is written as it is. A slow one with retransmissions has some 30.
pub const DATAGRAMS: u32 = 256;

const RECORD_HEADER: usize = 13;
const MESSAGE_HEADER: usize = 12;

#[derive(Default)]
struct Side {
    taken: u64,
    open: BTreeMap<u16, Open>,
}

struct Open {
    kind: u8,
    pieces: Pieces,
    length: usize,
}

/// DTLS in a flow of datagrams.
#[derive(Default)]
pub struct DtlsDatagrams {
    handshake: Handshake,
    sides: [Side; 2],
    datagrams: u32,
    seen: bool,
}

/// One record: type, epoch, fragment.
struct Record<'a> {
    kind: u8,
    epoch: u16,
    body: &'a [u8],
}

fn record(bytes: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let kind = *bytes.first()?;
    let version = be16(bytes, 1)?;
    if !(20..=26).contains(&kind) || !matches!(version, 0xFEFF | 0xFEFD | 0xFEFC | 0x0100) {
        return None;
    }
    let length = usize::from(be16(bytes, 11)?);
    let (body, rest) = bytes.get(RECORD_HEADER..)?.split_at_checked(length)?;
    Some((Record { kind, epoch: be16(bytes, 3)?, body }, rest))
}

/// Whether `payload` begins as a DTLS handshake does: a hello of either side in the first epoch.
#[must_use]
pub fn looks_like_dtls(payload: &[u8]) -> bool {
    let Some((record, _)) = record(payload) else { return false };
    record.kind == 22
        && record.epoch == 0
        && record.body.len() >= MESSAGE_HEADER
        && matches!(record.body.first(), Some(1..=3))
        && u24(record.body, 9).is_some_and(|length| length <= record.body.len().saturating_sub(MESSAGE_HEADER))
}

fn u24(bytes: &[u8], at: usize) -> Option<usize> {
    let [high, middle, low] = bytes.get(at..)?.first_chunk::<3>()?;
    Some(u32::from_be_bytes([0, *high, *middle, *low]) as usize)
}

impl DtlsDatagrams {
    fn records(&mut self, direction: Direction, payload: &[u8]) -> Option<()> {
        let mut rest = payload;
        while let Some(first) = rest.first() {
            // Encrypted records of DTLS 1.3 (RFC 9147 section 4) have no length worth reading.
            if first & 0xE0 == 0x20 {
                self.handshake.encrypt(direction);
                return Some(());
            }
            let (record, after) = record(rest)?;
            rest = after;
            if record.epoch > 0 {
                self.handshake.encrypt(direction);
                continue;
            }
            match record.kind {
                20 => self.handshake.change(direction),
                21 => self.handshake.alert(direction, record.body),
                22 => self.fragments(direction, record.body)?,
                _ => {}
            }
        }
        Some(())
    }

    /// The fragments of one record.
    fn fragments(&mut self, direction: Direction, body: &[u8]) -> Option<()> {
        let mut rest = body;
        while !rest.is_empty() {
            let kind = *rest.first()?;
            let (length, number) = (u24(rest, 1)?, be16(rest, 4)?);
            let (start, count) = (u24(rest, 6)?, u24(rest, 9)?);
            let (bytes, after) = rest.get(MESSAGE_HEADER..)?.split_at_checked(count)?;
            rest = after;
            if length > HANDSHAKE_BYTES || start.checked_add(count)? > length {
                self.handshake.flags |= flags::TOO_LONG;
                continue;
            }
            let side = self.sides.get_mut(direction.index())?;
            if number >= MESSAGES || side.taken & (1u64 << number) != 0 {
                continue;
            }
            if count == length {
                side.open.remove(&number);
                self.message(direction, kind, number, bytes)?;
                continue;
            }
            if !side.open.contains_key(&number) && side.open.len() >= ASSEMBLIES {
                side.open.pop_first();
            }
            let open =
                side.open.entry(number).or_insert_with(|| Open { kind, pieces: Pieces::new(HANDSHAKE_BYTES), length });
            if open.length != length || open.kind != kind {
                continue; // the first claim wins
            }
            open.pieces.add(start, bytes);
            if open.pieces.front().len() >= length
                && let Some(open) = side.open.remove(&number)
            {
                self.message(direction, kind, number, open.pieces.front().get(..length)?)?;
            }
        }
        Some(())
    }

    fn message(&mut self, direction: Direction, kind: u8, number: u16, body: &[u8]) -> Option<()> {
        // A server without state sends HelloVerifyRequest and ServerHello under the same number.
        if kind != 3
            && let Some(side) = self.sides.get_mut(direction.index())
        {
            side.taken |= 1u64 << number;
        }
        self.seen = true;
        self.handshake.message(direction, kind, body, true).ok()
    }
}

impl DatagramParser for DtlsDatagrams {
    fn datagram(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
        payload: &[u8],
        _wire_len: usize,
        ts_ns: u64,
    ) -> Step {
        self.handshake.started_ns.get_or_insert(ts_ns);
        self.datagrams = self.datagrams.saturating_add(1);
        if self.records(direction, payload).is_none() && !self.seen {
            return Step::Violated;
        }
        if self.handshake.is_done() || self.datagrams >= DATAGRAMS {
            self.handshake.write(context, Transport::Dtls);
            return Step::Finished;
        }
        Step::More
    }

    fn closed(&mut self, context: &mut Context<'_>) {
        self.handshake.write(context, Transport::Dtls);
    }

    fn live_bytes(&self) -> usize {
        let open = self.sides.iter().flat_map(|side| side.open.values());
        open.fold(size_of::<Self>().saturating_add(self.handshake.live_bytes()), |sum, open| {
            sum.saturating_add(open.pieces.live_bytes()).saturating_add(size_of::<Open>())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// A ClientHello's body without extensions.
    fn hello() -> Vec<u8> {
        let mut body = vec![0xFE, 0xFD];
        body.extend_from_slice(&[9; 32]);
        body.extend_from_slice(&[0, 0, 0, 2, 0xC0, 0x2B, 1, 0]);
        body
    }

    fn fragment(number: u16, body: &[u8], start: usize, end: usize) -> Vec<u8> {
        let three = |value: usize| u32::try_from(value).unwrap().to_be_bytes().get(1..).unwrap().to_vec();
        let number = number.to_be_bytes().to_vec();
        let piece = body.get(start..end).unwrap().to_vec();
        let message = [vec![1], three(body.len()), number, three(start), three(piece.len()), piece].concat();
        let mut record = vec![22, 0xFE, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0];
        record.extend_from_slice(&u16::try_from(message.len()).unwrap().to_be_bytes());
        record.extend_from_slice(&message);
        record
    }

    fn client_of(datagrams: &[Vec<u8>]) -> Option<Vec<u16>> {
        let mut dtls = DtlsDatagrams::default();
        for datagram in datagrams {
            dtls.records(Direction::Orig, datagram);
        }
        dtls.handshake.client.map(|client| client.ciphers)
    }

    #[test]
    fn fragments_in_any_order_and_twice_give_the_hello() {
        let body = hello();
        let cut = |start, end| fragment(0, &body, start, end);
        let end = body.len();
        for order in [
            vec![cut(0, end)],
            vec![cut(0, 10), cut(10, end)],
            vec![cut(10, end), cut(0, 10)],
            vec![cut(10, 20), cut(10, 20), cut(0, 12), cut(5, end)],
        ] {
            assert_eq!(client_of(&order).unwrap(), [0xC02B]);
            assert_eq!(client_of(&[order.concat()]).unwrap(), [0xC02B], "the same in one datagram");
        }
        assert!(client_of(&[cut(0, 10), cut(11, end)]).is_none(), "a byte is missing");
    }

    #[test]
    fn messages_and_assemblies_end_at_their_limits() {
        let body = hello();
        let end = body.len();
        assert!(client_of(&[fragment(MESSAGES - 1, &body, 0, end)]).is_some());
        assert!(client_of(&[fragment(MESSAGES, &body, 0, end)]).is_none());
        let mut dtls = DtlsDatagrams::default();
        for number in 0..MESSAGES {
            dtls.records(Direction::Orig, &fragment(number, &body, 0, 10));
        }
        assert_eq!(dtls.sides.first().unwrap().open.len(), ASSEMBLIES);
    }

    #[test]
    fn only_a_hello_in_the_first_epoch_is_recognised() {
        let good = fragment(0, &hello(), 0, 20);
        assert!(looks_like_dtls(&good));
        for (at, byte) in [(0, 23), (1, 3), (4, 1), (13, 11)] {
            let mut other = good.clone();
            *other.get_mut(at).unwrap() = byte;
            assert!(!looks_like_dtls(&other), "byte {at}");
        }
        for end in 0..good.len() {
            assert!(!looks_like_dtls(good.get(..end).unwrap()));
        }
    }
}
