//! Statistics of one direction of a flow: sizes, times between packets, round trips, windows.
//!
//! Rules of this file:
//! 1. Kept, when statistics are asked for, from the second packet of a flow, or the first with payload, on: a flow that is nothing
//!    but a SYN costs nothing here. Else only when something went wrong: a retransmission, a hole, a contradiction.
//! 2. A round trip is from a segment with new data to the first acknowledgement that covers it, seen here: the part of the path
//!    between this place and the one who acknowledges. None is taken from data that was sent twice (Karn's rule).
//!
//! Source: the fields of tstat and tcptrace (retransmissions, out of order, round trips, windows, bytes in flight), sizes and gaps as
//! nfstream names them.

/// What was measured of one direction. Times in nanoseconds.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    /// Payload bytes in segments all of whose bytes had come before.
    pub retransmitted_bytes: u64,
    /// Bytes that were never captured.
    pub missed_bytes: u64,
    /// Sum of the round trips, ns.
    rtt_sum_ns: u64,
    /// When the segment that is waited for was sent, ns.
    pending_since_ns: u64,
    /// Offset that an acknowledgement must reach; 0: nothing is waited for.
    pending_end: u64,
    /// Capture time of the last packet, ns; 0: none yet.
    last_ns: u64,
    /// Sum of squares of the lengths of IP packets.
    length_squares: u64,
    /// Sum of squares of the times between packets, ns².
    gap_squares: f64,
    gap_sum_ns: u64,
    gap_min_ns: u64,
    gap_max_ns: u64,
    rtt_min_ns: u64,
    rtt_max_ns: u64,
    /// Round trips taken.
    pub rtt_samples: u32,
    /// Segments all of whose bytes had come before.
    pub retransmissions: u32,
    /// Segments beyond a hole.
    pub out_of_order: u32,
    /// Acknowledgements without data or another window that repeat the one before.
    pub duplicate_acks: u32,
    /// Overlaps whose bytes differed from what was held.
    pub inconsistencies: u32,
    /// Windows of zero announced.
    pub zero_windows: u32,
    /// Largest window announced but in a SYN, bytes, scaled if both sides' scales were seen.
    pub window_max: u32,
    /// Most bytes sent and not acknowledged yet, as seen here.
    pub in_flight_max: u32,
    last_ack: u32,
    last_window: u16,
    /// Union of the TCP flags.
    pub flags: u8,
    /// Smallest time to live or hop limit.
    pub ttl_min: u8,
    /// Largest.
    pub ttl_max: u8,
    packets: u32,
    length_min: u32,
    length_max: u32,
}

impl Measures {
    /// Count a packet.
    pub fn packet(&mut self, length: usize, ttl: u8, ts_ns: u64) {
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        if self.packets == 0 {
            (self.length_min, self.ttl_min) = (length, ttl);
        } else {
            let gap = ts_ns.saturating_sub(self.last_ns);
            if self.packets == 1 {
                self.gap_min_ns = gap;
            }
            self.gap_min_ns = self.gap_min_ns.min(gap);
            self.gap_max_ns = self.gap_max_ns.max(gap);
            self.gap_sum_ns = self.gap_sum_ns.saturating_add(gap);
            #[allow(clippy::cast_precision_loss)] // a square of nanoseconds: 53 bits are exact enough
            let gap = gap as f64;
            self.gap_squares += gap * gap;
        }
        self.length_min = self.length_min.min(length);
        self.length_max = self.length_max.max(length);
        let square = u64::from(length).saturating_mul(u64::from(length));
        self.length_squares = self.length_squares.saturating_add(square);
        self.ttl_min = self.ttl_min.min(ttl);
        self.ttl_max = self.ttl_max.max(ttl);
        self.last_ns = self.last_ns.max(ts_ns);
        self.packets = self.packets.saturating_add(1);
    }

    /// An overlap; `differs` if its bytes were others.
    pub fn note_inconsistency(&mut self, differs: bool) {
        self.inconsistencies = self.inconsistencies.saturating_add(u32::from(differs));
    }

    /// An acknowledgement without payload. `window` as announced.
    pub const fn bare_ack(&mut self, ack: u32, window: u16) {
        if self.last_ack == ack && self.last_window == window {
            self.duplicate_acks = self.duplicate_acks.saturating_add(1);
        }
        (self.last_ack, self.last_window) = (ack, window);
    }

    /// New data up to `end` was sent; `acked` is what the other side has acknowledged.
    pub fn sent(&mut self, end: u64, acked: u64, ts_ns: u64) {
        if self.pending_end == 0 {
            (self.pending_end, self.pending_since_ns) = (end, ts_ns);
        }
        let flying = u32::try_from(end.saturating_sub(acked)).unwrap_or(u32::MAX);
        self.in_flight_max = self.in_flight_max.max(flying);
    }

    /// A segment came again: what is waited for says nothing of the path any more.
    pub const fn sent_again(&mut self, length: usize) {
        self.retransmissions = self.retransmissions.saturating_add(1);
        self.retransmitted_bytes = self.retransmitted_bytes.saturating_add(length as u64);
        self.pending_end = 0;
    }

    /// The other side has acknowledged up to `acked`.
    pub fn acknowledged(&mut self, acked: u64, ts_ns: u64) {
        if self.pending_end == 0 || acked < self.pending_end {
            return;
        }
        self.pending_end = 0;
        let rtt = ts_ns.saturating_sub(self.pending_since_ns);
        self.rtt_min_ns = if self.rtt_samples == 0 { rtt } else { self.rtt_min_ns.min(rtt) };
        self.rtt_max_ns = self.rtt_max_ns.max(rtt);
        self.rtt_sum_ns = self.rtt_sum_ns.saturating_add(rtt);
        self.rtt_samples = self.rtt_samples.saturating_add(1);
    }

    /// Smallest, mean and largest round trip, ns.
    #[must_use]
    pub fn rtt(&self) -> Option<[u64; 3]> {
        let mean = self.rtt_sum_ns.checked_div(u64::from(self.rtt_samples))?;
        Some([self.rtt_min_ns, mean, self.rtt_max_ns])
    }

    /// Smallest, mean, largest length of the IP packets and the standard deviation, bytes; `total` is their sum.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // statistics
    pub fn lengths(&self, total: u64) -> Option<Spread> {
        (self.packets > 0).then(|| {
            Spread::of(
                self.packets,
                total as f64,
                self.length_squares as f64,
                self.length_min.into(),
                self.length_max.into(),
            )
        })
    }

    /// Smallest, mean, largest time between packets and the standard deviation, ns.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // statistics
    pub fn gaps(&self) -> Option<Spread> {
        let gaps = self.packets.checked_sub(1).filter(|gaps| *gaps > 0)?;
        Some(Spread::of(gaps, self.gap_sum_ns as f64, self.gap_squares, self.gap_min_ns, self.gap_max_ns))
    }

    /// Whether a packet was counted.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.packets == 0
    }
}

/// A distribution in four numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Smallest.
    pub min: u64,
    /// Mean, rounded.
    pub mean: u64,
    /// Largest.
    pub max: u64,
    /// Standard deviation of the population, rounded.
    pub deviation: u64,
}

impl Spread {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturating, and never negative
    fn of(count: u32, sum: f64, squares: f64, min: u64, max: u64) -> Self {
        let mean = sum / f64::from(count);
        let variance = (squares / f64::from(count) - mean * mean).max(0.0);
        Self { min, mean: mean.round() as u64, max, deviation: variance.sqrt().round() as u64 }
    }
}
