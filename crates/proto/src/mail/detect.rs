//! Whether a dialogue is SMTP, POP3 or IMAP, by its first lines.
//!
//! Rules of this file:
//! 1. A greeting that names its protocol decides; one that does not (`+OK`, `220`) waits for the client's first command.
//! 2. Client and server may be on either side: who took up the flow does not matter.
use super::lines::word;

/// A mail protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mail {
    /// SMTP, LMTP.
    Smtp,
    /// POP3.
    Pop3,
    /// IMAP4.
    Imap,
}

/// What one direction's bytes say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Nothing,
    /// Too few bytes.
    Wait,
    /// This protocol's server or client.
    Sure(Mail),
    /// A greeting that several protocols use: FTP's too.
    Greeting(Mail),
    /// A command that several protocols use.
    Command,
}

/// The first line if it is complete.
fn first_line(bytes: &[u8]) -> Option<&[u8]> {
    bytes.get(..memchr::memchr(b'\n', bytes)?).map(<[u8]>::trim_ascii_end)
}

fn has_word(line: &[u8], words: &[&[u8]]) -> bool {
    words.iter().any(|word| line.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word)))
}

fn server(bytes: &[u8]) -> Says {
    const STARTS: [&[u8]; 4] = [b"+OK", b"* ", b"220 ", b"220-"];
    let Some(start) = STARTS.iter().find(|start| {
        let length = start.len().min(bytes.len());
        bytes.get(..length) == start.get(..length)
    }) else {
        return Says::Nothing;
    };
    let Some(line) = first_line(bytes) else { return Says::Wait };
    if !line.starts_with(start) {
        return Says::Nothing;
    }
    match start.first() {
        Some(b'+') if has_word(line, &[b"POP"]) => Says::Sure(Mail::Pop3),
        Some(b'+') => Says::Greeting(Mail::Pop3),
        Some(b'*') => {
            let (first, rest) = word(line.get(2..).unwrap_or_default());
            let (second, _) = word(rest);
            let known = match first.as_slice() {
                b"OK" | b"PREAUTH" | b"BYE" | b"CAPABILITY" | b"FLAGS" | b"LIST" | b"LSUB" | b"SEARCH" | b"STATUS"
                | b"NAMESPACE" | b"ID" | b"ENABLED" => true,
                number => {
                    !number.is_empty()
                        && number.iter().all(u8::is_ascii_digit)
                        && matches!(second.as_slice(), b"EXISTS" | b"RECENT" | b"FETCH" | b"EXPUNGE")
                }
            };
            if known { Says::Sure(Mail::Imap) } else { Says::Nothing }
        }
        _ if has_word(line, &[b"SMTP", b"LMTP"]) => Says::Sure(Mail::Smtp),
        _ => Says::Greeting(Mail::Smtp),
    }
}

fn client(bytes: &[u8]) -> Says {
    if bytes.is_empty() {
        return Says::Wait;
    }
    let line = bytes.get(..memchr::memchr(b'\n', bytes).unwrap_or(bytes.len())).unwrap_or_default();
    let complete = line.len() < bytes.len();
    if !complete && (line.len() > 512 || !line.iter().all(|byte| (0x20..0x7F).contains(byte) || *byte == b'\r')) {
        return Says::Nothing;
    }
    if !complete {
        return Says::Wait;
    }
    let line = line.trim_ascii_end();
    let (first, rest) = word(line);
    match first.as_slice() {
        b"EHLO" | b"HELO" | b"LHLO" => return Says::Sure(Mail::Smtp),
        b"MAIL" if has_word(rest, &[b"FROM:"]) => return Says::Sure(Mail::Smtp),
        b"RCPT" if has_word(rest, &[b"TO:"]) => return Says::Sure(Mail::Smtp),
        b"USER" | b"PASS" | b"APOP" | b"CAPA" | b"STLS" | b"AUTH" | b"QUIT" | b"STAT" | b"LIST" | b"UIDL" | b"RETR"
        | b"TOP" | b"NOOP" | b"DELE" => {
            return Says::Command;
        }
        _ => {}
    }
    let (command, _) = word(rest);
    let tagged = !first.is_empty() && first.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'.');
    let known = matches!(
        command.as_slice(),
        b"CAPABILITY" | b"LOGIN" | b"AUTHENTICATE" | b"STARTTLS" | b"SELECT" | b"EXAMINE" | b"LOGOUT" | b"COMPRESS"
    );
    if tagged && known { Says::Sure(Mail::Imap) } else { Says::Nothing }
}

/// The protocol of a dialogue whose two directions began like this; `Err(true)`: too few bytes, `Err(false)`: none of them.
///
/// # Errors
/// See above.
pub fn mail_of(one: &[u8], other: &[u8]) -> Result<Mail, bool> {
    let mut wait = false;
    for (asks, answers) in [(one, other), (other, one)] {
        let (client, server) = (client(asks), server(answers));
        match (client, server) {
            (Says::Sure(mail), _) | (_, Says::Sure(mail)) => return Ok(mail),
            (Says::Command, Says::Greeting(Mail::Pop3)) => return Ok(Mail::Pop3),
            (_, Says::Wait) if !answers.is_empty() => wait = true,
            (Says::Wait, Says::Greeting(_)) => wait = true,
            // A client alone, whose first line is not complete or says little: the greeting will tell.
            (Says::Wait | Says::Command, Says::Wait) => wait = true,
            _ => {}
        }
    }
    Err(wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_tell_the_protocol_on_either_side() {
        for (client, server, expected) in [
            (&b""[..], &b"220 mx.example ESMTP\r\n"[..], Ok(Mail::Smtp)),
            (b"", b"220 mx.example\r\n", Err(true)),
            (b"HELO\r\n", b"220 mx.example\r\n", Ok(Mail::Smtp)),
            (b"USER x\r\n", b"220 ftp.example\r\n", Err(false)),
            (b"", b"+OK\r\n", Err(true)),
            (b"", b"+OK Dovecot POP ready\r\n", Ok(Mail::Pop3)),
            (b"CAPA\r\n", b"+OK hello\r\n", Ok(Mail::Pop3)),
            (b"", b"* OK ready\r\n", Ok(Mail::Imap)),
            (b"", b"* 21 EXISTS\r\n", Ok(Mail::Imap)),
            (b"", b"* 21 TIMES\r\n", Err(false)),
            (b"", b"* O", Err(true)),
            (b"a1 LOGIN {5}\r\n", b"", Ok(Mail::Imap)),
            (b"MAIL FROM:<a@b.example>\r\n", b"", Ok(Mail::Smtp)),
            (b"GET / HTTP/1.1\r\n", b"", Err(false)),
            (b"\x16\x03\x01", b"", Err(false)),
            (b"", b"SSH-2.0-x\r\n", Err(false)),
        ] {
            assert_eq!(mail_of(client, server), expected);
            assert_eq!(mail_of(server, client), expected);
        }
    }
}
