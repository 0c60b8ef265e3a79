//! POP3 (RFC 1939, RFC 2449, RFC 5034): messages in the answers to RETR and TOP.
//!
//! Rules of this file:
//! 1. A status line answers the oldest command without one; whether lines follow it, the command says.
//! 2. Of a server alone, lines that follow `+OK` and begin like a header are a message.
//! 3. USER, PASS, APOP and what AUTH exchanges are dropped.
use std::collections::VecDeque;

use bunker_wire::Direction;

use super::lines::{Dots, Lines, mechanism, word};
use super::{Draft, PENDING, Session, asked, flags, write};
use crate::parser::{Context, Service, Step, StreamParser};

/// A command that waits for its status line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Retr,
    Top,
    /// Lines follow that are no message.
    List,
    Stls,
    Auth,
    Other,
}

/// What the server's bytes are.
enum Talk {
    Status,
    Lines(Dots, Option<Box<Draft>>),
}

/// POP3 in a TCP flow.
pub struct PopStream {
    session: Session,
    client: Option<Direction>,
    asked_once: bool,
    lines: [Lines; 2],
    talk: Talk,
    pending: VecDeque<Asked>,
    line: Vec<u8>,
}

impl Default for PopStream {
    fn default() -> Self {
        Self {
            session: Session::new(Service::Pop3),
            client: None,
            asked_once: false,
            lines: [Lines::default(), Lines::default()],
            talk: Talk::Status,
            pending: VecDeque::new(),
            line: Vec::new(),
        }
    }
}

/// A line that could begin a message: a name without blanks, a colon.
fn begins_header(line: &[u8]) -> bool {
    let name = line.get(..memchr::memchr(b':', line).unwrap_or(0)).unwrap_or_default();
    !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

impl PopStream {
    fn command(&mut self, line: &[u8]) {
        if self.pending.back() == Some(&Asked::Auth) && !line.contains(&b' ') {
            return;
        }
        let (verb, argument) = word(line);
        let asked = match verb.as_slice() {
            b"RETR" => Asked::Retr,
            b"TOP" => Asked::Top,
            b"CAPA" => Asked::List,
            b"LIST" | b"UIDL" if argument.is_empty() => Asked::List,
            b"STLS" => Asked::Stls,
            b"AUTH" if argument.is_empty() => Asked::List,
            b"AUTH" => {
                self.session.auth = Some(mechanism(argument));
                Asked::Auth
            }
            b"APOP" => {
                self.session.auth = Some("APOP");
                Asked::Other
            }
            b"USER" | b"PASS" => {
                self.session.auth = Some("USER");
                Asked::Other
            }
            _ => Asked::Other,
        };
        self.asked_once = true;
        if self.pending.len() >= PENDING {
            self.pending.pop_front();
        }
        self.pending.push_back(asked);
    }

    /// A status line; true: TLS begins.
    fn status(&mut self, context: &mut Context<'_>, line: &[u8], ts_ns: u64) -> bool {
        let good = line.starts_with(b"+OK");
        if !good && !line.starts_with(b"-ERR") {
            if line.starts_with(b"+ ") || line == b"+" {
                return false; // a challenge: the command goes on
            }
            if !self.asked_once && begins_header(line) {
                let mut draft = Draft::with_letter(ts_ns, "RETR", asked(context), false);
                if let Some(letter) = &mut draft.letter {
                    letter.feed(line);
                    letter.feed(b"\r\n");
                }
                self.talk = Talk::Lines(Dots::default(), Some(Box::new(draft)));
            }
            return false;
        }
        context.confirm(Service::Pop3);
        self.session.last_reply = (None, line.to_vec());
        let asks = self.pending.pop_front();
        if !good {
            return false;
        }
        match asks {
            Some(Asked::Retr) => {
                let draft = Draft::with_letter(ts_ns, "RETR", asked(context), false);
                self.talk = Talk::Lines(Dots::default(), Some(Box::new(draft)));
            }
            Some(Asked::Top) => {
                let mut draft = Draft::with_letter(ts_ns, "TOP", asked(context), false);
                draft.partial = true;
                self.talk = Talk::Lines(Dots::default(), Some(Box::new(draft)));
            }
            Some(Asked::List) => self.talk = Talk::Lines(Dots::default(), None),
            Some(Asked::Stls) => {
                self.session.tls = true;
                return true;
            }
            Some(Asked::Auth | Asked::Other) | None => {}
        }
        false
    }

    fn server_said(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        let mut rest = bytes;
        while !rest.is_empty() {
            match &mut self.talk {
                Talk::Status => {
                    let mut line = core::mem::take(&mut self.line);
                    let lines = self.lines.get_mut(direction.index());
                    let complete = lines.is_some_and(|lines| lines.next(&mut rest, &mut line));
                    let tls = complete && self.status(context, &line, ts_ns);
                    self.line = line;
                    if tls {
                        return Step::Switched { used: bytes.len().saturating_sub(rest.len()) };
                    }
                    if !complete {
                        return Step::More;
                    }
                }
                Talk::Lines(dots, draft) => {
                    let ended = dots.feed(rest, |bytes| {
                        if let Some(letter) = draft.as_mut().and_then(|draft| draft.letter.as_mut()) {
                            letter.feed(bytes);
                        }
                    });
                    let Some((used, full)) = ended else { return Step::More };
                    rest = rest.get(used..).unwrap_or_default();
                    let draft = draft.take();
                    self.talk = Talk::Status;
                    if let Some(mut draft) = draft {
                        draft.flags |= if full { 0 } else { flags::BARE_END };
                        self.write(context, *draft);
                    }
                }
            }
        }
        Step::More
    }

    fn write(&mut self, context: &mut Context<'_>, mut draft: Draft) {
        if self.lines.iter().any(|lines| lines.cut) {
            draft.flags |= flags::LONG_LINE;
        }
        write(context, &mut self.session, draft, true);
    }
}

impl StreamParser for PopStream {
    fn data(&mut self, context: &mut Context<'_>, direction: Direction, bytes: &[u8], ts_ns: u64) -> Step {
        let client = *self.client.get_or_insert_with(|| {
            // Of the two, only the server begins with a sign.
            if matches!(bytes.first(), Some(b'+' | b'-')) { direction.other() } else { direction }
        });
        if client != direction {
            return self.server_said(context, direction, bytes, ts_ns);
        }
        let mut rest = bytes;
        let mut line = core::mem::take(&mut self.line);
        while self.lines.get_mut(direction.index()).is_some_and(|lines| lines.next(&mut rest, &mut line)) {
            self.command(&line);
        }
        self.line = line;
        Step::More
    }

    fn gap(&mut self, _context: &mut Context<'_>, direction: Direction, length: u64, _ts_ns: u64) -> Step {
        if self.client != Some(direction)
            && let Talk::Lines(dots, draft) = &mut self.talk
        {
            if let Some(letter) = draft.as_mut().and_then(|draft| draft.letter.as_mut()) {
                letter.gap(length);
            }
            *dots = Dots::Middle;
            return Step::More;
        }
        if let Some(lines) = self.lines.get_mut(direction.index()) {
            lines.lost();
        }
        // Which command the next status line answers is not known any more: from here on the server alone tells.
        self.pending.clear();
        self.asked_once = false;
        Step::More
    }

    fn ended(&mut self, _context: &mut Context<'_>, _direction: Direction, _ts_ns: u64) {}

    fn closed(&mut self, context: &mut Context<'_>) {
        if let Talk::Lines(_, Some(draft)) = core::mem::replace(&mut self.talk, Talk::Status) {
            let mut draft = *draft;
            draft.flags |= flags::UNFINISHED;
            self.write(context, draft);
        }
    }

    fn live_bytes(&self) -> usize {
        let lines = self.lines.iter().fold(self.line.capacity(), |sum, lines| sum.saturating_add(lines.live_bytes()));
        let draft = match &self.talk {
            Talk::Lines(_, Some(draft)) => draft.live_bytes(),
            Talk::Lines(_, None) | Talk::Status => 0,
        };
        [lines, self.session.live_bytes(), draft, self.pending.capacity()]
            .iter()
            .fold(size_of::<Self>(), |sum, bytes| sum.saturating_add(*bytes))
    }
}
