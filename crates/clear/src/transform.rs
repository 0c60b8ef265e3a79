//! Transforms: what may be done to a field, of which types, and what type comes out. How it is done: `work.rs`.
//!
//! Rules of this file:
//! 1. A transform says which field types it takes and what it makes of them (`output_type`); any other pair is a load error.
//! 2. There is no transform of free text but for its length, its presence, and the addresses in it, mapped.
//! 3. Every transform of text or address that keeps equality is keyed; there is no unkeyed hash.
use arrow_schema::DataType;

use crate::address_map::Method;
use crate::schema::{FieldType, list, time};

/// Edges of buckets.
#[derive(Clone, PartialEq, Debug)]
pub enum Edges {
    /// 0, 1, 2, 4, 8, ...
    Log2,
    /// Declared, growing; below the first is the first.
    Declared(Vec<f64>),
}

/// What becomes of a value that a threshold holds back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Other {
    /// Nothing is said.
    Null,
    /// A word.
    Word(String),
    /// The tag of its registrable domain.
    Etld1Tag,
}

/// What a threshold counts, and shows if it is common enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// The value itself, if it is short.
    Value,
    /// The registrable domain.
    Domain,
    /// Family and major version of a user agent.
    Family,
    /// What the list says of the longest prefix that an address lies in: its operator, its country.
    Network,
    /// The maker's half of a link-layer address, if a maker has given it.
    Oui,
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
    /// Crypto-PAn address.
    CryptoPan,
    /// The first bits of an address.
    Truncate {
        /// Bits of an IPv4 address.
        v4: u8,
        /// Bits of an IPv6 address.
        v6: u8,
    },
    /// What an address is to the operator: internal, external, private, special.
    Role,
    /// Keyed MAC address, locally administered.
    Tag48,
    /// The lower edge of the bucket that a number falls into.
    Bucket(Edges),
    /// Words (or numbers) of a list; anything else becomes `other`, or null. A word that ends in `*` passes what begins so, as the word.
    Allow {
        /// Words that pass.
        values: Vec<String>,
        /// What the others become.
        other: Option<String>,
    },
    /// Numbers of a range.
    Range {
        /// First.
        from: u16,
        /// Last.
        to: u16,
        /// What the others become.
        other: Option<u16>,
    },
    /// A time moved by an amount that the run drew, then cut to a grain.
    ShiftGrain {
        /// Grain, ns.
        grain_ns: u64,
    },
    /// A time moved by the run's amount and by a keyed one of its own, then cut to a grain.
    Jitter {
        /// Most that a time is moved either way, ns.
        span_ns: u64,
        /// Grain, ns.
        grain_ns: u64,
    },
    /// The nearest multiple of a number.
    Round {
        /// The number; of a duration, ns.
        to: u64,
    },
    /// Whether there is a value.
    Present,
    /// Length of a text or list.
    Len,
    /// Items of a list, labels of a host.
    Count,
    /// Keyed pseudonym of the registrable domain, and its public suffix: `<tag>.co.example`.
    Etld1Tag {
        /// Values are equal within a domain only.
        domain: String,
    },
    /// A tag for each label, chained from the registrable domain on: names that share an ending share tags.
    Labels {
        /// Values are equal within a domain only.
        domain: String,
    },
    /// A tag for each path segment, chained from the start, from the host in column `with` if there is one.
    Chain {
        /// Values are equal within a domain only.
        domain: String,
        /// The column that holds the host.
        with: Option<String>,
    },
    /// A mail address: `<tag>@<tag of the domain>.<suffix>`.
    MailTag {
        /// Values are equal within a domain only.
        domain: String,
    },
    /// Number of path segments of a URL.
    Depth,
    /// Extension of a URL's last segment, if of the list.
    Ext {
        /// Extensions that pass.
        values: Vec<String>,
        /// What the others become.
        other: Option<String>,
    },
    /// Names of query parameters, if of the list.
    ParamNames {
        /// Names that pass.
        values: Vec<String>,
    },
    /// Family and major version of a user agent.
    FamilyMajor,
    /// What a sealed list says of the value or of a domain above it.
    Class {
        /// Number of the list.
        list: usize,
        /// What it becomes that no list names.
        other: Option<String>,
    },
    /// In clear if at least `k` distinct units have it, it is among the `n` most common, and the list has it; else `other`.
    TopK {
        /// What is counted and shown.
        shown: Shown,
        /// Distinct units.
        k: usize,
        /// Most values of a window; none: no bound.
        n: Option<usize>,
        /// Number of the list.
        list: Option<usize>,
        /// What becomes of the others.
        other: Other,
    },
    /// A port of a list, or null.
    Service {
        /// Ports that pass.
        ports: Vec<u16>,
    },
    /// A port, permuted inside its class (below 1024, registered, ephemeral).
    Shuffle,
    /// The same in every row, whatever is there: a word, or a number for a number.
    Const {
        /// What stands there.
        value: String,
    },
    /// A number in the order of first appearance; of a time its place in the order of its window.
    Enumerate,
    /// How long after the first time of the run, cut to a grain.
    Relative {
        /// Grain, ns.
        grain_ns: u64,
    },
    /// A number with noise of its own for each cell, not below 0.
    Noise {
        /// Scale of the discrete Laplace distribution; of a duration, ns.
        scale: u64,
    },
    /// The first part of a JA4 fingerprint: protocol, version, counts, first protocol of the application.
    Ja4A,
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
        const TEXT: DataType = DataType::Utf8;
        let text = matches!(
            input,
            F::Host | F::Url | F::MailAddress | F::UserAgent | F::Enum | F::Mime | F::Fingerprint | F::Digest
        );
        let number16 = matches!(input, F::Code | F::Port | F::Vlan);
        let when = |fits: bool, output: DataType| fits.then_some(output);
        match self {
            Self::Keep => match input {
                F::Address => Some(TEXT),
                F::AddressList => Some(list(TEXT)),
                // Words of the record's declaration, or a bounded alphabet; the gate insists on both.
                F::Enum | F::Fingerprint | F::Digest => Some(TEXT),
                F::Port
                | F::Code
                | F::Vlan
                | F::Time
                | F::Duration
                | F::Bytes
                | F::Count
                | F::Score
                | F::Flag
                | F::Flags => Some(input.arrow()),
                F::Host
                | F::Url
                | F::MailAddress
                | F::UserAgent
                | F::Mime
                | F::Text
                | F::TextList
                | F::Content
                | F::Mac
                | F::FlowId => None,
            },
            Self::Tag { .. } => when(text || matches!(input, F::Address | F::Mac | F::FlowId), TEXT),
            // Of a mail address: to whom it belongs by its domain and its local part.
            Self::Role if input == F::MailAddress => Some(TEXT),
            Self::Pfx | Self::CryptoPan | Self::Truncate { .. } | Self::Role => match input {
                F::Address | F::Host => Some(TEXT),
                F::AddressList | F::Text | F::TextList => Some(list(TEXT)),
                _ => None,
            },
            Self::Tag48 => when(input == F::Mac, TEXT),
            Self::Bucket(_) => {
                when(number16 || matches!(input, F::Duration | F::Score | F::Bytes | F::Count), input.arrow())
            }
            Self::Allow { .. } if text => Some(TEXT),
            Self::Allow { .. } if input == F::TextList => Some(list(TEXT)),
            Self::Allow { .. } | Self::Range { .. } => when(number16, DataType::UInt16),
            Self::ShiftGrain { .. } | Self::Jitter { .. } => when(input == F::Time, time()),
            Self::Round { .. } => when(matches!(input, F::Duration | F::Bytes | F::Count), input.arrow()),
            Self::Present => Some(DataType::Boolean),
            Self::Len => {
                when(text || matches!(input, F::Text | F::TextList | F::AddressList | F::Content), DataType::UInt64)
            }
            Self::Count => when(matches!(input, F::Host | F::TextList | F::AddressList), DataType::UInt64),
            Self::Etld1Tag { .. } => when(matches!(input, F::Host | F::Url | F::MailAddress), TEXT),
            Self::Labels { .. } => when(matches!(input, F::Host | F::Url), TEXT),
            Self::Chain { .. } | Self::Ext { .. } => when(input == F::Url, TEXT),
            Self::MailTag { .. } => when(input == F::MailAddress, TEXT),
            Self::Depth => when(input == F::Url, DataType::UInt64),
            Self::ParamNames { .. } => when(input == F::Url, list(TEXT)),
            Self::FamilyMajor => when(input == F::UserAgent, TEXT),
            Self::Class { .. } => when(text, TEXT),
            Self::TopK { shown, other, .. } => {
                let named = matches!(input, F::Host | F::Url | F::MailAddress);
                let fits = match shown {
                    Shown::Domain => named,
                    Shown::Family => input == F::UserAgent,
                    Shown::Network => input == F::Address,
                    Shown::Oui => input == F::Mac,
                    Shown::Value => matches!(input, F::Fingerprint | F::Mime | F::Enum | F::UserAgent),
                };
                when(fits && (*other != Other::Etld1Tag || named), TEXT)
            }
            Self::Service { .. } | Self::Shuffle => when(input == F::Port, DataType::UInt16),
            Self::Const { value } if number16 => when(value.parse::<u16>().is_ok(), DataType::UInt16),
            Self::Const { value } if matches!(input, F::Bytes | F::Count) => {
                when(value.parse::<u64>().is_ok(), DataType::UInt64)
            }
            Self::Const { .. } => when(text || matches!(input, F::Address | F::Mac | F::FlowId | F::Text), TEXT),
            Self::Enumerate => {
                when(matches!(input, F::Address | F::Mac | F::Vlan | F::FlowId | F::Time), DataType::UInt64)
            }
            Self::Relative { .. } => when(input == F::Time, FieldType::Duration.arrow()),
            Self::Noise { .. } => when(matches!(input, F::Duration | F::Bytes | F::Count), input.arrow()),
            Self::Ja4A => when(input == F::Fingerprint, TEXT),
        }
    }

    /// Whether it counts units, and rows must wait until a window closes.
    #[must_use]
    pub const fn counts(&self) -> bool {
        matches!(self, Self::TopK { .. })
    }

    /// How addresses are mapped, if they are.
    #[must_use]
    pub const fn method(&self) -> Option<Method> {
        match self {
            Self::Pfx => Some(Method::Pfx),
            Self::CryptoPan => Some(Method::CryptoPan),
            Self::Truncate { v4, v6 } => Some(Method::Truncate { v4: *v4, v6: *v6 }),
            Self::Tag48 => Some(Method::Tag),
            _ => None,
        }
    }
}
