//! Facts of an X.509 certificate (RFC 5280) in DER: what a record of it may say. Nothing is verified.
//!
//! Rules of this file:
//! 1. A certificate that breaks its own lengths gives no facts; odd content in a field leaves that field empty.
//! 2. Names are written as OpenSSL's RFC 2253 form, which Zeek logs: last part first, other bytes than ASCII escaped.
//!
//! Limits: [`NAME_PARTS`], [`ALTERNATIVE_NAMES`]; the length of the certificate by the handshake's limit.
use crate::columns::{TextItems, push_decimal};

/// Parts of one distinguished name that are read. Real names have below 10.
pub const NAME_PARTS: usize = 64;
/// Alternative names of one certificate that are listed; all are counted. Large sites have about 100.
pub const ALTERNATIVE_NAMES: usize = 256;

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT: u8 = 0x06;
const BOOLEAN: u8 = 0x01;

/// What one certificate says.
#[derive(Default, Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Serial number, upper-case hex.
    pub serial: Vec<u8>,
    /// Subject.
    pub subject: Vec<u8>,
    /// Issuer.
    pub issuer: Vec<u8>,
    /// Subject and issuer are the same bytes.
    pub self_signed: bool,
    /// Valid from, ns since the epoch.
    pub not_before_ns: Option<u64>,
    /// Valid until, ns since the epoch.
    pub not_after_ns: Option<u64>,
    /// Family of its key: a word of ours.
    pub key_type: &'static str,
    /// Bits of its key.
    pub key_bits: Option<u64>,
    /// Algorithm of its signature, OpenSSL's word, else the object identifier.
    pub signature: Vec<u8>,
    /// DNS names among its alternative names.
    pub names: TextItems,
    /// Number of alternative names of all kinds.
    pub name_count: u64,
    /// Last common name of the subject.
    pub common_name: Vec<u8>,
    /// Kind of validation that its policies claim: `dv`, `ov`, `iv`, `ev` (CA/Browser Forum, 7.1.6.1).
    pub policy: Option<&'static str>,
    /// It says that it is an authority.
    pub is_authority: bool,
}

/// One element: tag, content, and its bytes with tag and length.
#[derive(Clone, Copy)]
struct Element<'a> {
    tag: u8,
    body: &'a [u8],
    whole: &'a [u8],
}

/// Reads elements from the front.
#[derive(Clone, Copy)]
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<Element<'a>> {
        let all = self.0;
        let [tag, length, ..] = all else { return None };
        if tag & 0x1F == 0x1F {
            return None; // no certificate has tags of several bytes
        }
        let (header, size) = if *length < 0x80 {
            (2usize, usize::from(*length))
        } else {
            let count = usize::from(length & 0x7F);
            if count == 0 || count > 3 {
                return None;
            }
            let header = count.checked_add(2)?;
            let bytes = all.get(2..header)?;
            (header, bytes.iter().fold(0usize, |size, byte| (size << 8) | usize::from(*byte)))
        };
        let end = header.checked_add(size)?;
        let (whole, rest) = all.split_at_checked(end)?;
        self.0 = rest;
        Some(Element { tag: *tag, body: whole.get(header..)?, whole })
    }

    fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|element| element.tag == tag)
    }

    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }
}

impl Certificate {
    /// The facts of a DER certificate; None if it is none.
    #[must_use]
    pub fn read(der: &[u8]) -> Option<Self> {
        let mut outer = Der(Der(der).expect(SEQUENCE)?.body);
        let mut inner = Der(outer.expect(SEQUENCE)?.body);
        let mut found = Self { key_type: "unknown", ..Self::default() };
        if inner.peek() == Some(0xA0) {
            inner.next()?;
        }
        found.serial = serial(inner.expect(INTEGER)?.body);
        inner.expect(SEQUENCE)?; // the signature's algorithm once more
        let issuer = inner.expect(SEQUENCE)?;
        let mut validity = Der(inner.expect(SEQUENCE)?.body);
        found.not_before_ns = validity.next().and_then(time_ns);
        found.not_after_ns = validity.next().and_then(time_ns);
        let subject = inner.expect(SEQUENCE)?;
        found.self_signed = issuer.whole == subject.whole;
        name(issuer.body, &mut found.issuer);
        found.common_name = name(subject.body, &mut found.subject);
        let key = inner.expect(SEQUENCE)?;
        (found.key_type, found.key_bits) = key_of(key.body).unwrap_or(("unknown", None));
        while let Some(element) = inner.next() {
            if element.tag == 0xA3 {
                found.extensions(element.body);
            }
        }
        if let Some(algorithm) = outer.expect(SEQUENCE) {
            found.signature = Der(algorithm.body).expect(OBJECT).map(|object| signature_word(object.body))?;
        }
        Some(found)
    }

    fn extensions(&mut self, body: &[u8]) {
        let Some(list) = Der(body).expect(SEQUENCE) else { return };
        let mut list = Der(list.body);
        while let Some(extension) = list.expect(SEQUENCE) {
            let mut parts = Der(extension.body);
            let Some(object) = parts.expect(OBJECT) else { return };
            if parts.peek() == Some(BOOLEAN) {
                parts.next();
            }
            let Some(value) = parts.expect(OCTET_STRING) else { return };
            match object.body {
                [0x55, 0x1D, 0x11] => self.alternative_names(value.body),
                [0x55, 0x1D, 0x13] => {
                    let authority = Der(value.body).expect(SEQUENCE).and_then(|list| Der(list.body).expect(BOOLEAN));
                    self.is_authority = authority.is_some_and(|flag| flag.body != [0]);
                }
                [0x55, 0x1D, 0x20] => self.policies(value.body),
                _ => {}
            }
        }
    }

    fn alternative_names(&mut self, body: &[u8]) {
        let Some(list) = Der(body).expect(SEQUENCE) else { return };
        let mut list = Der(list.body);
        while let Some(element) = list.next() {
            self.name_count = self.name_count.saturating_add(1);
            if element.tag == 0x82 && self.names.len() < ALTERNATIVE_NAMES {
                self.names.push(element.body);
            }
        }
    }

    fn policies(&mut self, body: &[u8]) {
        let Some(list) = Der(body).expect(SEQUENCE) else { return };
        let mut list = Der(list.body);
        while let Some(policy) = list.expect(SEQUENCE) {
            let Some(object) = Der(policy.body).expect(OBJECT) else { return };
            // 2.23.140.1.1 and 2.23.140.1.2.x
            self.policy = match object.body {
                [0x67, 0x81, 0x0C, 0x01, 0x01] => Some("ev"),
                [0x67, 0x81, 0x0C, 0x01, 0x02, 0x01] => Some("dv"),
                [0x67, 0x81, 0x0C, 0x01, 0x02, 0x02] => Some("ov"),
                [0x67, 0x81, 0x0C, 0x01, 0x02, 0x03] => Some("iv"),
                _ => continue,
            };
            return;
        }
    }

    /// Whether one of its names stands for `host` (RFC 6125, section 6.4: a star is one whole left-most label).
    #[must_use]
    pub fn stands_for(&self, host: &[u8]) -> bool {
        self.names.iter().chain(core::iter::once(self.common_name.as_slice())).any(|name| matches_name(name, host))
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        [self.serial.capacity(), self.subject.capacity(), self.issuer.capacity(), self.names.live_bytes()]
            .iter()
            .fold(size_of::<Self>(), |sum, bytes| sum.saturating_add(*bytes))
    }
}

fn matches_name(name: &[u8], host: &[u8]) -> bool {
    if name.is_empty() {
        return false;
    }
    if let Some(suffix) = name.strip_prefix(b"*") {
        let dot = memchr::memchr(b'.', host).unwrap_or(host.len());
        return dot > 0
            && suffix.starts_with(b".")
            && host.get(dot..).is_some_and(|rest| rest.eq_ignore_ascii_case(suffix));
    }
    name.eq_ignore_ascii_case(host)
}

fn serial(body: &[u8]) -> Vec<u8> {
    // A leading zero says "positive"; OpenSSL leaves it out.
    let bytes = match body {
        [0, rest @ ..] if !rest.is_empty() => rest,
        other => other,
    };
    let mut out = Vec::with_capacity(bytes.len().saturating_mul(2));
    for byte in bytes.iter().take(64) {
        push_upper_hex(&mut out, *byte);
    }
    out
}

fn push_upper_hex(out: &mut Vec<u8>, byte: u8) {
    for nibble in [byte >> 4, byte & 15] {
        out.push(b"0123456789ABCDEF".get(usize::from(nibble)).copied().unwrap_or(b'?'));
    }
}

fn digits(bytes: &[u8]) -> Option<u64> {
    bytes.iter().try_fold(0u64, |number, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// UTCTime or GeneralizedTime (RFC 5280, section 4.1.2.5) in ns; None before 1970.
fn time_ns(element: Element<'_>) -> Option<u64> {
    let (year, rest) = match element.tag {
        0x17 => {
            let (year, rest) = element.body.split_at_checked(2)?;
            let year = digits(year)?;
            (if year < 50 { year.checked_add(2000)? } else { year.checked_add(1900)? }, rest)
        }
        0x18 => {
            let (year, rest) = element.body.split_at_checked(4)?;
            (digits(year)?, rest)
        }
        _ => return None,
    };
    let part = |index: usize| rest.get(index..index.checked_add(2)?).and_then(digits);
    let (month, day, hour, minute) = (part(0)?, part(2)?, part(4)?, part(6)?);
    let second = part(8).unwrap_or(0);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60
    {
        return None;
    }
    // Days since the epoch of a date in the Gregorian calendar, the year beginning in March.
    let (y, m) = if month > 2 { (year, month.checked_sub(3)?) } else { (year.checked_sub(1)?, month.checked_add(9)?) };
    let era_day = 365u64
        .checked_mul(y)?
        .checked_add(y / 4)?
        .checked_sub(y / 100)?
        .checked_add(y / 400)?
        .checked_add(m.checked_mul(153)?.checked_add(2)? / 5)?
        .checked_add(day)?
        .checked_sub(1)?;
    let days = era_day.checked_sub(719_468)?;
    let seconds =
        days.checked_mul(86_400)?.checked_add(hour.checked_mul(3_600)?)?.checked_add(minute.checked_mul(60)?)?;
    seconds.checked_add(second)?.checked_mul(1_000_000_000)
}

/// Write a distinguished name; returns its last common name.
fn name(body: &[u8], out: &mut Vec<u8>) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let mut sets = Der(body);
    while let Some(set) = sets.expect(SET) {
        if parts.len() >= NAME_PARTS {
            break;
        }
        parts.push(set.body);
    }
    let mut common = Vec::new();
    for set in parts.into_iter().rev() {
        if !out.is_empty() {
            out.push(b',');
        }
        let mut first = true;
        let mut pairs = Der(set);
        while let Some(pair) = pairs.expect(SEQUENCE) {
            let mut pair = Der(pair.body);
            let (Some(object), Some(value)) = (pair.expect(OBJECT), pair.next()) else { break };
            if !first {
                out.push(b'+');
            }
            first = false;
            push_attribute(out, object.body);
            out.push(b'=');
            let text = text_of(value);
            if common.is_empty() && object.body == [0x55, 0x04, 0x03] {
                common.clone_from(&text);
            }
            push_escaped(out, &text);
        }
    }
    common
}

fn push_attribute(out: &mut Vec<u8>, object: &[u8]) {
    let word: &[u8] = match object {
        [0x55, 0x04, kind] => match kind {
            3 => b"CN",
            4 => b"SN",
            5 => b"serialNumber",
            6 => b"C",
            7 => b"L",
            8 => b"ST",
            9 => b"street",
            10 => b"O",
            11 => b"OU",
            12 => b"title",
            13 => b"description",
            15 => b"businessCategory",
            17 => b"postalCode",
            18 => b"postOfficeBox",
            20 => b"telephoneNumber",
            42 => b"GN",
            43 => b"initials",
            46 => b"dnQualifier",
            65 => b"pseudonym",
            97 => b"organizationIdentifier",
            _ => b"",
        },
        [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, kind] => match kind {
            1 => b"emailAddress",
            2 => b"unstructuredName",
            8 => b"unstructuredAddress",
            _ => b"",
        },
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, kind] => match kind {
            1 => b"UID",
            25 => b"DC",
            _ => b"",
        },
        [0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x3C, 0x02, 0x01, kind] => match kind {
            1 => b"jurisdictionL",
            2 => b"jurisdictionST",
            3 => b"jurisdictionC",
            _ => b"",
        },
        _ => b"",
    };
    if word.is_empty() {
        push_object(out, object);
    } else {
        out.extend_from_slice(word);
    }
}

/// An object identifier in dots (X.690, section 8.19).
fn push_object(out: &mut Vec<u8>, object: &[u8]) {
    let mut number = 0u64;
    let mut first = true;
    for byte in object {
        number = (number << 7) | u64::from(byte & 0x7F);
        if byte & 0x80 != 0 {
            continue;
        }
        if first {
            let top = (number / 40).min(2);
            push_decimal(out, top);
            out.push(b'.');
            push_decimal(out, number.saturating_sub(top.saturating_mul(40)));
            first = false;
        } else {
            out.push(b'.');
            push_decimal(out, number);
        }
        number = 0;
    }
}

/// The characters of a string in UTF-8: BMPString and UniversalString are wide, T61String and IA5String are read as Latin-1.
fn text_of(element: Element<'_>) -> Vec<u8> {
    let chars = |wide: &mut dyn Iterator<Item = u32>| {
        let text: String = wide.map(|value| char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        text.into_bytes()
    };
    match element.tag {
        0x0C => element.body.to_vec(),
        0x1E => chars(&mut element.body.chunks_exact(2).map(|pair| fold(pair))),
        0x1C => chars(&mut element.body.chunks_exact(4).map(|four| fold(four))),
        _ => chars(&mut element.body.iter().map(|byte| u32::from(*byte))),
    }
}

fn fold(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, byte| (value << 8) | u32::from(*byte))
}

/// RFC 2253, section 2.4, and every byte that is no printable ASCII as `\XX`.
fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let last = text.len().saturating_sub(1);
    for (index, byte) in text.iter().enumerate() {
        let special = matches!(byte, b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';')
            || (index == 0 && matches!(byte, b'#' | b' '))
            || (index == last && *byte == b' ');
        if special {
            out.extend_from_slice(&[b'\\', *byte]);
        } else if (0x20..0x7F).contains(byte) {
            out.push(*byte);
        } else {
            out.push(b'\\');
            push_upper_hex(out, *byte);
        }
    }
}

fn key_of(body: &[u8]) -> Option<(&'static str, Option<u64>)> {
    let mut parts = Der(body);
    let mut algorithm = Der(parts.expect(SEQUENCE)?.body);
    let object = algorithm.expect(OBJECT)?.body;
    let bits = parts.expect(BIT_STRING)?.body.get(1..)?;
    Some(match object {
        // rsaEncryption, RSASSA-PSS
        [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, 0x01 | 0x0A] => {
            let modulus = Der(bits).expect(SEQUENCE).and_then(|key| Der(key.body).expect(INTEGER));
            ("rsa", modulus.map(|modulus| bit_length(modulus.body)))
        }
        [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x02, 0x01] => {
            let bits = match algorithm.next().map(|curve| curve.body) {
                Some([0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x01]) => Some(192),
                Some([0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07] | [0x2B, 0x81, 0x04, 0x00, 0x0A]) => Some(256),
                Some([0x2B, 0x81, 0x04, 0x00, 0x21]) => Some(224),
                Some([0x2B, 0x81, 0x04, 0x00, 0x22]) => Some(384),
                Some([0x2B, 0x81, 0x04, 0x00, 0x23]) => Some(521),
                _ => None,
            };
            ("ecdsa", bits)
        }
        [0x2A, 0x86, 0x48, 0xCE, 0x38, 0x04, 0x01] => {
            let prime = algorithm.expect(SEQUENCE).and_then(|list| Der(list.body).expect(INTEGER));
            ("dsa", prime.map(|prime| bit_length(prime.body)))
        }
        [0x2B, 0x65, 0x70] => ("ed25519", Some(256)),
        [0x2B, 0x65, 0x71] => ("ed448", Some(456)),
        _ => ("unknown", None),
    })
}

fn bit_length(number: &[u8]) -> u64 {
    let used = number.iter().position(|byte| *byte != 0).and_then(|start| number.get(start..)).unwrap_or_default();
    let first = used.first().map_or(0, |byte| u64::from(byte.leading_zeros()));
    (used.len() as u64).saturating_mul(8).saturating_sub(first)
}

fn signature_word(object: &[u8]) -> Vec<u8> {
    let word: &str = match object {
        [0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x01, kind] => match kind {
            2 => "md2WithRSAEncryption",
            4 => "md5WithRSAEncryption",
            5 => "sha1WithRSAEncryption",
            10 => "rsassaPss",
            11 => "sha256WithRSAEncryption",
            12 => "sha384WithRSAEncryption",
            13 => "sha512WithRSAEncryption",
            14 => "sha224WithRSAEncryption",
            _ => "",
        },
        [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x01] => "ecdsa-with-SHA1",
        [0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x04, 0x03, kind] => match kind {
            1 => "ecdsa-with-SHA224",
            2 => "ecdsa-with-SHA256",
            3 => "ecdsa-with-SHA384",
            4 => "ecdsa-with-SHA512",
            _ => "",
        },
        [0x2A, 0x86, 0x48, 0xCE, 0x38, 0x04, 0x03] => "dsaWithSHA1",
        [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x02] => "dsa_with_SHA256",
        [0x2B, 0x65, 0x70] => "ED25519",
        [0x2B, 0x65, 0x71] => "ED448",
        _ => "",
    };
    if !word.is_empty() {
        return word.as_bytes().to_vec();
    }
    let mut out = Vec::new();
    push_object(&mut out, object);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn element(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        if body.len() < 0x80 {
            out.push(u8::try_from(body.len()).unwrap());
        } else {
            out.push(0x82);
            out.extend_from_slice(&u16::try_from(body.len()).unwrap().to_be_bytes());
        }
        out.extend_from_slice(body);
        out
    }

    fn attribute(kind: u8, tag: u8, text: &[u8]) -> Vec<u8> {
        let pair = [element(OBJECT, &[0x55, 4, kind]), element(tag, text)].concat();
        element(SET, &element(SEQUENCE, &pair))
    }

    /// A certificate with an EC key, these alternative names and this policy.
    fn certificate(names: usize) -> Vec<u8> {
        let issuer = element(SEQUENCE, &attribute(10, 0x0C, "Prüf, GmbH".as_bytes()));
        let subject = element(SEQUENCE, &[attribute(6, 0x13, b"DE"), attribute(3, 0x1E, b"\0w\0.\0e\0x")].concat());
        let validity = [element(0x17, b"700101000001Z"), element(0x18, b"20240229120000Z")].concat();
        let algorithm = element(SEQUENCE, &element(OBJECT, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2]));
        let curve =
            [element(OBJECT, &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 2, 1]), element(OBJECT, &[0x2B, 0x81, 4, 0, 0x22])]
                .concat();
        let key = element(SEQUENCE, &[element(SEQUENCE, &curve), element(BIT_STRING, &[0, 4, 1])].concat());
        let list: Vec<u8> = (0..names).flat_map(|_| element(0x82, b"*.site.example")).collect();
        let alternative = element(
            SEQUENCE,
            &[element(OBJECT, &[0x55, 0x1D, 0x11]), element(OCTET_STRING, &element(SEQUENCE, &list))].concat(),
        );
        let policy = element(SEQUENCE, &element(SEQUENCE, &element(OBJECT, &[0x67, 0x81, 0x0C, 1, 2, 1])));
        let policies =
            element(SEQUENCE, &[element(OBJECT, &[0x55, 0x1D, 0x20]), element(OCTET_STRING, &policy)].concat());
        let extensions = element(0xA3, &element(SEQUENCE, &[alternative, policies].concat()));
        let inner = [
            element(0xA0, &element(INTEGER, &[2])),
            element(INTEGER, &[0, 0xE8, 0x0F]),
            algorithm.clone(),
            issuer,
            element(SEQUENCE, &validity),
            subject,
            key,
            extensions,
        ]
        .concat();
        element(SEQUENCE, &[element(SEQUENCE, &inner), algorithm, element(BIT_STRING, &[0, 1])].concat())
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn facts_of_a_certificate_are_read() {
        let found = Certificate::read(&certificate(2)).unwrap();
        assert_eq!(text(&found.serial), "E80F");
        assert_eq!(text(&found.issuer), "O=Pr\\C3\\BCf\\, GmbH");
        assert_eq!(text(&found.subject), "CN=w.ex,C=DE");
        assert_eq!((found.not_before_ns, found.not_after_ns), (Some(1_000_000_000), Some(1_709_208_000_000_000_000)));
        assert_eq!((found.key_type, found.key_bits), ("ecdsa", Some(384)));
        assert_eq!(text(&found.signature), "ecdsa-with-SHA256");
        assert_eq!((found.name_count, found.policy, found.self_signed), (2, Some("dv"), false));
        assert!(found.stands_for(b"WWW.site.example") && found.stands_for(b"w.ex"));
        assert!(!found.stands_for(b"a.b.site.example") && !found.stands_for(b"site.example") && !found.stands_for(b""));
    }

    #[test]
    fn names_beyond_the_limit_are_counted_and_not_kept() {
        for (names, kept) in
            [(0, 0), (ALTERNATIVE_NAMES, ALTERNATIVE_NAMES), (ALTERNATIVE_NAMES + 1, ALTERNATIVE_NAMES)]
        {
            let found = Certificate::read(&certificate(names)).unwrap();
            assert_eq!((found.name_count, found.names.len()), (names as u64, kept));
        }
    }

    #[test]
    fn parts_of_a_name_are_written_up_to_their_limit() {
        for (count, written) in
            [(NAME_PARTS - 1, NAME_PARTS - 1), (NAME_PARTS, NAME_PARTS), (NAME_PARTS + 1, NAME_PARTS)]
        {
            let mut out = Vec::new();
            name(&attribute(11, 0x13, b"u").repeat(count), &mut out);
            assert_eq!(text(&out).split(',').count(), written);
        }
    }

    #[test]
    fn a_certificate_cut_anywhere_gives_nothing_and_flipped_bits_do_not_panic() {
        let whole = certificate(1);
        for end in 0..whole.len() {
            assert_eq!(Certificate::read(whole.get(..end).unwrap()), None, "cut at {end}");
        }
        for index in 0..whole.len() * 8 {
            let mut bent = whole.clone();
            if let Some(byte) = bent.get_mut(index / 8) {
                *byte ^= 1 << (index % 8);
            }
            let _ = Certificate::read(&bent);
        }
    }

    #[test]
    fn lengths_of_more_than_three_bytes_are_refused() {
        assert!(Der(&[0x30, 0x84, 0, 0, 0, 1, 0]).next().is_none());
        assert!(Der(&[0x30, 0x80]).next().is_none());
        assert!(Der(&[0x30, 0x83, 0, 0, 1, 7]).next().is_some());
    }
}
