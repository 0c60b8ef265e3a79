//! What a launch is told: which process, in which surroundings, with which descriptors, paths and limits.

use std::os::fd::RawFd;

use crate::error::JailError;

/// Ids that a box has when root starts it: 0 is the supervisor, the others its children's.
pub const UID_COUNT: u32 = 64;

/// This uid, if a box has it: beyond would be another box's.
///
/// # Errors
/// [`JailError`]: it has not.
pub fn within_box(uid: u32) -> Result<u32, JailError> {
    if uid < UID_COUNT { Ok(uid) } else { Err(JailError::rule("uid", "it is not one of the box's")) }
}

/// Which process of the box; each has its own system-call lists (`calls.rs`, `docs/processes.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Starts and ends the others; sees no traffic, no key.
    Supervisor,
    /// Takes blocks and seals them.
    Capturer,
    /// Unseals and analyses one lane.
    Worker,
    /// Checks, clears, signs, writes to the egress.
    Releaser,
    /// A program in another language that an analyzer talks to.
    External,
}

impl Role {
    /// The role of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "supervisor" => Some(Role::Supervisor),
            "capturer" => Some(Role::Capturer),
            "worker" => Some(Role::Worker),
            "releaser" => Some(Role::Releaser),
            "external" => Some(Role::External),
            _ => None,
        }
    }

    /// Its name in lists of processes: the kernel keeps fifteen bytes.
    #[must_use]
    pub const fn process_name(self) -> &'static std::ffi::CStr {
        match self {
            Role::Supervisor => c"bunker-super",
            Role::Capturer => c"bunker-capturer",
            Role::Worker => c"bunker-worker",
            Role::Releaser => c"bunker-releaser",
            Role::External => c"bunker-external",
        }
    }
}

/// A size-limited volatile directory for one uid of the box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scratch {
    /// Uid within the box.
    pub uid: u32,
    /// Size limit.
    pub bytes: u64,
}

/// A small file that exists in the root alone: a sealed program of an external analyzer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedFile {
    /// Absolute path within the root, without `..`.
    pub path: String,
    /// What stands in it; anybody in the box may read and execute it.
    pub content: Vec<u8>,
}

/// The root that a box sees: read-only, at the same absolute paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrivateRoot {
    /// Real paths (no symbolic link within) of directories and files to show read-only.
    pub shown: Vec<String>,
    /// Symbolic links to make: (path, target).
    pub links: Vec<(String, String)>,
    /// Volatile directories `/scratch/UID`.
    pub scratches: Vec<Scratch>,
    /// Files that come from the bundle and not from this machine.
    pub files: Vec<PlacedFile>,
}

/// Where a process is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Surroundings {
    /// Outside: a new box is made, this process is its first.
    NewBox {
        /// First host uid of the box's range; used when root starts it.
        uid_base: u32,
        /// What the box sees of the file system.
        root: PrivateRoot,
    },
    /// Inside a box, by its supervisor.
    InBox,
}

/// What the system-call lists need to know of this process; fixed before its filter is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Descriptors that may be written and sent to; `None`: all it has.
    pub writable: Option<Vec<RawFd>>,
    /// Descriptors that are never read (the egress).
    pub unread: Vec<RawFd>,
    /// It has a scratch directory and may create files there.
    pub scratch: bool,
    /// It may start programs (the supervisor of a box with external analyzers).
    pub execute: bool,
}

/// Everything for one launch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Which process.
    pub role: Role,
    /// Where.
    pub surroundings: Surroundings,
    /// Its uid within the box, below [`UID_COUNT`].
    pub uid: u32,
    /// Descriptors it keeps, at their numbers; 0, 1 and 2 become /dev/null unless they stand here.
    pub keep: Vec<RawFd>,
    /// Paths Landlock lets it read and map (those of the root that exist).
    pub readable: Vec<String>,
    /// What the filters need to know.
    pub grants: Grants,
    /// Limit of address space; `None`: none of its own.
    pub memory_bytes: Option<u64>,
    /// Largest file it may write; `None`: no limit (pipes and sockets have none anyway).
    pub file_bytes: Option<u64>,
    /// Processes and threads its uid may have.
    pub processes: u64,
    /// A user namespace of the box's is around it (known after `isolate`).
    pub user_namespace: bool,
    /// Readable when the launching process is gone: then the signal of the parent's death can be asked for.
    pub launcher_gone: Option<RawFd>,
}

#[cfg(test)]
mod tests {
    use super::{UID_COUNT, within_box};

    #[test]
    fn a_uid_beyond_the_range_of_the_box_is_refused() {
        assert_eq!(within_box(UID_COUNT - 1), Ok(63));
        assert!(within_box(UID_COUNT).is_err());
    }
}
