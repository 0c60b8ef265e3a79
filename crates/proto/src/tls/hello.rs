//! ClientHello and ServerHello (RFC 8446 sections 4.1.2 and 4.1.3, RFC 5246 section 7.4.1), and the fingerprints made of them.
//!
//! Rules of this file:
//! 1. A hello that breaks its own lengths is no hello: the answer is None, and what stood before the break does not count.
//! 2. GREASE values (RFC 8701) are not part of fingerprints and counts.
use bunker_wire::bytes::be16;
use md5::{Digest as _, Md5};
use sha2::Sha256;

use crate::columns::push_hex;

const SERVER_NAME: u16 = 0;
const GROUPS: u16 = 10;
const POINT_FORMATS: u16 = 11;
const SIGNATURES: u16 = 13;
const ALPN: u16 = 16;
const TICKET: u16 = 35;
const PRE_SHARED_KEY: u16 = 41;
const VERSIONS: u16 = 43;
const KEY_SHARE: u16 = 51;
/// Number of the key share before draft 23 of TLS 1.3.
const DRAFT_KEY_SHARE: u16 = 40;
/// Last draft of TLS 1.3 whose ServerHello is the short one.
const LAST_SHORT_DRAFT: u16 = 0x7F15;
const ECH: u16 = 0xFE0D;
/// Values kept of one list of a hello. Real hellos have below 100 of each.
const LIST_ITEMS: usize = 512;

/// The `random` of a ServerHello that is a HelloRetryRequest (RFC 8446 section 4.1.3).
const RETRY: [u8; 32] = [
    0xCF, 0x21, 0xAD, 0x74, 0xE5, 0x9A, 0x61, 0x11, 0xBE, 0x1D, 0x8C, 0x02, 0x1E, 0x65, 0xB8, 0x91, 0xC2, 0xA2, 0x11,
    0x16, 0x7A, 0xBB, 0x8C, 0x5E, 0x07, 0x9E, 0x09, 0xE2, 0xC8, 0xA8, 0x33, 0x9C,
];

/// Reads from the front of a slice.
pub(super) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(front)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        be16(self.take(2)?, 0)
    }

    /// What stands behind a one-byte length.
    pub(super) fn vector8(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u8()?);
        self.take(length)
    }

    /// What stands behind a two-byte length.
    pub(super) fn vector16(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        self.take(length)
    }
}

fn numbers(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).take(LIST_ITEMS).filter_map(|pair| be16(pair, 0)).collect()
}

/// A value that means nothing but that unknown values must be ignored (RFC 8701).
#[must_use]
pub const fn is_grease(value: u16) -> bool {
    let [high, low] = value.to_be_bytes();
    high == low && low & 0x0F == 0x0A
}

/// What a client offers.
#[derive(Default, Clone)]
pub struct ClientHello {
    /// Version field of the hello.
    pub version: u16,
    /// Session id or ticket it hopes to go on with.
    pub session: Vec<u8>,
    /// Cipher suites, in order, GREASE included.
    pub ciphers: Vec<u16>,
    /// Extensions, in order, GREASE included.
    pub extensions: Vec<u16>,
    /// First server name of type `host_name` (RFC 6066 section 3).
    pub server_name: Option<Vec<u8>>,
    /// Protocols offered (RFC 7301).
    pub alpn: Vec<Vec<u8>>,
    /// Versions offered by extension, GREASE included.
    pub versions: Vec<u16>,
    /// Groups offered.
    pub groups: Vec<u16>,
    /// Point formats offered.
    pub point_formats: Vec<u8>,
    /// Signature algorithms, in order.
    pub signatures: Vec<u16>,
    /// An encrypted hello was offered (or GREASE of one, which nobody can tell apart).
    pub ech: bool,
    /// A pre-shared key was offered.
    pub psk: bool,
    /// A ticket of an earlier session was shown (RFC 5077).
    pub ticket: bool,
}

/// What a server chose.
#[derive(Default, Clone)]
pub struct ServerHello {
    /// Version chosen, by extension if there is one.
    pub version: u16,
    /// Session id.
    pub session: Vec<u8>,
    /// Cipher suite chosen.
    pub cipher: u16,
    /// Protocol chosen, where it is not encrypted.
    pub alpn: Option<Vec<u8>>,
    /// Group of the key share, or of a retry.
    pub group: Option<u16>,
    /// A pre-shared key was taken.
    pub resumed: bool,
    /// It asks for another client hello.
    pub is_retry: bool,
    /// Extensions, in order.
    pub extensions: Vec<u16>,
    /// Version field as it stands there, for JA3S.
    pub legacy_version: u16,
}

fn extensions<'a>(reader: &mut Reader<'a>, mut each: impl FnMut(u16, &'a [u8]) -> Option<()>) -> Option<Vec<u16>> {
    let mut kinds = Vec::new();
    if reader.0.is_empty() {
        return Some(kinds); // SSL 3 and early TLS have none
    }
    let mut list = Reader(reader.vector16()?);
    while !list.0.is_empty() {
        let kind = list.u16()?;
        let body = list.vector16()?;
        if kinds.len() < LIST_ITEMS {
            kinds.push(kind);
            each(kind, body)?;
        }
    }
    Some(kinds)
}

fn protocols(body: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut list = Reader(Reader(body).vector16()?);
    let mut found = Vec::new();
    while !list.0.is_empty() && found.len() < LIST_ITEMS {
        found.push(list.vector8()?.to_vec());
    }
    Some(found)
}

fn host_name(body: &[u8]) -> Option<Option<Vec<u8>>> {
    if body.is_empty() {
        return Some(None);
    }
    let mut list = Reader(Reader(body).vector16()?);
    while !list.0.is_empty() {
        let kind = list.u8()?;
        let name = list.vector16()?;
        if kind == 0 {
            return Some(Some(name.to_vec()));
        }
    }
    Some(None)
}

impl ClientHello {
    /// From the body of a handshake message; `dtls` has a cookie (RFC 6347 section 4.2.1).
    #[must_use]
    pub fn read(body: &[u8], dtls: bool) -> Option<Self> {
        let mut reader = Reader(body);
        let mut hello = Self { version: reader.u16()?, ..Self::default() };
        reader.take(32)?;
        hello.session = reader.vector8()?.to_vec();
        if dtls {
            reader.vector8()?;
        }
        hello.ciphers = numbers(reader.vector16()?);
        reader.vector8()?;
        let kinds = extensions(&mut reader, |kind, body| {
            match kind {
                SERVER_NAME => hello.server_name = host_name(body)?,
                GROUPS => hello.groups = numbers(Reader(body).vector16()?),
                POINT_FORMATS => hello.point_formats = Reader(body).vector8()?.to_vec(),
                SIGNATURES => hello.signatures = numbers(Reader(body).vector16()?),
                ALPN => hello.alpn = protocols(body)?,
                VERSIONS => hello.versions = numbers(Reader(body).vector8()?),
                ECH => hello.ech = true,
                PRE_SHARED_KEY => hello.psk = true,
                TICKET => hello.ticket = !body.is_empty(),
                _ => {}
            }
            Some(())
        })?;
        hello.extensions = kinds;
        Some(hello)
    }

    /// From a hello in the form of SSL 2 that offers a newer version (RFC 5246, appendix E.2), without its length.
    #[must_use]
    pub fn read_v2(message: &[u8]) -> Option<Self> {
        let mut reader = Reader(message);
        if reader.u8()? != 1 {
            return None;
        }
        let version = reader.u16()?;
        let (ciphers, session, challenge) = (reader.u16()?, reader.u16()?, reader.u16()?);
        let ciphers = reader.take(usize::from(ciphers))?;
        let session = reader.take(usize::from(session))?.to_vec();
        reader.take(usize::from(challenge))?;
        // Suites of SSL 2 alone have a first byte that is not zero.
        let ciphers = ciphers.chunks_exact(3).take(LIST_ITEMS).filter(|cipher| cipher.first() == Some(&0));
        let ciphers = ciphers.filter_map(|cipher| be16(cipher, 1)).collect();
        Some(Self { version, session, ciphers, ..Self::default() })
    }

    /// Bytes held, about.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        let numbers = [&self.ciphers, &self.extensions, &self.versions, &self.groups, &self.signatures];
        let numbers = numbers.iter().fold(0usize, |sum, list| sum.saturating_add(list.capacity()));
        let alpn = self.alpn.iter().fold(0usize, |sum, name| sum.saturating_add(name.capacity()).saturating_add(24));
        let name = self.server_name.as_ref().map_or(0, Vec::capacity);
        numbers.saturating_mul(2).saturating_add(alpn).saturating_add(name).saturating_add(self.session.capacity())
    }

    /// JA3: MD5 over version, suites, extensions, groups and point formats, in their order (salesforce/ja3).
    #[must_use]
    pub fn ja3(&self) -> String {
        let list = |values: &[u16]| {
            let words: Vec<String> =
                values.iter().filter(|value| !is_grease(**value)).map(ToString::to_string).collect();
            words.join("-")
        };
        let formats: Vec<u16> = self.point_formats.iter().map(|format| u16::from(*format)).collect();
        let text = format!(
            "{},{},{},{},{}",
            self.version,
            list(&self.ciphers),
            list(&self.extensions),
            list(&self.groups),
            list(&formats)
        );
        hex(&Md5::digest(text.as_bytes()))
    }

    /// JA4 (FoxIO's JA4 technical details): `transport` is 't', 'd' or 'q'.
    #[must_use]
    pub fn ja4(&self, transport: char) -> String {
        let plain =
            |values: &[u16]| -> Vec<u16> { values.iter().copied().filter(|value| !is_grease(*value)).collect() };
        let ciphers = plain(&self.ciphers);
        let kinds = plain(&self.extensions);
        let offered = plain(&self.versions).into_iter();
        // DTLS counts its versions downwards.
        let highest = if transport == 'd' { offered.min() } else { offered.max() };
        let version = highest.unwrap_or(self.version);
        let named = if kinds.contains(&SERVER_NAME) { 'd' } else { 'i' };
        let two = |count: usize| format!("{:02}", count.min(99));
        let head = format!(
            "{transport}{}{named}{}{}{}",
            ja4_version(version),
            two(ciphers.len()),
            two(kinds.len()),
            ja4_alpn(self.alpn.first().map(Vec::as_slice))
        );
        let words = |values: &[u16]| {
            let words: Vec<String> = values.iter().map(|value| format!("{value:04x}")).collect();
            words.join(",")
        };
        let sorted = |mut values: Vec<u16>| {
            values.sort_unstable();
            values
        };
        let mut last = words(&sorted(kinds.into_iter().filter(|kind| *kind != SERVER_NAME && *kind != ALPN).collect()));
        let signatures = plain(&self.signatures);
        if !signatures.is_empty() {
            last = format!("{last}_{}", words(&signatures));
        }
        format!("{head}_{}_{}", twelve(&words(&sorted(ciphers))), twelve(&last))
    }
}

impl ServerHello {
    /// From the body of a handshake message. The drafts of TLS 1.3 up to 21 have neither session id nor compression method.
    #[must_use]
    pub fn read(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        let version = reader.u16()?;
        let is_early_draft = (0x7F00..=LAST_SHORT_DRAFT).contains(&version);
        let mut hello = Self { version, legacy_version: version, ..Self::default() };
        hello.is_retry = reader.take(32)? == RETRY;
        if !is_early_draft {
            hello.session = reader.vector8()?.to_vec();
        }
        hello.cipher = reader.u16()?;
        if !is_early_draft {
            reader.u8()?;
        }
        let kinds = extensions(&mut reader, |kind, body| {
            match kind {
                VERSIONS => hello.version = be16(body, 0)?,
                KEY_SHARE | DRAFT_KEY_SHARE => hello.group = be16(body, 0),
                PRE_SHARED_KEY => hello.resumed = true,
                ALPN => hello.alpn = protocols(body)?.into_iter().next(),
                _ => {}
            }
            Some(())
        })?;
        hello.extensions = kinds;
        Some(hello)
    }

    /// Whether this is TLS 1.3, a draft of it, or DTLS 1.3.
    #[must_use]
    pub const fn is_13(&self) -> bool {
        matches!(self.version, 0x0304 | 0xFEFC | 0x7F00..=0x7FFF)
    }

    /// JA3S: MD5 over version, suite and extensions, in their order (salesforce/ja3).
    #[must_use]
    pub fn ja3s(&self) -> String {
        let words: Vec<String> = self.extensions.iter().map(ToString::to_string).collect();
        hex(&Md5::digest(format!("{},{},{}", self.legacy_version, self.cipher, words.join("-")).as_bytes()))
    }
}

fn ja4_version(version: u16) -> &'static str {
    match version {
        0x0304 => "13",
        0x0303 => "12",
        0x0302 => "11",
        0x0301 => "10",
        0x0300 => "s3",
        0x0002 => "s2",
        0xFEFF => "d1",
        0xFEFD => "d2",
        0xFEFC => "d3",
        _ => "00",
    }
}

/// First and last character of the first protocol; of its hex form if one of them is no letter or digit.
fn ja4_alpn(first: Option<&[u8]>) -> String {
    let (Some(first), Some(last)) = (first.and_then(<[u8]>::first), first.and_then(<[u8]>::last)) else {
        return "00".to_owned();
    };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return [char::from(*first), char::from(*last)].iter().collect();
    }
    format!("{:x}{:x}", first >> 4, last & 0x0F)
}

fn twelve(text: &str) -> String {
    if text.is_empty() {
        return "000000000000".to_owned();
    }
    let mut digest = hex(&Sha256::digest(text.as_bytes()));
    digest.truncate(12);
    digest
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(2));
    push_hex(&mut out, bytes);
    String::from_utf8(out).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ja4_of_the_published_example() {
        // FoxIO, JA4 technical details: the example of section "JA4 Algorithm".
        let ciphers = [
            0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c, 0x009d,
            0x002f, 0x0035,
        ];
        let extensions = [
            0x001b, 0x0000, 0x0033, 0x0010, 0x4469, 0x0017, 0x002d, 0x000d, 0x0005, 0x0023, 0x0012, 0x002b, 0xff01,
            0x000b, 0x000a, 0x0015,
        ];
        let hello = ClientHello {
            version: 0x0303,
            ciphers: core::iter::once(0x0A0A).chain(ciphers).collect(),
            extensions: core::iter::once(0x1A1A).chain(extensions).collect(),
            alpn: vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            versions: vec![0x2A2A, 0x0304, 0x0303],
            signatures: vec![0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601],
            ..ClientHello::default()
        };
        assert_eq!(hello.ja4('t'), "t13d1516h2_8daaf6152771_e5627efa2ab1");
    }

    #[test]
    fn server_hello_of_an_early_draft_has_no_session() {
        let mut body = vec![0x7F, 0x12];
        body.extend_from_slice(&[3; 32]);
        body.extend_from_slice(&[0x13, 0x01, 0, 8, 0, 40, 0, 4, 0, 29, 0, 0]);
        let hello = ServerHello::read(&body).unwrap_or_default();
        assert_eq!((hello.cipher, hello.group, hello.is_13()), (0x1301, Some(29), true));
        // The published JA3S of such a hello is over "32530,4865,40".
        assert_eq!(hello.ja3s(), "b8a8031b301aef7618403061e9f33065");
    }

    #[test]
    fn hello_in_the_old_form_is_read_and_cut_nowhere() {
        let mut message = vec![1, 3, 0, 0, 6, 0, 0, 0, 16, 0, 0, 4, 1, 0, 0x80];
        message.extend_from_slice(&[9; 16]);
        let hello = ClientHello::read_v2(&message).unwrap_or_default();
        assert_eq!((hello.version, hello.ciphers.as_slice()), (0x0300, &[4u16][..]));
        for end in 0..message.len() {
            assert!(ClientHello::read_v2(message.get(..end).unwrap_or_default()).is_none());
        }
    }

    #[test]
    fn grease_is_what_rfc_8701_lists() {
        let listed: Vec<u16> = (0..=u16::MAX).filter(|value| is_grease(*value)).collect();
        assert_eq!(listed.len(), 16);
        assert!(listed.contains(&0x0A0A) && listed.contains(&0xFAFA));
    }

    #[test]
    fn protocols_that_are_no_words_show_their_hex() {
        assert_eq!(ja4_alpn(None), "00");
        assert_eq!(ja4_alpn(Some(b"h2")), "h2");
        assert_eq!(ja4_alpn(Some(b"http/1.1")), "h1");
        assert_eq!(ja4_alpn(Some(&[0xAB])), "ab");
        assert_eq!(ja4_alpn(Some(&[0xAB, 0xCD])), "ad");
    }
}
