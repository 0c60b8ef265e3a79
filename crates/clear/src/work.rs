//! Transforms at work: one raw column in, cleared cells out.
//!
//! Rules of this file:
//! 1. A null stays null, but for `present`, which is about nulls.
//! 2. A text is computed once and remembered; the memo is bounded and starts over between batches, and answers stay the same.
//! 3. What is remembered dies with the keys.
use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{DurationNanosecondType, Float64Type, TimestampNanosecondType, UInt16Type, UInt64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;
use foldhash::fast::FixedState;
use zeroize::Zeroizing;

use crate::address;
use crate::address_map::{AddressMap, Method, Sites};
use crate::cells::{Cells, NULL, Texts};
use crate::draw::Draw;
use crate::keys::{Clock, Keys};
use crate::lists::List;
use crate::memory::Memory;
use crate::names;
use crate::noise::noisy;
use crate::number::{lower_edge, lower_edge_u64};
use crate::permute::Permutation;
use crate::schema::FieldType;
use crate::transform::{Edges, Other, Shown, Transform};

/// Texts that a transform remembers between batches.
pub const MEMO_TEXTS: usize = 1 << 17;
/// Bytes of them, and as many of what they were made of.
pub const MEMO_BYTES: usize = 32 << 20;
/// Tags of a chain: what is deeper is cut off.
const CHAIN_TAGS: usize = 32;
/// Longest value that a threshold counts and shows.
pub const SHOWN_BYTES: usize = 128;

/// What every transform of a run shares.
pub struct Surroundings<'a> {
    /// The run's keys.
    pub keys: &'a Keys,
    /// Its clock.
    pub clock: Clock,
    /// Networks of the operator.
    pub sites: &'a Sites,
    /// Sealed lists, by number.
    pub lists: &'a [Arc<List>],
    /// How an address that stands in a name is mapped; none: it is tagged.
    pub literals: Option<Method>,
    /// "address", or the domain of those that are split off.
    pub domain: &'a str,
    /// Name of the epoch.
    pub epoch: &'a str,
    /// Its number.
    pub number: i64,
    /// What all workers of the run remember together.
    pub memory: &'a Memory,
}

/// A transform with its keys.
pub struct Worker {
    transform: Transform,
    input: FieldType,
    key: Zeroizing<[u8; 32]>,
    address_key: Zeroizing<[u8; 32]>,
    maybe_map: Option<AddressMap>,
    maybe_list: Option<Arc<List>>,
    permutation: Permutation,
    jitter: Draw,
    noise: Draw,
    clock: Clock,
    memory: Memory,
    /// Whose numbers `Enumerate` gives: epoch, whether split off.
    scope: (i64, bool),
    mail_domains: Vec<String>,
    /// Values that a threshold has let through in this window.
    shown: Arc<HashSet<String>>,
    memo: HashMap<Box<[u8]>, u32, FixedState>,
    memo_bytes: usize,
    texts: Texts,
    hasher: FixedState,
}

impl Worker {
    /// Derive what the transform needs.
    #[must_use]
    pub fn new(transform: &Transform, input: FieldType, around: &Surroundings<'_>) -> Self {
        let keys = around.keys;
        // What is split off has no tag in common with the rest.
        let scoped = |domain: &str| {
            if around.domain == "address" { domain.to_owned() } else { format!("{} {domain}", around.domain) }
        };
        let domain = match transform {
            Transform::Tag { domain }
            | Transform::Etld1Tag { domain }
            | Transform::Labels { domain }
            | Transform::Chain { domain, .. }
            | Transform::MailTag { domain }
                if !domain.is_empty() =>
            {
                domain
            }
            _ => domain_of(input),
        };
        let key = keys.derive("tag", &scoped(domain), around.epoch);
        let address_key = keys.derive("tag", &scoped(FieldType::Address.name()), around.epoch);
        let named = matches!(
            transform,
            Transform::Etld1Tag { .. } | Transform::Labels { .. } | Transform::MailTag { .. } | Transform::TopK { .. }
        );
        let method = transform.method().or(if named { around.literals } else { None });
        let method = if *transform == Transform::Role { Some(Method::Role) } else { method };
        let list = match transform {
            Transform::Class { list, .. } | Transform::TopK { list: Some(list), .. } => Some(*list),
            _ => None,
        };
        let hasher = FixedState::with_seed(keys.seed());
        Self {
            transform: transform.clone(),
            input,
            maybe_map: method.map(|method| AddressMap::new(method, keys, around.domain, around.epoch, around.sites)),
            maybe_list: list.and_then(|list| around.lists.get(list)).cloned(),
            permutation: Permutation::new(&keys.derive("port", &scoped("Port"), around.epoch)),
            // Not by domain or epoch: one instant leaves as one time, wherever and whenever it is told.
            jitter: Draw::new(&keys.derive("time", "jitter", "run")),
            noise: Draw::new(&keys.derive("noise", "cell", "run")),
            clock: around.clock,
            memory: around.memory.clone(),
            scope: (around.number, around.domain != "address"),
            mail_domains: if input == FieldType::MailAddress { around.sites.domains.clone() } else { Vec::new() },
            key,
            address_key,
            shown: Arc::default(),
            memo: HashMap::with_hasher(hasher.clone()),
            memo_bytes: 0,
            texts: Texts::default(),
            hasher,
        }
    }

    /// The values that may be shown in the window whose rows come next.
    pub fn show(&mut self, shown: Arc<HashSet<String>>) {
        self.shown = shown;
        self.forget();
    }

    /// The table of this column's texts.
    #[must_use]
    pub const fn texts(&self) -> &Texts {
        &self.texts
    }

    /// Clear a column. It has the input's type (checked before), `with` is the column that `Chain` names; None if it has not after all.
    pub fn cells(&mut self, column: &ArrayRef, with: Option<&ArrayRef>) -> Option<Cells> {
        if self.memo.len() >= MEMO_TEXTS || self.memo_bytes >= MEMO_BYTES || self.texts.size() >= MEMO_BYTES {
            self.forget();
        }
        match &self.transform {
            Transform::Present => {
                let words = (0..column.len()).map(|row| u64::from(is_present(column, row))).collect::<Vec<_>>();
                let there = vec![true; words.len()];
                Some(Cells::Words(words, there))
            }
            Transform::Keep if !matches!(self.input.arrow(), DataType::Utf8 | DataType::FixedSizeBinary(_)) => {
                if self.input == FieldType::AddressList { self.lists(column) } else { words(column, Some) }
            }
            Transform::Bucket(edges) => bucket(edges, column),
            Transform::Len => lengths(column),
            Transform::Count if self.input != FieldType::Host => lengths(column),
            Transform::Count => {
                numbers(column, |name| names::host_of(name).split('.').filter(|l| !l.is_empty()).count())
            }
            Transform::Depth => numbers(column, |url| names::segments(url).count()),
            Transform::ShiftGrain { grain_ns } => {
                let grain = i64::try_from((*grain_ns).max(1)).ok()?;
                let clock = self.clock;
                words(column, |word| Some(clock.shifted(word.cast_signed(), grain).cast_unsigned()))
            }
            Transform::Jitter { span_ns, grain_ns } => {
                let grain = i64::try_from((*grain_ns).max(1)).ok()?;
                let (clock, jitter, span) = (self.clock, &self.jitter, *span_ns);
                words(column, |word| {
                    let moved = word.cast_signed().saturating_add(jittered(jitter, word, span));
                    Some(clock.shifted(moved, grain).cast_unsigned())
                })
            }
            Transform::Round { to } => words(column, |word| Some(rounded(word, *to))),
            Transform::Service { ports } => {
                words(column, |word| ports.iter().any(|port| u64::from(*port) == word).then_some(word))
            }
            Transform::Shuffle => words(column, |word| Some(shuffled(&self.permutation, word))),
            Transform::Const { value } => self.constant(&value.clone(), column),
            Transform::Enumerate => self.enumerated(column),
            Transform::Relative { grain_ns } => {
                let grain = i64::try_from((*grain_ns).max(1)).ok()?;
                let mut held = self.memory.hold();
                words_mut(column, |word| {
                    let after = word.cast_signed().saturating_sub(held.zero_ns(word.cast_signed()));
                    Some(after.saturating_sub(after.checked_rem_euclid(grain).unwrap_or(0)).cast_unsigned())
                })
            }
            Transform::Noise { scale } => noisy(&self.noise, *scale, words(column, Some)?, with?),
            Transform::Range { from, to, other } => words(column, |word| {
                if (u64::from(*from)..=u64::from(*to)).contains(&word) { Some(word) } else { other.map(u64::from) }
            }),
            Transform::Allow { values, other } if column.data_type() == &DataType::UInt16 => {
                let numbers: Vec<u64> = values.iter().filter_map(|value| value.parse().ok()).collect();
                let other = other.as_ref().and_then(|other| other.parse().ok());
                words(column, |word| if numbers.contains(&word) { Some(word) } else { other })
            }
            _ => match column.data_type() {
                DataType::List(_) => self.lists(column),
                DataType::Utf8
                    if matches!(self.input, FieldType::Text)
                        || matches!(self.transform, Transform::ParamNames { .. }) =>
                {
                    self.texts_as_lists(column)
                }
                DataType::Utf8 => self.texts_of(column, with),
                _ => self.binaries(column),
            },
        }
    }

    /// The same in every row, whatever is there.
    fn constant(&mut self, value: &str, column: &ArrayRef) -> Option<Cells> {
        let rows = column.len();
        if matches!(column.data_type(), DataType::UInt16 | DataType::UInt64) && self.input != FieldType::FlowId {
            return Some(Cells::Words(vec![value.parse().ok()?; rows], vec![true; rows]));
        }
        let number = self.remembered(b"", |_| Some(value.to_owned()))?;
        Some(Cells::Texts(vec![number; rows]))
    }

    /// Numbers in the order of first appearance; of times their places in the window's order.
    fn enumerated(&self, column: &ArrayRef) -> Option<Cells> {
        let mut held = self.memory.hold();
        let (epoch, is_split) = self.scope;
        let scope = (epoch, is_split, self.input.name());
        if self.input == FieldType::Time {
            return words_mut(column, |word| held.place(word.cast_signed()));
        }
        if let Some(column) = column.as_fixed_size_binary_opt() {
            let numbers = column.iter().map(|raw| raw.and_then(|raw| held.number(scope, raw)));
            let (words, there) = numbers.map(|number| (number.unwrap_or(0), number.is_some())).unzip();
            return Some(Cells::Words(words, there));
        }
        words_mut(column, |word| held.number(scope, &word.to_le_bytes()))
    }

    /// Overwrite what is remembered.
    pub fn forget(&mut self) {
        self.memo.clear();
        self.memo_bytes = 0;
        self.texts.clear();
    }

    fn remembered(&mut self, raw: &[u8], compute: impl FnOnce(&mut Self) -> Option<String>) -> Option<u32> {
        if let Some(number) = self.memo.get(raw) {
            return Some(*number);
        }
        let number = match compute(self) {
            Some(text) => {
                let hash = std::hash::BuildHasher::hash_one(&self.hasher, &text);
                self.texts.push(&text, hash)?
            }
            None => NULL,
        };
        self.memo_bytes = self.memo_bytes.saturating_add(raw.len());
        self.memo.insert(raw.into(), number);
        Some(number)
    }

    fn texts_of(&mut self, column: &ArrayRef, with: Option<&ArrayRef>) -> Option<Cells> {
        let column = column.as_string_opt::<i32>()?;
        let with = match with {
            Some(with) => Some(with.as_string_opt::<i32>()?),
            None => None,
        };
        let mut out = Vec::with_capacity(column.len());
        let mut joined = Vec::new();
        for (row, value) in column.iter().enumerate() {
            let Some(value) = value else {
                out.push(NULL);
                continue;
            };
            out.push(match with {
                None => self.remembered(value.as_bytes(), |this| this.text_of(value, ""))?,
                Some(with) => {
                    let host = if with.is_null(row) { "" } else { with.value(row) };
                    joined.clear();
                    joined.extend_from_slice(host.as_bytes());
                    joined.push(0);
                    joined.extend_from_slice(value.as_bytes());
                    self.remembered(&joined, |this| this.text_of(value, host))?
                }
            });
        }
        Some(Cells::Texts(out))
    }

    fn binaries(&mut self, column: &ArrayRef) -> Option<Cells> {
        let mut out = Vec::with_capacity(column.len());
        if let Some(column) = column.as_fixed_size_binary_opt() {
            for raw in column {
                out.push(match raw {
                    Some(raw) => self.remembered(raw, |this| this.binary_of(raw))?,
                    None => NULL,
                });
            }
        } else {
            for value in column.as_primitive_opt::<UInt64Type>()? {
                out.push(match value.map(u64::to_le_bytes) {
                    Some(raw) => self.remembered(&raw, |this| this.binary_of(&raw))?,
                    None => NULL,
                });
            }
        }
        Some(Cells::Texts(out))
    }

    /// Addresses in a list of addresses, or in texts.
    fn lists(&mut self, column: &ArrayRef) -> Option<Cells> {
        let column = column.as_list_opt::<i32>()?;
        let (mut ends, mut there, mut items) = (Vec::new(), Vec::new(), Vec::new());
        for list in column.iter() {
            there.push(list.is_some());
            if let Some(list) = list {
                if let (Transform::Allow { values, other }, Some(texts)) =
                    (self.transform.clone(), list.as_string_opt::<i32>())
                {
                    for text in texts.iter().flatten() {
                        if let Some(word) = allowed(text, &values, other.as_ref()) {
                            items.push(self.remembered(word.as_bytes(), |_| Some(word.clone()))?);
                        }
                    }
                } else if let Some(texts) = list.as_string_opt::<i32>() {
                    for address in texts.iter().flatten().flat_map(names::addresses_in) {
                        items.push(self.remembered(&address, |this| this.binary_of(&address))?);
                    }
                } else {
                    for raw in list.as_fixed_size_binary_opt()?.iter().flatten() {
                        items.push(self.remembered(raw, |this| this.binary_of(raw))?);
                    }
                }
            }
            ends.push(u32::try_from(items.len()).ok()?);
        }
        Some(Cells::Lists(ends, there, items))
    }

    fn texts_as_lists(&mut self, column: &ArrayRef) -> Option<Cells> {
        let column = column.as_string_opt::<i32>()?;
        let (mut ends, mut there, mut items) = (Vec::new(), Vec::new(), Vec::new());
        for value in column {
            there.push(value.is_some());
            if let Transform::ParamNames { values } = self.transform.clone() {
                for known in values
                    .iter()
                    .filter(|known| value.is_some_and(|url| names::parameters(url).any(|name| name == **known)))
                {
                    items.push(self.remembered(known.as_bytes(), |_| Some(known.clone()))?);
                }
            } else {
                for address in value.into_iter().flat_map(names::addresses_in) {
                    items.push(self.remembered(&address, |this| this.binary_of(&address))?);
                }
            }
            ends.push(u32::try_from(items.len()).ok()?);
        }
        Some(Cells::Lists(ends, there, items))
    }

    /// An address, a MAC address or a flow's number.
    fn binary_of(&mut self, raw: &[u8]) -> Option<String> {
        let mut text = String::new();
        match (&self.transform, <[u8; 16]>::try_from(raw)) {
            (Transform::Tag { .. }, _) => write_hex(blake3::keyed_hash(&self.key, raw).as_bytes(), 16, &mut text),
            (Transform::Tag48, _) => {
                let mapped = self.maybe_map.as_ref()?.map_mac(raw.try_into().ok()?);
                for (place, byte) in mapped.iter().enumerate() {
                    let _ = write!(text, "{}{byte:02x}", if place == 0 { "" } else { ":" });
                }
            }
            (Transform::TopK { shown, other, .. }, address) => {
                let class = match (shown, address) {
                    (Shown::Oui, _) => names::oui(raw),
                    (_, Ok(address)) => self.maybe_list.as_ref()?.network(&address).cloned(),
                    _ => None,
                };
                return match (class.filter(|class| self.shown.contains(class)), other) {
                    (Some(class), _) => Some(class),
                    (None, Other::Word(word)) => Some(word.clone()),
                    (None, Other::Null | Other::Etld1Tag) => None,
                };
            }
            (Transform::Role, Ok(address)) => text.push_str(self.maybe_map.as_ref()?.role(&address).word()),
            (_, Ok(address)) => {
                let mapped = self.maybe_map.as_mut().map_or(address, |map| map.map(address));
                address::write_text(&mapped, &mut text);
            }
            _ => return None,
        }
        Some(text)
    }

    fn text_of(&mut self, value: &str, with: &str) -> Option<String> {
        match &self.transform {
            Transform::Keep => Some(value.to_owned()),
            Transform::Tag { .. } => {
                let mut text = String::new();
                write_hex(blake3::keyed_hash(&self.key, value.as_bytes()).as_bytes(), 16, &mut text);
                Some(text)
            }
            Transform::Allow { values, other } => allowed(value, values, other.as_ref()).cloned(),
            Transform::Ja4A => names::ja4_a(value).map(str::to_owned),
            Transform::Role if self.input == FieldType::MailAddress => {
                names::mail_role(value, &self.mail_domains).map(str::to_owned)
            }
            Transform::Pfx | Transform::CryptoPan | Transform::Truncate { .. } | Transform::Role => {
                let host = names::host_of(value);
                self.literal(&host)
            }
            Transform::Etld1Tag { .. } => Some(self.etld1(&names::host_of(value))),
            Transform::Labels { .. } => Some(self.labels(&names::host_of(value))),
            Transform::Chain { .. } => Some(self.chain(value, with)),
            Transform::MailTag { .. } => {
                let address = value.trim_matches(['<', '>', ' ']).to_ascii_lowercase();
                let mut text = String::new();
                write_hex(blake3::keyed_hash(&self.key, address.as_bytes()).as_bytes(), 16, &mut text);
                text.push('@');
                text.push_str(&self.etld1(&names::host_of(&address)));
                Some(text)
            }
            Transform::Ext { values, other } => names::extension(value)
                .and_then(|extension| values.iter().find(|known| **known == extension).or(other.as_ref()).cloned()),
            Transform::FamilyMajor => Some(names::family_major(value)),
            Transform::Class { other, .. } => {
                self.maybe_list.as_deref()?.listed(value, self.input).or(other.as_ref()).cloned()
            }
            Transform::TopK { shown, other, .. } => {
                let counted = counted(*shown, value).filter(|counted| self.shown.contains(counted));
                match (counted, other) {
                    (Some(counted), _) => Some(counted),
                    (None, Other::Null) => None,
                    (None, Other::Word(word)) => Some(word.clone()),
                    (None, Other::Etld1Tag) => Some(self.etld1(&names::host_of(value))),
                }
            }
            _ => None,
        }
    }

    /// An address written as a name, mapped; an arpa name is rebuilt.
    fn literal(&mut self, host: &str) -> Option<String> {
        let mut text = String::new();
        if let Some(address) = names::literal(host) {
            return match (&self.transform, &mut self.maybe_map) {
                (Transform::Role, Some(map)) => Some(map.role(&address).word().to_owned()),
                (_, Some(map)) => {
                    address::write_text(&map.map(address), &mut text);
                    Some(text)
                }
                (_, None) => {
                    write_hex(blake3::keyed_hash(&self.address_key, &address).as_bytes(), 16, &mut text);
                    Some(text)
                }
            };
        }
        let (address, labels, is_v6) = names::arpa(host)?;
        match (&self.transform, &mut self.maybe_map) {
            (Transform::Role, Some(map)) => Some(map.role(&address).word().to_owned()),
            (_, Some(map)) => Some(names::arpa_name(&map.map(address), labels, is_v6)),
            (_, None) => {
                // Of a part of an address another tag than of the address that begins so.
                let whole = labels == if is_v6 { 32 } else { 4 };
                let hash = if whole {
                    blake3::keyed_hash(&self.address_key, &address)
                } else {
                    blake3::keyed_hash(&self.address_key, host.as_bytes())
                };
                write_hex(hash.as_bytes(), 16, &mut text);
                text.push_str(if is_v6 { ".ip6.arpa" } else { ".in-addr.arpa" });
                Some(text)
            }
        }
    }

    fn etld1(&mut self, host: &str) -> String {
        if let Some(text) = self.literal(host) {
            return text;
        }
        let mut text = String::new();
        match names::registrable(host) {
            Some((domain, suffix)) => {
                write_hex(blake3::keyed_hash(&self.key, domain.as_bytes()).as_bytes(), 16, &mut text);
                text.push('.');
                text.push_str(suffix);
            }
            None => write_hex(blake3::keyed_hash(&self.key, host.as_bytes()).as_bytes(), 16, &mut text),
        }
        text
    }

    fn labels(&mut self, host: &str) -> String {
        if let Some(text) = self.literal(host) {
            return text;
        }
        let (domain, suffix) = names::registrable(host).unwrap_or((host, ""));
        let mut tag = *blake3::keyed_hash(&self.key, domain.as_bytes()).as_bytes();
        let mut tags = vec![tag];
        let below = host.get(..host.len().saturating_sub(domain.len())).unwrap_or("").trim_end_matches('.');
        for label in below.rsplit('.').filter(|label| !label.is_empty()).take(CHAIN_TAGS) {
            tag = self.next(&tag, label);
            tags.push(tag);
        }
        let mut text = String::new();
        for tag in tags.iter().rev() {
            write_hex(tag, 8, &mut text);
            text.push('.');
        }
        text.push_str(suffix);
        text.trim_end_matches('.').to_owned()
    }

    fn chain(&self, url: &str, with: &str) -> String {
        let host = if names::behind_scheme(url).is_some() { names::host_of(url) } else { names::host_of(with) };
        let mut tag = *blake3::keyed_hash(&self.key, host.as_bytes()).as_bytes();
        let mut text = String::new();
        for segment in names::segments(url).take(CHAIN_TAGS) {
            tag = self.next(&tag, segment);
            text.push('/');
            write_hex(&tag, 8, &mut text);
        }
        if text.is_empty() {
            text.push('/');
        }
        text
    }

    fn next(&self, tag: &[u8; 32], part: &str) -> [u8; 32] {
        *blake3::Hasher::new_keyed(&self.key).update(tag).update(part.as_bytes()).finalize().as_bytes()
    }
}

/// The word of the list that a value passes as, else what the others become.
fn allowed<'a>(value: &str, values: &'a [String], other: Option<&'a String>) -> Option<&'a String> {
    let passes =
        |known: &&String| known.strip_suffix('*').map_or(known.as_str() == value, |start| value.starts_with(start));
    values.iter().find(passes).or(other)
}

/// What a threshold counts of a value; None if it is nothing that could be shown.
#[must_use]
pub fn counted(shown: Shown, value: &str) -> Option<String> {
    match shown {
        Shown::Domain => {
            let host = names::host_of(value);
            names::registrable(&host).map(|(domain, _)| domain.to_owned()).filter(|domain| domain.len() <= SHOWN_BYTES)
        }
        Shown::Family => Some(names::family_major(value)),
        Shown::Network | Shown::Oui => None, // addresses are no texts: see `Window::observe`
        Shown::Value => (value.len() <= SHOWN_BYTES && value.bytes().all(|byte| matches!(byte, 0x20..=0x7E)))
            .then(|| value.to_owned()),
    }
}

/// Values of one type are equal in one domain, wherever they stand: a host in HTTP, DNS and TLS is the same host.
const fn domain_of(input: FieldType) -> &'static str {
    match input {
        FieldType::Url | FieldType::Host => "host",
        other => other.name(),
    }
}

fn write_hex(bytes: &[u8], count: usize, text: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes.iter().take(count) {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS.get(usize::from(digit)).copied().unwrap_or(b'0')));
        }
    }
}

/// Whether a cell says something: not null, and for flags true, for texts and lists not empty.
fn is_present(column: &ArrayRef, row: usize) -> bool {
    if column.is_null(row) {
        return false;
    }
    if let Some(column) = column.as_boolean_opt() {
        return column.value(row);
    }
    if let Some(column) = column.as_string_opt::<i32>() {
        return !column.value(row).is_empty();
    }
    if let Some(column) = column.as_binary_opt::<i32>() {
        return !column.value(row).is_empty();
    }
    if let Some(column) = column.as_list_opt::<i32>() {
        return !column.value(row).is_empty();
    }
    true
}

/// A column of numbers, each through `change`; the words are copied, no buffer of the input is in them.
fn words(column: &ArrayRef, change: impl Fn(u64) -> Option<u64>) -> Option<Cells> {
    words_mut(column, change)
}

/// The same for a `change` that remembers.
fn words_mut(column: &ArrayRef, change: impl FnMut(u64) -> Option<u64>) -> Option<Cells> {
    fn all(values: impl Iterator<Item = u64>, column: &ArrayRef, mut change: impl FnMut(u64) -> Option<u64>) -> Cells {
        let (mut words, mut there) = (Vec::with_capacity(column.len()), Vec::with_capacity(column.len()));
        let nulls = column.nulls();
        for (row, word) in values.enumerate() {
            let word = if nulls.is_some_and(|nulls| nulls.is_null(row)) { None } else { change(word) };
            words.push(word.unwrap_or(0));
            there.push(word.is_some());
        }
        Cells::Words(words, there)
    }
    if let Some(values) = column.as_primitive_opt::<UInt64Type>() {
        return Some(all(values.values().iter().copied(), column, change));
    }
    if let Some(values) = column.as_primitive_opt::<UInt16Type>() {
        return Some(all(values.values().iter().map(|value| u64::from(*value)), column, change));
    }
    if let Some(values) = column.as_primitive_opt::<TimestampNanosecondType>() {
        return Some(all(values.values().iter().map(|value| value.cast_unsigned()), column, change));
    }
    if let Some(values) = column.as_primitive_opt::<DurationNanosecondType>() {
        return Some(all(values.values().iter().map(|value| value.cast_unsigned()), column, change));
    }
    if let Some(values) = column.as_primitive_opt::<Float64Type>() {
        return Some(all(values.values().iter().map(|value| value.to_bits()), column, change));
    }
    let values = column.as_boolean_opt()?;
    Some(all(values.values().iter().map(u64::from), column, change))
}

fn bucket(edges: &Edges, column: &ArrayRef) -> Option<Cells> {
    match column.data_type() {
        DataType::Float64 => words(column, |word| Some(lower_edge(edges, f64::from_bits(word)).to_bits())),
        DataType::Duration(_) => words(column, |word| {
            // Edges of durations are seconds.
            Some(match edges {
                Edges::Log2 => lower_edge_u64(edges, word),
                #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
                Edges::Declared(_) => {
                    ((lower_edge(edges, word.cast_signed() as f64 / 1e9) * 1e9) as i64).cast_unsigned()
                }
            })
        }),
        DataType::UInt16 => words(column, |word| Some(lower_edge_u64(edges, word).min(0xFFFF))),
        _ => words(column, |word| Some(lower_edge_u64(edges, word))),
    }
}

/// How far a time is moved: from `-span` to `span`, the same for the same time.
fn jittered(jitter: &Draw, word: u64, span_ns: u64) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = jitter.of(0, &word.to_be_bytes());
    let width = u128::from(span_ns).saturating_mul(2).saturating_add(1);
    // The high half of a product: uniform but for one part in 2^64 / width.
    let drawn = u128::from(u64::from_be_bytes([a, b, c, d, e, f, g, h])).saturating_mul(width) >> 64;
    i64::try_from(drawn).unwrap_or(0).saturating_sub(i64::try_from(span_ns).unwrap_or(0))
}

/// The nearest multiple; half way is up.
fn rounded(word: u64, to: u64) -> u64 {
    let to = to.max(1);
    let below = word.saturating_sub(word.checked_rem(to).unwrap_or(0));
    if word.saturating_sub(below) >= to.div_ceil(2) { below.checked_add(to).unwrap_or(below) } else { below }
}

fn lengths(column: &ArrayRef) -> Option<Cells> {
    let length = |row: usize| {
        if let Some(column) = column.as_string_opt::<i32>() {
            return Some(column.value(row).len());
        }
        if let Some(column) = column.as_binary_opt::<i32>() {
            return Some(column.value(row).len());
        }
        Some(column.as_list_opt::<i32>()?.value_length(row).try_into().unwrap_or(0))
    };
    let (mut words, mut there) = (Vec::with_capacity(column.len()), Vec::with_capacity(column.len()));
    for row in 0..column.len() {
        let is_there = !column.is_null(row);
        words.push(if is_there { length(row)? as u64 } else { 0 });
        there.push(is_there);
    }
    Some(Cells::Words(words, there))
}

fn numbers(column: &ArrayRef, count: impl Fn(&str) -> usize) -> Option<Cells> {
    let column = column.as_string_opt::<i32>()?;
    let (words, there) =
        column.iter().map(|value| (value.map_or(0, |value| count(value) as u64), value.is_some())).unzip();
    Some(Cells::Words(words, there))
}

/// A port permuted inside its class: 0 to 1023, to 49151, to 65535 (RFC 6335). Walks until it is back in the class.
fn shuffled(permutation: &Permutation, port: u64) -> u64 {
    let class = |port: u64| u8::from(port >= 1_024).saturating_add(u8::from(port >= 49_152));
    let step = |port: u64| u64::try_from(permutation.map(16, 7, u128::from(port))).unwrap_or(0);
    let mut mapped = step(port);
    // A permutation comes back to where it began: 65,536 steps at the very most, 64 on average for the smallest class.
    while class(mapped) != class(port) {
        mapped = step(mapped);
    }
    mapped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    #![allow(clippy::unwrap_used)]
    use super::{MEMO_BYTES, MEMO_TEXTS, SHOWN_BYTES, Surroundings, Worker, counted};
    use crate::address_map::Sites;
    use crate::keys::{Keys, Rotation};
    use crate::memory::Memory;
    use crate::schema::FieldType;
    use crate::transform::{Shown, Transform};
    use arrow_array::{ArrayRef, StringArray};
    use std::sync::Arc;

    fn tagger() -> Worker {
        let keys = Keys::new(&mut [7; 32]);
        let around = Surroundings {
            keys: &keys,
            clock: keys.clock(Rotation::Run),
            sites: &Sites::default(),
            lists: &[],
            literals: None,
            domain: "address",
            epoch: "run",
            number: 0,
            memory: &Memory::default(),
        };
        Worker::new(&Transform::Tag { domain: String::new() }, FieldType::Host, &around)
    }

    fn clear(worker: &mut Worker, texts: impl Iterator<Item = String>) -> Vec<u8> {
        let column: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        let cells = worker.cells(&column, None).unwrap();
        let super::Cells::Texts(numbers) = cells else { return Vec::new() };
        worker.texts().text(*numbers.first().unwrap()).to_vec()
    }

    #[test]
    fn texts_are_remembered_up_to_the_bounds_and_answered_alike_beyond_them() {
        let (mut many, name) = (tagger(), |number: usize| format!("host-{number}.example"));
        let first = clear(&mut many, (0..MEMO_TEXTS - 1).map(name));
        clear(&mut many, std::iter::once(name(MEMO_TEXTS - 1)));
        assert_eq!(many.memo.len(), MEMO_TEXTS, "one below the bound is remembered");
        assert_eq!(clear(&mut many, std::iter::once(name(0))), first);
        assert_eq!(many.memo.len(), 1, "at the bound the memo starts over");
        let mut long = tagger();
        let text = |number: usize| format!("{number:0>width$}", width = MEMO_BYTES / 1024);
        let first = clear(&mut long, (0..1023).map(text));
        clear(&mut long, std::iter::once(text(1023)));
        assert_eq!((long.memo.len(), long.memo_bytes), (1024, MEMO_BYTES));
        assert_eq!(clear(&mut long, std::iter::once(text(0))), first);
        assert_eq!(long.memo.len(), 1);
    }

    #[test]
    fn a_value_that_is_longer_than_may_be_shown_is_not_counted() {
        let fits = "x".repeat(SHOWN_BYTES);
        assert_eq!(counted(Shown::Value, &fits), Some(fits.clone()));
        assert_eq!(counted(Shown::Value, &(fits + "x")), None);
    }
}
