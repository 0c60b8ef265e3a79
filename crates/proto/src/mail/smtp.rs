//! SMTP and LMTP (RFC 5321, RFC 2033), with pipelining (RFC 2920), BDAT (RFC 3030) and STARTTLS (RFC 3207).
//!
//! Rules of this file:
//! 1. A reply belongs to the oldest command without one; without replies (one side only) commands alone tell the story.
//! 2. A row is written when the message's reply comes, or when the next MAIL, the gap or the end says that none will.
//! 3. What AUTH says is dropped line by line; only the mechanism stays.
use std::collections::VecDeque;

use bunker_wire::Direction;

use super::header::address_of;
use super::lines::{Dots, Lines, mechanism, word};
use super::{Draft, PENDING, RECIPIENTS, Session, asked, flags, write};
use crate::parser::{Context, Service, Step, StreamParser};

/// Complete messages that may wait for their reply at once. Few clients send a second one before the first is answered.
pub const WAITING: usize = 8;

/// What the client's bytes are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Talk {
    Commands,
    Message(Dots),
    /// A chunk of BDAT: bytes left, whether it is the last.
    Chunk(u64, bool),
}

/// A command that waits for its reply.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Data,
    /// The end of a message.
    End,
    StartTls,
    Auth,
    Other,
}

/// SMTP in a TCP flow.
pub struct SmtpStream {
    session: Session,
    client: Option<Direction>,
    lines: [Lines; 2],
    talk: Talk,
    pending: VecDeque<Asked>,
    draft: Option<Draft>,
    /// Messages that are complete and wait for their reply.
    waiting: VecDeque<Draft>,
    /// DATA was answered with 354.
    went_ahead: bool,
    line: Vec<u8>,
}

impl Default for SmtpStream {
    fn default() -> Self {
        Self {
            session: Session::new(Service::Smtp),
            client: None,
            lines: [Lines::default(), Lines::default()],
            talk: Talk::Commands,
            pending: VecDeque::new(),
            draft: None,
            waiting: VecDeque::new(),
            went_ahead: false,
            line: Vec::new(),
        }
    }
}

/// Code of a reply's line, whether it is the last one, its text.
fn reply(line: &[u8]) -> Option<(u16, bool, &[u8])> {
    let (code, rest) = line.split_at_checked(3)?;
    let code = code.iter().try_fold(0u16, |code, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        code.checked_mul(10)?.checked_add(u16::from(digit))
    })?;
    match rest.first() {
        None => Some((code, true, rest)),
        Some(b' ') => Some((code, true, rest.get(1..)?)),
        Some(b'-') => Some((code, false, rest.get(1..)?)),
        Some(_) => None,
    }
}

impl SmtpStream {
    fn is_client(&mut self, direction: Direction, bytes: &[u8]) -> bool {
        let client = *self.client.get_or_insert_with(|| {
            // Replies begin with a digit, commands never do.
            if bytes.first().is_some_and(u8::is_ascii_digit) { direction.other() } else { direction }
        });
        client == direction
    }

    fn push(&mut self, asked: Asked) -> Step {
        if self.pending.len() >= PENDING {
            // Without replies nothing takes them away: one side only. The oldest says nothing any more.
            self.pending.pop_front();
        }
        self.pending.push_back(asked);
        Step::More
    }

    /// The message in hand is complete: it waits for its reply.
    fn complete(&mut self, context: &mut Context<'_>) {
        self.talk = Talk::Commands;
        self.waiting.extend(self.draft.take());
        if self.waiting.len() > WAITING {
            self.answered(context, false);
        }
    }

    /// The oldest complete message has its reply, or gets none.
    fn answered(&mut self, context: &mut Context<'_>, with_reply: bool) {
        if let Some(mut draft) = self.waiting.pop_front() {
            draft.flags |= self.long_line();
            write(context, &mut self.session, draft, with_reply);
        }
    }

    fn long_line(&self) -> u64 {
        if self.lines.iter().any(|lines| lines.cut) { flags::LONG_LINE } else { 0 }
    }

    /// Write what is in hand without being complete.
    fn flush(&mut self, context: &mut Context<'_>, with_reply: bool) {
        if let Some(mut draft) = self.draft.take() {
            if matches!(self.talk, Talk::Message(_) | Talk::Chunk(..)) {
                draft.flags |= flags::UNFINISHED;
            }
            draft.flags |= self.long_line();
            write(context, &mut self.session, draft, with_reply);
        }
    }

    fn command(&mut self, context: &mut Context<'_>, line: &[u8], ts_ns: u64) -> Step {
        // A line that answers a challenge of AUTH is no command, and nobody's business.
        if self.pending.back() == Some(&Asked::Auth) && !line.contains(&b' ') {
            return Step::More;
        }
        let (verb, argument) = word(line);
        // "MAIL FROM:" and "MAIL  FROM :" alike; the value stands behind the colon.
        let value = || {
            let colon = memchr::memchr(b':', argument)?;
            let value = argument.get(colon.saturating_add(1)..)?.trim_ascii();
            let path = value.split(|byte| *byte == b' ').next()?;
            Some(if path.starts_with(b"<") { address_of(value)? } else { path }.to_vec())
        };
        match verb.as_slice() {
            b"HELO" | b"EHLO" | b"LHLO" => {
                self.session.helo = argument.to_vec();
                self.push(Asked::Other)
            }
            b"MAIL" => {
                let with_reply = !self.session.last_reply.1.is_empty();
                self.flush(context, with_reply);
                let mut draft = Draft::new(ts_ns, "MAIL");
                draft.mailfrom = value();
                self.draft = Some(draft);
                self.push(Asked::Other)
            }
            b"RCPT" => {
                let draft = self.draft.get_or_insert_with(|| Draft::new(ts_ns, "MAIL"));
                if draft.rcptto.len() >= RECIPIENTS {
                    draft.flags |= flags::MANY_RECIPIENTS;
                } else if let Some(value) = value() {
                    draft.rcptto.push(&value);
                }
                self.push(Asked::Other)
            }
            b"DATA" => {
                self.begin_letter(context, ts_ns, "DATA");
                self.went_ahead = false;
                self.talk = Talk::Message(Dots::default());
                self.push(Asked::Data)
            }
            b"BDAT" => {
                let (number, last) = word(argument);
                let size = core::str::from_utf8(&number).ok().and_then(|text| text.parse().ok()).unwrap_or(0u64);
                let last = last.eq_ignore_ascii_case(b"LAST");
                self.begin_letter(context, ts_ns, "BDAT");
                self.talk = Talk::Chunk(size, last);
                let step = self.push(if last { Asked::End } else { Asked::Other });
                self.chunk_may_end(context);
                step
            }
            b"STARTTLS" => self.push(Asked::StartTls),
            b"AUTH" => {
                self.session.auth = Some(mechanism(argument));
                self.push(Asked::Auth)
            }
            _ => self.push(Asked::Other),
        }
    }

    fn begin_letter(&mut self, context: &Context<'_>, ts_ns: u64, command: &'static str) {
        let asked = asked(context);
        let draft = self.draft.get_or_insert_with(|| Draft::new(ts_ns, command));
        draft.command = command;
        if draft.letter.is_none() {
            draft.letter = Some(super::letter::Letter::new(asked, false));
        }
    }

    fn chunk_may_end(&mut self, context: &mut Context<'_>) {
        match self.talk {
            Talk::Chunk(0, true) => self.complete(context),
            Talk::Chunk(0, false) => self.talk = Talk::Commands,
            Talk::Chunk(..) | Talk::Commands | Talk::Message(_) => {}
        }
    }

    fn client_said(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        let mut rest = bytes;
        while !rest.is_empty() {
            match &mut self.talk {
                Talk::Commands => {
                    let mut line = core::mem::take(&mut self.line);
                    let complete =
                        self.lines.get_mut(direction.index()).is_some_and(|lines| lines.next(&mut rest, &mut line));
                    let step = if complete { self.command(context, &line, ts_ns) } else { Step::More };
                    self.line = line;
                    if !complete || step != Step::More {
                        return step;
                    }
                }
                Talk::Message(dots) => {
                    let letter = self.draft.as_mut().and_then(|draft| draft.letter.as_mut());
                    let Some(letter) = letter else {
                        self.talk = Talk::Commands;
                        continue;
                    };
                    let Some((used, full)) = dots.feed(rest, |bytes| letter.feed(bytes)) else { return Step::More };
                    if !full {
                        letter.flags |= flags::BARE_END;
                    }
                    rest = rest.get(used..).unwrap_or_default();
                    self.complete(context);
                    self.push(Asked::End);
                }
                Talk::Chunk(left, _) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    let (now, after) = rest.split_at_checked(count).unwrap_or((rest, &[]));
                    *left = left.saturating_sub(count as u64);
                    rest = after;
                    if let Some(letter) = self.draft.as_mut().and_then(|draft| draft.letter.as_mut()) {
                        letter.feed(now);
                    }
                    self.chunk_may_end(context);
                }
            }
        }
        Step::More
    }

    /// A final reply.
    fn replied(&mut self, context: &mut Context<'_>, code: u16) -> bool {
        match self.pending.pop_front() {
            Some(Asked::Data) if code == 354 => self.went_ahead = true,
            Some(Asked::Data) => {
                let empty =
                    self.draft.as_ref().and_then(|draft| draft.letter.as_ref()).is_none_or(|letter| letter.size == 0);
                if empty && matches!(self.talk, Talk::Message(_)) {
                    self.talk = Talk::Commands;
                    if let Some(draft) = &mut self.draft {
                        draft.letter = None;
                    }
                }
            }
            Some(Asked::End) => self.answered(context, true),
            Some(Asked::StartTls) if code == 220 => {
                self.session.tls = true;
                if self.draft.is_none() {
                    self.draft = Some(Draft::new(context.now_ns, "STARTTLS"));
                }
                self.flush(context, true);
                return true;
            }
            Some(Asked::Auth) if code == 334 => self.pending.push_front(Asked::Auth),
            Some(Asked::StartTls | Asked::Auth | Asked::Other) => {}
            None => {
                // A reply to nothing we saw: behind a gap in the message this is the message's.
                let lost = self.draft.as_ref().and_then(|draft| draft.letter.as_ref());
                if lost.is_some_and(|letter| letter.flags & flags::GAP != 0) && self.went_ahead {
                    self.complete(context);
                    self.answered(context, true);
                }
            }
        }
        false
    }

    fn server_said(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8]) -> Step {
        let mut rest = bytes;
        let mut line = core::mem::take(&mut self.line);
        let mut step = Step::More;
        while self.lines.get_mut(direction.index()).is_some_and(|lines| lines.next(&mut rest, &mut line)) {
            let Some((code, last, _)) = reply(&line) else {
                if self.session.last_reply.1.is_empty() && !line.is_empty() {
                    step = Step::Violated;
                    break;
                }
                continue;
            };
            context.confirm(Service::Smtp);
            self.session.last_reply = (Some(code), line.clone());
            if let Some(separator) = self.session.last_reply.1.get_mut(3) {
                *separator = b' ';
            }
            if last && self.replied(context, code) {
                step = Step::Switched { used: bytes.len().saturating_sub(rest.len()) };
                break;
            }
        }
        self.line = line;
        step
    }
}

impl StreamParser for SmtpStream {
    fn data(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        if self.is_client(direction, bytes) {
            self.client_said(context, direction, bytes, ts_ns)
        } else {
            self.server_said(context, direction, bytes)
        }
    }

    fn gap(&mut self, context: &mut Context<'_>, direction: Direction, length: u64, _ts_ns: u64) -> Step {
        if self.client != Some(direction) {
            if let Some(lines) = self.lines.get_mut(direction.index()) {
                lines.lost();
            }
            // Which command the next reply answers is not known any more; a message that waits for its own gets the next one.
            self.pending.clear();
            self.pending.extend(self.waiting.iter().map(|_| Asked::End));
            return Step::More;
        }
        let letter = self.draft.as_mut().and_then(|draft| draft.letter.as_mut());
        match (&mut self.talk, letter) {
            (Talk::Message(dots), Some(letter)) => {
                letter.gap(length);
                *dots = Dots::Middle;
            }
            (Talk::Chunk(left, _), Some(letter)) if *left >= length => {
                letter.gap(length);
                *left = left.saturating_sub(length);
                self.chunk_may_end(context);
            }
            (talk, letter) => {
                if let Some(letter) = letter {
                    letter.gap(length);
                }
                *talk = Talk::Commands;
                if let Some(lines) = self.lines.get_mut(direction.index()) {
                    lines.lost();
                }
            }
        }
        Step::More
    }

    fn ended(&mut self, _context: &mut Context<'_>, _direction: Direction, _ts_ns: u64) {}

    fn closed(&mut self, context: &mut Context<'_>) {
        while !self.waiting.is_empty() {
            self.answered(context, false);
        }
        let with_reply = !self.session.last_reply.1.is_empty();
        self.flush(context, with_reply);
    }

    fn live_bytes(&self) -> usize {
        let lines = self.lines.iter().fold(self.line.capacity(), |sum, lines| sum.saturating_add(lines.live_bytes()));
        let drafts =
            self.waiting.iter().chain(&self.draft).fold(0usize, |sum, draft| sum.saturating_add(draft.live_bytes()));
        [lines, self.session.live_bytes(), drafts, self.pending.capacity()]
            .iter()
            .fold(size_of::<Self>(), |sum, bytes| sum.saturating_add(*bytes))
    }
}
