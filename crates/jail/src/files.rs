//! Landlock: which files a process may open, whatever the mounts say.
//!
//! Rules of this file:
//! 1. Read and execute below the listed paths, write to /dev/null and the own scratch directory, nothing else.
//! 2. TCP bind and connect, signals and abstract sockets towards the outside are denied where the kernel's version can.
//! 3. Best effort by version, and the record says which version it was; Landlock is never the only thing that denies the network.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, RestrictionStatus, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::record::Record;
use crate::root::SCRATCH;
use crate::spec::{Role, Spec, Surroundings};
use crate::sys;

/// The newest version whose rights this file names.
const KNOWN: ABI = ABI::V7;

/// Restrict this process; entries `landlock_files`, `landlock_network`, `landlock_scope`.
pub fn restrict(spec: &Spec, record: &mut Record) {
    let version = sys::landlock_version();
    let status = match apply(spec) {
        Ok(status) => status,
        Err(_) => return all_missing(record, "the kernel refused the rules"),
    };
    if status.ruleset == RulesetStatus::NotEnforced {
        return all_missing(record, "this kernel has no Landlock (5.13 and newer, lsm=landlock)");
    }
    record.enforced("landlock_files", format!("ABI {version}"));
    for (name, since, kernel) in [("landlock_network", 4, "6.7"), ("landlock_scope", 6, "6.12")] {
        if version >= since {
            record.enforced(name, format!("ABI {version}"));
        } else {
            record.missing(name, format!("ABI {version}; needs {since} (Linux {kernel})"));
        }
    }
}

fn all_missing(record: &mut Record, why: &str) {
    for name in ["landlock_files", "landlock_network", "landlock_scope"] {
        record.missing(name, why);
    }
}

fn apply(spec: &Spec) -> Result<RestrictionStatus, RulesetError> {
    let reading = AccessFs::Execute | AccessFs::ReadFile | AccessFs::ReadDir;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .add_rules(path_beneath_rules(&spec.readable, reading))?
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?
        .add_rules(path_beneath_rules(["/dev/urandom"], BitFlags::from(AccessFs::ReadFile)))?
        .add_rules(path_beneath_rules(scratch_paths(spec), scratch_rights()))?
        .restrict_self()
}

fn scratch_rights() -> BitFlags<AccessFs> {
    AccessFs::from_all(KNOWN)
        & !(AccessFs::Execute
            | AccessFs::MakeChar
            | AccessFs::MakeBlock
            | AccessFs::MakeSock
            | AccessFs::MakeFifo
            | AccessFs::IoctlDev)
}

/// The own scratch directory; the supervisor's rules must hold those of all its children, because rules only ever narrow.
fn scratch_paths(spec: &Spec) -> Vec<String> {
    match (&spec.surroundings, spec.role) {
        (Surroundings::NewBox { .. }, Role::Supervisor) => vec![SCRATCH.to_owned()],
        _ if spec.grants.scratch => vec![format!("{SCRATCH}/{}", spec.uid)],
        _ => Vec::new(),
    }
}
