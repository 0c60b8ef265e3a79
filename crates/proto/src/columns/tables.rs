//! The tables of messages: the one source of their columns. Names are Zeek's where Zeek has the field.
//!
//! Rules of this file:
//! 1. Every table begins with the six columns that say when, and of which flow.
//! 2. A row is a struct with one field per column: a parser cannot forget one.
//! 3. Fields are added at the end of the protocol's own part, before columns of content.
//! 4. Columns that nobody asks for can be left out: they are not in the batch then, and all others are what they would have been.
use std::sync::{Arc, LazyLock};

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, Schema, SchemaRef};
use bunker_wire::Flow;

use super::build::{Chosen, Column};
use super::field::FieldSpec;
#[allow(clippy::wildcard_imports)] // the markers read like the format's table
use super::kind::*;

/// The columns that every table begins with.
#[derive(Clone, Copy)]
pub struct Origin {
    /// When, ns since the epoch, UTC.
    pub ts: u64,
    /// The flow's number; 0: no flow (a packet that is not IP).
    pub uid: u64,
    /// Address of the originator.
    pub orig_h: [u8; 16],
    /// Port of the originator.
    pub orig_p: u16,
    /// Address of the responder.
    pub resp_h: [u8; 16],
    /// Port of the responder.
    pub resp_p: u16,
}

impl Origin {
    /// Of something that happened in `flow` at `ts_ns`.
    #[must_use]
    pub const fn of(flow: &Flow, ts_ns: u64) -> Self {
        Self {
            ts: ts_ns,
            uid: flow.uid,
            orig_h: flow.orig.address.0,
            orig_p: flow.orig.port,
            resp_h: flow.resp.address.0,
            resp_p: flow.resp.port,
        }
    }

    /// Of a packet that belongs to no flow.
    #[must_use]
    pub const fn none(ts_ns: u64) -> Self {
        Self { ts: ts_ns, uid: 0, orig_h: [0; 16], orig_p: 0, resp_h: [0; 16], resp_p: 0 }
    }
}

macro_rules! tables {
    ($($(#[$doc:meta])* $kind:ident $word:literal $table:ident $row:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)*
    })*) => {
        /// The kinds of messages.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum MessageKind { $($(#[$doc])* $kind,)* }

        impl MessageKind {
            /// All kinds.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The name in schemas and subscriptions.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $word,)* }
            }

            /// The kind of this name, if there is one.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($word => Some(Self::$kind),)* _ => None }
            }

            /// The columns of its table, in order.
            #[must_use]
            pub fn fields(self) -> Vec<FieldSpec> {
                match self { $(Self::$kind => $table::fields(),)* }
            }
        }

        $(
            /// One row of the table of this kind, but for the six columns of [`Origin`].
            #[allow(non_snake_case)] // some of Zeek's names
            pub struct $row<'a> { $($(#[$field_doc])* pub $field: <$type as Kind>::Value<'a>,)* }

            /// The table of this kind under construction.
            #[derive(Default)]
            #[allow(non_snake_case)]
            pub struct $table {
                rows: usize,
                ts: <Time as Kind>::Column,
                uid: <FlowId as Kind>::Column,
                orig_h: <Address as Kind>::Column,
                orig_p: <Port as Kind>::Column,
                resp_h: <Address as Kind>::Column,
                resp_p: <Port as Kind>::Column,
                $($field: Chosen<<$type as Kind>::Column>,)*
                /// The schema, if some columns are left out.
                chosen: Option<SchemaRef>,
            }

            impl $table {
                /// The columns, in order.
                #[must_use]
                pub fn fields() -> Vec<FieldSpec> {
                    vec![
                        FieldSpec { name: "ts", kind: Time::TYPE, nullable: false },
                        FieldSpec { name: "uid", kind: FlowId::TYPE, nullable: false },
                        FieldSpec { name: "orig_h", kind: Address::TYPE, nullable: false },
                        FieldSpec { name: "orig_p", kind: Port::TYPE, nullable: false },
                        FieldSpec { name: "resp_h", kind: Address::TYPE, nullable: false },
                        FieldSpec { name: "resp_p", kind: Port::TYPE, nullable: false },
                        $(FieldSpec {
                            name: stringify!($field), kind: <$type as Kind>::TYPE, nullable: <$type as Kind>::NULLABLE,
                        },)*
                    ]
                }

                /// The Arrow schema.
                #[must_use]
                pub fn schema() -> SchemaRef {
                    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
                        Arc::new(Schema::new($table::fields().iter().map(FieldSpec::arrow).collect::<Vec<_>>()))
                    });
                    Arc::clone(&SCHEMA)
                }

                /// From the next row on, make only the columns of these names, and the six of [`Origin`]. Before the first row.
                pub fn choose(&mut self, is_wanted: &dyn Fn(&str) -> bool) {
                    $(self.$field.left_out = !is_wanted(stringify!($field));)*
                    let left_out = [false, false, false, false, false, false, $(self.$field.left_out,)*];
                    let fields = Self::fields();
                    let kept = fields.iter().zip(left_out).filter(|(_, left_out)| !left_out);
                    self.chosen = Some(Arc::new(Schema::new(kept.map(|(field, _)| field.arrow()).collect::<Vec<_>>())));
                }

                /// Append a row.
                #[allow(non_snake_case)]
                pub fn push(&mut self, origin: Origin, row: $row<'_>) {
                    Time::push(&mut self.ts, origin.ts);
                    FlowId::push(&mut self.uid, origin.uid);
                    Address::push(&mut self.orig_h, origin.orig_h);
                    Port::push(&mut self.orig_p, origin.orig_p);
                    Address::push(&mut self.resp_h, origin.resp_h);
                    Port::push(&mut self.resp_p, origin.resp_p);
                    $(if !self.$field.left_out {
                        <$type as Kind>::push(&mut self.$field.column, row.$field);
                    })*
                    self.rows = self.rows.saturating_add(1);
                }

                /// Rows so far.
                #[must_use]
                pub const fn rows(&self) -> usize {
                    self.rows
                }

                /// Bytes held.
                #[must_use]
                pub fn live_bytes(&self) -> usize {
                    if self.rows == 0 {
                        return 0; // asked of every table after every few packets
                    }
                    [
                        self.ts.live_bytes(), self.uid.live_bytes(), self.orig_h.live_bytes(),
                        self.orig_p.live_bytes(), self.resp_h.live_bytes(), self.resp_p.live_bytes(),
                        $(self.$field.column.live_bytes(),)*
                    ].iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
                }

                /// Drop what a panic left of an unfinished row.
                pub fn repair(&mut self) {
                    self.ts.truncate(self.rows);
                    self.uid.truncate(self.rows);
                    self.orig_h.truncate(self.rows);
                    self.orig_p.truncate(self.rows);
                    self.resp_h.truncate(self.rows);
                    self.resp_p.truncate(self.rows);
                    $(self.$field.column.truncate(self.rows);)*
                }

                /// The rows as a batch, or None without rows; the table starts over.
                ///
                /// # Errors
                /// Arrow refuses the buffers: a bug of ours.
                pub fn finish(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
                    if self.rows == 0 {
                        return Ok(None);
                    }
                    self.rows = 0;
                    let mut columns = vec![
                        self.ts.finish(Time::TYPE)?, self.uid.finish(FlowId::TYPE)?,
                        self.orig_h.finish(Address::TYPE)?, self.orig_p.finish(Port::TYPE)?,
                        self.resp_h.finish(Address::TYPE)?, self.resp_p.finish(Port::TYPE)?,
                    ];
                    $(if !self.$field.left_out {
                        columns.push(self.$field.column.finish(<$type as Kind>::TYPE)?);
                    })*
                    let schema = self.chosen.as_ref().map_or_else(Self::schema, Arc::clone);
                    RecordBatch::try_new(schema, columns).map(Some)
                }
            }
        )*

        /// All tables.
        #[derive(Default)]
        #[allow(non_snake_case)]
        pub struct Tables {
            /// Bytes of content pushed since a table was last finished: a cheap sign that one may be full.
            pub content_bytes: usize,
            /// HTTP exchanges to use again.
            pub spare_exchanges: Vec<Box<crate::http::Exchange>>,
            $(/// The table of this kind.
            pub $kind: $table,)*
        }

        impl Tables {
            /// Rows in all of them.
            #[must_use]
            pub fn rows(&self) -> usize {
                0usize $(.saturating_add(self.$kind.rows()))*
            }

            /// Bytes held.
            #[must_use]
            pub fn live_bytes(&self) -> usize {
                0usize $(.saturating_add(self.$kind.live_bytes()))*
            }

            /// Make only these columns of the table of this kind, before its first row: [`FlowTable::choose`].
            pub fn choose(&mut self, kind: MessageKind, is_wanted: &dyn Fn(&str) -> bool) {
                match kind { $(MessageKind::$kind => self.$kind.choose(is_wanted),)* }
            }

            /// Drop what a panic left of unfinished rows.
            pub fn repair(&mut self) {
                $(self.$kind.repair();)*
            }

            /// Rows of the table of this kind.
            #[must_use]
            pub const fn rows_of(&self, kind: MessageKind) -> usize {
                match kind { $(MessageKind::$kind => self.$kind.rows(),)* }
            }

            /// Bytes that the table of this kind holds.
            #[must_use]
            pub fn bytes_of(&self, kind: MessageKind) -> usize {
                match kind { $(MessageKind::$kind => self.$kind.live_bytes(),)* }
            }

            /// The table of this kind as a batch.
            ///
            /// # Errors
            /// Arrow refuses the buffers: a bug of ours.
            pub fn finish(&mut self, kind: MessageKind) -> Result<Option<RecordBatch>, ArrowError> {
                self.content_bytes = 0;
                match kind { $(MessageKind::$kind => self.$kind.finish(),)* }
            }
        }
    };
}

tables! {
    /// A flow that has ended (Zeek's conn.log).
    Flow "flow" FlowTable FlowRow {
        /// "tcp", "udp", "icmp" or "unknown_transport".
        proto: Enum,
        /// Number of the IP protocol.
        ip_proto: Code,
        /// Protocols that were parsed in it, comma separated.
        service: Option<Enum>,
        /// First packet to the last one before both sides had closed.
        duration: Option<Duration>,
        /// Payload bytes of the originator (TCP: by sequence numbers).
        orig_bytes: Option<Bytes>,
        /// Payload bytes of the responder.
        resp_bytes: Option<Bytes>,
        /// Zeek's conn_state.
        conn_state: Enum,
        /// Zeek's history.
        history: Enum,
        /// Stream bytes that were never captured.
        missed_bytes: Bytes,
        /// Packets of the originator.
        orig_pkts: Count,
        /// IP bytes of the originator.
        orig_ip_bytes: Bytes,
        /// Packets of the responder.
        resp_pkts: Count,
        /// IP bytes of the responder.
        resp_ip_bytes: Bytes,
        /// Outer VLAN.
        vlan: Option<Vlan>,
        /// Inner VLAN.
        inner_vlan: Option<Vlan>,
        /// The flow that carries this one through a tunnel.
        outer_uid: Option<FlowId>,
        /// Retransmitted segments of the originator.
        orig_retrans: Count,
        /// Retransmitted segments of the responder.
        resp_retrans: Count,
        /// Segments of the originator out of order.
        orig_out_of_order: Count,
        /// Segments of the responder out of order.
        resp_out_of_order: Count,
        /// Overlaps whose bytes differed.
        inconsistencies: Count,
        /// Packets with a wrong checksum.
        bad_checksums: Count,
        /// Round trips of the handshake.
        handshake_rtt: Option<Duration>,
        /// Maximum segment size that the originator announced.
        orig_mss: Option<Bytes>,
        /// Maximum segment size that the responder announced.
        resp_mss: Option<Bytes>,
        /// Payload bytes that the originator sent again.
        orig_retrans_bytes: Bytes,
        /// Bare acknowledgements of the originator that repeat the one before.
        orig_dup_acks: Option<Count>,
        /// Windows of zero that the originator announced.
        orig_zero_windows: Option<Count>,
        /// Shift of the originator's windows.
        orig_window_scale: Option<Count>,
        /// Largest window that the originator announced, scaled where both shifts are known.
        orig_window_max: Option<Bytes>,
        /// Most bytes that the originator had sent without acknowledgement, as seen here.
        orig_in_flight_max: Option<Bytes>,
        /// Round trips from here to the other side and back, of data that the originator sent: how many.
        orig_rtt_samples: Option<Count>,
        /// The shortest.
        orig_rtt_min: Option<Duration>,
        /// Their mean.
        orig_rtt_mean: Option<Duration>,
        /// The longest.
        orig_rtt_max: Option<Duration>,
        /// Union of the TCP flags that the originator sent.
        orig_tcp_flags: Option<Code>,
        /// Smallest time to live (hop limit) of the originator's packets.
        orig_ttl_min: Option<Code>,
        /// Largest.
        orig_ttl_max: Option<Code>,
        /// Smallest IP packet of the originator.
        orig_length_min: Option<Bytes>,
        /// Mean of their lengths.
        orig_length_mean: Option<Bytes>,
        /// Largest.
        orig_length_max: Option<Bytes>,
        /// Standard deviation of their lengths.
        orig_length_sd: Option<Bytes>,
        /// Shortest time between two packets of the originator.
        orig_gap_min: Option<Duration>,
        /// Mean of these times.
        orig_gap_mean: Option<Duration>,
        /// Longest.
        orig_gap_max: Option<Duration>,
        /// Standard deviation of these times.
        orig_gap_sd: Option<Duration>,
        /// Payload bytes that the responder sent again.
        resp_retrans_bytes: Bytes,
        /// Bare acknowledgements of the responder that repeat the one before.
        resp_dup_acks: Option<Count>,
        /// Windows of zero that the responder announced.
        resp_zero_windows: Option<Count>,
        /// Shift of the responder's windows.
        resp_window_scale: Option<Count>,
        /// Largest window that the responder announced, scaled where both shifts are known.
        resp_window_max: Option<Bytes>,
        /// Most bytes that the responder had sent without acknowledgement, as seen here.
        resp_in_flight_max: Option<Bytes>,
        /// Round trips from here to the other side and back, of data that the responder sent: how many.
        resp_rtt_samples: Option<Count>,
        /// The shortest.
        resp_rtt_min: Option<Duration>,
        /// Their mean.
        resp_rtt_mean: Option<Duration>,
        /// The longest.
        resp_rtt_max: Option<Duration>,
        /// Union of the TCP flags that the responder sent.
        resp_tcp_flags: Option<Code>,
        /// Smallest time to live (hop limit) of the responder's packets.
        resp_ttl_min: Option<Code>,
        /// Largest.
        resp_ttl_max: Option<Code>,
        /// Smallest IP packet of the responder.
        resp_length_min: Option<Bytes>,
        /// Mean of their lengths.
        resp_length_mean: Option<Bytes>,
        /// Largest.
        resp_length_max: Option<Bytes>,
        /// Standard deviation of their lengths.
        resp_length_sd: Option<Bytes>,
        /// Shortest time between two packets of the responder.
        resp_gap_min: Option<Duration>,
        /// Mean of these times.
        resp_gap_mean: Option<Duration>,
        /// Longest.
        resp_gap_max: Option<Duration>,
        /// Standard deviation of these times.
        resp_gap_sd: Option<Duration>,
        /// Why it ended erroneous: exception, panic, time, memory, output, crash, exited, killed, external.
        fault: Option<Enum>,
        /// How it ended: completed, timed_out, ended, evicted, erroneous.
        outcome: Enum,
    }
    /// An HTTP/1 transaction (http.log).
    Http "http" HttpTable HttpRow {
        /// 1 for the first of its flow.
        trans_depth: Count,
        /// Method as sent.
        method: Option<Enum>,
        /// Host header, or the authority of an absolute target.
        host: Option<Host>,
        /// Target as sent.
        uri: Option<Url>,
        /// Referer header.
        referrer: Option<Url>,
        /// Version of the reply, else of the request.
        version: Option<Enum>,
        /// User-Agent header.
        user_agent: Option<UserAgent>,
        /// Origin header.
        origin: Option<Url>,
        /// Bytes of the request's body after decoding.
        request_body_len: Bytes,
        /// Bytes of the reply's body after decoding.
        response_body_len: Bytes,
        /// Status of the final reply.
        status_code: Option<Code>,
        /// Its reason phrase.
        status_msg: Option<Text>,
        /// Last 1xx status.
        info_code: Option<Code>,
        /// Its reason phrase.
        info_msg: Option<Text>,
        /// User of basic authentication.
        username: Option<Text>,
        /// Type of the request's body, by its bytes.
        orig_mime_type: Option<Mime>,
        /// Type of the reply's body, by its bytes.
        resp_mime_type: Option<Mime>,
        /// Declared Content-Type of the request.
        orig_content_type: Option<Mime>,
        /// Declared Content-Type of the reply.
        resp_content_type: Option<Mime>,
        /// Declared Content-Encoding of the request.
        orig_content_encoding: Option<Enum>,
        /// Declared Content-Encoding of the reply.
        resp_content_encoding: Option<Enum>,
        /// Location header of the reply.
        location: Option<Url>,
        /// The request had cookies.
        cookie: Flag,
        /// The reply set cookies.
        set_cookie: Flag,
        /// Addresses that the request's headers name for proxies and who is behind them: X-Forwarded-For, Forwarded, Via and the like.
        forwarded: Option<AddressList>,
        /// When the reply began.
        response_ts: Option<Time>,
        /// SHA-256 of the request's body.
        orig_sha256: Option<Digest>,
        /// SHA-256 of the reply's body.
        resp_sha256: Option<Digest>,
        /// MD5 of the request's body.
        orig_md5: Option<Digest>,
        /// MD5 of the reply's body.
        resp_md5: Option<Digest>,
        /// SHA-1 of the request's body.
        orig_sha1: Option<Digest>,
        /// SHA-1 of the reply's body.
        resp_sha1: Option<Digest>,
        /// Anomalies, bits of `http::Anomaly`.
        flags: Flags,
        /// Bytes of it were never captured.
        gap: Flag,
        /// Raw head of the request.
        req_head: Option<Content>,
        /// Raw head of the reply.
        resp_head: Option<Content>,
        /// Decoded body of the request.
        req_body: Option<Content>,
        /// Decoded body of the reply.
        resp_body: Option<Content>,
    }
    /// A DNS query with its reply (dns.log).
    Dns "dns" DnsTable DnsRow {
        /// "udp" or "tcp".
        proto: Enum,
        /// Identifier of query and reply.
        trans_id: Count,
        /// Query to reply.
        rtt: Option<Duration>,
        /// First question's name, lower case as Zeek has it.
        query: Option<Host>,
        /// Its class.
        qclass: Option<Code>,
        /// Its class in words.
        qclass_name: Option<Enum>,
        /// Its type.
        qtype: Option<Code>,
        /// Its type in words.
        qtype_name: Option<Enum>,
        /// Response code.
        rcode: Option<Code>,
        /// Response code in words.
        rcode_name: Option<Enum>,
        /// Authoritative answer.
        AA: Flag,
        /// Truncated.
        TC: Flag,
        /// Recursion desired.
        RD: Flag,
        /// Recursion available.
        RA: Flag,
        /// The three reserved bits (AD and CD among them).
        Z: Count,
        /// Answers as Zeek writes them.
        answers: Option<TextList>,
        /// Time to live of each answer, seconds.
        TTLs: Option<TextList>,
        /// The server refused.
        rejected: Flag,
        /// Operation.
        opcode: Code,
        /// Operation in words.
        opcode_name: Enum,
        /// Records of the authority section.
        auth: Option<TextList>,
        /// Records of the additional section.
        addl: Option<TextList>,
        /// Addresses among the answers.
        addresses: Option<AddressList>,
        /// Smallest time to live of the answers.
        ttl_min: Option<Duration>,
        /// Answers that the reply's header claims.
        answer_count: Option<Count>,
        /// UDP size of the EDNS record.
        edns_size: Option<Bytes>,
        /// DNSSEC records wanted (EDNS).
        edns_do: Flag,
        /// Bytes of the query message.
        query_bytes: Option<Bytes>,
        /// Bytes of the reply message.
        reply_bytes: Option<Bytes>,
        /// Anomalies, bits of `dns::Anomaly`.
        flags: Flags,
    }
    /// A TLS handshake (ssl.log).
    Tls "tls" TlsTable TlsRow {
        /// "tcp" or "udp" (DTLS, QUIC).
        proto: Enum,
        /// Version that the server chose, in Zeek's words.
        version: Option<Enum>,
        /// Cipher suite that the server chose.
        cipher: Option<Enum>,
        /// Group of the key exchange.
        curve: Option<Enum>,
        /// Server name that the client sent.
        server_name: Option<Host>,
        /// An earlier session went on.
        resumed: Flag,
        /// Last alert.
        last_alert: Option<Enum>,
        /// Protocol that the server chose (ALPN).
        next_protocol: Option<Enum>,
        /// Both sides went over to encryption.
        established: Flag,
        /// Zeek's letters for the messages seen.
        ssl_history: Option<Enum>,
        /// SHA-256 of each certificate of the server.
        cert_chain_fps: Option<TextList>,
        /// SHA-256 of each certificate of the client.
        client_cert_chain_fps: Option<TextList>,
        /// The server name stands in the certificate.
        sni_matches_cert: Option<Flag>,
        /// Version in the client's hello.
        client_version: Option<Enum>,
        /// Versions that the client offers by extension.
        client_versions: Option<TextList>,
        /// Protocols that the client offers (ALPN).
        client_alpn: Option<TextList>,
        /// Number of cipher suites that the client offers.
        client_ciphers: Option<Count>,
        /// The client offered an encrypted hello.
        ech: Flag,
        /// JA3 of the client.
        ja3: Option<Fingerprint>,
        /// JA4 of the client.
        ja4: Option<Fingerprint>,
        /// Subject of the server's certificate.
        subject: Option<Text>,
        /// Issuer of the server's certificate.
        issuer: Option<Text>,
        /// Its serial number, hex.
        cert_serial: Option<Text>,
        /// Valid from.
        cert_not_before: Option<Time>,
        /// Valid until.
        cert_not_after: Option<Time>,
        /// Issuer and subject are the same.
        cert_self_signed: Option<Flag>,
        /// Algorithm of its key: rsa, ecdsa, dsa, ed25519, unknown.
        cert_key_type: Option<Enum>,
        /// Bits of its key.
        cert_key_length: Option<Count>,
        /// Algorithm of its signature.
        cert_sig_alg: Option<Enum>,
        /// DNS names of its alternative names.
        san_dns: Option<TextList>,
        /// Number of its alternative names.
        san_count: Option<Count>,
        /// Its SHA-256.
        cert_sha256: Option<Digest>,
        /// Its SHA-1.
        cert_sha1: Option<Digest>,
        /// Certificates that the server sent.
        cert_count: Option<Count>,
        /// Anomalies, bits of `tls::flags`.
        flags: Flags,
        /// What carries the handshake: "tls", "dtls" or "quic".
        transport: Enum,
        /// Version of QUIC.
        quic_version: Option<Enum>,
        /// JA3S of the server.
        ja3s: Option<Fingerprint>,
        /// How the certificate's issuer says that it checked its subject: dv, ov, iv, ev; self-signed; none.
        cert_policy: Option<Enum>,
    }
    /// A mail message that SMTP, POP3 or IMAP moved (smtp.log), or a session that went over to TLS before any.
    Mail "mail" MailTable MailRow {
        /// "smtp", "pop3" or "imap".
        proto: Enum,
        /// 1 for the first message of its flow.
        trans_depth: Count,
        /// What the client called itself (SMTP).
        helo: Option<Host>,
        /// Sender of the envelope.
        mailfrom: Option<MailAddress>,
        /// Recipients of the envelope.
        rcptto: Option<TextList>,
        /// Date field.
        date: Option<Text>,
        /// From field as it stands; Zeek's `from`, which is a keyword here.
        from_: Option<Text>,
        /// To fields, cut at commas.
        to: Option<TextList>,
        /// Cc fields, cut at commas.
        cc: Option<TextList>,
        /// Reply-To field.
        reply_to: Option<Text>,
        /// Message-ID field.
        msg_id: Option<Text>,
        /// In-Reply-To field.
        in_reply_to: Option<Text>,
        /// Subject field as it stands.
        subject: Option<Text>,
        /// Address in the X-Originating-IP field.
        x_originating_ip: Option<Address>,
        /// Last Received field: the first hop.
        first_received: Option<Text>,
        /// The one before it.
        second_received: Option<Text>,
        /// The server's reply to the message.
        last_reply: Option<Text>,
        /// Addresses of the connection (SMTP) and in the Received fields.
        path: Option<AddressList>,
        /// User-Agent or X-Mailer field.
        user_agent: Option<UserAgent>,
        /// The connection went over to TLS.
        tls: Flag,
        /// Address alone of the From field.
        from_addr: Option<MailAddress>,
        /// Code of the server's reply (SMTP).
        reply_code: Option<Code>,
        /// Mechanism of the authentication that was tried: a known word, or "other".
        auth: Option<Enum>,
        /// What moved it: DATA, BDAT, MAIL (an envelope alone), STARTTLS, RETR, TOP, FETCH, APPEND.
        command: Enum,
        /// Bytes of the message as moved.
        size: Bytes,
        /// Declared type of the message.
        content_type: Option<Mime>,
        /// Its parts, multiparts not counted.
        parts: Count,
        /// Declared type of each part.
        part_types: Option<TextList>,
        /// Type of each part by its bytes, empty where unknown.
        part_mimes: Option<TextList>,
        /// Bytes of each part, decoded.
        part_sizes: Option<TextList>,
        /// SHA-256 of each part, decoded, if hashes are asked for.
        part_sha256: Option<TextList>,
        /// File names of parts.
        file_names: Option<TextList>,
        /// It is a part of a message.
        partial: Flag,
        /// Anomalies, bits of `mail::flags`.
        flags: Flags,
        /// Bytes of it were never captured.
        gap: Flag,
        /// Raw header.
        head: Option<Content>,
        /// First bytes of the message, header included.
        body: Option<Content>,
    }
    /// The beginning of an SSH connection (ssh.log).
    Ssh "ssh" SshTable SshRow {
        /// Version that both speak: 1 or 2.
        version: Option<Count>,
        /// Identification of the client.
        client: Option<Text>,
        /// Identification of the server.
        server: Option<Text>,
        /// Cipher from client to server, as both would choose it.
        cipher_alg: Option<Enum>,
        /// Its authentication code.
        mac_alg: Option<Enum>,
        /// Its compression.
        compression_alg: Option<Enum>,
        /// Key exchange.
        kex_alg: Option<Enum>,
        /// Type of the server's host key.
        host_key_alg: Option<Enum>,
        /// HASSH of the client.
        hassh: Option<Fingerprint>,
        /// HASSH of the server.
        hassh_server: Option<Fingerprint>,
        /// Anomalies, bits of `ssh::flags`.
        flags: Flags,
    }
    /// An NTP message (ntp.log).
    Ntp "ntp" NtpTable NtpRow {
        /// Version.
        version: Count,
        /// Mode: 3 client, 4 server, 5 broadcast, 6 control, 7 private.
        mode: Count,
        /// Distance from a clock.
        stratum: Count,
        /// Longest time between messages.
        poll: Option<Duration>,
        /// Precision of its clock.
        precision: Option<Duration>,
        /// Round trips to the clock.
        root_delay: Option<Duration>,
        /// Dispersion to the clock.
        root_disp: Option<Duration>,
        /// Four letters of a clock, or the address of the server's server.
        ref_id: Option<Text>,
        /// When its clock was last set.
        ref_time: Option<Time>,
        /// When the request left, by the client.
        org_time: Option<Time>,
        /// When the request came, by the server.
        rec_time: Option<Time>,
        /// When this message left.
        xmt_time: Option<Time>,
        /// Extension fields.
        num_exts: Count,
        /// The originator sent it.
        is_orig: Flag,
    }
    /// A DHCP message (dhcp.log has one line an exchange).
    Dhcp "dhcp" DhcpTable DhcpRow {
        /// Identifier of the exchange.
        trans_id: Count,
        /// Kind of message in words.
        msg_type: Enum,
        /// Address of the client, when it has one.
        client_addr: Option<Address>,
        /// Address that the server gives.
        assigned_addr: Option<Address>,
        /// Address that the client asks for.
        requested_addr: Option<Address>,
        /// Address of the server.
        server_addr: Option<Address>,
        /// Link-layer address of the client.
        mac: Option<Mac>,
        /// Name of the client.
        host_name: Option<Host>,
        /// Full name of the client.
        client_fqdn: Option<Host>,
        /// Domain that the server gives.
        domain: Option<Host>,
        /// Time of the lease.
        lease_time: Option<Duration>,
        /// Message of the client.
        client_message: Option<Text>,
        /// Message of the server.
        server_message: Option<Text>,
        /// Options that the client asks for, their numbers in order: who knows it, knows the system.
        params: Option<Fingerprint>,
        /// Class of the client's software.
        vendor_class: Option<Text>,
        /// The client sent it.
        is_orig: Flag,
    }
    /// A captured packet.
    Packet "packet" PacketTable PacketRow {
        /// Bytes captured.
        caplen: Bytes,
        /// Bytes on the wire.
        wirelen: Bytes,
        /// Link type.
        linktype: Code,
        /// Tag control information of a VLAN tag that the kernel took out of the bytes.
        vlan_tci: Option<Code>,
        /// Its protocol identifier.
        vlan_tpid: Option<Code>,
        /// The checksum was left to the sender's card and is not there yet.
        checksum_unready: Flag,
        /// The packet from its link layer on.
        payload: Content,
    }
    /// A piece of a TCP stream, or a gap in it.
    Chunk "chunk" ChunkTable ChunkRow {
        /// The originator sent it.
        is_orig: Flag,
        /// Position in its direction's stream.
        offset: Bytes,
        /// Length.
        length: Bytes,
        /// The bytes are missing.
        is_gap: Flag,
        /// The bytes.
        payload: Option<Content>,
    }
    /// A UDP (or other) payload.
    Datagram "datagram" DatagramTable DatagramRow {
        /// The originator sent it.
        is_orig: Flag,
        /// Length on the wire.
        length: Bytes,
        /// The bytes captured.
        payload: Content,
    }
}
