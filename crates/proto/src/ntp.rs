//! NTP (RFC 5905, RFC 1305 for the control modes): one row a message.
//!
//! Limits: [`EXTENSIONS`].
use bunker_wire::bytes::{be16, be32};
use bunker_wire::{Direction, Flow};

use crate::columns::{MessageKind, NtpRow, push_decimal};
use crate::parser::{Context, DatagramParser, Service, Step};

/// Extension fields counted in one message. NTS uses 4.
pub const EXTENSIONS: u64 = 16;

const HEADER: usize = 48;
const PORT: u16 = 123;
/// Seconds between 1900 and 1970 (RFC 5905, figure 4).
const EPOCH: u64 = 2_208_988_800;
const SECOND: u64 = 1_000_000_000;

/// Whether `payload` is an NTP message; off the port its form must leave little doubt.
#[must_use]
pub fn looks_like_ntp(flow: &Flow, payload: &[u8]) -> bool {
    let Some(first) = payload.first() else { return false };
    let (version, mode) = ((first >> 3) & 7, first & 7);
    if !(1..=4).contains(&version) || mode == 0 {
        return false;
    }
    if mode >= 6 {
        return (flow.resp.port == PORT || flow.orig.port == PORT) && payload.len() >= 8;
    }
    if payload.len() < HEADER {
        return false;
    }
    if flow.resp.port == PORT || flow.orig.port == PORT {
        return true;
    }
    // Length with nothing, an authenticator of 20 or 24 bytes; a stratum there is; a poll interval up to 36 h, a clock that ticks.
    let stratum = payload.get(1).copied().unwrap_or(255);
    let poll = payload.get(2).copied().unwrap_or(255);
    let precision = payload.get(3).copied().unwrap_or(0);
    let sent = be32(payload, 40).unwrap_or(0);
    version >= 3
        && matches!(payload.len(), 48 | 68 | 72)
        && matches!(mode, 3 | 4)
        && stratum <= 16
        && poll <= 17
        && (precision == 0 || precision >= 0xE0)
        && (mode == 3 || sent != 0)
}

/// NTP in datagrams.
#[derive(Default)]
pub struct NtpDatagrams;

/// A timestamp in ns since 1970; None if it is not set. Below the half of the first era the second one is meant (2036 and later).
fn time_ns(bytes: &[u8], at: usize) -> Option<u64> {
    let (seconds, fraction) = (u64::from(be32(bytes, at)?), u64::from(be32(bytes, at.checked_add(4)?)?));
    if seconds == 0 && fraction == 0 {
        return None;
    }
    let seconds = if seconds < EPOCH { seconds.checked_add(1 << 32)? } else { seconds };
    seconds.checked_sub(EPOCH)?.checked_mul(SECOND)?.checked_add(fraction.checked_mul(SECOND)? >> 32)
}

/// A short format number (16.16) in ns.
fn short_ns(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(be32(bytes, at)?).checked_mul(SECOND)? >> 16)
}

/// 2 to the power of a signed byte, in ns.
fn power_ns(exponent: u8) -> Option<u64> {
    let exponent = i8::from_be_bytes([exponent]);
    let shift = u32::from(exponent.unsigned_abs());
    if exponent >= 0 {
        SECOND.checked_mul(1u64.checked_shl(shift)?)
    } else {
        Some(SECOND.checked_shr(shift).unwrap_or(0))
    }
}

fn reference(stratum: u8, id: &[u8], out: &mut Vec<u8>) {
    if stratum <= 1 {
        let end = id.iter().position(|byte| *byte == 0).unwrap_or(id.len());
        out.extend_from_slice(id.get(..end).unwrap_or_default());
        return;
    }
    for (index, byte) in id.iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        push_decimal(out, u64::from(*byte));
    }
}

fn extensions(payload: &[u8]) -> u64 {
    let (mut count, mut at) = (0u64, HEADER);
    // The last 20 or 24 bytes may be an authenticator without a length (RFC 7822 section 3).
    while payload.len().saturating_sub(at) >= 28 && count < EXTENSIONS {
        let Some(length) = be16(payload, at.saturating_add(2)).map(usize::from) else { break };
        if length < 16 || length % 4 != 0 || at.saturating_add(length) > payload.len() {
            break;
        }
        count = count.saturating_add(1);
        at = at.saturating_add(length);
    }
    count
}

impl DatagramParser for NtpDatagrams {
    fn datagram(
        &mut self,
        context: &mut Context<'_>,
        direction: Direction,
        payload: &[u8],
        _wire_len: usize,
        ts_ns: u64,
    ) -> Step {
        let [first, stratum, poll, precision, ..] = payload else { return Step::More };
        let (version, mode) = ((first >> 3) & 7, first & 7);
        if !looks_like_ntp(context.flow, payload) {
            return Step::More; // a stray datagram does not end a flow that lasts for weeks
        }
        context.confirm(Service::Ntp);
        if !context.wanted.has(MessageKind::Ntp) {
            return Step::More;
        }
        let is_clock = mode < 6;
        let clock = |value: Option<u64>| if is_clock { value } else { None };
        let mut id = Vec::new();
        if is_clock {
            reference(*stratum, payload.get(12..16).unwrap_or_default(), &mut id);
        }
        let row = NtpRow {
            version: u64::from(version),
            mode: u64::from(mode),
            stratum: if is_clock { u64::from(*stratum) } else { 0 },
            poll: clock(power_ns(*poll)),
            precision: clock(power_ns(*precision)),
            root_delay: clock(short_ns(payload, 4)),
            root_disp: clock(short_ns(payload, 8)),
            ref_id: is_clock.then_some(id.as_slice()),
            ref_time: clock(time_ns(payload, 16)),
            org_time: clock(time_ns(payload, 24)),
            rec_time: clock(time_ns(payload, 32)),
            xmt_time: clock(time_ns(payload, 40)),
            num_exts: if is_clock { extensions(payload) } else { 0 },
            is_orig: direction == Direction::Orig,
        };
        let origin = context.origin(ts_ns);
        context.tables.Ntp.push(origin, row);
        Step::More
    }

    fn closed(&mut self, _context: &mut Context<'_>) {}

    fn live_bytes(&self) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_the_rfc() {
        // 1970-01-01, and a half second behind the end of the first era (2036-02-07 06:28:16).
        assert_eq!(time_ns(&[0x83, 0xAA, 0x7E, 0x80, 0x80, 0, 0, 0], 0), Some(500_000_000));
        assert_eq!(time_ns(&[0, 0, 0, 0, 0x80, 0, 0, 0], 0), Some(2_085_978_496_500_000_000));
        assert_eq!(time_ns(&[0; 8], 0), None);
        assert_eq!(short_ns(&[0, 1, 0x80, 0], 0), Some(1_500_000_000));
        assert_eq!((power_ns(6), power_ns(0xEC), power_ns(0x80)), (Some(64 * SECOND), Some(953), Some(0)));
        assert_eq!(power_ns(0x7F), None);
    }

    #[test]
    fn extensions_are_counted_up_to_the_limit() {
        for (count, found) in [(0usize, 0), (1, 1), (16, EXTENSIONS), (17, EXTENSIONS)] {
            let mut payload = vec![0; HEADER];
            (0..count).for_each(|_| payload.extend_from_slice(&[[1, 4, 0, 28].as_slice(), &[0; 24]].concat()));
            assert_eq!(extensions(&payload), found);
        }
    }
}
