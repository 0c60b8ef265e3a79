//! Second step, after the fork: give up descriptors, ids, capabilities, files, and all system calls but the role's.
//!
//! Order matters and is the order of the functions below: what needs a right comes before that right is given up, the first
//! system-call filter comes last.

use std::os::fd::AsFd;

use crate::error::JailError;
use crate::record::Record;
use crate::spec::{Role, Spec, Surroundings, within_box};
use crate::{files, filter, sys};

/// Capabilities of the supervisor, over its own box alone: namespaces for its children (21), their ids (6, 7), dropping
/// bounding sets (8), ending them (5). Every other process has none.
const SUPERVISOR_CAPABILITIES: u64 = (1 << 21) | (1 << 6) | (1 << 7) | (1 << 8) | (1 << 5);
const LAST_CAPABILITY: u64 = 63;
/// SECBIT_NOROOT, NO_SETUID_FIXUP, NO_CAP_AMBIENT_RAISE, each locked: uid 0 means nothing here.
const SECURE_BITS: u64 = 0b11 | (0b11 << 2) | (0b11 << 6);
const PR_SET_MDWE: libc::c_int = 65;
const PR_MDWE_REFUSE_EXEC_GAIN: u64 = 1;
/// A launcher is gone within microseconds of its fork; longer means that it hangs.
const LAUNCHER_GONE_MS: i32 = 5_000;
/// Descriptors a process may open beside those it was given.
const SPARE_DESCRIPTORS: u64 = 128;

/// Confine this process for good, up to the first system-call filter.
///
/// Entries: `descriptors`, `uid`, `capabilities`, `no_core`, `memory_limit`, `process_limit`, `dies_with_launcher`, `no_new_privs`,
/// `not_dumpable`, `write_xor_execute`, those of Landlock, `seccomp`.
///
/// # Errors
/// A step that must not be missing: descriptors, ids, no_new_privs, dumpable, or the filter could not be made.
pub fn confine(spec: &Spec) -> Result<Record, JailError> {
    let mut record = Record::default();
    sys::set_name(spec.role.process_name());
    sys::new_session();
    sys::private_umask();
    descriptors(spec, &mut record)?;
    limits(spec, &mut record)?;
    identity(spec, &mut record)?;
    sys::prctl("PR_SET_NO_NEW_PRIVS", libc::PR_SET_NO_NEW_PRIVS, 1, 0)?;
    sys::prctl("PR_SET_DUMPABLE", libc::PR_SET_DUMPABLE, 0, 0)?;
    parent_death(spec, &mut record);
    no_new_code(spec, &mut record);
    files::restrict(spec, &mut record);
    seen(&mut record)?;
    filter::install_first(spec, &mut record)?;
    Ok(record)
}

/// Exactly the listed descriptors stay open; 0, 1 and 2 become /dev/null unless they are listed.
fn descriptors(spec: &Spec, record: &mut Record) -> Result<(), JailError> {
    let mut kept: Vec<u32> = Vec::new();
    for fd in spec.keep.iter().chain(spec.launcher_gone.iter()) {
        if !sys::is_open(*fd) {
            return Err(JailError::rule("descriptors", "a listed descriptor is not open"));
        }
        kept.push(u32::try_from(*fd).map_err(|_| JailError::rule("descriptors", "a negative number"))?);
    }
    let null = sys::open("/dev/null", libc::O_RDWR)?;
    for number in 0..3 {
        if !spec.keep.contains(&number) {
            sys::duplicate_to(null.as_fd(), number)?;
        }
    }
    drop(null);
    kept.extend([0, 1, 2]);
    kept.sort_unstable();
    kept.dedup();
    let mut next = 0_u32;
    for fd in &kept {
        if *fd > next {
            sys::close_range(next, fd.saturating_sub(1))?;
        }
        next = fd.saturating_add(1);
    }
    sys::close_range(next, u32::MAX)?;
    record.enforced("descriptors", format!("{} and the three standard ones on /dev/null", spec.keep.len()));
    Ok(())
}

fn limits(spec: &Spec, record: &mut Record) -> Result<(), JailError> {
    sys::lower_limit(libc::RLIMIT_CORE, 0)?;
    let highest = spec.keep.iter().copied().max().unwrap_or(2);
    sys::lower_limit(libc::RLIMIT_NOFILE, u64::try_from(highest).unwrap_or(2).saturating_add(SPARE_DESCRIPTORS))?;
    if let Some(bytes) = spec.file_bytes {
        sys::lower_limit(libc::RLIMIT_FSIZE, bytes)?;
    }
    match spec.memory_bytes {
        Some(bytes) => {
            let reached = sys::lower_limit(libc::RLIMIT_AS, bytes)?;
            record.enforced("memory_limit", format!("{reached} bytes of address space"));
        }
        None => record.missing("memory_limit", "none was asked for"),
    }
    // The limit counts a uid's processes. Without ids of its own the count would include strangers.
    if spec.user_namespace || sys::effective_ids().0 == 0 {
        let reached = sys::lower_limit(libc::RLIMIT_NPROC, spec.processes)?;
        record.enforced("process_limit", format!("{reached} processes and threads"));
    } else {
        record.missing("process_limit", "the uid is shared with the operator; new processes are denied by seccomp");
    }
    Ok(())
}

/// Become the role's uid and give up capabilities.
fn identity(spec: &Spec, record: &mut Record) -> Result<(), JailError> {
    let keeps = if spec.role == Role::Supervisor && spec.user_namespace { SUPERVISOR_CAPABILITIES } else { 0 };
    for capability in 0..=LAST_CAPABILITY {
        // A kernel has fewer than 64: those it does not know end the loop with EINVAL. Without the right to drop them
        // (an ordinary user without a namespace) there is nothing to drop either: no_new_privs keeps it so.
        if keeps & (1 << capability) == 0
            && sys::prctl("PR_CAPBSET_DROP", libc::PR_CAPBSET_DROP, capability, 0).is_err()
        {
            break;
        }
    }
    let locked = sys::prctl("PR_SET_SECUREBITS", libc::PR_SET_SECUREBITS, SECURE_BITS, 0).is_ok();
    let host_root = !spec.user_namespace && sys::effective_ids().0 == 0;
    let own = within_box(spec.uid)?;
    let wanted = match (&spec.surroundings, spec.user_namespace) {
        (_, true) => Some(own),
        (Surroundings::NewBox { uid_base, .. }, false) if host_root => Some(uid_base.saturating_add(own)),
        _ => None,
    };
    match wanted {
        Some(uid) => match sys::set_ids(uid) {
            Ok(()) if spec.user_namespace => record.enforced("uid", format!("{uid} of the box")),
            Ok(()) => record.enforced("uid", format!("{uid}")),
            Err(error) if host_root => return Err(error),
            Err(_) => record.missing("uid", "the box has one uid for all its processes"),
        },
        None => record.missing("uid", "the operator's own: neither root nor a user namespace to change it in"),
    }
    sys::set_capabilities(keeps)?;
    let (effective, permitted, inheritable) = sys::capabilities()?;
    let reached = effective == keeps && permitted == keeps && inheritable == 0;
    let detail = match (keeps, locked) {
        (0, true) => "none, and uid 0 has none to gain",
        (0, false) => "none",
        _ => "those to start and end its children, over the box alone",
    };
    record.seen("capabilities", detail, reached);
    Ok(())
}

/// Where there is no pid namespace, and for the box as a whole: the kernel kills this process when its parent dies.
fn parent_death(spec: &Spec, record: &mut Record) {
    let alone = match spec.launcher_gone {
        // Only once the launcher is gone is the one that started it the parent.
        Some(fd) => {
            let gone = sys::wait_readable(fd, LAUNCHER_GONE_MS);
            let number = u32::try_from(fd).unwrap_or(u32::MAX);
            gone && sys::close_range(number, number).is_ok()
        }
        None => true,
    };
    let asked = sys::prctl("PR_SET_PDEATHSIG", libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0);
    record.seen("dies_with_parent", "killed by the kernel when its parent ends", alone && asked.is_ok());
}

/// Memory that was writable never becomes executable. Programs in other languages may need it otherwise.
fn no_new_code(spec: &Spec, record: &mut Record) {
    if matches!(spec.role, Role::Supervisor | Role::External) {
        record.missing("write_xor_execute", "not asked for: programs in other languages may be started from here");
        return;
    }
    let result = sys::prctl("PR_SET_MDWE", PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0).map(drop);
    record.outcome("write_xor_execute", "MDWE", result);
}

/// What the kernel itself says of this process.
fn seen(record: &mut Record) -> Result<(), JailError> {
    let privileges = sys::prctl("PR_GET_NO_NEW_PRIVS", libc::PR_GET_NO_NEW_PRIVS, 0, 0)?;
    record.seen("no_new_privs", "set", privileges == 1);
    let dumpable = sys::prctl("PR_GET_DUMPABLE", libc::PR_GET_DUMPABLE, 0, 0)?;
    record.seen("not_dumpable", "no core, no attaching, /proc entries are root's", dumpable == 0);
    record.seen("no_core", "limit 0 and not dumpable", dumpable == 0);
    Ok(())
}
