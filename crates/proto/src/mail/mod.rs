//! Mail: SMTP (RFC 5321), POP3 (RFC 1939) and IMAP (RFC 9051, RFC 3501) bring messages; each becomes one row of the mail table.
//!
//! Rules of this module:
//! 1. A message is one row, whoever carried it; a part of one is a row that says `partial`.
//! 2. What authenticates never gets into a row: of AUTH, LOGIN, USER, PASS and APOP only the mechanism's word stays.
//! 3. Columns that Zeek's smtp.log has are filled as Zeek fills them.
//!
//! Limits: those of [`letter`] and [`lines`], [`RECIPIENTS`], [`PENDING`].
mod detect;
pub mod header;
pub mod imap;
pub mod letter;
pub mod lines;
pub mod pop3;
pub mod smtp;

pub use detect::{Mail, mail_of};
pub use imap::ImapStream;
pub use pop3::PopStream;
pub use smtp::SmtpStream;

use crate::columns::{MailRow, MessageKind, TextItems};
use crate::parser::{Context, Service};
use header::{address_of, addresses, fields, find_hop, find_ip};
use letter::{Asked, Letter};

/// Recipients of one message that are kept. RFC 5321 section 4.5.3.1.8: servers take 100 at least; Postfix takes 1,000.
pub const RECIPIENTS: usize = 1_000;
/// Commands that wait for their reply. Real clients pipeline some 100; RECIPIENTS of them fit.
pub const PENDING: usize = 1_024;
/// `Received` fields whose address goes into `path`. RFC 5321 section 6.3: 100 hops mean a loop.
const HOPS: usize = 100;

/// Anomalies of a message: bits of the column `flags`.
pub mod flags {
    /// The header of the message, or of a part, was longer than is read.
    pub const HEAD_CUT: u64 = 1;
    /// The message was longer than is kept.
    pub const BODY_CUT: u64 = 1 << 1;
    /// Bytes of it were never captured.
    pub const GAP: u64 = 1 << 2;
    /// Parts inside parts beyond the limit.
    pub const NESTED: u64 = 1 << 3;
    /// More parts than are described.
    pub const MANY_PARTS: u64 = 1 << 4;
    /// Its end was not seen.
    pub const UNFINISHED: u64 = 1 << 5;
    /// It ended with a dot whose line ends are not CRLF: what smuggling of mails uses.
    pub const BARE_END: u64 = 1 << 6;
    /// More recipients than are kept.
    pub const MANY_RECIPIENTS: u64 = 1 << 7;
    /// A line of the dialogue was longer than is kept.
    pub const LONG_LINE: u64 = 1 << 8;
    /// The literal was larger, or compressed more, than is followed.
    pub const OVER_LIMIT: u64 = 1 << 9;
}

/// What is known of the connection.
pub struct Session {
    /// The protocol.
    pub service: Service,
    /// Messages that were moved so far, envelopes alone not counted.
    pub moved: u64,
    /// What the client called itself.
    pub helo: Vec<u8>,
    /// Mechanism of the authentication that was tried.
    pub auth: Option<&'static str>,
    /// The connection goes over to TLS.
    pub tls: bool,
    /// Last final reply: code (SMTP), text.
    pub last_reply: (Option<u16>, Vec<u8>),
}

impl Session {
    /// Nothing known.
    #[must_use]
    pub const fn new(service: Service) -> Self {
        Self { service, moved: 0, helo: Vec::new(), auth: None, tls: false, last_reply: (None, Vec::new()) }
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        self.helo.capacity().saturating_add(self.last_reply.1.capacity())
    }
}

/// A message, and what its envelope says.
pub struct Draft {
    /// When it began.
    pub ts_ns: u64,
    /// The command that moves it.
    pub command: &'static str,
    /// Sender of the envelope.
    pub mailfrom: Option<Vec<u8>>,
    /// Recipients of the envelope.
    pub rcptto: TextItems,
    /// The message.
    pub letter: Option<Letter>,
    /// Anomalies.
    pub flags: u64,
    /// It is a part of a message.
    pub partial: bool,
}

impl Draft {
    /// An empty one.
    #[must_use]
    pub fn new(ts_ns: u64, command: &'static str) -> Self {
        Self { ts_ns, command, mailfrom: None, rcptto: TextItems::new(), letter: None, flags: 0, partial: false }
    }

    /// One that carries a message from now on.
    #[must_use]
    pub fn with_letter(ts_ns: u64, command: &'static str, asked: Asked, content: bool) -> Self {
        Self { letter: Some(Letter::new(asked, content)), ..Self::new(ts_ns, command) }
    }

    /// Bytes held.
    #[must_use]
    pub fn live_bytes(&self) -> usize {
        let letter = self.letter.as_ref().map_or(0, Letter::live_bytes);
        size_of::<Self>().saturating_add(self.rcptto.live_bytes()).saturating_add(letter)
    }
}

/// What the run asks for.
#[must_use]
pub fn asked(context: &Context<'_>) -> Asked {
    let wanted = context.wanted.has(MessageKind::Mail);
    Asked {
        heads: wanted && context.http.want_heads,
        bodies: wanted && context.http.want_bodies,
        hashes: wanted && context.http.want_hashes,
    }
}

/// The header fields that become columns.
#[derive(Default)]
struct Facts {
    date: Option<Vec<u8>>,
    from: Option<Vec<u8>>,
    to: TextItems,
    cc: TextItems,
    reply_to: Option<Vec<u8>>,
    msg_id: Option<Vec<u8>>,
    in_reply_to: Option<Vec<u8>>,
    subject: Option<Vec<u8>>,
    originating_ip: Option<[u8; 16]>,
    first_received: Option<Vec<u8>>,
    second_received: Option<Vec<u8>>,
    user_agent: Option<Vec<u8>>,
    path: Vec<[u8; 16]>,
}

impl Facts {
    fn read(&mut self, head: &[u8]) {
        for (name, value) in fields(head) {
            match name.to_ascii_lowercase().as_slice() {
                b"date" => self.date = Some(value),
                b"from" => self.from = Some(value),
                b"to" => addresses(&value).take(RECIPIENTS).for_each(|item| self.to.push(item)),
                b"cc" => addresses(&value).take(RECIPIENTS).for_each(|item| self.cc.push(item)),
                b"reply-to" => self.reply_to = Some(value),
                b"message-id" => self.msg_id = Some(value),
                b"in-reply-to" => self.in_reply_to = Some(value),
                b"subject" => self.subject = Some(value),
                b"x-originating-ip" => self.originating_ip = find_ip(&value),
                b"user-agent" | b"x-mailer" | b"x-user-agent" => self.user_agent = Some(value),
                b"received" => {
                    if let Some(address) = find_hop(&value)
                        && self.path.last() != Some(&address)
                        && self.path.len() < HOPS
                    {
                        self.path.push(address);
                    }
                    self.second_received = self.first_received.replace(value);
                }
                _ => {}
            }
        }
    }
}

/// Write the row of a message; `reply`: the last reply belongs to it.
pub fn write(context: &mut Context<'_>, session: &mut Session, mut draft: Draft, reply: bool) {
    context.confirm(session.service);
    let depth = session.moved.saturating_add(1);
    if draft.letter.is_some() && draft.flags & flags::UNFINISHED == 0 {
        session.moved = depth;
    }
    if !context.wanted.has(MessageKind::Mail) {
        return;
    }
    if let Some(letter) = &mut draft.letter {
        letter.finish();
    }
    let letter = draft.letter.as_ref();
    let mut facts = Facts::default();
    if session.service == Service::Smtp {
        // Zeek's path: the connection itself, then the hops that the message tells of.
        facts.path = vec![context.flow.resp.address.0, context.flow.orig.address.0];
    }
    if let Some(letter) = letter {
        facts.read(&letter.head);
    }
    let full = |items: &'_ TextItems| !items.is_empty();
    let asked = asked(context);
    let flags = draft.flags | letter.map_or(0, |letter| letter.flags);
    let head = letter.map(|letter| letter.head.as_slice()).filter(|head| asked.heads && !head.is_empty());
    let body = letter.map(|letter| letter.kept.as_slice()).filter(|kept| !kept.is_empty());
    let content = head.map_or(0, <[u8]>::len).saturating_add(body.map_or(0, <[u8]>::len));
    let (code, text) = &session.last_reply;
    let origin = context.origin(draft.ts_ns);
    context.tables.content_bytes = context.tables.content_bytes.saturating_add(content);
    context.tables.Mail.push(
        origin,
        MailRow {
            proto: session.service.name().as_bytes(),
            trans_depth: depth,
            helo: (!session.helo.is_empty()).then_some(session.helo.as_slice()),
            mailfrom: draft.mailfrom.as_deref(),
            rcptto: Some(&draft.rcptto).filter(|items| full(items)),
            date: facts.date.as_deref(),
            from_: facts.from.as_deref(),
            to: Some(&facts.to).filter(|items| full(items)),
            cc: Some(&facts.cc).filter(|items| full(items)),
            reply_to: facts.reply_to.as_deref(),
            msg_id: facts.msg_id.as_deref(),
            in_reply_to: facts.in_reply_to.as_deref(),
            subject: facts.subject.as_deref(),
            x_originating_ip: facts.originating_ip,
            first_received: facts.first_received.as_deref(),
            second_received: facts.second_received.as_deref(),
            last_reply: (reply && !text.is_empty()).then_some(text.as_slice()),
            path: Some(facts.path.as_slice()).filter(|path| !path.is_empty()),
            user_agent: facts.user_agent.as_deref(),
            tls: session.tls,
            from_addr: facts.from.as_deref().and_then(address_of),
            reply_code: if reply { *code } else { None },
            auth: session.auth.map(str::as_bytes),
            command: draft.command.as_bytes(),
            size: letter.map_or(0, |letter| letter.size),
            content_type: letter.map(|letter| letter.content_type.as_slice()).filter(|kind| !kind.is_empty()),
            parts: letter.map_or(0, |letter| letter.parts),
            part_types: letter.map(|letter| &letter.part_types).filter(|items| full(items)),
            part_mimes: letter.map(|letter| &letter.part_mimes).filter(|items| full(items)),
            part_sizes: letter.map(|letter| &letter.part_sizes).filter(|items| full(items)),
            part_sha256: letter.map(|letter| &letter.part_sha256).filter(|items| full(items)),
            file_names: letter.map(|letter| &letter.file_names).filter(|items| full(items)),
            partial: draft.partial,
            flags,
            gap: flags & flags::GAP != 0,
            head,
            body,
        },
    );
}
