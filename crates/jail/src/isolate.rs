//! First step: the namespaces of a new box, or those of one process within a box.
//!
//! Rules of this file:
//! 1. Root builds the box's file system before it gives up being root, because the interpreter may lie below a directory that
//!    only root may enter; only then it moves into a user namespace in which nobody is root outside.
//! 2. An ordinary user can map one uid only: all processes of such a box have the same one, and the record says so.
//! 3. Each namespace is asked for alone, so that a kernel without one does not cost the others.
//! 4. A pid namespace takes effect with the next fork, which is the caller's: the child is process 1, and when it dies the kernel
//!    kills whatever else lives in the namespace.

use std::os::fd::{AsFd, BorrowedFd};

use crate::error::JailError;
use crate::record::Record;
use crate::root;
use crate::spec::{PrivateRoot, Spec, Surroundings, UID_COUNT};
use crate::sys;

/// Namespaces that a box and each of its processes gets, with their names in the record.
const EACH: [(&str, libc::c_int); 4] = [
    ("pid_namespace", libc::CLONE_NEWPID),
    ("network_namespace", libc::CLONE_NEWNET),
    ("ipc_namespace", libc::CLONE_NEWIPC),
    ("uts_namespace", libc::CLONE_NEWUTS),
];

/// Move this process into the namespaces its surroundings ask for.
///
/// Whatever can be missing is an entry of the record. Entries: `swap`, `user_namespace`, `mount_namespace`, `uid_range`, `pid_namespace`,
/// `network_namespace`, `ipc_namespace`, `uts_namespace`, `cgroup_namespace`.
///
/// # Errors
/// The process cannot even be made undumpable.
pub fn isolate(spec: &Spec) -> Result<Record, JailError> {
    let mut record = Record::default();
    match &spec.surroundings {
        Surroundings::NewBox { uid_base, root } => new_box(&mut record, *uid_base, root)?,
        Surroundings::InBox => sys::prctl("PR_SET_DUMPABLE", libc::PR_SET_DUMPABLE, 0, 0).map(drop)?,
    }
    for (name, flag) in EACH {
        record.outcome(name, "its own", sys::unshare(name, flag));
    }
    Ok(record)
}

fn new_box(record: &mut Record, uid_base: u32, root: &PrivateRoot) -> Result<(), JailError> {
    swap(record);
    if sys::effective_ids().0 == 0 && sys::drop_groups().is_ok() {
        sys::prctl("PR_SET_DUMPABLE", libc::PR_SET_DUMPABLE, 0, 0)?;
        let process = sys::open(&format!("/proc/{}", sys::process_id()), libc::O_PATH | libc::O_DIRECTORY);
        private_root(record, root, uid_base);
        match process.and_then(|process| ranged_user_namespace(process.as_fd(), uid_base)) {
            Ok(()) => {
                record.enforced("user_namespace", "its own");
                record.enforced("uid_range", format!("{UID_COUNT} host uids of no other use from {uid_base} on"));
            }
            Err(error) => {
                record.missing("user_namespace", error.to_string());
                record.missing("uid_range", "without a user namespace all processes share one unprivileged uid");
            }
        }
    } else {
        match single_user_namespace() {
            Ok(()) => {
                record.enforced("user_namespace", "its own, one uid");
                record.missing("uid_range", "an ordinary user can map one uid: all processes of the box have it");
                sys::prctl("PR_SET_DUMPABLE", libc::PR_SET_DUMPABLE, 0, 0)?;
                private_root(record, root, 0);
            }
            Err(error) => {
                sys::prctl("PR_SET_DUMPABLE", libc::PR_SET_DUMPABLE, 0, 0)?;
                record.missing("user_namespace", error.to_string());
                record.missing("uid_range", "an ordinary user without a user namespace");
                record.missing("mount_namespace", "needs root or a user namespace");
            }
        }
    }
    record.outcome("cgroup_namespace", "its own", sys::unshare("cgroup_namespace", libc::CLONE_NEWCGROUP));
    Ok(())
}

fn private_root(record: &mut Record, root: &PrivateRoot, uid_base: u32) {
    let result = sys::unshare("mount_namespace", libc::CLONE_NEWNS).and_then(|()| root::enter(root, uid_base));
    match result {
        Ok(swap_kept_out) => {
            record.enforced("mount_namespace", "a private read-only root");
            if !root.scratches.is_empty() {
                if swap_kept_out {
                    record.enforced("scratch_never_swapped", "tmpfs option noswap");
                } else {
                    record.missing("scratch_never_swapped", "tmpfs has no noswap here; see swap");
                }
            }
        }
        Err(error) => record.missing("mount_namespace", error.to_string()),
    }
}

/// As root: a user namespace whose ids 0 to 63 are `uid_base` and following of the host, and be 0 in it.
///
/// The map must be written from outside; a forked helper does it, through the /proc directory that was opened before the root
/// changed. A further mount namespace comes with it, so that the box's mounts are locked.
fn ranged_user_namespace(process: BorrowedFd<'_>, uid_base: u32) -> Result<(), JailError> {
    let (moved, tell) = sys::pipe()?;
    let helper = sys::in_child(|| {
        // Only the parent's copy may keep the pipe open, or its death would never be seen.
        let told = sys::close_own_then_wait(&moved, &tell);
        let map = format!("0 {uid_base} {UID_COUNT}\n");
        told && sys::write_below(process, "uid_map", &map).is_ok() && sys::write_below(process, "gid_map", &map).is_ok()
    })?;
    let result = sys::unshare("user_namespace", libc::CLONE_NEWUSER | libc::CLONE_NEWNS);
    if result.is_ok() {
        sys::send_byte(tell.as_fd());
    }
    drop(tell);
    let mapped = sys::child_succeeded(helper);
    result?;
    if !mapped {
        return Err(JailError::rule("uid_map", "the map of uids could not be written"));
    }
    sys::set_ids(0)?;
    // Changing ids may have made the process dumpable again (fs.suid_dumpable).
    sys::prctl("PR_SET_DUMPABLE", libc::PR_SET_DUMPABLE, 0, 0).map(drop)
}

/// As an ordinary user: a user namespace in which that user is 0.
///
/// The process must still be dumpable, or its own map is not its own to write; it holds nothing worth reading yet.
fn single_user_namespace() -> Result<(), JailError> {
    let (uid, gid) = sys::effective_ids();
    let process = sys::open("/proc/self", libc::O_PATH | libc::O_DIRECTORY)?;
    sys::unshare("user_namespace", libc::CLONE_NEWUSER)?;
    sys::write_below(process.as_fd(), "setgroups", "deny")?;
    sys::write_below(process.as_fd(), "uid_map", &format!("0 {uid} 1\n"))?;
    sys::write_below(process.as_fd(), "gid_map", &format!("0 {gid} 1\n"))
}

fn swap(record: &mut Record) {
    match std::fs::read_to_string("/proc/swaps") {
        Ok(text) if text.lines().count() <= 1 => record.enforced("swap", "this machine has none in use"),
        Ok(_) => {
            record.missing("swap", "this machine swaps: switch it off (swapoff -a) or encrypt it with a random key")
        }
        // A kernel without swap has no such file; a /proc that shows nothing is another matter.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && std::path::Path::new("/proc/self").exists() => {
            record.enforced("swap", "this kernel cannot swap")
        }
        Err(_) => record.missing("swap", "cannot be seen"),
    }
}
