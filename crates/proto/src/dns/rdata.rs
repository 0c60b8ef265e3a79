//! What a resource record says, as text in Zeek's words.
use core::net::{Ipv4Addr, Ipv6Addr};
use std::io::Write as _;

use bunker_wire::Address;
use bunker_wire::bytes::{array, be16};

use super::name::read_name;
use super::words::push_type;
use crate::columns::{push_decimal, push_hex};

/// One resource record within its message.
pub struct Record<'a> {
    /// The whole message: names may point into it.
    pub message: &'a [u8],
    /// Where its data begin.
    pub start: usize,
    /// Its data, as far as they are there.
    pub rdata: &'a [u8],
    /// Its type.
    pub rtype: u16,
    /// Its owner, lower case.
    pub owner: &'a [u8],
}

impl Record<'_> {
    fn name_at(&self, skip: usize, out: &mut Vec<u8>) -> Option<usize> {
        let start = self.start.checked_add(skip)?;
        let (end, _) = read_name(self.message, start, out)?;
        end.checked_sub(self.start)
    }

    /// The address, if that is what the record holds.
    #[must_use]
    pub fn maybe_address(&self) -> Option<Address> {
        match self.rtype {
            1 => array(self.rdata, 0).map(Address::v4),
            28 => array(self.rdata, 0).map(Address),
            _ => None,
        }
    }

    /// Write what it says; None when its data cannot be read, false when there is nothing to say (OPT, TSIG).
    pub fn write(&self, out: &mut Vec<u8>) -> Option<bool> {
        match self.rtype {
            1 => {
                let address: [u8; 4] = array(self.rdata, 0)?;
                let _ = write!(out, "{}", Ipv4Addr::from(address));
            }
            28 | 38 => {
                let address: [u8; 16] = array(self.rdata, 0)?;
                let _ = write!(out, "{}", Ipv6Addr::from(address));
            }
            // NS, MD, MF, CNAME, SOA (its first name), MB, MG, MR, PTR, DNAME
            2..=9 | 12 | 39 => {
                self.name_at(0, out)?;
            }
            // MX, AFSDB, RT, KX: a number, then the name
            15 | 18 | 21 | 36 => {
                self.name_at(2, out)?;
            }
            33 => {
                self.name_at(6, out)?;
            }
            16 => self.strings(b"TXT ", out)?,
            99 => self.strings(b"SPF ", out)?,
            35 => self.naptr(out)?,
            43 | 59 => {
                out.extend_from_slice(b"DS ");
                push_decimal(out, u64::from(*self.rdata.get(2)?));
                out.push(b' ');
                push_decimal(out, u64::from(*self.rdata.get(3)?));
            }
            44 => {
                out.extend_from_slice(b"SSHFP: ");
                push_hex(out, self.rdata.get(2..)?);
            }
            46 | 24 => {
                out.extend_from_slice(b"RRSIG ");
                push_decimal(out, u64::from(be16(self.rdata, 0)?));
                out.push(b' ');
                self.name_or_root(18, out)?;
            }
            47 => {
                out.extend_from_slice(b"NSEC ");
                out.extend_from_slice(self.owner);
                out.push(b' ');
                self.name_at(0, out)?;
            }
            48 | 60 => {
                out.extend_from_slice(b"DNSKEY ");
                push_decimal(out, u64::from(*self.rdata.get(3)?));
            }
            50 => out.extend_from_slice(b"NSEC3"),
            51 => out.extend_from_slice(b"NSEC3PARAM"),
            29 => self.location(out)?,
            257 => {
                let tag_end = 2usize.checked_add(usize::from(*self.rdata.get(1)?))?;
                out.extend_from_slice(self.rdata.get(tag_end..)?);
            }
            11 | 41 | 250 => return Some(false),
            _ => {
                out.extend_from_slice(b"<unknown type=");
                push_decimal(out, u64::from(self.rtype));
                out.push(b'>');
            }
        }
        Some(true)
    }

    fn name_or_root(&self, skip: usize, out: &mut Vec<u8>) -> Option<()> {
        let before = out.len();
        self.name_at(skip, out)?;
        if out.len() == before {
            out.extend_from_slice(b"<Root>");
        }
        Some(())
    }

    /// Character strings: `TXT 5 hello TXT 3 you`.
    fn strings(&self, word: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut rest = self.rdata;
        let mut first = true;
        while let Some((length, tail)) = rest.split_first() {
            let (string, after) = tail.split_at_checked(usize::from(*length))?;
            if !first {
                out.push(b' ');
            }
            first = false;
            out.extend_from_slice(word);
            push_decimal(out, u64::from(*length));
            out.push(b' ');
            out.extend_from_slice(string);
            rest = after;
        }
        Some(())
    }

    /// RFC 3403, section 4.1.
    fn naptr(&self, out: &mut Vec<u8>) -> Option<()> {
        out.extend_from_slice(b"NAPTR ");
        push_decimal(out, u64::from(be16(self.rdata, 0)?));
        out.push(b' ');
        push_decimal(out, u64::from(be16(self.rdata, 2)?));
        let mut at = 4usize;
        for _ in 0..3 {
            let from = at.checked_add(1)?;
            let to = from.checked_add(usize::from(*self.rdata.get(at)?))?;
            let string = self.rdata.get(from..to)?;
            if !string.is_empty() {
                out.push(b' ');
                out.extend_from_slice(string);
            }
            at = to;
        }
        out.push(b' ');
        self.name_at(at, out).map(|_| ())
    }

    /// RFC 1876, section 2: size and precisions in centimetres, as mantissa and exponent.
    fn location(&self, out: &mut Vec<u8>) -> Option<()> {
        out.extend_from_slice(b"LOC: ");
        for at in 1..4 {
            let byte = *self.rdata.get(at)?;
            out.push(b' ');
            push_decimal(out, u64::from(byte));
        }
        Some(())
    }
}

/// The type of a record in words, for tests and callers that name it.
pub fn write_type(rtype: u16, out: &mut Vec<u8>) {
    push_type(out, rtype);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn said(rtype: u16, rdata: &[u8]) -> Option<String> {
        let record = Record { message: rdata, start: 0, rdata, rtype, owner: b"own.example" };
        let mut out = Vec::new();
        record.write(&mut out).map(|said| if said { String::from_utf8(out).unwrap() } else { "-".into() })
    }

    #[test]
    fn records_are_written_as_zeek_does() {
        let name = b"\x01a\x07example\x00";
        let with = |head: &[u8]| [head, name].concat();
        assert_eq!(said(1, &[192, 0, 2, 1]).unwrap(), "192.0.2.1");
        assert_eq!(said(28, &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]).unwrap(), "2001:db8::1");
        assert_eq!(said(5, name).unwrap(), "a.example");
        assert_eq!(said(15, &with(&[0, 10])).unwrap(), "a.example");
        assert_eq!(said(33, &with(&[0; 6])).unwrap(), "a.example");
        assert_eq!(said(16, b"\x05hello\x03you").unwrap(), "TXT 5 hello TXT 3 you");
        assert_eq!(said(99, b"\x02v1").unwrap(), "SPF 2 v1");
        assert_eq!(said(35, &with(b"\0\x64\0\x0a\x01s\x02XX\0")).unwrap(), "NAPTR 100 10 s XX a.example");
        assert_eq!(said(44, &[1, 2, 0xab, 0xcd]).unwrap(), "SSHFP: abcd");
        assert_eq!(
            said(46, &with(&[0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])).unwrap(),
            "RRSIG 1 a.example"
        );
        assert_eq!(said(46, &[&[0, 6][..], &[0; 17]].concat()).unwrap(), "RRSIG 6 <Root>");
        assert_eq!(said(47, name).unwrap(), "NSEC own.example a.example");
        assert_eq!(said(48, &[1, 0, 3, 8, 9]).unwrap(), "DNSKEY 8");
        assert_eq!(said(43, &[0, 1, 8, 2]).unwrap(), "DS 8 2");
        assert_eq!(said(257, b"\0\x05issueca.example").unwrap(), "ca.example");
        assert_eq!(said(4711, b"x").unwrap(), "<unknown type=4711>");
        assert_eq!(said(41, b"").unwrap(), "-");
    }

    #[test]
    fn short_data_are_not_read() {
        for (rtype, rdata) in [(1, &[1u8, 2, 3][..]), (28, &[0; 15]), (16, &[5, b'a']), (15, &[0]), (48, &[0; 3])] {
            assert!(said(rtype, rdata).is_none());
        }
    }
}
