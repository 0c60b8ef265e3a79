//! `smoke SECONDS [FILE...]`: every target over its seeds, mutated, and `capture_file` over capture files cut at every 7th byte and with
//! flipped bits, for about so many seconds of processor time in all. Same seed, same inputs; the first input that fails is written to
//! `fuzz/findings` and named.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::panic)] // a command

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bunker_fuzz::{TARGETS, Target, seeds};

/// xorshift64*: mutations need no better one, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() >> 16).unwrap_or(0).checked_rem(bound).unwrap_or(0)
    }
}

fn mutated(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    const WORDS: [&[u8]; 12] = [
        b"\r\n",
        b"\r\n\r\n",
        b"\0",
        b"\xff\xff",
        b"Content-Length: 9\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"HTTP/1.1",
        b"GET / HTTP/1.1\r\n\r\n",
        b"0\r\n\r\n",
        b"\xc0\x0c",
        b"\xc0\0\x10",
        b"\x7f\xff\xff\xff",
    ];
    let mut out = seed.to_vec();
    for _ in 0..dice.below(6).saturating_add(1) {
        let at = dice.below(out.len().saturating_add(1));
        match dice.below(6) {
            0 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte ^= 1u8.wrapping_shl(u32::try_from(dice.below(8)).unwrap_or(0));
                }
            }
            1 => {
                if let Some(byte) = out.get_mut(at) {
                    *byte = u8::try_from(dice.below(256)).unwrap_or(0);
                }
            }
            2 => out.truncate(at),
            3 => {
                let word = WORDS.get(dice.below(WORDS.len())).copied().unwrap_or_default();
                out.splice(at..at, word.iter().copied());
            }
            4 => {
                let end = at.saturating_add(dice.below(40)).min(out.len());
                out.drain(at..end);
            }
            _ => {
                let end = at.saturating_add(dice.below(200)).min(out.len());
                let part = out.get(at..end).unwrap_or_default().to_vec();
                out.splice(at..at, part);
            }
        }
        out.truncate(1 << 16);
    }
    out
}

struct Run {
    until: Instant,
    tried: u64,
}

impl Run {
    /// One input. Returns false when the time is over.
    fn try_one(&mut self, name: &str, target: Target, input: &[u8]) -> bool {
        let begun = Instant::now();
        if catch_unwind(|| target(input)).is_err() {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("findings");
            let file = folder.join(format!("{name}-{}", self.tried));
            let _ = std::fs::create_dir_all(&folder);
            let _ = std::fs::write(&file, input);
            panic!("{name} failed; its input is {}", file.display());
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{name} took {took:?} for {} bytes", input.len());
        self.tried = self.tried.saturating_add(1);
        Instant::now() < self.until
    }

    /// Cuts at every 7th byte and flipped bits of a capture file; of a long one as many as the time allows, spread over it.
    fn file(&mut self, file: &Path, content: &[u8], dice: &mut Dice, inputs: usize) {
        let cuts = content.len() / 7;
        let step = (cuts / inputs.max(1)).max(1).saturating_mul(7);
        for cut in (0..content.len()).step_by(step) {
            self.try_one(
                &file.display().to_string().replace('/', "_"),
                bunker_fuzz::capture_file,
                content.get(..cut).unwrap_or_default(),
            );
        }
        for _ in 0..inputs {
            let mut flipped = content.to_vec();
            for _ in 0..dice.below(4).saturating_add(1) {
                let at = dice.below(flipped.len());
                if let Some(byte) = flipped.get_mut(at) {
                    *byte ^= 1u8.wrapping_shl(u32::try_from(dice.below(8)).unwrap_or(0));
                }
            }
            self.try_one(&file.display().to_string().replace('/', "_"), bunker_fuzz::capture_file, &flipped);
        }
    }
}

fn main() {
    let mut words = std::env::args().skip(1);
    let seconds = words.next().and_then(|word| word.parse().ok()).unwrap_or(10);
    let files: Vec<PathBuf> = words.map(PathBuf::from).collect();
    let begun = Instant::now();
    let mut dice = Dice(0x9E37_79B9_7F4A_7C15);
    let share = Duration::from_secs(seconds) / u32::try_from(TARGETS.len()).unwrap_or(1);
    let mut run = Run { until: begun, tried: 0 };
    for (name, target) in TARGETS {
        run.until = Instant::now() + share;
        let before = run.tried;
        let first = seeds(name);
        let mut pool = first.clone();
        let mut goes_on = first.iter().all(|seed| run.try_one(name, target, seed));
        while goes_on && !pool.is_empty() {
            let seed = pool.get(dice.below(pool.len())).cloned().unwrap_or_default();
            let input = mutated(&seed, &mut dice);
            goes_on = run.try_one(name, target, &input);
            if pool.len() < 64 && dice.below(50) == 0 {
                pool.push(input); // mutations of mutations reach further
            }
        }
        println!("{name}: {} inputs", run.tried.saturating_sub(before));
    }
    let before = run.tried;
    for file in &files {
        let Ok(content) = std::fs::read(file) else { panic!("cannot read {}", file.display()) };
        let every = std::env::var_os("EVERY_CUT").is_some();
        run.file(file, &content, &mut dice, if every { usize::MAX >> 8 } else { 12 });
    }
    println!("capture files: {} inputs of {} files", run.tried.saturating_sub(before), files.len());
    println!("smoke: {} inputs in {:.0} s, nothing found", run.tried, begun.elapsed().as_secs_f64());
}
