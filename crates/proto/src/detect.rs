//! Which protocol a flow speaks, by its first bytes.
//!
//! Rules of this file:
//! 1. Content decides. A port only tips the scale where content alone is too little (DNS with one odd message).
//! 2. An answer is final: found, or nothing, or not yet. "Not yet" ends at [`DETECT_BYTES`].
use bunker_wire::{Direction, Flow};

use crate::dhcp::{DhcpDatagrams, looks_like_dhcp};
use crate::dns::{self, DnsDatagrams, DnsStream};
use crate::dtls::{DtlsDatagrams, looks_like_dtls};
use crate::engine::HttpStream;
use crate::http::{self, Verdict};
use crate::mail::{ImapStream, Mail, PopStream, SmtpStream, mail_of};
use crate::ntp::{NtpDatagrams, looks_like_ntp};
use crate::parser::{DatagramParser, StreamParser};
use crate::quic::{QuicDatagrams, looks_like_quic};
use crate::ssh::{SshStream, looks_like_ssh, ssh_behind_lines};
use crate::tls::{TlsStream, looks_like_tls};

/// Bytes of one direction that are kept while the protocol is unknown. Zeek's DPD buffer: 1,024; a mail banner fits twice.
pub const DETECT_BYTES: usize = 2_048;

/// What detection says.
pub enum Found<P: ?Sized> {
    /// This parser.
    Parser(Box<P>),
    /// No protocol that is read here.
    Nothing,
    /// Too few bytes.
    Wait,
}

/// Chooses parsers. The engine's own is [`ByContent`]; tests bring theirs.
pub trait Detect {
    /// For a TCP flow that began with these bytes.
    fn stream(&self, flow: &Flow, orig: &[u8], resp: &[u8]) -> Found<dyn StreamParser>;
    /// For a flow whose first datagram is this.
    fn datagram(&self, flow: &Flow, direction: Direction, payload: &[u8]) -> Found<dyn DatagramParser>;
}

/// Detection by content.
#[derive(Clone, Copy, Default)]
pub struct ByContent;

impl Detect for ByContent {
    fn stream(&self, flow: &Flow, orig: &[u8], resp: &[u8]) -> Found<dyn StreamParser> {
        let mut wait = false;
        let on_ssh_port = flow.orig.port == 22 || flow.resp.port == 22;
        for bytes in [orig, resp] {
            if bytes.is_empty() {
                continue;
            }
            match http::looks_like_http(bytes) {
                Verdict::Yes => return Found::Parser(Box::new(HttpStream::default())),
                Verdict::No => {}
                Verdict::NeedMore => wait = true,
            }
            match looks_like_tls(bytes) {
                Some(true) => return Found::Parser(Box::new(TlsStream::default())),
                Some(false) => {}
                None => wait = true,
            }
            match looks_like_ssh(bytes) {
                Some(true) => return Found::Parser(Box::new(SshStream::default())),
                Some(false) => match ssh_behind_lines(bytes) {
                    Some(true) => return Found::Parser(Box::new(SshStream::default())),
                    // Any text might become SSH; only on its port is that worth waiting for.
                    None => wait |= on_ssh_port,
                    Some(false) => {}
                },
                None => wait = true,
            }
        }
        // A mail dialogue is known by both directions together, and comes before what is only not yet ruled out.
        match mail_of(orig, resp) {
            Ok(Mail::Smtp) => return Found::Parser(Box::new(SmtpStream::default())),
            Ok(Mail::Pop3) => return Found::Parser(Box::new(PopStream::default())),
            Ok(Mail::Imap) => return Found::Parser(Box::new(ImapStream::default())),
            Err(more) => wait |= more,
        }
        for bytes in [orig, resp] {
            match dns::looks_like_dns_stream(flow, bytes) {
                Some(true) => return Found::Parser(Box::new(DnsStream::new())),
                Some(false) => {}
                None => wait |= !bytes.is_empty(),
            }
        }
        if wait || (orig.is_empty() && resp.is_empty()) { Found::Wait } else { Found::Nothing }
    }

    fn datagram(&self, flow: &Flow, _direction: Direction, payload: &[u8]) -> Found<dyn DatagramParser> {
        // Those whose first bytes leave no doubt come before those that a port may help.
        if looks_like_quic(payload) {
            return Found::Parser(Box::new(QuicDatagrams::default()));
        }
        if looks_like_dtls(payload) {
            return Found::Parser(Box::new(DtlsDatagrams::default()));
        }
        if looks_like_dhcp(payload) {
            return Found::Parser(Box::new(DhcpDatagrams));
        }
        if dns::is_dns_port(flow.resp.port) || dns::is_dns_port(flow.orig.port) || dns::looks_like_dns(payload) {
            return Found::Parser(Box::new(DnsDatagrams::new()));
        }
        if looks_like_ntp(flow, payload) {
            return Found::Parser(Box::new(NtpDatagrams));
        }
        Found::Nothing
    }
}
