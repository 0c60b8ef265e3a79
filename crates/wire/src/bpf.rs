//! Classic BPF: the filter programs of libpcap, for packets that no kernel has filtered.
//!
//! Rules of this file:
//! 1. A program is checked once: known instructions, jumps forward and inside, a return at the end. A checked program always ends.
//! 2. A load beyond the packet returns 0 (the packet is left out), as in the kernel.
use crate::bytes::{be16, be32};

/// One instruction, as libpcap and the kernel lay it out.
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// Operation.
    pub code: u16,
    /// Jump if true.
    pub jt: u8,
    /// Jump if false.
    pub jf: u8,
    /// Operand.
    pub k: u32,
}

/// Longest program. The kernel's limit (BPF_MAXINSNS).
pub const MAX_INSTRUCTIONS: usize = 4096;

/// A checked program.
#[derive(Clone, Debug)]
pub struct Program(Vec<Instruction>);

impl Program {
    /// From the kernel's byte layout: u16 code, u8 jt, u8 jf, u32 k, native (little) endian, eight bytes each.
    ///
    /// None if it is not a program that always ends.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || chunks.is_empty() || chunks.len() > MAX_INSTRUCTIONS {
            return None;
        }
        let program: Vec<Instruction> = chunks
            .iter()
            .map(|[c0, c1, jt, jf, k0, k1, k2, k3]| Instruction {
                code: u16::from_le_bytes([*c0, *c1]),
                jt: *jt,
                jf: *jf,
                k: u32::from_le_bytes([*k0, *k1, *k2, *k3]),
            })
            .collect();
        let length = program.len();
        for (at, instruction) in program.iter().enumerate() {
            let inside =
                |jump: usize| at.checked_add(1).and_then(|next| next.checked_add(jump)).is_some_and(|to| to < length);
            let ok = match instruction.code {
                0x05 => inside(instruction.k as usize),
                0x15 | 0x1D | 0x25 | 0x2D | 0x35 | 0x3D | 0x45 | 0x4D => {
                    inside(usize::from(instruction.jt)) && inside(usize::from(instruction.jf))
                }
                0x02 | 0x03 | 0x60 | 0x61 => instruction.k < 16,
                0x34 | 0x94 => instruction.k != 0,
                0x00 | 0x01 | 0x04 | 0x06 | 0x07 | 0x0C | 0x14 | 0x16 | 0x1C | 0x20 | 0x24 | 0x28 | 0x2C | 0x30
                | 0x3C | 0x40 | 0x44 | 0x48 | 0x4C | 0x50 | 0x54 | 0x5C | 0x64 | 0x6C | 0x74 | 0x7C | 0x80 | 0x81
                | 0x84 | 0x87 | 0x9C | 0xA4 | 0xAC | 0xB1 => true,
                _ => false,
            };
            if !ok {
                return None;
            }
        }
        matches!(program.last().map(|last| last.code), Some(0x06 | 0x16)).then_some(Self(program))
    }

    /// How many bytes of the packet to keep; 0 leaves it out.
    #[must_use]
    pub fn run(&self, packet: &[u8], wire_len: u32) -> u32 {
        let mut accumulator = 0_u32;
        let mut index = 0_u32;
        let mut memory = [0_u32; 16];
        let mut at = 0_usize;
        while let Some(instruction) = self.0.get(at) {
            let k = instruction.k;
            at = at.saturating_add(1);
            let word = |offset: u32| be32(packet, offset as usize);
            let half = |offset: u32| be16(packet, offset as usize).map(u32::from);
            let byte = |offset: u32| packet.get(offset as usize).copied().map(u32::from);
            let loaded = match instruction.code {
                0x20 => word(k),
                0x28 => half(k),
                0x30 => byte(k),
                0x40 => index.checked_add(k).and_then(word),
                0x48 => index.checked_add(k).and_then(half),
                0x50 => index.checked_add(k).and_then(byte),
                0x80 => Some(wire_len),
                0x00 => Some(k),
                0x60 => memory.get(k as usize).copied(),
                0x87 => Some(index),
                _ => {
                    match self.step(*instruction, packet, wire_len, &mut accumulator, &mut index, &mut memory) {
                        Step::Next => {}
                        Step::Jump(by) => at = at.saturating_add(by),
                        Step::Return(kept) => return kept,
                    }
                    continue;
                }
            };
            match loaded {
                Some(value) => accumulator = value,
                None => return 0,
            }
        }
        0
    }

    #[allow(clippy::unused_self)] // a method so that it reads beside `run`
    fn step(
        &self,
        instruction: Instruction,
        packet: &[u8],
        wire_len: u32,
        accumulator: &mut u32,
        index: &mut u32,
        memory: &mut [u32; 16],
    ) -> Step {
        let (code, k) = (instruction.code, instruction.k);
        let operand = if code & 0x08 == 0 { k } else { *index };
        match code {
            0x06 => return Step::Return(k),
            0x16 => return Step::Return(*accumulator),
            0x05 => return Step::Jump(k as usize),
            0x15 | 0x1D | 0x25 | 0x2D | 0x35 | 0x3D | 0x45 | 0x4D => {
                let holds = match code & 0xF7 {
                    0x15 => *accumulator == operand,
                    0x25 => *accumulator > operand,
                    0x35 => *accumulator >= operand,
                    _ => *accumulator & operand != 0,
                };
                return Step::Jump(usize::from(if holds { instruction.jt } else { instruction.jf }));
            }
            0x01 => *index = k,
            0x61 => *index = memory.get(k as usize).copied().unwrap_or(0),
            0x81 => *index = wire_len,
            0xB1 => match packet.get(k as usize) {
                Some(byte) => *index = u32::from(byte & 0x0F) << 2,
                None => return Step::Return(0),
            },
            0x07 => *index = *accumulator,
            0x02 | 0x03 => {
                if let Some(place) = memory.get_mut(k as usize) {
                    *place = if code == 0x02 { *accumulator } else { *index };
                }
            }
            _ => match arithmetic(code & 0xF0, *accumulator, operand) {
                Some(value) => *accumulator = value,
                None => return Step::Return(0),
            },
        }
        Step::Next
    }
}

enum Step {
    Next,
    Jump(usize),
    Return(u32),
}

/// 32-bit arithmetic, wrapping as the kernel's; None for a division by zero.
fn arithmetic(operation: u16, one: u32, other: u32) -> Option<u32> {
    Some(match operation {
        0x00 => one.wrapping_add(other),
        0x10 => one.wrapping_sub(other),
        0x20 => one.wrapping_mul(other),
        0x30 => one.checked_div(other)?,
        0x40 => one | other,
        0x50 => one & other,
        0x60 => one.checked_shl(other).unwrap_or(0),
        0x70 => one.checked_shr(other).unwrap_or(0),
        0x80 => one.wrapping_neg(),
        0x90 => one.checked_rem(other)?,
        _ => one ^ other,
    })
}
