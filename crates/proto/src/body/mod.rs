//! Bodies: content codings undone while the bytes pass, counted, hashed, typed, and kept only if somebody asked.
//!
//! Rules of this file:
//! 1. Streaming: no body is ever whole in memory; what is kept is bounded by `keep`.
//! 2. A coding that unfolds beyond `decoded` bytes, or beyond `ratio` times its input, is stopped: the body's length is then what was
//!    seen, and the outcome says so.
//! 3. A damaged coding stops decoding; the bytes before the damage count.
pub mod magic;

use std::io::{self, Write};

use bunker_wire::zstd::ZstdStream;
use sha2::Digest as _;

/// Bounds of one body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// Decoded bytes counted. Suricata's response-body-limit is 100 KiB, libhtp's bomb limit 1 MiB; ours are counted, not held.
    pub decoded: u64,
    /// Decoded bytes for one byte of input, checked above 1 MiB. gzip cannot exceed 1,032.
    pub ratio: u64,
    /// Codings on top of each other. libhtp: 2.
    pub layers: usize,
    /// Decoded bytes kept for an analyzer that asked for bodies. Suricata keeps 100 KiB.
    pub keep: usize,
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { decoded: 1 << 30, ratio: 2_048, layers: 4, keep: 1 << 20 }
    }
}

/// How decoding went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decoding {
    /// Everything was decoded (or nothing had to be).
    Whole,
    /// The coded bytes are damaged or end too early.
    Damaged,
    /// A limit was reached.
    OverLimit,
    /// A coding that is not known, or too many of them: the bytes are counted as they are.
    Unknown,
}

/// What a body was.
#[derive(Debug)]
pub struct Body {
    /// Bytes after decoding.
    pub decoded_len: u64,
    /// Bytes as sent, transfer coding undone.
    pub coded_len: u64,
    /// How decoding went.
    pub decoding: Decoding,
    /// Decoded bytes, if kept.
    pub kept: Vec<u8>,
    /// Media type by content.
    pub maybe_magic: Option<&'static str>,
    /// MD5, SHA-1 and SHA-256 of the decoded bytes, if asked.
    pub maybe_digests: Option<Digests>,
}

/// Hashes of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digests {
    /// MD5.
    pub md5: [u8; 16],
    /// SHA-1.
    pub sha1: [u8; 20],
    /// SHA-256.
    pub sha256: [u8; 32],
}

struct Hashers {
    md5: md5::Md5,
    sha1: sha1::Sha1,
    sha256: sha2::Sha256,
}

const SNIFF: usize = 512;

/// Where decoded bytes end up.
struct Drain {
    total: u64,
    limit: u64,
    kept: Vec<u8>,
    keep: usize,
    start: Vec<u8>,
    maybe_hashers: Option<Box<Hashers>>,
    over: bool,
}

impl Write for Drain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let total = self.total.saturating_add(bytes.len() as u64);
        if total > self.limit {
            self.over = true;
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        self.total = total;
        let room = SNIFF.saturating_sub(self.start.len()).min(bytes.len());
        self.start.extend_from_slice(bytes.get(..room).unwrap_or(&[]));
        let room = self.keep.saturating_sub(self.kept.len()).min(bytes.len());
        self.kept.extend_from_slice(bytes.get(..room).unwrap_or(&[]));
        if let Some(hashers) = &mut self.maybe_hashers {
            hashers.md5.update(bytes);
            hashers.sha1.update(bytes);
            hashers.sha256.update(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

enum Layer {
    Gzip(Box<flate2::write::MultiGzDecoder<Vec<u8>>>),
    Zlib(Box<flate2::write::ZlibDecoder<Vec<u8>>>),
    Deflate(Box<flate2::write::DeflateDecoder<Vec<u8>>>),
    /// `deflate` until the first two bytes tell whether it is zlib (RFC 9110 section 8.4.1.2) or raw.
    DeflateUnsure(Vec<u8>),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Vec<u8>>>),
    Zstd(Box<ZstdStream>),
}

/// Input given to a layer at once: bounds what one step can unfold into memory (brotli and zstd worst cases included, together with
/// the check after each step).
const STEP: usize = 256;

impl Layer {
    fn of(coding: &[u8]) -> Option<Self> {
        Some(match coding {
            b"gzip" | b"x-gzip" => Self::Gzip(Box::new(flate2::write::MultiGzDecoder::new(Vec::new()))),
            b"deflate" => Self::DeflateUnsure(Vec::new()),
            b"br" => Self::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(Vec::new(), 16 << 10))),
            b"zstd" => Self::Zstd(Box::default()),
            _ => return None,
        })
    }

    /// Decode a step of input; false if damaged.
    fn step(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> bool {
        match self {
            Self::Gzip(decoder) => {
                let ok = decoder.write_all(bytes).and_then(|()| decoder.flush()).is_ok();
                plain.append(decoder.get_mut());
                ok
            }
            Self::Zlib(decoder) => {
                let ok = decoder.write_all(bytes).and_then(|()| decoder.flush()).is_ok();
                plain.append(decoder.get_mut());
                ok
            }
            Self::Deflate(decoder) => {
                let ok = decoder.write_all(bytes).and_then(|()| decoder.flush()).is_ok();
                plain.append(decoder.get_mut());
                ok
            }
            Self::DeflateUnsure(held) => {
                held.extend_from_slice(bytes);
                let [first, second, ..] = held.as_slice() else { return true };
                let zlib = first & 0x0F == 8 && u16::from_be_bytes([*first, *second]).is_multiple_of(31);
                let held = core::mem::take(held);
                *self = if zlib {
                    Self::Zlib(Box::new(flate2::write::ZlibDecoder::new(Vec::new())))
                } else {
                    Self::Deflate(Box::new(flate2::write::DeflateDecoder::new(Vec::new())))
                };
                self.step(&held, plain)
            }
            Self::Brotli(decoder) => {
                let ok = decoder.write_all(bytes).and_then(|()| decoder.flush()).is_ok();
                plain.append(decoder.get_mut());
                ok
            }
            Self::Zstd(stream) => stream.feed(bytes, plain),
        }
    }

    /// The input has ended; false if it ended too early.
    fn finish(&mut self, plain: &mut Vec<u8>) -> bool {
        match self {
            Self::Gzip(decoder) => {
                let ok = decoder.try_finish().is_ok();
                plain.append(decoder.get_mut());
                ok
            }
            Self::Zlib(decoder) => {
                let ok = decoder.try_finish().is_ok();
                plain.append(decoder.get_mut());
                ok
            }
            Self::Deflate(decoder) => {
                let ok = decoder.try_finish().is_ok();
                plain.append(decoder.get_mut());
                ok
            }
            Self::DeflateUnsure(held) => held.is_empty(),
            Self::Brotli(decoder) => {
                let ok = decoder.close().is_ok();
                plain.append(decoder.get_mut());
                ok
            }
            Self::Zstd(stream) => stream.is_done(),
        }
    }
}

/// A body being read.
pub struct BodyReader {
    layers: Vec<Layer>,
    drain: Drain,
    coded: u64,
    ratio: u64,
    decoding: Decoding,
}

impl BodyReader {
    /// For a body with this Content-Encoding value (codings in the order they were applied, separated by commas).
    #[must_use]
    pub fn new(encoding: &[u8], limits: &BodyLimits, keep: bool, hash: bool) -> Self {
        let mut decoding = Decoding::Whole;
        let mut layers = Vec::new();
        for coding in encoding.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let coding = coding.to_ascii_lowercase();
            if coding.is_empty() || coding == b"identity" {
                continue;
            }
            match Layer::of(&coding) {
                Some(layer) if layers.len() < limits.layers => layers.push(layer),
                _ => decoding = Decoding::Unknown,
            }
        }
        if decoding == Decoding::Unknown {
            layers.clear();
        }
        layers.reverse(); // undone last first
        Self {
            layers,
            drain: Drain {
                total: 0,
                limit: limits.decoded,
                kept: Vec::new(),
                keep: if keep { limits.keep } else { 0 },
                start: Vec::new(),
                maybe_hashers: hash.then(|| {
                    Box::new(Hashers { md5: md5::Md5::new(), sha1: sha1::Sha1::new(), sha256: sha2::Sha256::new() })
                }),
                over: false,
            },
            coded: 0,
            ratio: limits.ratio,
            decoding,
        }
    }

    /// Bytes held; a decoder's window is put at 64 KiB.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.layers
            .len()
            .saturating_mul(64 << 10)
            .saturating_add(self.drain.kept.capacity())
            .saturating_add(self.drain.start.capacity())
    }

    /// Take bytes of the body.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.coded = self.coded.saturating_add(bytes.len() as u64);
        if self.layers.is_empty() {
            if self.drain.write_all(bytes).is_err() {
                self.decoding = Decoding::OverLimit;
            }
            return;
        }
        if self.decoding != Decoding::Whole {
            return;
        }
        for step in bytes.chunks(STEP) {
            if !self.step(step) {
                return;
            }
        }
    }

    fn step(&mut self, step: &[u8]) -> bool {
        let mut input = step.to_vec();
        let mut plain = Vec::new();
        let mut ok = true;
        for layer in &mut self.layers {
            for piece in input.chunks(STEP) {
                if !layer.step(piece, &mut plain) {
                    ok = false;
                    break;
                }
                if plain.len() as u64 > self.drain.limit {
                    self.decoding = Decoding::OverLimit;
                    return false;
                }
            }
            core::mem::swap(&mut input, &mut plain);
            plain.clear();
        }
        self.pour(&input, ok)
    }

    fn pour(&mut self, plain: &[u8], ok: bool) -> bool {
        if self.drain.write_all(plain).is_err() {
            self.decoding = Decoding::OverLimit;
            return false;
        }
        let allowed = self.coded.saturating_mul(self.ratio).max(1 << 20);
        if self.drain.total > allowed {
            self.decoding = Decoding::OverLimit;
            return false;
        }
        if !ok {
            self.decoding = Decoding::Damaged;
        }
        ok
    }

    /// The body has ended.
    #[must_use]
    pub fn finish(mut self) -> Body {
        if self.decoding == Decoding::Whole && self.coded > 0 {
            let mut input = Vec::new();
            let mut ok = true;
            for layer in &mut self.layers {
                let mut plain = Vec::new();
                for piece in input.chunks(STEP) {
                    ok &= layer.step(piece, &mut plain);
                }
                ok &= layer.finish(&mut plain);
                input = plain;
            }
            self.pour(&input, ok);
        }
        Body {
            decoded_len: self.drain.total,
            coded_len: self.coded,
            decoding: self.decoding,
            maybe_magic: magic::media_type(&self.drain.start),
            kept: self.drain.kept,
            maybe_digests: self.drain.maybe_hashers.map(|hashers| Digests {
                md5: hashers.md5.finalize().into(),
                sha1: hashers.sha1.finalize().into(),
                sha256: hashers.sha256.finalize().into(),
            }),
        }
    }
}
