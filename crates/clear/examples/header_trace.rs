//! What a header trace costs: `cargo run --release -p bunker-clear --example header_trace -- FILE` clears a capture file with every rule
//! on and prints packets, seconds of user time (of one pass, reading included), and packets a second. For a profiler, not for a result:
//! `bunker bench clear` measures the command as it is used.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types
)]

use std::time::Instant;

use bunker_clear::Keys;
use bunker_clear::trace::Trace;
use bunker_clear::trace::burst::Burst;
use bunker_clear::trace::file::Format;
use bunker_clear::trace::rules::Rules;
use bunker_wire::capfile::CaptureFile;

#[path = "../tests/words/mod.rs"]
mod words;

fn main() {
    let path = std::env::args().nth(1).expect("a capture file");
    let bytes = std::fs::read(path).expect("a file that can be read");
    let rules = Rules::of(words::ALL.iter().copied()).unwrap();
    let mut trace = Trace::new(rules, Keys::new(&mut [7; 32]), None);
    let mut file = CaptureFile::new();
    let (mut out, mut packets, mut written) = (Vec::new(), 0_u64, 0_u64);
    let start = Instant::now();
    let mut burst = Burst::new(Format::Pcapng);
    for piece in bytes.chunks(1 << 20) {
        out.clear();
        let _ = file.feed(piece, &mut |packet, _| {
            packets = packets.saturating_add(1);
            burst.take(packet, &mut trace, &mut out);
        });
        burst.flush(&mut trace, &mut out);
        written = written.saturating_add(out.len() as u64);
    }
    let seconds = start.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss)]
    let rate = packets as f64 / seconds;
    println!("{packets} packets, {written} bytes, {seconds:.3} s, {rate:.0} packets/s");
}
