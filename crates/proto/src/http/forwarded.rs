//! Addresses that a request's headers name for the hosts behind and between proxies.
//!
//! Headers: X-Forwarded-For, Forwarded (RFC 7239: `for` and `by`), Via (RFC 9110 section 7.6.3), X-Real-IP, X-Client-IP, Client-IP,
//! True-Client-IP, CF-Connecting-IP. What is no address (`unknown`, `_hidden`, a host name) is passed over.
use core::net::IpAddr;

use memchr::memchr;

/// Addresses of one request; further ones are not read. A path of 32 proxies is a loop.
pub const FORWARDED: usize = 32;

/// Whether a header of this name names such addresses.
#[must_use]
pub fn names_addresses(name: &[u8]) -> bool {
    let known: &[&[u8]] = match name.len() {
        3 => &[b"via"],
        9 => &[b"forwarded", b"x-real-ip", b"client-ip"],
        11 => &[b"x-client-ip"],
        14 => &[b"true-client-ip"],
        15 => &[b"x-forwarded-for"],
        16 => &[b"cf-connecting-ip"],
        _ => &[],
    };
    known.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// The addresses in a raw head, in 16 bytes each, in the order in which they stand.
///
/// # Limits
/// [`FORWARDED`].
#[must_use]
pub fn addresses(head: &[u8]) -> Vec<[u8; 16]> {
    let mut found = Vec::new();
    let mut inside = false;
    for line in head.split(|byte| *byte == b'\n').skip(1) {
        let folded = matches!(line.first(), Some(b' ' | b'\t'));
        let value = match memchr(b':', line).and_then(|colon| line.split_at_checked(colon)) {
            _ if folded => line,
            Some((name, value)) => {
                inside = names_addresses(name.trim_ascii());
                value.get(1..).unwrap_or(&[])
            }
            None => {
                inside = false;
                &[]
            }
        };
        if inside {
            let words = value.split(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'.')));
            found.extend(words.filter_map(address).take(FORWARDED.saturating_sub(found.len())));
        }
    }
    found
}

/// An address, with or without a port.
fn address(word: &[u8]) -> Option<[u8; 16]> {
    // Seven letters are the shortest of IPv4, two colons stand in any of IPv6.
    if word.len() < 3 || word.len() > 51 {
        return None;
    }
    let text = core::str::from_utf8(word).ok()?;
    let port = || text.rsplit_once(':').filter(|(before, _)| !before.contains(':')).map(|(before, _)| before);
    Some(match text.parse::<IpAddr>().ok().or_else(|| port()?.parse().ok())? {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn texts(headers: &str) -> Vec<String> {
        let head = format!("GET / HTTP/1.1\r\nHost: 203.0.113.1\r\n{headers}\r\n\r\n");
        let text = |octets: [u8; 16]| {
            let v6 = core::net::Ipv6Addr::from(octets);
            v6.to_ipv4_mapped().map_or_else(|| v6.to_string(), |v4| v4.to_string())
        };
        addresses(head.as_bytes()).into_iter().map(text).collect()
    }

    #[test]
    fn each_form_of_an_address_is_found() {
        assert_eq!(
            texts("X-Forwarded-For: 192.0.2.1, 192.0.2.2:8080,2001:db8::1"),
            ["192.0.2.1", "192.0.2.2", "2001:db8::1"]
        );
        assert_eq!(
            texts("Forwarded: for=192.0.2.43;by=203.0.113.60;proto=http, For=\"[2001:db8:cafe::17]:4711\""),
            ["192.0.2.43", "203.0.113.60", "2001:db8:cafe::17"]
        );
        assert_eq!(texts("Via: 1.1 198.51.100.7:3128 (squid/5.7), HTTP/2 proxy.example"), ["198.51.100.7"]);
        assert_eq!(texts("x-real-ip: ::ffff:192.0.2.9"), ["192.0.2.9"]);
    }

    #[test]
    fn headers_keep_their_order_and_a_folded_one_goes_on() {
        assert_eq!(
            texts(
                "Client-IP: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2,\r\n 192.0.2.3\r\nAccept: 192.0.2.4\r\n\t192.0.2.5"
            ),
            ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
        );
    }

    #[test]
    fn what_is_no_address_is_passed_over() {
        for headers in [
            "X-Forwarded-For: unknown, _hidden, 1.2.3",
            "Forwarded: for=_gazonk;host=a.example",
            "Via: 1.1 dead",
            "Accept: 192.0.2.1",
            "X-Forwarded-For",
        ] {
            assert!(texts(headers).is_empty(), "{headers}");
        }
    }

    #[test]
    fn addresses_are_read_up_to_the_limit() {
        let list = |count: usize| texts(&format!("X-Forwarded-For: {}", vec!["192.0.2.1"; count].join(", "))).len();
        assert_eq!([list(FORWARDED - 1), list(FORWARDED), list(FORWARDED + 1)], [FORWARDED - 1, FORWARDED, FORWARDED]);
        let two = format!("Client-IP: 192.0.2.1\r\nX-Forwarded-For: {}", vec!["192.0.2.1"; FORWARDED].join(","));
        assert_eq!(texts(&two).len(), FORWARDED);
    }
}
