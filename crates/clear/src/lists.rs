//! Sealed lists: words with a class each, and networks with a class each.
//!
//! An entry that is a prefix (`192.0.2.0/24`) is also found by every address in it, the longest prefix first: how an address is
//! told by its operator or its country without any question to the network.
use std::collections::HashMap;

use crate::address::is_v4;
use crate::names;
use crate::permute::low;
use crate::schema::FieldType;

/// Entries of a sealed list, and the class of each.
#[derive(Clone, Default, Debug)]
pub struct List {
    words: HashMap<String, String>,
    /// Prefixes by length, the longest first; IPv4 counts from bit 96.
    networks: Vec<(u32, HashMap<u128, String>)>,
}

impl From<HashMap<String, String>> for List {
    fn from(words: HashMap<String, String>) -> Self {
        let mut by_length: HashMap<u32, HashMap<u128, String>> = HashMap::new();
        for (word, class) in &words {
            if let Some((network, length)) = prefix(word) {
                by_length.entry(length).or_default().insert(network, class.clone());
            }
        }
        let mut networks: Vec<_> = by_length.into_iter().collect();
        networks.sort_by_key(|(length, _)| core::cmp::Reverse(*length));
        Self { words, networks }
    }
}

impl List {
    /// The class of an entry.
    #[must_use]
    pub fn get(&self, word: &str) -> Option<&String> {
        self.words.get(word)
    }

    /// The class of the longest prefix that the address lies in. IPv4 and IPv6 have prefixes of their own: `::/0` holds no IPv4 address.
    #[must_use]
    pub fn network(&self, address: &[u8; 16]) -> Option<&String> {
        let (value, least) = (u128::from_be_bytes(*address), if is_v4(address) { 96 } else { 0 });
        self.networks
            .iter()
            .filter(|(length, _)| *length >= least)
            .find_map(|(length, networks)| networks.get(&(value & !low(128_u32.saturating_sub(*length)))))
    }

    /// What the list says of a value: of a name, also what it says of a domain above it.
    #[must_use]
    pub fn listed(&self, value: &str, input: FieldType) -> Option<&String> {
        if !matches!(input, FieldType::Host | FieldType::Url | FieldType::MailAddress) {
            return self.get(value);
        }
        if let Some(class) = self.get(&value.to_ascii_lowercase()) {
            return Some(class);
        }
        let host = names::host_of(value);
        let mut name = host.as_str();
        loop {
            if let Some(class) = self.get(name) {
                return Some(class);
            }
            name = name.split_once('.')?.1;
        }
    }
}

/// A network and the length of its prefix; what stands behind the prefix is taken as zero.
fn prefix(word: &str) -> Option<(u128, u32)> {
    let (address, length) = word.split_once('/')?;
    let address = names::literal(address)?;
    let (least, most) = if is_v4(&address) { (96_u32, 32) } else { (0, 128) };
    let length = length.parse::<u32>().ok().filter(|length| *length <= most)?.saturating_add(least);
    Some((u128::from_be_bytes(address) & !low(128_u32.saturating_sub(length)), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> List {
        let entries =
            [("192.0.2.0/24", "AS64500"), ("192.0.0.0/16", "AS64501"), ("2001:db8::/32", "AS64502"), ("::/0", "any")];
        entries.iter().map(|(word, class)| ((*word).to_owned(), (*class).to_owned())).collect::<HashMap<_, _>>().into()
    }

    fn of(text: &str) -> Option<String> {
        list().network(&names::literal(text)?).cloned()
    }

    #[test]
    fn the_longest_prefix_counts() {
        assert_eq!(of("192.0.2.9").as_deref(), Some("AS64500"));
        assert_eq!(of("192.0.3.9").as_deref(), Some("AS64501"));
        assert_eq!(of("2001:db8:1::1").as_deref(), Some("AS64502"));
        assert_eq!(of("2001:db9::1").as_deref(), Some("any"));
    }

    #[test]
    fn an_address_of_no_prefix_has_no_class_and_ipv6_says_nothing_of_ipv4() {
        assert_eq!(of("198.51.100.1"), None);
    }

    #[test]
    fn what_is_no_prefix_is_a_word_alone() {
        for word in ["192.0.2.0/33", "2001:db8::/129", "example.com/24", "192.0.2.0/", "192.0.2.0"] {
            assert_eq!(prefix(word), None, "{word}");
        }
        assert_eq!(list().get("192.0.2.0/24").map(String::as_str), Some("AS64500"));
    }
}
