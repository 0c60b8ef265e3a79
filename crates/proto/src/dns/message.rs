//! One DNS message: header, questions, records (RFC 1035, section 4; EDNS: RFC 6891).
use bunker_wire::bytes::{be16, be32};

use super::Anomaly;
use super::name::{NameFacts, decode_netbios, read_name};
use super::rdata::Record;
use crate::columns::{TextItems, push_decimal};

/// Records read in one message; a full UDP reply has a few dozen, a zone transfer's message some hundred.
pub const RECORDS: u32 = 1_024;
/// Bytes of text that the records of one message may become: compression unpacks 65,535 bytes to at most this.
pub const TEXT_BYTES: usize = 65_536;
/// Questions read in one message. Nobody asks more than one; Zeek gives up at 25.
pub const QUESTIONS: u16 = 16;

const HEADER: usize = 12;

/// The header's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Identifier.
    pub id: u16,
    /// Flag bits as they stand.
    pub bits: u16,
    /// Questions.
    pub questions: u16,
    /// Answers.
    pub answers: u16,
    /// Records of the authority section.
    pub authority: u16,
    /// Additional records.
    pub additional: u16,
}

impl Header {
    /// The header of `message`; None if it is too short.
    #[must_use]
    pub fn read(message: &[u8]) -> Option<Self> {
        Some(Self {
            id: be16(message, 0)?,
            bits: be16(message, 2)?,
            questions: be16(message, 4)?,
            answers: be16(message, 6)?,
            authority: be16(message, 8)?,
            additional: be16(message, 10)?,
        })
    }

    /// It is a reply.
    #[must_use]
    pub const fn is_reply(self) -> bool {
        self.bits & 0x8000 != 0
    }
    /// Operation.
    #[must_use]
    pub const fn opcode(self) -> u16 {
        (self.bits >> 11) & 15
    }
    /// Authoritative.
    #[must_use]
    pub const fn aa(self) -> bool {
        self.bits & 0x0400 != 0
    }
    /// Truncated.
    #[must_use]
    pub const fn tc(self) -> bool {
        self.bits & 0x0200 != 0
    }
    /// Recursion desired.
    #[must_use]
    pub const fn rd(self) -> bool {
        self.bits & 0x0100 != 0
    }
    /// Recursion available.
    #[must_use]
    pub const fn ra(self) -> bool {
        self.bits & 0x0080 != 0
    }
    /// The three reserved bits.
    #[must_use]
    pub const fn z(self) -> u16 {
        (self.bits >> 4) & 7
    }
    /// Response code of the header.
    #[must_use]
    pub const fn rcode(self) -> u16 {
        self.bits & 15
    }
}

/// What a message says. Reused from message to message: `read` clears it.
#[derive(Default)]
pub struct Message {
    /// Last question's name, lower case.
    pub query: Vec<u8>,
    /// Its type and class, if there is a question.
    pub question: Option<(u16, u16)>,
    /// Owner of the first answer.
    pub first_owner: Vec<u8>,
    /// Answers in Zeek's words.
    pub answers: TextItems,
    /// Seconds to live of each.
    pub ttls: TextItems,
    /// An answer record was read.
    pub answered: bool,
    /// Addresses among the answers.
    pub addresses: Vec<[u8; 16]>,
    /// Smallest of the answers' times to live, seconds.
    pub ttl_min: Option<u32>,
    /// Authority section in words.
    pub auth: TextItems,
    /// Additional section in words, without OPT.
    pub addl: TextItems,
    /// EDNS: UDP size, DNSSEC OK.
    pub edns: Option<(u16, bool)>,
    /// Upper bits of the response code (EDNS).
    pub extended_rcode: u16,
    /// What was odd.
    pub anomalies: u64,
    /// All that the header claims was read to the end.
    pub complete: bool,
    owner: Vec<u8>,
    text: Vec<u8>,
    text_bytes: usize,
    records: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Answer,
    Authority,
    Additional,
}

impl Message {
    fn clear(&mut self) {
        self.query.clear();
        self.question = None;
        self.first_owner.clear();
        self.answers.clear();
        self.ttls.clear();
        self.answered = false;
        self.addresses.clear();
        self.ttl_min = None;
        self.auth.clear();
        self.addl.clear();
        self.edns = None;
        self.extended_rcode = 0;
        self.anomalies = 0;
        self.complete = false;
        self.records = 0;
        self.text_bytes = 0;
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        [
            self.query.capacity(),
            self.first_owner.capacity(),
            self.answers.live_bytes(),
            self.ttls.live_bytes(),
            self.addresses.capacity().saturating_mul(16),
            self.auth.live_bytes(),
            self.addl.live_bytes(),
            self.owner.capacity(),
            self.text.capacity(),
        ]
        .iter()
        .fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Read what follows `header` in `message`, as far as it can be read (`complete` tells).
    pub fn read(&mut self, header: Header, message: &[u8], netbios: bool) {
        self.clear();
        self.complete = self.read_all(header, message, netbios).is_some();
        if !self.complete {
            self.anomalies |= Anomaly::CUT;
        }
    }

    fn note(&mut self, facts: NameFacts) {
        if facts.forward {
            self.anomalies |= Anomaly::FORWARD_POINTER;
        }
        if facts.too_long {
            self.anomalies |= Anomaly::LONG_NAME;
        }
    }

    fn read_all(&mut self, header: Header, message: &[u8], netbios: bool) -> Option<()> {
        let mut at = HEADER;
        for number in 0..header.questions {
            if number >= QUESTIONS {
                self.anomalies |= Anomaly::MANY;
                return None;
            }
            self.query.clear();
            let (end, facts) = read_name(message, at, &mut self.query)?;
            self.note(facts);
            self.question = Some((be16(message, end)?, be16(message, end.checked_add(2)?)?));
            at = end.checked_add(4)?;
        }
        if netbios && let Some(name) = decode_netbios(&self.query) {
            self.query = name;
        }
        for (section, count) in [
            (Section::Answer, header.answers),
            (Section::Authority, header.authority),
            (Section::Additional, header.additional),
        ] {
            for _ in 0..count {
                at = self.record(message, at, section, netbios)?;
            }
        }
        Some(())
    }

    fn record(&mut self, message: &[u8], at: usize, section: Section, netbios: bool) -> Option<usize> {
        self.records = self.records.saturating_add(1);
        if self.records > RECORDS {
            self.anomalies |= Anomaly::MANY;
            return None;
        }
        let mut owner = core::mem::take(&mut self.owner);
        let mut text = core::mem::take(&mut self.text);
        owner.clear();
        text.clear();
        let end = self.record_into(message, at, section, netbios, &mut owner, &mut text);
        (self.owner, self.text) = (owner, text);
        end
    }

    fn record_into(
        &mut self,
        message: &[u8],
        at: usize,
        section: Section,
        netbios: bool,
        owner: &mut Vec<u8>,
        text: &mut Vec<u8>,
    ) -> Option<usize> {
        let (end, facts) = read_name(message, at, owner)?;
        self.note(facts);
        let (rtype, class) = (be16(message, end)?, be16(message, end.checked_add(2)?)?);
        let ttl = be32(message, end.checked_add(4)?)?;
        let length = usize::from(be16(message, end.checked_add(8)?)?);
        let start = end.checked_add(10)?;
        let after = start.checked_add(length)?;
        let rdata = message.get(start..after)?;
        if rtype == 41 {
            self.edns = Some((class, ttl & 0x8000 != 0));
            self.extended_rcode = u16::try_from((ttl >> 24) & 0xFF).unwrap_or(0) << 4;
            return Some(after);
        }
        let record = Record { message, start, rdata, rtype, owner };
        // What the record is called: the type of NetBIOS names and status is another protocol's SRV.
        let said = if netbios && matches!(rtype, 32 | 33) { Some(false) } else { record.write(text) };
        if said.is_none() {
            self.anomalies |= Anomaly::BAD_RECORD;
        }
        if section == Section::Answer {
            self.answered = true;
            if self.first_owner.is_empty() {
                self.first_owner.clone_from(owner);
            }
            self.ttl_min = Some(self.ttl_min.map_or(ttl, |least| least.min(ttl)));
            self.addresses.extend(record.maybe_address().map(|address| address.0));
        }
        if said == Some(true) && !text.is_empty() {
            self.text_bytes = self.text_bytes.saturating_add(text.len());
            if self.text_bytes > TEXT_BYTES {
                self.anomalies |= Anomaly::MANY;
                return Some(after);
            }
            match section {
                Section::Answer => {
                    self.answers.push(text);
                    self.ttls.push_with(|out| {
                        push_decimal(out, u64::from(ttl));
                        out.extend_from_slice(b".000000");
                    });
                }
                Section::Authority => self.auth.push(text),
                Section::Additional => self.addl.push(text),
            }
        }
        Some(after)
    }
}

/// Whether `payload` looks like a DNS message, by its form alone: for ports that promise nothing.
#[must_use]
pub fn looks_like_dns(payload: &[u8]) -> bool {
    let Some(header) = Header::read(payload) else { return false };
    let rest_is_sane = header.opcode() <= 6
        && header.questions == 1
        && header.answers <= 256
        && header.authority <= 256
        && header.additional <= 256
        && (header.is_reply() || (header.answers == 0 && header.rcode() == 0))
        && header.bits & 0x0040 == 0;
    if !rest_is_sane {
        return false;
    }
    let mut message = Message::default();
    message.read(header, payload, false);
    let known_class =
        message.question.is_some_and(|(qtype, class)| qtype != 0 && matches!(class & 0x7FFF, 1 | 3 | 4 | 254 | 255));
    message.complete && known_class && message.anomalies == 0
}
