//! One system call a function: the only unsafe code of the crate.
//!
//! Rules of this file:
//! 1. No policy here; a function does what its name says and returns the kernel's answer.
//! 2. Paths become C strings here and nowhere else.

#![allow(clippy::cast_possible_truncation)] // the kernel answers in longs what are ints: descriptors, process ids

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::error::{Cause, JailError};

type Result<T> = std::result::Result<T, JailError>;

fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn answer(step: &'static str, value: libc::c_long) -> Result<libc::c_long> {
    if value < 0 { Err(JailError { step, cause: Cause::Errno(errno()) }) } else { Ok(value) }
}

fn c_path(step: &'static str, path: &str) -> Result<CString> {
    CString::new(path).map_err(|_| JailError::rule(step, "a path with a zero byte"))
}

/// `prctl` with plain numbers.
pub fn prctl(step: &'static str, option: libc::c_int, first: u64, second: u64) -> Result<i32> {
    // SAFETY: every option this crate uses takes plain integers and no pointer (dumpable, no_new_privs, pdeathsig, bounding set,
    // ambient set, securebits, MDWE, PR_GET_*), and the unused arguments are 0 as the kernel asks.
    let value = unsafe { libc::prctl(option, first as libc::c_ulong, second as libc::c_ulong, 0, 0) };
    answer(step, libc::c_long::from(value)).map(|value| value as i32)
}

/// What lists of processes show this one as; at most fifteen bytes of it.
pub fn set_name(name: &std::ffi::CStr) {
    // SAFETY: the name is a string with its zero byte and outlives the call, which copies it. It cannot fail otherwise.
    let _ = unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0) };
}

/// Move into new namespaces.
pub fn unshare(step: &'static str, flags: libc::c_int) -> Result<()> {
    // SAFETY: takes one integer; it fails (EINVAL) instead of doing harm if there are other threads.
    answer(step, libc::c_long::from(unsafe { libc::unshare(flags) })).map(drop)
}

/// Effective uid and gid.
pub fn effective_ids() -> (u32, u32) {
    // SAFETY: both have no arguments and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// No supplementary groups.
pub fn drop_groups() -> Result<()> {
    // SAFETY: a length of 0 makes the kernel ignore the pointer.
    answer("setgroups", libc::c_long::from(unsafe { libc::setgroups(0, std::ptr::null()) })).map(drop)
}

/// Real, effective and saved gid, then uid.
pub fn set_ids(id: u32) -> Result<()> {
    // SAFETY: takes three integers.
    answer("setresgid", libc::c_long::from(unsafe { libc::setresgid(id, id, id) }))?;
    // SAFETY: takes three integers.
    answer("setresuid", libc::c_long::from(unsafe { libc::setresuid(id, id, id) })).map(drop)
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityWords {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

/// Effective and permitted capabilities become `set` (bits by number), inheritable none.
pub fn set_capabilities(set: u64) -> Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let words = |bits: u32| CapabilityWords { effective: bits, permitted: bits, inheritable: 0 };
    let data = [words(set as u32), words((set >> 32) as u32)];
    // SAFETY: version 3 reads one header and two data words; both live until the call returns.
    answer("capset", unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) }).map(drop)
}

/// Effective, permitted and inheritable capabilities.
pub fn capabilities() -> Result<(u64, u64, u64)> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let mut data = [CapabilityWords::default(); 2];
    // SAFETY: version 3 writes two data words; `data` holds two and lives until the call returns.
    answer("capget", unsafe { libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr()) })?;
    let [low, high] = data;
    let join = |low: u32, high: u32| u64::from(low) | (u64::from(high) << 32);
    Ok((
        join(low.effective, high.effective),
        join(low.permitted, high.permitted),
        join(low.inheritable, high.inheritable),
    ))
}

/// Close all descriptors from `first` to `last`.
pub fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: takes three integers. No Rust owner of a descriptor in the range is used afterwards: the caller is a fresh
    // process whose remaining descriptors are listed.
    answer("close_range", unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

/// Whether a descriptor is open.
pub fn is_open(fd: RawFd) -> bool {
    // SAFETY: F_GETFD takes no third argument and changes nothing.
    unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
}

/// Make `number` a copy of `fd`.
pub fn duplicate_to(fd: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    // SAFETY: takes two integers; what `number` was before is closed, which is the purpose.
    answer("dup2", libc::c_long::from(unsafe { libc::dup2(fd.as_raw_fd(), number) })).map(drop)
}

/// Open a path.
pub fn open(path: &str, flags: libc::c_int) -> Result<OwnedFd> {
    let path = c_path("open", path)?;
    // SAFETY: the path is zero-terminated and lives until the call returns; no mode is needed without O_CREAT.
    let fd = answer("open", libc::c_long::from(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) }))?;
    // SAFETY: the kernel has just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Write `text` in one call to a file below an open directory.
pub fn write_below(directory: BorrowedFd<'_>, name: &'static str, text: &str) -> Result<()> {
    let path = c_path(name, name)?;
    let flags = libc::O_WRONLY | libc::O_CLOEXEC;
    // SAFETY: the path is zero-terminated and lives until the call returns.
    let fd = answer(name, libc::c_long::from(unsafe { libc::openat(directory.as_raw_fd(), path.as_ptr(), flags) }))?;
    // SAFETY: the kernel has just made this descriptor; nobody else owns it.
    let file = unsafe { OwnedFd::from_raw_fd(fd as RawFd) };
    // SAFETY: pointer and length are those of `text`.
    let written = unsafe { libc::write(file.as_raw_fd(), text.as_ptr().cast(), text.len()) };
    answer(name, written as libc::c_long).map(drop)
}

/// A pipe: (reading end, writing end).
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0 as RawFd; 2];
    // SAFETY: the kernel writes two integers into `ends`.
    answer("pipe2", libc::c_long::from(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }))?;
    // SAFETY: both are new and owned by nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Wait for one byte; `false` if the other end closed instead.
pub fn wait_byte(fd: BorrowedFd<'_>) -> bool {
    let mut byte = 0_u8;
    // SAFETY: one byte is read into `byte`.
    unsafe { libc::read(fd.as_raw_fd(), (&raw mut byte).cast(), 1) == 1 }
}

/// In a forked child: close the inherited writing end, then wait for the parent's byte.
pub fn close_own_then_wait(reading: &OwnedFd, writing: &OwnedFd) -> bool {
    // SAFETY: the child leaves through _exit, so the owner of this descriptor never closes it a second time here.
    unsafe { libc::close(writing.as_raw_fd()) };
    wait_byte(reading.as_fd())
}

/// Send one byte.
pub fn send_byte(fd: BorrowedFd<'_>) {
    let byte = 1_u8;
    // SAFETY: one byte is read from `byte`. A failure shows at the reader as a closed end.
    unsafe { libc::write(fd.as_raw_fd(), (&raw const byte).cast(), 1) };
}

/// Run `work` in a forked child, which ends with 0 if it returned `true`; the number to wait for.
pub fn in_child(work: impl FnOnce() -> bool) -> Result<i32> {
    // SAFETY: the caller is single-threaded (a fresh interpreter or a fork of one), so the child may do whatever the
    // parent may; it leaves through _exit and runs no destructor or exit handler of the parent's.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let done = work();
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(i32::from(!done)) };
    }
    answer("fork", libc::c_long::from(pid)).map(|pid| pid as i32)
}

/// Wait for a child of ours; `true` if it ended with 0.
pub fn child_succeeded(pid: i32) -> bool {
    let mut status = 0;
    // SAFETY: the kernel writes one integer into `status`.
    let answered = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    answered == pid && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

/// Wait until a descriptor is readable or hung up, at most `milliseconds`.
pub fn wait_readable(fd: RawFd, milliseconds: i32) -> bool {
    let mut request = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one request, which lives until the call returns.
    unsafe { libc::poll(&raw mut request, 1, milliseconds) == 1 }
}

/// This process's number.
pub fn process_id() -> i32 {
    // SAFETY: no arguments, cannot fail.
    unsafe { libc::getpid() }
}

/// A session of its own, without a controlling terminal. Fails harmlessly if it leads one already.
pub fn new_session() {
    // SAFETY: no arguments.
    unsafe { libc::setsid() };
}

/// Files are created for their owner alone.
pub fn private_umask() {
    // SAFETY: takes one integer, cannot fail.
    unsafe { libc::umask(0o077) };
}

/// Lower a limit, soft and hard; never raises it.
pub fn lower_limit(resource: u32, wanted: u64) -> Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let resource = resource as _;
    // SAFETY: the kernel writes one structure.
    answer("getrlimit", libc::c_long::from(unsafe { libc::getrlimit(resource, &raw mut limit) }))?;
    let value = wanted.min(limit.rlim_max);
    limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the kernel reads one structure.
    answer("setrlimit", libc::c_long::from(unsafe { libc::setrlimit(resource, &raw const limit) }))?;
    Ok(value)
}

/// `mount`.
pub fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong, options: &str) -> Result<()> {
    let (source, target) = (c_path("mount", source)?, c_path("mount", target)?);
    let (kind, options) = (c_path("mount", kind)?, c_path("mount", options)?);
    // SAFETY: four zero-terminated strings that live until the call returns; the kernel ignores those a flag does not need.
    let value = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) };
    answer("mount", libc::c_long::from(value)).map(drop)
}

#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Add attributes (`MOUNT_ATTR_*`) to a mount, and to those below it if `recursive`.
pub fn add_mount_attributes(path: &str, set: u64, recursive: bool) -> Result<()> {
    const AT_RECURSIVE: libc::c_long = 0x8000;
    let path = c_path("mount_setattr", path)?;
    let attributes = MountAttributes { set, clear: 0, propagation: 0, user_namespace: 0 };
    let flags = if recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is zero-terminated; the kernel reads as many bytes of `attributes` as the last argument says.
    let value = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    answer("mount_setattr", value).map(drop)
}

/// Make the current directory the root and drop the old root.
pub fn change_root_here() -> Result<()> {
    let here = c".";
    // SAFETY: two zero-terminated static strings. "." twice is the documented way without a directory for the old root.
    answer("pivot_root", unsafe { libc::syscall(libc::SYS_pivot_root, here.as_ptr(), here.as_ptr()) })?;
    // SAFETY: a zero-terminated static string; the old root lies over "." now.
    answer("umount2", libc::c_long::from(unsafe { libc::umount2(here.as_ptr(), libc::MNT_DETACH) }))?;
    std::env::set_current_dir("/").map_err(|_| JailError::rule("chdir", "the new root cannot be entered"))
}

/// Detach what is mounted at a path.
pub fn detach(path: &str) -> Result<()> {
    let path = c_path("umount2", path)?;
    // SAFETY: a zero-terminated string that lives until the call returns.
    answer("umount2", libc::c_long::from(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) })).map(drop)
}

/// The kernel's Landlock version, 0 without Landlock.
pub fn landlock_version() -> u32 {
    const CREATE_RULESET_VERSION: libc::c_long = 1;
    // SAFETY: with this flag the kernel wants a null pointer and size 0, and only answers.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0, CREATE_RULESET_VERSION) };
    u32::try_from(version).unwrap_or(0)
}

/// Whether secret memory can be had.
pub fn secret_memory() -> Result<()> {
    // SAFETY: takes one integer.
    let fd = answer("memfd_secret", unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor; nobody else owns it, and it is closed here.
    drop(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
    Ok(())
}

/// Whether orphans among the descendants become this process's children, and say so for the future.
pub fn adopt_orphans(adopt: bool) -> Result<bool> {
    let mut before: libc::c_int = 0;
    // SAFETY: the kernel writes one integer into `before`, which lives until the call returns.
    let value = unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut before, 0, 0, 0) };
    answer("PR_GET_CHILD_SUBREAPER", libc::c_long::from(value))?;
    prctl("PR_SET_CHILD_SUBREAPER", libc::PR_SET_CHILD_SUBREAPER, u64::from(adopt), 0)?;
    Ok(before != 0)
}
