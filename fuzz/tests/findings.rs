//! Inputs that once failed a target, and the seeds: all of them hold.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use bunker_fuzz::{TARGETS, seeds};

#[test]
fn seeds_hold() {
    for (name, target) in TARGETS {
        for seed in seeds(name) {
            target(&seed);
        }
        for length in 0..4 {
            target(&vec![0xC1; length]);
        }
    }
}

#[test]
fn former_findings_hold() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut found = 0;
    for entry in std::fs::read_dir(folder).expect("regressions are part of the tree") {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if let Some((_, target)) = TARGETS.iter().find(|(target, _)| name.starts_with(&format!("{target}-"))) {
            target(&std::fs::read(&path).unwrap());
            found += 1;
        }
    }
    assert!(found > 0, "no regression was run");
}
