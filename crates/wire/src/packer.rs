//! Packets of capture files into blocks, over lanes: what the ring and the kernel's fanout do for a live interface.
//!
//! Rules of this file:
//! 1. A packet is filtered, cut to the snaplen, given to a lane and copied into that lane's block: nothing else is decided here.
//! 2. A filter is compiled for a link type; where there is no program for one, nothing of that link passes (counted).
use std::collections::HashMap;

use crate::block::{PackedBlock, PackedWriter};
use crate::bpf::Program;
use crate::capfile::{CaptureFile, Fault};
use crate::flowhash::{Seed, lane_of};
use crate::packet::Packet;

/// Packets by what became of them here.
#[derive(Clone, Copy, Default, Debug)]
pub struct PackerCounters {
    /// Read from the file.
    pub read: u64,
    /// Left out by the filter.
    pub filtered: u64,
    /// Cut by the snaplen.
    pub cut: u64,
    /// Longer than a block: left out.
    pub too_long: u64,
}

/// A capture file on its way into blocks.
pub struct Packer {
    file: CaptureFile,
    lanes: Lanes,
}

struct Lanes {
    writers: Vec<PackedWriter>,
    filters: Option<HashMap<u16, Program>>,
    snaplen: usize,
    seed: Seed,
    full: Vec<(u16, PackedBlock)>,
    counters: PackerCounters,
}

impl Packer {
    /// A packer for one capture file after another.
    ///
    /// `filters`: None passes everything; otherwise a program by link type.
    #[must_use]
    pub fn new(
        lanes: u16,
        block_bytes: usize,
        snaplen: usize,
        filters: Option<HashMap<u16, Program>>,
        seed: [u8; 16],
    ) -> Self {
        let writers = (0..lanes.max(1)).map(|_| PackedWriter::new(block_bytes)).collect();
        Self {
            file: CaptureFile::new(),
            lanes: Lanes {
                writers,
                filters,
                snaplen,
                seed: Seed::new(seed),
                full: Vec::new(),
                counters: PackerCounters::default(),
            },
        }
    }

    /// Take bytes of the file.
    ///
    /// # Errors
    /// [`Fault`]: the file is damaged; what was readable is in the blocks.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let lanes = &mut self.lanes;
        self.file.feed(bytes, &mut |packet, interface| lanes.push(packet, interface))
    }

    /// The file has ended; the next `feed` begins another one.
    ///
    /// # Errors
    /// [`Fault`]: the file ends where it must not.
    pub fn end_file(&mut self) -> Result<(), Fault> {
        let lanes = &mut self.lanes;
        let result = self.file.finish(&mut |packet, interface| lanes.push(packet, interface));
        self.file = CaptureFile::new();
        result
    }

    /// Blocks that are full, with their lanes.
    pub fn take_full(&mut self) -> Vec<(u16, PackedBlock)> {
        core::mem::take(&mut self.lanes.full)
    }

    /// The blocks begun: nothing more will come.
    pub fn take_rest(&mut self) -> Vec<(u16, PackedBlock)> {
        let mut blocks = self.take_full();
        for (lane, writer) in self.lanes.writers.iter_mut().enumerate() {
            if let (Some(block), Ok(lane)) = (writer.take(), u16::try_from(lane)) {
                blocks.push((lane, block));
            }
        }
        blocks
    }

    /// Counts so far.
    #[must_use]
    pub const fn counters(&self) -> PackerCounters {
        self.lanes.counters
    }
}

impl Lanes {
    fn push(&mut self, packet: &Packet<'_>, interface: u32) {
        self.counters.read = self.counters.read.saturating_add(1);
        let mut keep = self.snaplen;
        if let Some(filters) = &self.filters {
            let passed =
                filters.get(&packet.linktype).map_or(0, |program| program.run(packet.captured, packet.wire_len));
            if passed == 0 {
                self.counters.filtered = self.counters.filtered.saturating_add(1);
                return;
            }
            keep = keep.min(passed as usize);
        }
        let mut packet = *packet;
        if let Some(shorter) = packet.captured.get(..keep) {
            if shorter.len() < packet.captured.len() {
                self.counters.cut = self.counters.cut.saturating_add(1);
            }
            packet.captured = shorter;
        }
        let lane = lane_of(&packet, self.seed, u16::try_from(self.writers.len()).unwrap_or(1));
        let Some(writer) = self.writers.get_mut(usize::from(lane)) else { return };
        if writer.push(&packet, interface) {
            return;
        }
        if let Some(block) = writer.take() {
            self.full.push((lane, block));
        }
        if !writer.push(&packet, interface) {
            self.counters.too_long = self.counters.too_long.saturating_add(1);
        }
    }
}
