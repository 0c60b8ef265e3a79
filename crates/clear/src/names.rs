//! What stands in names: hosts in URLs, registrable domains, addresses written as names, products in user agents.
use std::net::IpAddr;

/// What stands behind `scheme://` (RFC 3986, section 3.1). Another URL that is a part of this one's query has no part in it.
#[must_use]
pub fn behind_scheme(url: &str) -> Option<&str> {
    let of_scheme = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let length = url.bytes().take_while(|byte| of_scheme(byte)).count();
    url.get(length..)?.strip_prefix("://").filter(|_| length > 0)
}

/// The host in a URL, a mail address or a host header: lower case, without port, user and trailing dot.
#[must_use]
pub fn host_of(value: &str) -> String {
    let mut host = behind_scheme(value).unwrap_or(value);
    host = host.split(['/', '?', '#']).next().unwrap_or(host);
    host = host.rsplit_once('@').map_or(host, |(_, rest)| rest);
    if let Some(rest) = host.strip_prefix('[') {
        host = rest.split(']').next().unwrap_or(rest);
    } else if let Some((name, port)) = host.rsplit_once(':')
        && !name.contains(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        host = name;
    }
    host.trim_end_matches(['.', '>']).to_ascii_lowercase()
}

/// The registrable domain and its public suffix. An address, a bare suffix or an unknown top level has neither.
#[must_use]
pub fn registrable(name: &str) -> Option<(&str, &str)> {
    let domain = psl::domain(name.as_bytes())?;
    let suffix = domain.suffix();
    if !suffix.is_known() {
        return None;
    }
    let tail = |length: usize| name.get(name.len().checked_sub(length)?..);
    Some((tail(domain.as_bytes().len())?, tail(suffix.as_bytes().len())?))
}

/// An address as sixteen bytes, if the text is one.
#[must_use]
pub fn literal(text: &str) -> Option<[u8; 16]> {
    // The first byte rules out nearly every name before a parser is asked.
    if !text.bytes().next().is_some_and(|byte| byte.is_ascii_hexdigit() || byte == b':') {
        return None;
    }
    Some(match text.split('%').next()?.parse::<IpAddr>().ok()? {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    })
}

/// Every address that stands in a text as a word of its own.
pub fn addresses_in(text: &str) -> impl Iterator<Item = [u8; 16]> + '_ {
    text.split(|letter: char| !(letter.is_ascii_alphanumeric() || letter == ':' || letter == '.')).filter_map(|word| {
        // RFC 5321, section 4.1.3: [IPv6:2001:db8::1].
        let word =
            word.split_at_checked(5).filter(|(tag, _)| tag.eq_ignore_ascii_case("IPv6:")).map_or(word, |at| at.1);
        let word = word.trim_end_matches('.');
        // 192.0.2.1:80 is an address and a port.
        literal(word).or_else(|| literal(word.rsplit_once(':')?.0).filter(|_| word.matches(':').count() == 1))
    })
}

/// What an arpa name says: an address (what is not said of it is zero), how many labels of it, whether IPv6.
#[must_use]
pub fn arpa(name: &str) -> Option<([u8; 16], usize, bool)> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        let mut address = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0, 0, 0, 0];
        let mut count = 0_usize;
        for (place, label) in address.iter_mut().skip(12).zip(labels.rsplit('.')) {
            *place = label.parse().ok()?;
            count = count.saturating_add(1);
        }
        return (labels.split('.').count() == count).then_some((address, count, false));
    }
    let labels = name.strip_suffix(".ip6.arpa")?;
    let mut value = 0_u128;
    let mut count = 0_u32;
    for label in labels.rsplit('.') {
        let digit = u128::from_str_radix(label, 16).ok().filter(|_| label.len() == 1)?;
        value |= digit.checked_shl(124_u32.checked_sub(count.checked_mul(4)?)?)?;
        count = count.checked_add(1)?;
    }
    Some((value.to_be_bytes(), count as usize, true))
}

/// The first labels of an address as an arpa name.
#[must_use]
pub fn arpa_name(address: &[u8; 16], labels: usize, is_v6: bool) -> String {
    let digits: Vec<String> = if is_v6 {
        address.iter().flat_map(|byte| [format!("{:x}", byte >> 4), format!("{:x}", byte & 15)]).take(labels).collect()
    } else {
        address.iter().skip(12).map(ToString::to_string).take(labels).collect()
    };
    let mut name = digits.into_iter().rev().collect::<Vec<_>>().join(".");
    name.push_str(if is_v6 { ".ip6.arpa" } else { ".in-addr.arpa" });
    name
}

/// Segments of a URL's path, query and fragment left out.
pub fn segments(url: &str) -> impl Iterator<Item = &str> {
    let path = behind_scheme(url).map_or(url, |rest| rest.find('/').and_then(|at| rest.get(at..)).unwrap_or(""));
    path.split(['?', '#']).next().unwrap_or(path).split('/').filter(|segment| !segment.is_empty())
}

/// The extension of a URL's last segment, lower case.
#[must_use]
pub fn extension(url: &str) -> Option<String> {
    let (name, extension) = segments(url).last()?.rsplit_once('.')?;
    (!name.is_empty() && !extension.is_empty()).then(|| extension.to_ascii_lowercase())
}

/// Names of a URL's query parameters.
pub fn parameters(url: &str) -> impl Iterator<Item = &str> {
    let query = url.split_once('?').map_or("", |(_, query)| query.split('#').next().unwrap_or(query));
    query.split('&').map(|pair| pair.split('=').next().unwrap_or(pair)).filter(|name| !name.is_empty())
}

/// The first part of a JA4 fingerprint, if it is one: `t13d1516h2` of `t13d1516h2_8daaf6152771_e5627efa2ab1`.
#[must_use]
pub fn ja4_a(fingerprint: &str) -> Option<&str> {
    const VERSIONS: [&str; 10] = ["13", "12", "11", "10", "s3", "s2", "d1", "d2", "d3", "00"];
    let first = fingerprint.split('_').next().filter(|first| first.len() == 10 && first.is_ascii())?;
    let fits = matches!(first.get(..1)?, "t" | "q" | "d")
        && VERSIONS.contains(&first.get(1..3)?)
        && matches!(first.get(3..4)?, "d" | "i")
        && first.get(4..8)?.bytes().all(|letter| letter.is_ascii_digit())
        && first.get(8..)?.bytes().all(|letter| letter.is_ascii_alphanumeric());
    fits.then_some(first)
}

/// Local parts of whoever runs a mail system (RFC 2142, and what delivery reports come from).
const POSTMASTERS: [&str; 8] =
    ["postmaster", "mailer-daemon", "hostmaster", "webmaster", "abuse", "noc", "security", "root"];
/// Endings of local parts that programs of mailing lists use (RFC 2142 section 6; mailman, majordomo, ezmlm).
const LIST_ENDINGS: [&str; 8] =
    ["-request", "-bounces", "-bounce", "-owner", "-subscribe", "-unsubscribe", "-return", "-errors"];

/// Whose a mail address is: "postmaster", "list", "internal" if its domain is one of these or below one, else "external". None: no address.
#[must_use]
pub fn mail_role(address: &str, domains: &[String]) -> Option<&'static str> {
    let address = address.trim_matches(['<', '>', ' ']).to_ascii_lowercase();
    let (local, _) = address.rsplit_once('@').filter(|(local, host)| !local.is_empty() && !host.is_empty())?;
    let host = host_of(&address);
    // What a bounce's address carries behind a plus or an equals sign is whom it was for.
    let local = local.split(['+', '=']).next().unwrap_or(local);
    let is_list = local.starts_with("owner-")
        || LIST_ENDINGS.iter().any(|ending| local.ends_with(ending))
        || host.starts_with("lists.")
        || host.starts_with("list.");
    let below =
        |domain: &String| host.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    Some(match () {
        () if POSTMASTERS.contains(&local) => "postmaster",
        () if is_list => "list",
        () if domains.iter().any(below) => "internal",
        () => "external",
    })
}

/// The maker's half of a link-layer address, `00:1b:21`. None: the address was made up by its owner, or is a group.
#[must_use]
pub fn oui(mac: &[u8]) -> Option<String> {
    match mac {
        [a, b, c, _, _, _] if a & 3 == 0 => Some(format!("{a:02x}:{b:02x}:{c:02x}")),
        _ => None,
    }
}

/// Families of user agents: the token before the version, and the word that leaves. The first that is found counts, so that what carries
/// the tokens of others comes before them.
const FAMILIES: &[(&str, &str)] = &[
    ("Googlebot/", "bot"),
    ("bingbot/", "bot"),
    ("bot/", "bot"),
    ("spider/", "bot"),
    ("Edg/", "edge"),
    ("EdgA/", "edge"),
    ("OPR/", "opera"),
    ("SamsungBrowser/", "samsung"),
    ("YaBrowser/", "yandex"),
    ("Vivaldi/", "vivaldi"),
    ("Firefox/", "firefox"),
    ("FxiOS/", "firefox"),
    ("CriOS/", "chrome"),
    ("Chrome/", "chrome"),
    ("Thunderbird/", "thunderbird"),
    ("Version/", "safari"),
    ("MSIE ", "msie"),
    ("Trident/", "msie"),
    ("curl/", "curl"),
    ("Wget/", "wget"),
    ("python-requests/", "python"),
    ("Python-urllib/", "python"),
    ("aiohttp/", "python"),
    ("Go-http-client/", "go"),
    ("okhttp/", "okhttp"),
    ("Java/", "java"),
    ("Dalvik/", "android"),
    ("Microsoft-CryptoAPI/", "windows"),
    ("Windows-Update-Agent/", "windows"),
    ("APT-HTTP/", "apt"),
    ("Debian APT", "apt"),
    ("git/", "git"),
    ("Mozilla/", "mozilla"),
];
/// Words a family can have ("other" among them), and majors of each: what bounds the bits of a cell (`bunker check --bits`).
pub const FAMILY_COUNT: usize = 23;
/// Majors run from 0 to 999.
pub const MAJORS: u32 = 1_000;

/// Family and major version, or "other": the product's name and nothing else of the text.
#[must_use]
pub fn family_major(agent: &str) -> String {
    for (token, family) in FAMILIES {
        if let Some(at) = agent.find(token) {
            let rest = agent.get(at.saturating_add(token.len())..).unwrap_or("");
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            return match rest
                .get(..digits)
                .and_then(|digits| digits.parse::<u32>().ok())
                .filter(|major| *major < MAJORS)
            {
                Some(major) => format!("{family}/{major}"),
                None => (*family).to_owned(),
            };
        }
    }
    "other".to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects)]
    use super::*;

    #[test]
    fn a_url_in_a_query_is_no_part_of_the_url_around_it() {
        for (url, host, depth) in [
            ("http://one.example/a/b", "one.example", 2),
            ("svn+ssh://one.example/a", "one.example", 1),
            ("http://one.example/login?back=https://two.example/x/y/z", "one.example", 1),
            ("one.example/login?back=https://two.example/x/y/z", "one.example", 2),
        ] {
            assert_eq!((host_of(url).as_str(), segments(url).count()), (host, depth), "{url}");
        }
        let relative = "/login/form?back=https://two.example/x/y/z";
        assert_eq!((behind_scheme(relative), segments(relative).count()), (None, 2));
        assert_eq!(behind_scheme("://two.example/x"), None);
    }

    #[test]
    fn families_and_majors_are_as_many_as_the_bits_are_counted_from() {
        let words: std::collections::HashSet<&str> =
            FAMILIES.iter().map(|(_, family)| *family).chain(["other"]).collect();
        assert_eq!(words.len(), FAMILY_COUNT);
        assert_eq!(family_major(&format!("curl/{}", MAJORS - 1)), "curl/999");
        assert_eq!(family_major(&format!("curl/{MAJORS}")), "curl", "a larger number is no version");
    }
}
