//! Media types by content: the first bytes of a body, as far as they tell.

const SIGNATURES: &[(&[u8], &str)] = &[
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/x-ms-bmp"),
    (b"\x00\x00\x01\x00", "image/x-icon"),
    (b"%PDF-", "application/pdf"),
    (b"%!", "application/postscript"),
    (b"PK\x03\x04", "application/zip"),
    (b"PK\x05\x06", "application/zip"),
    (b"\x1f\x8b", "application/x-gzip"),
    (b"BZh", "application/x-bzip2"),
    (b"\xfd7zXZ\x00", "application/x-xz"),
    (b"7z\xbc\xaf\x27\x1c", "application/x-7z-compressed"),
    (b"Rar!\x1a\x07", "application/x-rar"),
    (b"MSCF", "application/vnd.ms-cab-compressed"),
    (b"MZ", "application/x-dosexec"),
    (b"\x7fELF", "application/x-executable"),
    (b"FWS", "application/x-shockwave-flash"),
    (b"CWS", "application/x-shockwave-flash"),
    (b"ZWS", "application/x-shockwave-flash"),
    (b"OggS", "application/ogg"),
    (b"ID3", "audio/mpeg"),
    (b"fLaC", "audio/flac"),
    (b"FLV\x01", "video/x-flv"),
    (b"\x1aE\xdf\xa3", "video/webm"),
    (b"wOFF", "application/font-woff"),
    (b"wOF2", "application/font-woff2"),
    (b"{\\rtf", "text/rtf"),
    (b"\xca\xfe\xba\xbe", "application/x-java-applet"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "application/msword"),
];

/// The media type of a body that starts like this, None if there is nothing to tell by.
#[must_use]
pub fn media_type(start: &[u8]) -> Option<&'static str> {
    if start.is_empty() {
        return None;
    }
    // Text begins with none of the signatures' bytes but these; it is by far the most common.
    if !matches!(start.first(), Some(b'<' | b' ' | b'\n' | b'\r' | b'\t' | b'a'..=b'v' | b'x'..=b'z' | b'[' | b'/'))
        && let Some((_, kind)) = SIGNATURES.iter().find(|(signature, _)| start.starts_with(signature))
    {
        return Some(kind);
    }
    if start.starts_with(b"RIFF") {
        return match start.get(8..12) {
            Some(b"WEBP") => Some("image/webp"),
            Some(b"WAVE") => Some("audio/x-wav"),
            Some(b"AVI ") => Some("video/x-msvideo"),
            _ => None,
        };
    }
    if start.get(4..8) == Some(b"ftyp") {
        return Some("video/mp4");
    }
    textual(start)
}

fn textual(start: &[u8]) -> Option<&'static str> {
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    let trimmed = text.trim_ascii_start();
    let mut lower = [0u8; 16];
    for (place, byte) in lower.iter_mut().zip(trimmed) {
        *place = byte.to_ascii_lowercase();
    }
    if lower.starts_with(b"<!doctype html")
        || lower.starts_with(b"<html")
        || lower.starts_with(b"<head")
        || lower.starts_with(b"<body")
        || lower.starts_with(b"<title")
        || lower.starts_with(b"<script")
    {
        return Some("text/html");
    }
    if lower.starts_with(b"<?xml") {
        return Some(if trimmed.windows(4).any(|part| part == b"<svg") { "image/svg+xml" } else { "application/xml" });
    }
    if lower.starts_with(b"<svg") {
        return Some("image/svg+xml");
    }
    let odd = start.iter().fold(0u8, |seen, byte| {
        let control = (*byte < 0x20) & !(0x07..=0x0D).contains(byte) & (*byte != 0x1B);
        seen | u8::from(control) | u8::from(*byte == 0x7F)
    });
    if odd != 0 {
        return None;
    }
    if matches!(trimmed.first(), Some(b'{' | b'[')) && looks_like_json(trimmed) {
        return Some("text/json");
    }
    let ascii_or_utf8 = match core::str::from_utf8(start) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none(), // cut inside a character
    };
    ascii_or_utf8.then_some("text/plain")
}

/// `{` and then a string or `}`; `[` and then the start of a value or `]`.
fn looks_like_json(text: &[u8]) -> bool {
    let rest = text.get(1..).unwrap_or(&[]).trim_ascii_start();
    match (text.first(), rest.first()) {
        (Some(b'{'), Some(b'"' | b'}')) => true,
        (Some(b'['), Some(byte)) => matches!(byte, b'"' | b'{' | b'[' | b']' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n'),
        _ => false,
    }
}
