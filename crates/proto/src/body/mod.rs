//! Bodies: content codings undone while the bytes pass, counted, hashed, typed, and kept only if somebody asked.
//!
//! Rules of this file:
//! 1. Streaming: no body is ever whole in memory; what is kept is bounded by `keep`.
//! 2. A coding that unfolds beyond `decoded` bytes, or beyond `ratio` times its input, is stopped: the body's length is then what was
//!    seen, and the outcome says so.
//! 3. A damaged coding stops decoding; the bytes before the damage count.
pub mod magic;

use std::io::Write as _;

use bunker_wire::zstd::ZstdStream;
use sha2::Digest as _;

use crate::http::flags;

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
    /// The bytes are not coded as declared, and were taken as they are.
    Undeclared,
}

/// What a body was.
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
    pub maybe_digests: Option<Box<Digests>>,
}

impl core::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "Body({} of {} bytes, {:?})", self.decoded_len, self.coded_len, self.decoding)
    }
}

impl Body {
    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.kept.capacity()
    }

    /// The transaction's flag for how decoding went.
    #[must_use]
    pub const fn flags(&self) -> u64 {
        match self.decoding {
            Decoding::Whole => 0,
            Decoding::Damaged => flags::BAD_CODING,
            Decoding::OverLimit => flags::OVER_LIMIT,
            Decoding::Unknown => flags::UNKNOWN_CODING,
            Decoding::Undeclared => flags::WRONG_CODING,
        }
    }
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
    sniffed: bool,
    maybe_magic: Option<&'static str>,
    maybe_hashers: Option<Box<Hashers>>,
}

impl Drain {
    const fn idle() -> Self {
        Self {
            total: 0,
            limit: 0,
            kept: Vec::new(),
            keep: 0,
            start: Vec::new(),
            sniffed: false,
            maybe_magic: None,
            maybe_hashers: None,
        }
    }

    /// Take decoded bytes; `last`: there will be no more. False: that was one too many.
    fn pour(&mut self, bytes: &[u8], last: bool) -> bool {
        let total = self.total.saturating_add(bytes.len() as u64);
        if total > self.limit {
            return false;
        }
        self.total = total;
        if !self.sniffed && !bytes.is_empty() {
            self.sniff(bytes, last);
        }
        if self.keep > 0 {
            let room = self.keep.saturating_sub(self.kept.len()).min(bytes.len());
            self.kept.extend_from_slice(bytes.get(..room).unwrap_or(&[]));
        }
        if let Some(hashers) = &mut self.maybe_hashers {
            hashers.md5.update(bytes);
            hashers.sha1.update(bytes);
            hashers.sha256.update(bytes);
        }
        true
    }

    /// The first [`SNIFF`] bytes tell the type; they are copied only if they do not come in one piece.
    fn sniff(&mut self, bytes: &[u8], last: bool) {
        if self.start.is_empty() && (last || bytes.len() >= SNIFF) {
            self.maybe_magic = magic::media_type(bytes.get(..SNIFF).unwrap_or(bytes));
            self.sniffed = true;
            return;
        }
        let room = SNIFF.saturating_sub(self.start.len()).min(bytes.len());
        self.start.extend_from_slice(bytes.get(..room).unwrap_or(&[]));
        if self.start.len() >= SNIFF {
            self.settle();
        }
    }

    fn settle(&mut self) {
        if !self.sniffed {
            self.maybe_magic = magic::media_type(&self.start);
            self.sniffed = true;
        }
        self.start = Vec::new();
    }
}

enum Decoder {
    Gzip(Box<flate2::write::MultiGzDecoder<Vec<u8>>>),
    Zlib(Box<flate2::write::ZlibDecoder<Vec<u8>>>),
    Deflate(Box<flate2::write::DeflateDecoder<Vec<u8>>>),
    /// gzip or `deflate`, until the first two bytes tell which of gzip, zlib (RFC 9110 section 8.4.1.2) and raw it is: servers err.
    Unsure(Vec<u8>),
    Brotli(Box<brotli_decompressor::DecompressorWriter<Vec<u8>>>),
    Zstd(Box<ZstdStream>),
    /// It is not coded after all.
    Plain,
}

/// Input given to a layer at once: bounds what one step can unfold into memory (brotli and zstd worst cases included, together with
/// the check after each step).
const STEP: usize = 256;
/// Input that is kept until a decoder has made something of it: when it cannot, the body is taken as it is.
const DOUBT: usize = 1 << 10;

impl Decoder {
    fn of(coding: &[u8]) -> Option<Self> {
        let names = |word: &[u8]| coding.windows(word.len()).any(|part| part == word);
        Some(match coding {
            b"br" => Self::Brotli(Box::new(brotli_decompressor::DecompressorWriter::new(Vec::new(), 16 << 10))),
            b"zstd" => Self::Zstd(Box::default()),
            _ if names(b"gzip") || names(b"deflate") => Self::Unsure(Vec::new()),
            _ => return None,
        })
    }

    fn by_content(first: u8, second: u8) -> Self {
        let zlib = first & 0x0F == 8 && first >> 4 <= 7 && u16::from_be_bytes([first, second]).is_multiple_of(31);
        match (first, second) {
            (0x1F, 0x8B) => Self::Gzip(Box::new(flate2::write::MultiGzDecoder::new(Vec::new()))),
            _ if zlib => Self::Zlib(Box::new(flate2::write::ZlibDecoder::new(Vec::new()))),
            _ => Self::Deflate(Box::new(flate2::write::DeflateDecoder::new(Vec::new()))),
        }
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
            Self::Unsure(held) => {
                held.extend_from_slice(bytes);
                let [first, second, ..] = held.as_slice() else { return true };
                let decoder = Self::by_content(*first, *second);
                let held = core::mem::take(held);
                *self = decoder;
                self.step(&held, plain)
            }
            Self::Brotli(decoder) => {
                let ok = decoder.write_all(bytes).and_then(|()| decoder.flush()).is_ok();
                plain.append(decoder.get_mut());
                ok
            }
            Self::Zstd(stream) => stream.feed(bytes, plain),
            Self::Plain => {
                plain.extend_from_slice(bytes);
                true
            }
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
            Self::Unsure(held) => held.is_empty(),
            Self::Brotli(decoder) => {
                let ok = decoder.close().is_ok();
                plain.append(decoder.get_mut());
                ok
            }
            Self::Zstd(stream) => stream.is_done(),
            Self::Plain => true,
        }
    }
}

/// A coding to undo.
struct Layer {
    decoder: Decoder,
    /// Input so far, while nothing has come of it.
    doubt: Vec<u8>,
    productive: bool,
}

/// Whether a byte stands in text (of any 8-bit coding).
const fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..)
}

/// How a layer took a step.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Took {
    Well,
    Damaged,
    /// It never was what it was declared to be.
    AsPlain,
}

impl Layer {
    fn step(&mut self, bytes: &[u8], plain: &mut Vec<u8>) -> Took {
        let before = plain.len();
        let ok = self.decoder.step(bytes, plain);
        if self.productive {
            return if ok { Took::Well } else { Took::Damaged };
        }
        // Brotli and raw deflate have no magic: they make something of any text before they find out.
        let nonsense = !ok
            && matches!(self.decoder, Decoder::Brotli(_) | Decoder::Deflate(_))
            && bytes.iter().all(|byte| is_text(*byte));
        if nonsense {
            plain.truncate(before);
        } else if plain.len() > before {
            self.settle();
            return if ok { Took::Well } else { Took::Damaged };
        }
        self.doubt.extend_from_slice(bytes);
        if ok {
            if self.doubt.len() > DOUBT {
                self.settle();
            }
            return Took::Well;
        }
        plain.append(&mut self.doubt);
        self.decoder = Decoder::Plain;
        self.settle();
        Took::AsPlain
    }

    fn finish(&mut self, plain: &mut Vec<u8>) -> bool {
        self.decoder.finish(plain)
    }

    fn settle(&mut self) {
        self.productive = true;
        self.doubt = Vec::new();
    }
}

/// A body being read; used again for the next one.
pub struct BodyReader {
    layers: Vec<Layer>,
    /// Coded bytes that wait until there are [`STEP`] of them: decoders are fed by place, so that the cut of the input does not
    /// decide how much of a damaged body is seen.
    waiting: Vec<u8>,
    drain: Drain,
    coded: u64,
    ratio: u64,
    decoding: Decoding,
}

impl BodyReader {
    /// None is being read.
    #[must_use]
    pub const fn idle() -> Self {
        Self {
            layers: Vec::new(),
            waiting: Vec::new(),
            drain: Drain::idle(),
            coded: 0,
            ratio: 0,
            decoding: Decoding::Whole,
        }
    }

    /// A body with this Content-Encoding value (codings in the order they were applied, separated by commas) begins.
    pub fn begin(&mut self, encoding: &[u8], limits: &BodyLimits, keep: bool, hash: bool) {
        self.coded = 0;
        self.ratio = limits.ratio;
        self.decoding = Decoding::Whole;
        self.drain = Drain {
            limit: limits.decoded,
            keep: if keep { limits.keep } else { 0 },
            maybe_hashers: hash.then(|| {
                Box::new(Hashers { md5: md5::Md5::new(), sha1: sha1::Sha1::new(), sha256: sha2::Sha256::new() })
            }),
            ..Drain::idle()
        };
        self.layers.clear();
        self.waiting.clear();
        if encoding.is_empty() {
            return;
        }
        for coding in encoding.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let coding = coding.to_ascii_lowercase();
            if coding.is_empty() || coding == b"identity" {
                continue;
            }
            match Decoder::of(&coding) {
                Some(decoder) if self.layers.len() < limits.layers => {
                    self.layers.push(Layer { decoder, doubt: Vec::new(), productive: false });
                }
                _ => self.decoding = Decoding::Unknown,
            }
        }
        if self.decoding == Decoding::Unknown {
            self.layers.clear();
        }
        self.layers.reverse(); // undone last first
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

    /// Take bytes of the body; `last` if it is known that no more will come.
    pub fn feed(&mut self, bytes: &[u8], last: bool) {
        self.coded = self.coded.saturating_add(bytes.len() as u64);
        if self.layers.is_empty() {
            if !self.drain.pour(bytes, last) {
                self.decoding = Decoding::OverLimit;
            }
            return;
        }
        if !matches!(self.decoding, Decoding::Whole | Decoding::Undeclared) {
            return;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let room = STEP.saturating_sub(self.waiting.len()).min(rest.len());
            let (part, after) = rest.split_at_checked(room).unwrap_or((rest, &[]));
            rest = after;
            if part.len() == STEP {
                if !self.step(part) {
                    return;
                }
                continue;
            }
            self.waiting.extend_from_slice(part);
            if self.waiting.len() == STEP {
                let step = core::mem::take(&mut self.waiting);
                if !self.step(&step) {
                    return;
                }
            }
        }
    }

    fn step(&mut self, step: &[u8]) -> bool {
        let mut input = step.to_vec();
        let mut plain = Vec::new();
        let mut ok = true;
        for layer in &mut self.layers {
            for piece in input.chunks(STEP) {
                match layer.step(piece, &mut plain) {
                    Took::Well => {}
                    Took::AsPlain => self.decoding = Decoding::Undeclared,
                    Took::Damaged => {
                        ok = false;
                        break;
                    }
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
        if !self.drain.pour(plain, false) {
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
    pub fn finish(&mut self) -> Body {
        if !self.layers.is_empty() {
            self.finish_layers();
        }
        self.drain.settle();
        let hashers = self.drain.maybe_hashers.take().filter(|_| self.drain.total > 0);
        Body {
            decoded_len: self.drain.total,
            coded_len: self.coded,
            decoding: self.decoding,
            maybe_magic: self.drain.maybe_magic,
            kept: core::mem::take(&mut self.drain.kept),
            maybe_digests: hashers.map(|hashers| {
                Box::new(Digests {
                    md5: hashers.md5.finalize().into(),
                    sha1: hashers.sha1.finalize().into(),
                    sha256: hashers.sha256.finalize().into(),
                })
            }),
        }
    }

    fn finish_layers(&mut self) {
        let waiting = core::mem::take(&mut self.waiting);
        let alive = matches!(self.decoding, Decoding::Whole | Decoding::Undeclared);
        if alive && self.coded > 0 && (waiting.is_empty() || self.step(&waiting)) {
            let mut input = Vec::new();
            let mut ok = true;
            for layer in &mut self.layers {
                let mut plain = Vec::new();
                for piece in input.chunks(STEP) {
                    ok &= layer.step(piece, &mut plain) != Took::Damaged;
                }
                ok &= layer.finish(&mut plain);
                input = plain;
            }
            self.pour(&input, ok);
        }
        self.layers = Vec::new();
    }
}
