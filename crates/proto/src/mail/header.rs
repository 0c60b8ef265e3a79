//! Header fields of a message (RFC 5322 section 2.2) and of MIME parts (RFC 2045, 2183, 2231).

/// Header fields as name and unfolded value, in order.
#[must_use]
pub fn fields(head: &[u8]) -> Vec<(&[u8], Vec<u8>)> {
    let mut found: Vec<(&[u8], Vec<u8>)> = Vec::new();
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if matches!(line.first(), Some(b' ' | b'\t')) {
            if let Some((_, value)) = found.last_mut() {
                let more = line.trim_ascii();
                if !value.is_empty() && !more.is_empty() {
                    value.push(b' ');
                }
                value.extend_from_slice(more);
            }
            continue;
        }
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let (Some(name), Some(value)) = (line.get(..colon), line.get(colon.saturating_add(1)..)) else { continue };
        found.push((name.trim_ascii_end(), value.trim_ascii().to_vec()));
    }
    found
}

/// Cut a list of addresses at its commas, those in quotes excepted (Zeek's rule).
pub fn addresses(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    value
        .split(move |byte| {
            quoted ^= *byte == b'"';
            *byte == b',' && !quoted
        })
        .map(<[u8]>::trim_ascii)
        .filter(|item| !item.is_empty())
}

/// The address alone: what stands in angle brackets, else the whole if it has an at sign and no blank.
#[must_use]
pub fn address_of(value: &[u8]) -> Option<&[u8]> {
    if let Some(open) = memchr::memrchr(b'<', value) {
        let inner = value.get(open.saturating_add(1)..)?;
        return inner.get(..memchr::memchr(b'>', inner).unwrap_or(inner.len())).map(<[u8]>::trim_ascii);
    }
    let bare = value.trim_ascii();
    (memchr::memchr(b'@', bare).is_some() && memchr::memchr(b' ', bare).is_none()).then_some(bare)
}

/// The IP addresses in a text: where each stands, and its 16 bytes.
fn ips(value: &[u8]) -> impl Iterator<Item = (usize, usize, [u8; 16])> {
    let mut at = 0usize;
    let tokens = value.split(|byte| !(byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.')));
    tokens.filter_map(move |token| {
        let start = at;
        at = at.saturating_add(token.len()).saturating_add(1);
        if !(3..=46).contains(&token.len()) {
            return None;
        }
        // "IPv6:2001:db8::1" leaves a digit or a colon in front of the address.
        let address = match token {
            [b':', rest @ ..] if !rest.starts_with(b":") => rest,
            [b'6', b':', rest @ ..] => rest,
            other => other,
        };
        let text = core::str::from_utf8(address.strip_suffix(b".").unwrap_or(address)).ok()?;
        let found = match text.parse::<core::net::IpAddr>().ok()? {
            core::net::IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
            // "::1" may be an address; "::" and the like are punctuation.
            core::net::IpAddr::V6(v6) => (text.len() > 2).then(|| v6.octets())?,
        };
        Some((start, start.saturating_add(token.len()), found))
    })
}

/// The first IP address in a text, in 16 bytes.
#[must_use]
pub fn find_ip(value: &[u8]) -> Option<[u8; 16]> {
    ips(value).next().map(|(_, _, address)| address)
}

/// The address of a hop in a `Received` field, by Zeek's rule: of those in brackets or between blanks the second, else the first.
#[must_use]
pub fn find_hop(value: &[u8]) -> Option<[u8; 16]> {
    let mut wrapped = ips(value).filter(|(start, end, _)| {
        let before = start.checked_sub(1).and_then(|at| value.get(at));
        let pair = (before, value.get(*end));
        matches!(
            pair,
            (Some(b'['), Some(b']')) | (Some(b'('), Some(b')')) | (Some(b'{'), Some(b'}')) | (Some(b' '), Some(b' '))
        ) || (before == Some(&b'v') && value.get(*end) == Some(&b']'))
    });
    let first = wrapped.next();
    wrapped.next().or(first).map(|(_, _, address)| address)
}

/// The value before its parameters, lower case.
#[must_use]
pub fn bare(value: &[u8]) -> Vec<u8> {
    value.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii().to_ascii_lowercase()
}

/// A parameter's value: quoted, plain, or in the pieces and percent signs of RFC 2231.
#[must_use]
pub fn parameter(value: &[u8], name: &[u8]) -> Option<Vec<u8>> {
    let mut pieces: Vec<(u32, Vec<u8>)> = Vec::new();
    for (key, text) in parameters(value) {
        let Some((start, rest)) = key.split_at_checked(name.len()) else { continue };
        if !start.eq_ignore_ascii_case(name) {
            continue;
        }
        if rest.is_empty() {
            return Some(text);
        }
        let Some(rest) = rest.strip_prefix(b"*") else { continue };
        let (number, extended) = match rest.strip_suffix(b"*") {
            Some(number) => (number, true),
            None => (rest, rest.is_empty()),
        };
        let number = core::str::from_utf8(number).ok().and_then(|number| number.parse().ok()).unwrap_or(0);
        let text = if extended { percent(&text, number == 0) } else { text };
        pieces.push((number, text));
    }
    if pieces.is_empty() {
        return None;
    }
    pieces.sort_by_key(|(number, _)| *number);
    Some(pieces.into_iter().flat_map(|(_, text)| text).collect())
}

fn parameters(value: &[u8]) -> Vec<(&[u8], Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = memchr::memchr(b';', value).and_then(|semicolon| value.get(semicolon..)).unwrap_or_default();
    while let Some(inner) = rest.strip_prefix(b";") {
        let inner = inner.trim_ascii_start();
        let stop = inner.iter().position(|byte| matches!(byte, b'=' | b';')).unwrap_or(inner.len());
        let (key, after) = inner.split_at_checked(stop).unwrap_or((inner, &[]));
        let Some(after) = after.strip_prefix(b"=") else {
            rest = after;
            continue;
        };
        let after = after.trim_ascii_start();
        let mut text = Vec::new();
        let mut used = 0usize;
        if after.first() == Some(&b'"') {
            let mut escaped = false;
            used = 1;
            for byte in after.iter().skip(1) {
                used = used.saturating_add(1);
                match byte {
                    b'\\' if !escaped => {
                        escaped = true;
                        continue;
                    }
                    b'"' if !escaped => break,
                    _ => text.push(*byte),
                }
                escaped = false;
            }
        } else {
            let end = memchr::memchr(b';', after).unwrap_or(after.len());
            text.extend_from_slice(after.get(..end).unwrap_or_default().trim_ascii());
            used = used.saturating_add(end);
        }
        found.push((key.trim_ascii(), text));
        let tail = after.get(used..).unwrap_or_default();
        rest = memchr::memchr(b';', tail).and_then(|semicolon| tail.get(semicolon..)).unwrap_or_default();
    }
    found
}

/// RFC 2231 section 4: charset and language before two quotes in the first piece, then percent signs.
fn percent(text: &[u8], first: bool) -> Vec<u8> {
    let mut rest = text;
    if first {
        let mut quotes = memchr::memchr_iter(b'\'', text);
        if let (Some(_), Some(second)) = (quotes.next(), quotes.next()) {
            rest = text.get(second.saturating_add(1)..).unwrap_or_default();
        }
    }
    let mut out = Vec::with_capacity(rest.len());
    while let Some((byte, after)) = rest.split_first() {
        if *byte == b'%'
            && let Some(value) = after.first_chunk::<2>().and_then(hex_pair)
        {
            out.push(value);
            rest = after.get(2..).unwrap_or_default();
        } else {
            out.push(*byte);
            rest = after;
        }
    }
    out
}

/// Two hex digits as a byte.
#[must_use]
pub fn hex_pair(pair: &[u8; 2]) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let [high, low] = pair;
    Some((digit(*high)? << 4) | digit(*low)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn folded_fields_are_one_value() {
        let found = fields(b"Subject: one\r\n\ttwo\r\nX: y\r\nno colon\r\n");
        assert_eq!(found, vec![(&b"Subject"[..], b"one two".to_vec()), (&b"X"[..], b"y".to_vec())]);
    }

    #[test]
    fn addresses_are_cut_outside_quotes() {
        let list: Vec<&[u8]> = addresses(b"\"A, B\" <a@b.example>, c@d.example,").collect();
        assert_eq!(list, [&b"\"A, B\" <a@b.example>"[..], b"c@d.example"]);
        assert_eq!(address_of(b"\"A, B\" <a@b.example>").unwrap(), b"a@b.example");
        assert_eq!(address_of(b"c@d.example").unwrap(), b"c@d.example");
        assert!(address_of(b"nobody in particular").is_none());
    }

    #[test]
    fn first_address_of_a_text_is_found() {
        let v4 = |bytes: [u8; 4]| core::net::Ipv4Addr::from(bytes).to_ipv6_mapped().octets();
        assert_eq!(find_ip(b"from x (y [192.0.2.7]) by z").unwrap(), v4([192, 0, 2, 7]));
        assert_eq!(find_ip(b"from [IPv6:2001:db8::1] by").unwrap().first_chunk::<2>().unwrap(), &[0x20, 0x01]);
        assert_eq!(find_hop(b"from a (b [192.0.2.7]) by c").unwrap(), v4([192, 0, 2, 7]));
        assert_eq!(find_hop(b"from a [192.0.2.7] (192.0.2.8) by c").unwrap(), v4([192, 0, 2, 8]));
        assert!(find_hop(b"from a (helo=192.0.2.7) by c").is_none());
        assert_eq!(find_hop(b"from [IPv6:2001:db8::1] by").unwrap().first_chunk::<2>().unwrap(), &[0x20, 0x01]);
        assert!(find_ip(b"from face.example by 300.1.1.1 :: 12:30:00").is_none());
    }

    #[test]
    fn parameters_are_read_in_every_form() {
        assert_eq!(parameter(b"text/plain; a=b; boundary=\"x;\\\"y\"", b"boundary").unwrap(), b"x;\"y");
        assert_eq!(parameter(b"a; Name*=utf-8''%41b%zz", b"name").unwrap(), b"Ab%zz");
        assert_eq!(parameter(b"a; name*1=two; name*0*=x'y'%31; name*2=.zip", b"name").unwrap(), b"1two.zip");
        assert!(parameter(b"a; filename", b"filename").is_none() && parameter(b"a", b"b").is_none());
    }
}
