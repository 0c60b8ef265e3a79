//! Transforms: one raw column in, one cleared column out.
//!
//! Rules of this file:
//! 1. A transform says which field types it takes and what it makes of them (`output_type`); any other pair is a load error.
//! 2. A null stays null, but for `present`, which is about nulls.
//! 3. Every transform of text or address that keeps equality is keyed; there is no unkeyed hash.
use std::fmt::Write as _;
use std::sync::Arc;

use arrow_array::builder::{
    BooleanBuilder, DurationNanosecondBuilder, Float64Builder, ListBuilder, StringBuilder, TimestampNanosecondBuilder,
    UInt16Builder, UInt64Builder,
};
use arrow_array::cast::AsArray;
use arrow_array::types::{DurationNanosecondType, Float64Type, TimestampNanosecondType, UInt16Type, UInt64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::{DataType, TimeUnit};

use crate::address;
use crate::address_map::{AddressMap, Method, Sites};
use crate::keys::Keys;
use crate::schema::{FieldType, list, time};

/// Edges of buckets.
#[derive(Clone, PartialEq, Debug)]
pub enum Edges {
    /// 0, 1, 2, 4, 8, ...
    Log2,
    /// Declared, growing; below the first is the first.
    Declared(Vec<f64>),
}

/// What is done to a field.
#[derive(Clone, PartialEq, Debug)]
pub enum Transform {
    /// As it is. The policy must say why.
    Keep,
    /// Keyed pseudonym, 128 bits in hex; equal values in one domain look equal, nothing else is told.
    Tag {
        /// Values are equal within a domain only.
        domain: String,
    },
    /// Prefix-preserving address.
    Pfx,
    /// The first bits of an address.
    Truncate {
        /// Bits of an IPv4 address.
        v4: u8,
        /// Bits of an IPv6 address.
        v6: u8,
    },
    /// The lower edge of the bucket that a number falls into.
    Bucket(Edges),
    /// Words (or numbers) of a list; anything else becomes `other`, or null.
    Allow {
        /// Words that pass.
        values: Vec<String>,
        /// What the others become.
        other: Option<String>,
    },
    /// A time moved by an amount that the run drew, then cut to a grain.
    ShiftGrain {
        /// Grain, ns.
        grain_ns: u64,
    },
    /// Whether there is a value.
    Present,
    /// Length of a text or list.
    Len,
    /// Keyed pseudonym of the registrable domain, and its public suffix: `<tag>.co.example`.
    Etld1Tag {
        /// Values are equal within a domain only.
        domain: String,
    },
    /// Number of path segments of a URL.
    Depth,
    /// A port of a list, or null.
    Service {
        /// Ports that pass.
        ports: Vec<u16>,
    },
}

/// A rule: an output column.
#[derive(Clone, PartialEq, Debug)]
pub struct Rule {
    /// Name of the output column.
    pub name: String,
    /// Name of the input column.
    pub from: String,
    /// What is done.
    pub transform: Transform,
}

/// What a rule makes: the Arrow type of its column.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Output {
    /// Name.
    pub name: String,
    /// Type.
    pub data_type: DataType,
}

impl Transform {
    /// The type of the output for this input, None if the transform does not fit it.
    #[must_use]
    pub fn output_type(&self, input: FieldType) -> Option<DataType> {
        use FieldType as F;
        let text = matches!(
            input,
            F::Host | F::Url | F::MailAddress | F::UserAgent | F::Enum | F::Mime | F::Fingerprint | F::Digest
        );
        let integer64 = matches!(input, F::Bytes | F::Count);
        match self {
            Self::Keep => match input {
                F::Address => Some(DataType::Utf8),
                F::AddressList => Some(list(DataType::Utf8)),
                F::Text | F::TextList | F::Content | F::Mac | F::FlowId => None,
                other => Some(other.arrow()),
            },
            Self::Tag { .. } => (text || matches!(input, F::Address | F::Mac | F::FlowId)).then_some(DataType::Utf8),
            Self::Pfx | Self::Truncate { .. } => match input {
                F::Address => Some(DataType::Utf8),
                F::AddressList => Some(list(DataType::Utf8)),
                _ => None,
            },
            Self::Bucket(_) => match input {
                F::Duration => Some(DataType::Duration(TimeUnit::Nanosecond)),
                F::Score => Some(DataType::Float64),
                _ if integer64 => Some(DataType::UInt64),
                F::Code | F::Port | F::Vlan => Some(DataType::UInt16),
                _ => None,
            },
            Self::Allow { .. } => match input {
                F::Code | F::Port | F::Vlan => Some(DataType::UInt16),
                _ if text => Some(DataType::Utf8),
                _ => None,
            },
            Self::ShiftGrain { .. } => (input == F::Time).then(time),
            Self::Present => Some(DataType::Boolean),
            Self::Len => (text || matches!(input, F::Text | F::TextList | F::AddressList | F::Content))
                .then_some(DataType::UInt64),
            Self::Etld1Tag { .. } => matches!(input, F::Host | F::Url).then_some(DataType::Utf8),
            Self::Depth => (input == F::Url).then_some(DataType::UInt64),
            Self::Service { .. } => (input == F::Port).then_some(DataType::UInt16),
        }
    }
}

/// A transform with its keys, at work.
pub struct Worker {
    transform: Transform,
    input: FieldType,
    key: zeroize::Zeroizing<[u8; 32]>,
    maybe_map: Option<AddressMap>,
    shift_ns: i64,
}

impl Worker {
    /// Derive what the transform needs.
    #[must_use]
    pub fn new(transform: &Transform, input: FieldType, keys: &Keys, epoch: &str) -> Self {
        let key = match transform {
            Transform::Tag { domain } | Transform::Etld1Tag { domain } => {
                let domain = if domain.is_empty() { domain_of(input) } else { domain };
                keys.derive("tag", domain, epoch)
            }
            // One map for every place an address can stand.
            Transform::Pfx => keys.derive("pfx", "address", epoch),
            Transform::ShiftGrain { .. } => keys.derive("time", "shift", "run"),
            _ => zeroize::Zeroizing::new([0; 32]),
        };
        let maybe_map = matches!(transform, Transform::Pfx)
            .then(|| AddressMap::new(Method::Pfx, keys, "address", epoch, &Sites::default()));
        let shift_ns = keys.clock(crate::keys::Rotation::Run).shift_ns;
        Self { transform: transform.clone(), input, key, maybe_map, shift_ns }
    }

    /// Clear a column. The column has the input's type (checked before); None if it has not after all.
    pub fn apply(&mut self, column: &ArrayRef) -> Option<ArrayRef> {
        match &self.transform {
            Transform::Keep => self.keep(column),
            Transform::Tag { .. } => self.tag(column),
            Transform::Pfx | Transform::Truncate { .. } => self.addresses(column),
            Transform::Bucket(edges) => bucket(edges, column),
            Transform::Allow { values, other } => allow(values, other.as_deref(), column),
            Transform::ShiftGrain { grain_ns } => self.shift(*grain_ns, column),
            Transform::Present => {
                let mut out = BooleanBuilder::with_capacity(column.len());
                for row in 0..column.len() {
                    out.append_value(is_present(column, row));
                }
                Some(Arc::new(out.finish()))
            }
            Transform::Len => len(column),
            Transform::Etld1Tag { .. } => self.etld1(column),
            Transform::Depth => depth(column),
            Transform::Service { ports } => {
                let column = column.as_primitive_opt::<UInt16Type>()?;
                let mut out = UInt16Builder::with_capacity(column.len());
                for port in column {
                    out.append_option(port.filter(|port| ports.contains(port)));
                }
                Some(Arc::new(out.finish()))
            }
        }
    }

    fn keep(&mut self, column: &ArrayRef) -> Option<ArrayRef> {
        if matches!(self.input, FieldType::Address | FieldType::AddressList) {
            return self.addresses(column);
        }
        rebuild(column)
    }

    fn tag_of(&self, value: &[u8], text: &mut String) {
        let hash = blake3::keyed_hash(&self.key, value);
        for byte in hash.as_bytes().iter().take(16) {
            let _ = write!(text, "{byte:02x}");
        }
    }

    fn tag(&self, column: &ArrayRef) -> Option<ArrayRef> {
        let mut out = StringBuilder::with_capacity(column.len(), column.len().saturating_mul(32));
        let mut text = String::with_capacity(32);
        let mut append = |maybe_value: Option<&[u8]>| match maybe_value {
            Some(value) => {
                text.clear();
                self.tag_of(value, &mut text);
                out.append_value(&text);
            }
            None => out.append_null(),
        };
        if let Some(column) = column.as_string_opt::<i32>() {
            column.iter().for_each(|value| append(value.map(str::as_bytes)));
        } else if let Some(column) = column.as_fixed_size_binary_opt() {
            column.iter().for_each(&mut append);
        } else {
            let column = column.as_primitive_opt::<UInt64Type>()?;
            column.iter().for_each(|value| append(value.map(u64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice)));
        }
        Some(Arc::new(out.finish()))
    }

    fn mapped(&mut self, raw: &[u8]) -> Option<[u8; 16]> {
        let address: [u8; 16] = raw.try_into().ok()?;
        Some(match (&self.transform, &mut self.maybe_map) {
            (_, Some(map)) => map.map(address),
            (Transform::Truncate { v4, v6 }, None) => address::truncate(address, *v4, *v6),
            _ => address,
        })
    }

    fn addresses(&mut self, column: &ArrayRef) -> Option<ArrayRef> {
        let mut text = String::new();
        if let Some(column) = column.as_fixed_size_binary_opt() {
            let mut out = StringBuilder::with_capacity(column.len(), column.len().saturating_mul(16));
            for raw in column {
                match raw.and_then(|raw| self.mapped(raw)) {
                    Some(address) => {
                        text.clear();
                        address::write_text(&address, &mut text);
                        out.append_value(&text);
                    }
                    None => out.append_null(),
                }
            }
            return Some(Arc::new(out.finish()));
        }
        let column = column.as_list_opt::<i32>()?;
        let mut out = ListBuilder::new(StringBuilder::new());
        for items in column.iter() {
            match items {
                Some(items) => {
                    for raw in items.as_fixed_size_binary_opt()?.iter().flatten() {
                        let address = self.mapped(raw)?;
                        text.clear();
                        address::write_text(&address, &mut text);
                        out.values().append_value(&text);
                    }
                    out.append(true);
                }
                None => out.append(false),
            }
        }
        Some(Arc::new(out.finish()))
    }

    fn shift(&self, grain_ns: u64, column: &ArrayRef) -> Option<ArrayRef> {
        let column = column.as_primitive_opt::<TimestampNanosecondType>()?;
        let grain = i64::try_from(grain_ns.max(1)).ok()?;
        let mut out = TimestampNanosecondBuilder::with_capacity(column.len()).with_timezone("UTC");
        for value in column {
            out.append_option(value.map(|value| {
                let shifted = value.saturating_add(self.shift_ns);
                shifted.saturating_sub(shifted.checked_rem_euclid(grain).unwrap_or(0))
            }));
        }
        Some(Arc::new(out.finish()))
    }

    fn etld1(&self, column: &ArrayRef) -> Option<ArrayRef> {
        let column = column.as_string_opt::<i32>()?;
        let mut out = StringBuilder::with_capacity(column.len(), column.len().saturating_mul(40));
        let mut text = String::new();
        for value in column {
            let Some(value) = value else {
                out.append_null();
                continue;
            };
            text.clear();
            let name = host_of(value, self.input);
            match registrable(&name) {
                Some((domain, suffix)) => {
                    self.tag_of(domain.as_bytes(), &mut text);
                    text.push('.');
                    text.push_str(suffix);
                }
                None => self.tag_of(name.as_bytes(), &mut text),
            }
            out.append_value(&text);
        }
        Some(Arc::new(out.finish()))
    }
}

/// Values of one type are equal in one domain, wherever they stand: a host in HTTP, DNS and TLS is the same host.
const fn domain_of(input: FieldType) -> &'static str {
    match input {
        FieldType::Url => "host",
        FieldType::Host => "host",
        other => other.name(),
    }
}

/// The host in a value: of a URL its authority, of a host what precedes a port; lower case, without a trailing dot.
fn host_of(value: &str, input: FieldType) -> String {
    let mut host = value;
    if input == FieldType::Url {
        host = host.split_once("://").map_or(host, |(_, rest)| rest);
        host = host.split(['/', '?', '#']).next().unwrap_or(host);
        host = host.rsplit_once('@').map_or(host, |(_, rest)| rest);
    }
    if !host.starts_with('[')
        && let Some((name, port)) = host.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        host = name;
    }
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// The registrable domain and its public suffix. An address, a bare suffix or an unknown top level has neither.
fn registrable(name: &str) -> Option<(&str, &str)> {
    if name.starts_with('[') || name.parse::<std::net::IpAddr>().is_ok() {
        return None;
    }
    let domain = psl::domain(name.as_bytes())?;
    let suffix = domain.suffix();
    if !suffix.is_known() {
        return None;
    }
    let tail = |length: usize| name.get(name.len().checked_sub(length)?..);
    Some((tail(domain.as_bytes().len())?, tail(suffix.as_bytes().len())?))
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

/// A column built anew: no buffer of the input is in it, whatever was behind its slices.
fn rebuild(column: &ArrayRef) -> Option<ArrayRef> {
    Some(match column.data_type() {
        DataType::Utf8 => {
            let mut out = StringBuilder::new();
            column.as_string_opt::<i32>()?.iter().for_each(|value| out.append_option(value));
            Arc::new(out.finish())
        }
        DataType::UInt16 => {
            let mut out = UInt16Builder::with_capacity(column.len());
            column.as_primitive_opt::<UInt16Type>()?.iter().for_each(|value| out.append_option(value));
            Arc::new(out.finish())
        }
        DataType::UInt64 => {
            let mut out = UInt64Builder::with_capacity(column.len());
            column.as_primitive_opt::<UInt64Type>()?.iter().for_each(|value| out.append_option(value));
            Arc::new(out.finish())
        }
        DataType::Float64 => {
            let mut out = Float64Builder::with_capacity(column.len());
            column.as_primitive_opt::<Float64Type>()?.iter().for_each(|value| out.append_option(value));
            Arc::new(out.finish())
        }
        DataType::Boolean => {
            let mut out = BooleanBuilder::with_capacity(column.len());
            column.as_boolean_opt()?.iter().for_each(|value| out.append_option(value));
            Arc::new(out.finish())
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            let mut out = TimestampNanosecondBuilder::with_capacity(column.len()).with_timezone("UTC");
            column.as_primitive_opt::<TimestampNanosecondType>()?.iter().for_each(|value| out.append_option(value));
            Arc::new(out.finish())
        }
        DataType::Duration(TimeUnit::Nanosecond) => {
            let mut out = DurationNanosecondBuilder::with_capacity(column.len());
            column.as_primitive_opt::<DurationNanosecondType>()?.iter().for_each(|value| out.append_option(value));
            Arc::new(out.finish())
        }
        _ => return None,
    })
}

fn lower_edge(edges: &Edges, value: f64) -> f64 {
    match edges {
        Edges::Log2 => {
            if value < 1.0 {
                0.0
            } else {
                value.log2().floor().exp2()
            }
        }
        Edges::Declared(edges) => {
            edges.iter().rev().find(|edge| **edge <= value).or(edges.first()).copied().unwrap_or(0.0)
        }
    }
}

/// The lower edge for an integer, without the detour that would round large ones up.
fn lower_edge_u64(edges: &Edges, value: u64) -> u64 {
    match edges {
        Edges::Log2 => value.checked_ilog2().map_or(0, |bits| 1_u64.checked_shl(bits).unwrap_or(0)),
        // Declared edges are checked at load to be whole numbers of at most 2^53 for integer fields.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Edges::Declared(_) => lower_edge(edges, value as f64).max(0.0) as u64,
    }
}

fn bucket(edges: &Edges, column: &ArrayRef) -> Option<ArrayRef> {
    if let Some(column) = column.as_primitive_opt::<UInt64Type>() {
        let mut out = UInt64Builder::with_capacity(column.len());
        column.iter().for_each(|value| out.append_option(value.map(|value| lower_edge_u64(edges, value))));
        return Some(Arc::new(out.finish()));
    }
    if let Some(column) = column.as_primitive_opt::<UInt16Type>() {
        let mut out = UInt16Builder::with_capacity(column.len());
        for value in column {
            out.append_option(
                value.map(|value| u16::try_from(lower_edge_u64(edges, u64::from(value))).unwrap_or(u16::MAX)),
            );
        }
        return Some(Arc::new(out.finish()));
    }
    if let Some(column) = column.as_primitive_opt::<DurationNanosecondType>() {
        let mut out = DurationNanosecondBuilder::with_capacity(column.len());
        for value in column {
            // Edges of durations are seconds.
            out.append_option(value.map(|value| match edges {
                Edges::Log2 => i64::try_from(lower_edge_u64(edges, u64::try_from(value).unwrap_or(0))).unwrap_or(0),
                #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
                Edges::Declared(_) => (lower_edge(edges, value as f64 / 1e9) * 1e9) as i64,
            }));
        }
        return Some(Arc::new(out.finish()));
    }
    let column = column.as_primitive_opt::<Float64Type>()?;
    let mut out = Float64Builder::with_capacity(column.len());
    column.iter().for_each(|value| out.append_option(value.map(|value| lower_edge(edges, value))));
    Some(Arc::new(out.finish()))
}

fn allow(values: &[String], other: Option<&str>, column: &ArrayRef) -> Option<ArrayRef> {
    if let Some(column) = column.as_string_opt::<i32>() {
        let mut out = StringBuilder::new();
        for value in column {
            out.append_option(
                value.and_then(|value| {
                    values.iter().find(|known| known.as_str() == value).map(String::as_str).or(other)
                }),
            );
        }
        return Some(Arc::new(out.finish()));
    }
    let column = column.as_primitive_opt::<UInt16Type>()?;
    let numbers: Vec<u16> = values.iter().filter_map(|value| value.parse().ok()).collect();
    let other = other.and_then(|other| other.parse().ok());
    let mut out = UInt16Builder::with_capacity(column.len());
    for value in column {
        out.append_option(value.and_then(|value| if numbers.contains(&value) { Some(value) } else { other }));
    }
    Some(Arc::new(out.finish()))
}

fn len(column: &ArrayRef) -> Option<ArrayRef> {
    let mut out = UInt64Builder::with_capacity(column.len());
    let mut append = |length: Option<usize>| out.append_option(length.map(|length| length as u64));
    if let Some(column) = column.as_string_opt::<i32>() {
        column.iter().for_each(|value| append(value.map(str::len)));
    } else if let Some(column) = column.as_binary_opt::<i32>() {
        column.iter().for_each(|value| append(value.map(<[u8]>::len)));
    } else {
        column.as_list_opt::<i32>()?.iter().for_each(|value| append(value.map(|items| items.len())));
    }
    Some(Arc::new(out.finish()))
}

fn depth(column: &ArrayRef) -> Option<ArrayRef> {
    let column = column.as_string_opt::<i32>()?;
    let mut out = UInt64Builder::with_capacity(column.len());
    for value in column {
        out.append_option(value.map(|value| {
            let path = value
                .split_once("://")
                .map_or(value, |(_, rest)| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or(""));
            let path = path.split(['?', '#']).next().unwrap_or(path);
            path.split('/').filter(|segment| !segment.is_empty()).count() as u64
        }));
    }
    Some(Arc::new(out.finish()))
}
