//! QUIC versions 1 and 2 (RFC 9000, 9001, 9369) and drafts 29 to 34: the hellos in Initial packets, as a row of the tls table.
//!
//! Rules of this module:
//! 1. Nothing is believed that does not open under the keys which the packet itself gives: this is QUIC or it is not.
//! 2. A hello may lie in CRYPTO frames in any order, over several packets and datagrams.
//! 3. After Retry and version negotiation the keys are derived again.
//!
//! Limits: [`DATAGRAMS`] of a handshake, [`FRAMES`] of a packet, [`HANDSHAKE_BYTES`] of a side, those of `pieces`.
mod keys;
mod packet;

pub use packet::IDENTIFIER_BYTES;

use bunker_wire::Direction;

use crate::parser::{Context, DatagramParser, Step};
use crate::pieces::Pieces;
use crate::tls::{HANDSHAKE_BYTES, Handshake, Transport, flags};
use keys::SideKeys;
use packet::{Kind, Long, long, unprotect, varint};

/// Datagrams after which a handshake that came to no end is written as it is. A usual one takes 6.
pub const DATAGRAMS: u32 = 64;
/// Frames read of one packet, padding not counted. Chrome's scattered hello has some 20.
pub const FRAMES: u32 = 256;

struct Crypto {
    pieces: Pieces,
    used: usize,
}

/// QUIC in a flow of datagrams.
pub struct QuicDatagrams {
    handshake: Handshake,
    version: u32,
    dcid: Vec<u8>,
    /// Client's, server's.
    keys: Option<[SideKeys; 2]>,
    crypto: [Crypto; 2],
    datagrams: u32,
}

impl Default for QuicDatagrams {
    fn default() -> Self {
        let crypto = || Crypto { pieces: Pieces::new(HANDSHAKE_BYTES), used: 0 };
        Self {
            handshake: Handshake::default(),
            version: 0,
            dcid: Vec::new(),
            keys: None,
            crypto: [crypto(), crypto()],
            datagrams: 0,
        }
    }
}

/// Whether `payload` begins with a packet that QUIC's versions read here begin with.
#[must_use]
pub fn looks_like_quic(payload: &[u8]) -> bool {
    long(payload).is_some_and(|(packet, _)| packet.kind == Kind::Initial && packet.whole.len() > packet.number_at)
}

fn keys_of(version: u32, dcid: &[u8]) -> Option<[SideKeys; 2]> {
    Some([SideKeys::new(version, dcid, true)?, SideKeys::new(version, dcid, false)?])
}

impl QuicDatagrams {
    fn packets(&mut self, direction: Direction, payload: &[u8]) {
        let mut rest = payload;
        while let Some(first) = rest.first() {
            if first & 0x80 == 0 {
                if first & 0x40 != 0 && self.keys.is_some() {
                    self.handshake.encrypt(direction);
                }
                return;
            }
            let Some((packet, after)) = long(rest) else { return };
            match packet.kind {
                Kind::Initial => {
                    if let Some(plain) = self.open(direction, &packet) {
                        self.frames(direction, &plain);
                    }
                }
                Kind::Handshake if self.keys.is_some() => self.handshake.encrypt(direction),
                Kind::Handshake | Kind::ZeroRtt | Kind::Retry | Kind::Negotiation => {}
            }
            rest = after;
        }
    }

    fn open(&mut self, direction: Direction, packet: &Long<'_>) -> Option<Vec<u8>> {
        let is_client = self.handshake.is_client(direction);
        if self.keys.is_some() {
            if packet.version != self.version {
                // Compatible version negotiation: the same identifier under the other version's salt (RFC 9369 section 4.1).
                let keys = keys_of(packet.version, &self.dcid)?;
                let plain = unprotect(packet, side_of(&keys, is_client));
                if plain.is_some() {
                    self.version = packet.version;
                    self.keys = Some(keys);
                    return plain;
                }
            } else if let Some(plain) = self.keys.as_ref().and_then(|keys| unprotect(packet, side_of(keys, is_client)))
            {
                return Some(plain);
            }
            if !is_client {
                return None;
            }
        }
        // The first packet of a client, or its first after Retry.
        let keys = keys_of(packet.version, packet.dcid)?;
        let plain = unprotect(packet, side_of(&keys, true))?;
        self.handshake.client_is(direction);
        self.version = packet.version;
        self.dcid = packet.dcid.to_vec();
        self.keys = Some(keys);
        Some(plain)
    }

    /// The frames of an Initial packet (RFC 9000 section 12.5).
    fn frames(&mut self, direction: Direction, plain: &[u8]) -> Option<()> {
        let mut rest = plain;
        let mut count = 0u32;
        while let Some((kind, after)) = rest.split_first() {
            rest = after;
            if *kind == 0 {
                continue;
            }
            count = count.saturating_add(1);
            if count > FRAMES {
                self.handshake.flags |= flags::TOO_LONG;
                return None;
            }
            match kind {
                1 => {}
                2 | 3 => {
                    let (_, after) = varint(rest)?;
                    let (_, after) = varint(after)?;
                    let (ranges, after) = varint(after)?;
                    let (_, mut after) = varint(after)?;
                    let numbers = ranges.checked_mul(2)?.checked_add(if *kind == 3 { 3 } else { 0 })?;
                    for _ in 0..numbers {
                        after = varint(after)?.1;
                    }
                    rest = after;
                }
                6 => {
                    let (offset, after) = varint(rest)?;
                    let (length, after) = varint(after)?;
                    let (bytes, after) = after.split_at_checked(usize::try_from(length).ok()?)?;
                    rest = after;
                    self.crypto(direction, usize::try_from(offset).ok()?, bytes);
                }
                0x1C => {
                    // CONNECTION_CLOSE: a TLS alert is 0x100 and its number (RFC 9001 section 4.8).
                    let (code, _) = varint(rest)?;
                    if let Some(alert) = code.checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok()) {
                        self.handshake.alert(direction, &[2, alert]);
                    }
                    return Some(());
                }
                _ => return None,
            }
        }
        Some(())
    }

    fn crypto(&mut self, direction: Direction, offset: usize, bytes: &[u8]) {
        let Some(crypto) = self.crypto.get_mut(direction.index()) else { return };
        if !crypto.pieces.add(offset, bytes) {
            self.handshake.flags |= flags::TOO_LONG;
        }
        while let Some(rest) = crypto.pieces.front().get(crypto.used..) {
            let (Some([kind, high, middle, low]), Some(after)) = (rest.first_chunk::<4>(), rest.get(4..)) else {
                return;
            };
            let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
            let Some(body) = after.get(..length) else { return };
            crypto.used = crypto.used.saturating_add(length).saturating_add(4);
            if self.handshake.message(direction, *kind, body, false).is_err() {
                self.handshake.ended = true;
                return;
            }
        }
    }
}

const fn side_of(keys: &[SideKeys; 2], is_client: bool) -> &SideKeys {
    let [client, server] = keys;
    if is_client { client } else { server }
}

impl DatagramParser for QuicDatagrams {
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
        self.packets(direction, payload);
        if self.keys.is_none() {
            return Step::Violated;
        }
        if self.handshake.is_done() || self.datagrams >= DATAGRAMS {
            self.handshake.write(context, Transport::Quic(self.version));
            return Step::Finished;
        }
        Step::More
    }

    fn closed(&mut self, context: &mut Context<'_>) {
        self.handshake.write(context, Transport::Quic(self.version));
    }

    fn live_bytes(&self) -> usize {
        let crypto = self.crypto.iter().fold(0usize, |sum, crypto| sum.saturating_add(crypto.pieces.live_bytes()));
        size_of::<Self>().saturating_add(self.handshake.live_bytes()).saturating_add(crypto)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::keys::{V1, V2};
    use super::*;
    use crate::parser::Wanted;

    fn hello(name: &[u8]) -> Vec<u8> {
        let length = |bytes: &[u8]| u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        let host = [vec![0], length(name), name.to_vec()].concat();
        let list = [length(&host), host].concat();
        let extensions = [vec![0, 0], length(&list), list].concat();
        let mut body = vec![3, 3];
        body.extend_from_slice(&[5; 32]);
        body.extend_from_slice(&[0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend_from_slice(&length(&extensions));
        body.extend_from_slice(&extensions);
        [vec![1, 0], length(&body), body].concat()
    }

    fn crypto_frame(offset: usize, bytes: &[u8]) -> Vec<u8> {
        let two = |value: usize| (u16::try_from(value).unwrap() | 0x4000).to_be_bytes().to_vec();
        [vec![6], two(offset), two(bytes.len()), bytes.to_vec()].concat()
    }

    /// A protected Initial packet of a client (or server) with these frames.
    fn initial(version: u32, dcid: &[u8], key_dcid: &[u8], is_client: bool, number: u8, frames: &[u8]) -> Vec<u8> {
        let keys = SideKeys::new(version, key_dcid, is_client).unwrap();
        let mut plain = frames.to_vec();
        plain.resize(plain.len().max(40), 0);
        let mut header = vec![if version == V2 { 0xD0 } else { 0xC0 }];
        header.extend_from_slice(&version.to_be_bytes());
        header.push(u8::try_from(dcid.len()).unwrap());
        header.extend_from_slice(dcid);
        header.extend_from_slice(&[1, 0xEE, 0]);
        let length = u16::try_from(plain.len() + 1 + 16).unwrap() | 0x4000;
        header.extend_from_slice(&length.to_be_bytes());
        let number_at = header.len();
        header.push(number);
        let sealed = keys.close(u64::from(number), &header, &plain).unwrap();
        let sample: [u8; 16] = *sealed.get(3..).unwrap().first_chunk().unwrap();
        let mask = keys.mask(&sample);
        *header.first_mut().unwrap() ^= mask.first().unwrap() & 0x0F;
        *header.get_mut(number_at).unwrap() ^= mask.get(1).unwrap();
        [header, sealed].concat()
    }

    fn name_of(datagrams: &[Vec<u8>]) -> Option<Vec<u8>> {
        let mut quic = QuicDatagrams::default();
        for datagram in datagrams {
            quic.packets(Direction::Orig, datagram);
        }
        quic.handshake.client.and_then(|client| client.server_name)
    }

    #[test]
    fn hello_in_one_packet_in_scattered_frames_and_over_datagrams_is_found() {
        let whole = hello(b"quic.example");
        let cut = |from: usize, to: usize| crypto_frame(from, whole.get(from..to).unwrap());
        let end = whole.len();
        for version in [V1, V2, 0xFF00_001D] {
            let packet = |number, frames: &[u8]| initial(version, b"12345678", b"12345678", true, number, frames);
            let one = packet(1, &cut(0, end));
            assert!(looks_like_quic(&one));
            assert_eq!(name_of(core::slice::from_ref(&one)).unwrap(), b"quic.example");
            let scattered = packet(1, &[cut(30, end), vec![1], cut(0, 10), vec![2, 0, 0, 0, 0], cut(10, 30)].concat());
            assert_eq!(name_of(&[scattered]).unwrap(), b"quic.example");
            let (first, second) = (packet(1, &cut(0, 20)), packet(2, &cut(20, end)));
            assert_eq!(name_of(&[second.clone(), first.clone()]).unwrap(), b"quic.example");
            assert_eq!(name_of(&[[first.clone(), second].concat()]).unwrap(), b"quic.example", "coalesced");
            assert!(name_of(&[first]).is_none());
        }
    }

    #[test]
    fn handshake_ends_at_its_limit_of_datagrams() {
        use crate::columns::MessageKind;
        use crate::detect::ByContent;
        use crate::engine::Messages;
        use crate::http::Config;
        use bunker_wire::{Address, Endpoint, Flow, Sink as _};
        let whole = hello(b"quic.example");
        let one = initial(V1, b"12345678", b"12345678", true, 1, &crypto_frame(0, &whole));
        for (count, rows) in [(DATAGRAMS - 1, 0), (DATAGRAMS, 1), (DATAGRAMS + 1, 1)] {
            let end = |last, port| Endpoint { address: Address::v4([192, 0, 2, last]), port };
            let (orig, resp) = (end(1, 40_000), end(2, 443));
            let flow = Flow { uid: 7, slot: 0, orig, resp, protocol: 17, first_ts_ns: 5, maybe_outer: None };
            let mut messages = Messages::new(ByContent, Wanted::of(&[MessageKind::Tls]), Config::default());
            messages.flow_opened(&flow);
            for _ in 0..count {
                messages.datagram(&flow, Direction::Orig, &one, one.len(), 9);
            }
            assert_eq!(messages.tables.rows_of(MessageKind::Tls), rows, "{count}");
        }
    }

    #[test]
    fn keys_follow_a_retry() {
        let whole = hello(b"quic.example");
        let first = initial(V1, b"original", b"original", true, 0, &crypto_frame(0, whole.get(..20).unwrap()));
        let again = initial(V1, b"chosen-by-server", b"chosen-by-server", true, 1, &crypto_frame(0, &whole));
        assert_eq!(name_of(&[first, again]).unwrap(), b"quic.example");
    }

    /// The server's Initial packet of RFC 9001, appendix A.3, for the client's identifier of A.1.
    #[test]
    fn server_packet_of_the_rfc_opens() {
        let hex = "cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a5816b6394100f37a1c69797554780bb38cc5a99f5ede4c\
                   f73c3ec2493a1839b3dbcba3f6ea46c5b7684df3548e7ddeb9c3bf9c73cc3f3bded74b562bfb19fb84022f8ef4cdd93795d77d06edbb7a\
                   af2f58891850abbdca3d20398c276456cbc42158407dd074ee";
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|index| u8::from_str_radix(hex.get(2 * index..2 * index + 2).unwrap(), 16).unwrap())
            .collect();
        let dcid = [0x83, 0x94, 0xC8, 0xF0, 0x3E, 0x51, 0x57, 0x08];
        let mut quic = QuicDatagrams::default();
        quic.packets(Direction::Orig, &initial(V1, &dcid, &dcid, true, 2, &crypto_frame(0, &hello(b"quic.example"))));
        quic.packets(Direction::Resp, &bytes);
        let server = quic.handshake.server.as_ref().unwrap();
        assert_eq!((server.cipher, server.version, server.group), (0x1301, 0x0304, Some(29)));
        assert!(!quic.handshake.established());
        quic.packets(Direction::Resp, &[0x40, 1, 2]);
        quic.packets(Direction::Orig, &[0x40, 1, 2]);
        assert!(quic.handshake.established());
    }

    #[test]
    fn bent_and_cut_packets_give_nothing() {
        let whole = hello(b"quic.example");
        let packet = initial(V1, b"12345678", b"12345678", true, 1, &crypto_frame(0, &whole));
        for end in 0..packet.len() {
            assert!(name_of(&[packet.get(..end).unwrap().to_vec()]).is_none());
        }
        for bit in 0..packet.len() * 8 {
            let mut bent = packet.clone();
            *bent.get_mut(bit / 8).unwrap() ^= 1 << (bit % 8);
            assert!(name_of(&[bent]).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn frames_of_a_packet_end_at_their_limit() {
        let whole = hello(b"quic.example");
        for (pings, found) in [(FRAMES - 1, true), (FRAMES, false)] {
            let frames = [vec![1; pings as usize], crypto_frame(0, &whole)].concat();
            let packet = initial(V1, b"12345678", b"12345678", true, 1, &frames);
            assert_eq!(name_of(&[packet]).is_some(), found);
        }
    }
}
