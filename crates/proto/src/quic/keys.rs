//! Keys of Initial packets: they hide nothing from anybody who sees the packet (RFC 9001 section 5.2, RFC 9369 section 3.3).
use aes::Aes128;
use aes::cipher::{Array, BlockCipherEncrypt, KeyInit as _};
use aes_gcm::Aes128Gcm;
use aes_gcm::aead::{Aead as _, Payload};
use hkdf::Hkdf;
use sha2::Sha256;

/// Version 1.
pub(super) const V1: u32 = 1;
/// Version 2.
pub(super) const V2: u32 = 0x6B33_43CF;

const SALT_V1: [u8; 20] = [
    0x38, 0x76, 0x2C, 0xF7, 0xF5, 0x59, 0x34, 0xB3, 0x4D, 0x17, 0x9A, 0xE6, 0xA4, 0xC8, 0x0C, 0xAD, 0xCC, 0xBB, 0x7F,
    0x0A,
];
const SALT_V2: [u8; 20] = [
    0x0D, 0xED, 0xE3, 0xDE, 0xF7, 0x00, 0xA6, 0xDB, 0x81, 0x93, 0x81, 0xBE, 0x6E, 0x26, 0x9D, 0xCB, 0xF9, 0xBD, 0x2E,
    0xD9,
];
/// Drafts 29 to 32.
const SALT_DRAFT_29: [u8; 20] = [
    0xAF, 0xBF, 0xEC, 0x28, 0x99, 0x93, 0xD2, 0x4C, 0x9E, 0x97, 0x86, 0xF1, 0x9C, 0x61, 0x11, 0xE0, 0x43, 0x90, 0xA8,
    0x99,
];

/// The salt of a version that is read here.
#[must_use]
pub const fn salt(version: u32) -> Option<[u8; 20]> {
    match version {
        V1 | 0xFF00_0021 | 0xFF00_0022 => Some(SALT_V1),
        V2 => Some(SALT_V2),
        0xFF00_001D..=0xFF00_0020 => Some(SALT_DRAFT_29),
        _ => None,
    }
}

/// What protects one side's Initial packets. Derived from what the packet shows: no secret.
pub struct SideKeys {
    packet: Aes128Gcm,
    iv: [u8; 12],
    header: Aes128,
}

/// HKDF-Expand-Label with an empty context (RFC 8446 section 7.1).
fn expand<const N: usize>(secret: &Hkdf<Sha256>, label: &[u8]) -> Option<[u8; N]> {
    let full = b"tls13 ".len().checked_add(label.len())?;
    let length = u16::try_from(N).ok()?.to_be_bytes();
    let mut info = Vec::with_capacity(32);
    info.extend_from_slice(&length);
    info.push(u8::try_from(full).ok()?);
    info.extend_from_slice(b"tls13 ");
    info.extend_from_slice(label);
    info.push(0);
    let mut out = [0u8; N];
    secret.expand(&info, &mut out).ok()?;
    Some(out)
}

impl SideKeys {
    /// The keys of the client's or the server's Initial packets after the client's first destination identifier `dcid`.
    #[must_use]
    pub fn new(version: u32, dcid: &[u8], is_client: bool) -> Option<Self> {
        let (_, initial) = Hkdf::<Sha256>::extract(Some(&salt(version)?), dcid);
        let secret: [u8; 32] = expand(&initial, if is_client { b"client in" } else { b"server in" })?;
        let secret = Hkdf::<Sha256>::from_prk(&secret).ok()?;
        let [key, iv, header] =
            if version == V2 { ["quicv2 key", "quicv2 iv", "quicv2 hp"] } else { ["quic key", "quic iv", "quic hp"] };
        let packet: [u8; 16] = expand(&secret, key.as_bytes())?;
        let mask: [u8; 16] = expand(&secret, header.as_bytes())?;
        Some(Self {
            packet: Aes128Gcm::new(&packet.into()),
            iv: expand(&secret, iv.as_bytes())?,
            header: Aes128::new(&mask.into()),
        })
    }

    /// The mask of a header whose sample is this (RFC 9001 section 5.4.3).
    #[must_use]
    pub fn mask(&self, sample: &[u8; 16]) -> [u8; 16] {
        let mut block = Array::from(*sample);
        self.header.encrypt_block(&mut block);
        block.into()
    }

    fn nonce(&self, number: u64) -> [u8; 12] {
        let mut nonce = self.iv;
        for (place, byte) in nonce.iter_mut().rev().zip(number.to_be_bytes().iter().rev()) {
            *place ^= byte;
        }
        nonce
    }

    /// The payload of packet `number` behind the unprotected `header`; None: the tag is wrong.
    #[must_use]
    pub fn open(&self, number: u64, header: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.packet.decrypt(&self.nonce(number).into(), Payload { msg: sealed, aad: header }).ok()
    }

    /// The other way round, for tests.
    #[cfg(test)]
    pub fn close(&self, number: u64, header: &[u8], plain: &[u8]) -> Option<Vec<u8>> {
        self.packet.encrypt(&self.nonce(number).into(), Payload { msg: plain, aad: header }).ok()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Values of RFC 9001, appendix A.1, and RFC 9369, appendix A.1: the initialization vectors, and that the masks differ.
    #[test]
    fn keys_are_those_of_the_rfcs() {
        let dcid = [0x83, 0x94, 0xC8, 0xF0, 0x3E, 0x51, 0x57, 0x08];
        let client = SideKeys::new(V1, &dcid, true).unwrap();
        assert_eq!(client.iv, [0xFA, 0x04, 0x4B, 0x2F, 0x42, 0xA3, 0xFD, 0x3B, 0x46, 0xFB, 0x25, 0x5C]);
        let server = SideKeys::new(V1, &dcid, false).unwrap();
        assert_eq!(server.iv, [0x0A, 0xC1, 0x49, 0x3C, 0xA1, 0x90, 0x58, 0x53, 0xB0, 0xBB, 0xA0, 0x3E]);
        // A.2: sample and mask of the client's first packet.
        let sample = [0xD1, 0xB1, 0xC9, 0x8D, 0xD7, 0x68, 0x9F, 0xB8, 0xEC, 0x11, 0xD2, 0x42, 0xB1, 0x23, 0xDC, 0x9B];
        assert_eq!(client.mask(&sample).get(..5).unwrap(), [0x43, 0x7B, 0x9A, 0xEC, 0x36]);
        let second = SideKeys::new(V2, &dcid, true).unwrap();
        assert_eq!(second.iv, [0x91, 0xF7, 0x3E, 0x23, 0x51, 0xD8, 0xFA, 0x91, 0x66, 0x0E, 0x90, 0x9F]);
        assert!(SideKeys::new(7, &dcid, true).is_none());
    }

    #[test]
    fn what_is_closed_opens_and_one_bent_bit_does_not() {
        let keys = SideKeys::new(V1, b"any", true).unwrap();
        let mut sealed = keys.close(7, b"header", b"payload").unwrap();
        assert_eq!(keys.open(7, b"header", &sealed).unwrap(), b"payload");
        assert!(keys.open(8, b"header", &sealed).is_none() && keys.open(7, b"hEader", &sealed).is_none());
        *sealed.first_mut().unwrap() ^= 1;
        assert!(keys.open(7, b"header", &sealed).is_none());
    }
}
