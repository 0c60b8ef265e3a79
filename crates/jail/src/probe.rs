//! What this machine could enforce, asked without changing the asking process.

use crate::record::Record;
use crate::sys;

/// Entries: `landlock_files`, `user_namespace`, `memfd_secret`. Everything is tried in a forked child or is a pure question.
///
/// # Errors
/// No child could be made.
pub fn probe() -> Result<Record, crate::error::JailError> {
    let mut record = Record::default();
    match sys::landlock_version() {
        0 => record.missing("landlock_files", "this kernel has no Landlock (5.13 and newer, lsm=landlock)"),
        version => record.enforced("landlock_files", format!("ABI {version}")),
    }
    let child = sys::in_child(|| sys::unshare("user_namespace", libc::CLONE_NEWUSER).is_ok())?;
    if sys::child_succeeded(child) {
        record.enforced("user_namespace", "can be made");
    } else {
        record.missing(
            "user_namespace",
            "cannot be made (user.max_user_namespaces, AppArmor, or a container forbids it)",
        );
    }
    record.outcome("memfd_secret", "available", sys::secret_memory());
    Ok(record)
}
