//! The file system a box sees: the interpreter and its libraries, read-only at their own paths, two devices, nothing else.
//!
//! Rules of this file:
//! 1. No /proc, no /sys, no /tmp, no /etc, no home directory: what is not listed does not exist.
//! 2. Everything but the scratch directories is read-only; nothing is set-uid, no device works but the two.
//! 3. All of it is built before the box's user namespace, in whose mount namespace it is then locked.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path};

use crate::error::JailError;
use crate::spec::{PlacedFile, PrivateRoot, Scratch};
use crate::sys;

/// Where the root is put together; any of these that no shown path lies below.
const STAGES: [&str; 5] = ["/mnt", "/run", "/srv", "/opt", "/tmp"];
const DEVICES: [&str; 2] = ["/dev/null", "/dev/urandom"];
/// The directory of the scratch directories; each is named by the uid it belongs to.
pub const SCRATCH: &str = "/scratch";

const READ_ONLY: u64 = 0x1;
const NO_SUID: u64 = 0x2;
const NO_DEVICES: u64 = 0x4;

/// Build the root and move into it, in a mount namespace that is ours already.
///
/// # Returns
/// Whether the scratch directories are kept out of swap.
///
/// # Errors
/// Any step failed; what was mounted so far is detached again and the old root stays.
pub fn enter(root: &PrivateRoot, uid_base: u32) -> Result<bool, JailError> {
    sys::mount("none", "/", "", libc::MS_REC | libc::MS_PRIVATE, "")?;
    let stage = STAGES
        .into_iter()
        .find(|stage| Path::new(stage).is_dir() && root.shown.iter().all(|path| !Path::new(path).starts_with(stage)))
        .ok_or(JailError::rule("mount", "no directory is free to put the root together"))?;
    sys::mount("box", stage, "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, "mode=0755,size=4m")?;
    let built = fill(stage, root, uid_base);
    if built.is_err() {
        sys::detach(stage)?;
    }
    built
}

fn fill(stage: &str, root: &PrivateRoot, uid_base: u32) -> Result<bool, JailError> {
    let mut shown: Vec<&str> = Vec::new();
    let mut sorted: Vec<&str> = root.shown.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    for path in sorted {
        // What lies below a directory that is shown already is there already.
        if !shown.iter().any(|above| Path::new(path).starts_with(above)) {
            show(stage, path, READ_ONLY | NO_SUID | NO_DEVICES)?;
            shown.push(path);
        }
    }
    for device in DEVICES {
        show(stage, device, NO_SUID)?;
    }
    for (path, target) in &root.links {
        let link = format!("{stage}{path}");
        make_parents(&link)?;
        if !Path::new(&link).exists() {
            symlink(target, &link).map_err(|_| JailError::rule("symlink", "a link of the root cannot be made"))?;
        }
    }
    for file in &root.files {
        place(stage, file)?;
    }
    let swap_kept_out = scratches(stage, &root.scratches, uid_base)?;
    std::env::set_current_dir(stage).map_err(|_| JailError::rule("chdir", "the new root cannot be entered"))?;
    sys::change_root_here()?;
    sys::add_mount_attributes("/", READ_ONLY | NO_SUID | NO_DEVICES, false)?;
    Ok(swap_kept_out)
}

fn make_parents(path: &str) -> Result<(), JailError> {
    let parent = Path::new(path).parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(parent).map_err(|_| JailError::rule("mkdir", "a directory of the root cannot be made"))
}

/// Show `path` of the old root at the same place of the new one.
fn show(stage: &str, path: &str, attributes: u64) -> Result<(), JailError> {
    let target = format!("{stage}{path}");
    let made = if Path::new(path).is_dir() {
        fs::create_dir_all(&target).is_ok()
    } else {
        make_parents(&target)?;
        fs::File::create(&target).is_ok()
    };
    if !made {
        return Err(JailError::rule("mkdir", "a mount point of the root cannot be made"));
    }
    sys::mount(path, &target, "", libc::MS_BIND | libc::MS_REC, "")?;
    sys::add_mount_attributes(&target, attributes, true)
}

/// Write a file into the root, before all of it becomes read-only. A path that is taken already is refused: what is shown of this
/// machine cannot be replaced.
fn place(stage: &str, file: &PlacedFile) -> Result<(), JailError> {
    let refused = JailError::rule("place", "a sealed program file has a path that is not its own");
    if !is_plain(&file.path) {
        return Err(refused);
    }
    let target = format!("{stage}{}", file.path);
    make_parents(&target)?;
    let mut made = fs::OpenOptions::new().write(true).create_new(true).open(&target).map_err(|_| refused)?;
    let failed = |_| JailError::rule("place", "a sealed program file cannot be written into the root");
    made.write_all(&file.content).map_err(failed)?;
    made.set_permissions(fs::Permissions::from_mode(0o555)).map_err(failed)?;
    // Whatever umask the box was started with.
    let mut above = Path::new(&target).parent();
    while let Some(directory) = above.filter(|directory| *directory != Path::new(stage)) {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        above = directory.parent();
    }
    Ok(())
}

/// Whether a path is absolute and stays where it says.
fn is_plain(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains('\0')
        && Path::new(path).components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

fn scratches(stage: &str, scratches: &[Scratch], uid_base: u32) -> Result<bool, JailError> {
    let mut swap_kept_out = true;
    for Scratch { uid, bytes } in scratches {
        let target = format!("{stage}{SCRATCH}/{uid}");
        fs::create_dir_all(&target).map_err(|_| JailError::rule("mkdir", "a scratch directory cannot be made"))?;
        // An ordinary user's box has one uid, which is 0 in it.
        let owner = if uid_base == 0 { 0 } else { uid_base.saturating_add(*uid) };
        let options = format!("mode=0700,size={bytes},nr_inodes=65536,uid={owner},gid={owner}");
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        if sys::mount("scratch", &target, "tmpfs", flags, &format!("{options},noswap")).is_err() {
            swap_kept_out = false;
            sys::mount("scratch", &target, "tmpfs", flags, &options)?;
        }
    }
    Ok(swap_kept_out)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn paths_that_lead_elsewhere_are_refused() {
        assert!(is_plain("/program/score.pl") && is_plain("/program/lib/a.pm"));
        for path in ["program/a", "", "/program/../lib/a", "../a", "/a\0b"] {
            assert!(!is_plain(path), "{path:?}");
        }
    }

    #[test]
    fn a_placed_file_can_be_read_and_replaces_nothing() {
        let stage = std::env::temp_dir().join(format!("plan-place-{}", std::process::id()));
        fs::create_dir_all(&stage).unwrap();
        let file = PlacedFile { path: "/program/lib/a".to_owned(), content: b"one".to_vec() };
        let named = stage.to_str().unwrap();
        assert_eq!(place(named, &file), Ok(()));
        let made = stage.join("program/lib/a");
        assert_eq!(fs::read(&made).unwrap(), b"one");
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, 0o555);
        assert_eq!(fs::metadata(stage.join("program/lib")).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(place(named, &file).is_err(), "taken already");
        fs::remove_dir_all(&stage).unwrap();
    }
}
