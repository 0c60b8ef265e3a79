//! Numbers of the DNS registries in words (IANA; Zeek's spelling where it differs).
use crate::columns::push_decimal;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, { $($number:literal => $word:literal,)* }) => {
        $(#[$doc])*
        pub fn $name(out: &mut Vec<u8>, number: u16) {
            let word: &str = match number {
                $($number => $word,)*
                _ => {
                    out.extend_from_slice($prefix.as_bytes());
                    push_decimal(out, u64::from(number));
                    return;
                }
            };
            out.extend_from_slice(word.as_bytes());
        }
    };
}

words! {
    /// Type of a query or record.
    push_type, "query-", {
        1 => "A", 2 => "NS", 3 => "MD", 4 => "MF", 5 => "CNAME", 6 => "SOA", 7 => "MB", 8 => "MG", 9 => "MR", 10 => "NULL",
        11 => "WKS", 12 => "PTR", 13 => "HINFO", 14 => "MINFO", 15 => "MX", 16 => "TXT", 17 => "RP", 18 => "AFSDB",
        19 => "X25", 20 => "ISDN", 21 => "RT", 22 => "NSAP", 23 => "NSAP-PTR", 24 => "SIG", 25 => "KEY", 26 => "PX",
        27 => "GPOS", 28 => "AAAA", 29 => "LOC", 30 => "NXT", 31 => "EID", 32 => "NIMLOC", 33 => "SRV", 34 => "ATMA",
        35 => "NAPTR", 36 => "KX", 37 => "CERT", 38 => "A6", 39 => "DNAME", 40 => "SINK", 41 => "OPT", 42 => "APL",
        43 => "DS", 44 => "SSHFP", 45 => "IPSECKEY", 46 => "RRSIG", 47 => "NSEC", 48 => "DNSKEY", 49 => "DHCID",
        50 => "NSEC3", 51 => "NSEC3PARAM", 52 => "TLSA", 53 => "SMIMEA", 55 => "HIP", 56 => "NINFO", 57 => "RKEY",
        58 => "TALINK", 59 => "CDS", 60 => "CDNSKEY", 61 => "OPENPGPKEY", 62 => "CSYNC", 63 => "ZONEMD", 64 => "SVCB",
        65 => "HTTPS", 99 => "SPF", 100 => "UINFO", 101 => "UID", 102 => "GID", 103 => "UNSPEC", 104 => "NID",
        105 => "L32", 106 => "L64", 107 => "LP", 108 => "EUI48", 109 => "EUI64", 249 => "TKEY", 250 => "TSIG",
        251 => "IXFR", 252 => "AXFR", 253 => "MAILB", 254 => "MAILA", 255 => "*", 256 => "URI", 257 => "CAA",
        32768 => "TA", 32769 => "DLV", 65281 => "WINS", 65282 => "WINS-R",
    }
}

words! {
    /// Class of a query.
    push_class, "qclass-", {
        1 => "C_INTERNET", 2 => "C_CSNET", 3 => "C_CHAOS", 4 => "C_HESIOD", 254 => "C_NONE", 255 => "C_ANY",
    }
}

words! {
    /// Response code.
    push_rcode, "rcode-", {
        0 => "NOERROR", 1 => "FORMERR", 2 => "SERVFAIL", 3 => "NXDOMAIN", 4 => "NOTIMP", 5 => "REFUSED", 6 => "YXDOMAIN",
        7 => "YXRRSET", 8 => "NXRRSet", 9 => "NOTAUTH", 10 => "NOTZONE", 11 => "unassigned-11", 12 => "unassigned-12",
        13 => "unassigned-13", 14 => "unassigned-14", 15 => "unassigned-15", 16 => "BADVERS",
    }
}

words! {
    /// Operation.
    push_opcode, "opcode-", {
        0 => "query", 1 => "iquery", 2 => "server-status", 4 => "notify", 5 => "dynamic-update", 6 => "dso",
    }
}

words! {
    /// Operation of the NetBIOS name service (RFC 1002, section 4.2.1.1).
    push_netbios_opcode, "netbios-opcode-", {
        0 => "netbios-query", 5 => "netbios-registration", 6 => "netbios-release", 7 => "netbios-wack",
        8 => "netbios-refresh",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn word(push: fn(&mut Vec<u8>, u16), number: u16) -> String {
        let mut out = Vec::new();
        push(&mut out, number);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_numbers_have_words_and_others_their_number() {
        assert_eq!(word(push_type, 28), "AAAA");
        assert_eq!(word(push_type, 4711), "query-4711");
        assert_eq!(word(push_class, 1), "C_INTERNET");
        assert_eq!(word(push_rcode, 3), "NXDOMAIN");
        assert_eq!(word(push_rcode, 23), "rcode-23");
        assert_eq!(word(push_opcode, 4), "notify");
        assert_eq!(word(push_netbios_opcode, 5), "netbios-registration");
    }
}
