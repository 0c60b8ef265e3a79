//! Which process may make which system calls, and why; `docs/processes.md` tells the same in words.
//!
//! Rules of this file:
//! 1. What stands in no list of a role is answered with EPERM: an analyzer that tries it innocently gets an exception.
//! 2. [`HOSTILE`] kills the process: no interpreter or library makes these calls by accident, and each has been a way out of a sandbox.
//! 3. [`ABSENT`] is answered with ENOSYS, because the C library then falls back to a call whose arguments a filter can see.
//! 4. A list holds what was needed in a run, not what seems harmless.

use libc::c_long as Number;

use crate::spec::Role;

/// Under which condition a call is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Always.
    Always,
    /// The descriptor (argument 0) is none of those never read.
    Readable,
    /// The descriptor (argument 0) is one of the writable ones.
    Writable,
    /// As `Writable`, and without a destination address (argument 4): on what is connected already.
    WritableConnected,
    /// As `Readable`, and without room for a source address (argument 4).
    ReadableConnected,
    /// Flags in this argument ask for reading alone; or the process has a scratch directory, where Landlock draws the line.
    ReadOnly(u8),
    /// The process has a scratch directory.
    Scratch,
    /// Protection in argument 2 is not executable.
    NotExecutable,
    /// Flags in argument 0 make a thread, not a process, and no namespace.
    Thread,
    /// Flags in argument 0 make no namespace.
    NoNamespace,
    /// Flags in argument 0 ask for no user, mount or time namespace.
    ChildNamespace,
    /// The target (argument 0) is this process.
    Itself,
    /// Argument is one of these.
    OneOf(u8, &'static [u64]),
    /// Asks for limits of its own and sets none.
    AskLimits,
    /// Duplicates would get a descriptor around `Writable`: only where that is no limit.
    Unlimited,
    /// The process may start programs.
    Execute,
}

/// A call and its condition.
pub type Call = (Number, When);

use When::{
    Always, AskLimits, ChildNamespace, Execute, Itself, NoNamespace, NotExecutable, OneOf, ReadOnly, Readable,
    ReadableConnected, Scratch, Thread, Unlimited, Writable, WritableConnected,
};

/// F_GETFD, F_SETFD, F_GETFL, F_SETFL: no locks, owners, signals, leases or seals.
const PLAIN_FCNTL: &[u64] = &[1, 2, 3, 4];
/// F_DUPFD, F_DUPFD_CLOEXEC.
const DUPLICATING_FCNTL: &[u64] = &[0, 1030];
/// TCGETS (is it a terminal?), FIONREAD, FIONBIO, FIOCLEX.
const PLAIN_IOCTL: &[u64] = &[0x5401, 0x541b, 0x5421, 0x5451];
/// PR_GET_DUMPABLE, PR_GET_NAME, PR_SET_NAME, PR_GET_SECCOMP, PR_GET_NO_NEW_PRIVS: questions, and names of threads.
const PLAIN_PRCTL: &[u64] = &[3, 16, 15, 21, 39];

/// Interpreter and core at work: descriptors it has, memory, threads, time, signals to itself.
const WORK: &[Call] = &[
    // What it was given: reading and writing, each within its list.
    (libc::SYS_read, Readable),
    (libc::SYS_readv, Readable),
    (libc::SYS_pread64, Readable),
    (libc::SYS_preadv, Readable),
    (libc::SYS_preadv2, Readable),
    (libc::SYS_write, Writable),
    (libc::SYS_writev, Writable),
    // With an offset: fails on pipes and sockets, so it reaches files that were opened for it alone.
    (libc::SYS_pwrite64, Always),
    (libc::SYS_pwritev, Always),
    (libc::SYS_close, Always),
    (libc::SYS_fstat, Always),
    (libc::SYS_lseek, Always),
    (libc::SYS_fcntl, OneOf(1, PLAIN_FCNTL)),
    (libc::SYS_fcntl, Unlimited),
    (libc::SYS_ioctl, OneOf(1, PLAIN_IOCTL)),
    (libc::SYS_ppoll, Always),
    (libc::SYS_pselect6, Always),
    (libc::SYS_epoll_create1, Always),
    (libc::SYS_epoll_ctl, Always),
    (libc::SYS_epoll_pwait, Always),
    // Files: the interpreter's modules and data, for reading (mounts and Landlock say which).
    (libc::SYS_openat, ReadOnly(2)),
    (libc::SYS_newfstatat, Always),
    (libc::SYS_statx, Always),
    (libc::SYS_faccessat, Always),
    (libc::SYS_faccessat2, Always),
    (libc::SYS_readlinkat, Always),
    (libc::SYS_getdents64, Always),
    (libc::SYS_getcwd, Always),
    (libc::SYS_fadvise64, Always),
    // Memory, never executable.
    (libc::SYS_mmap, NotExecutable),
    (libc::SYS_mprotect, NotExecutable),
    (libc::SYS_munmap, Always),
    (libc::SYS_mremap, Always),
    (libc::SYS_madvise, Always),
    (libc::SYS_brk, Always),
    (libc::SYS_mlock, Always),
    (libc::SYS_mlock2, Always),
    (libc::SYS_munlock, Always),
    (libc::SYS_msync, Always),
    // Threads of its own.
    (libc::SYS_clone, Thread),
    (libc::SYS_futex, Always),
    (libc::SYS_set_robust_list, Always),
    (libc::SYS_rseq, Always),
    (libc::SYS_sched_yield, Always),
    (libc::SYS_sched_getaffinity, Always),
    (libc::SYS_getcpu, Always),
    (libc::SYS_membarrier, Always),
    (libc::SYS_exit, Always),
    (libc::SYS_exit_group, Always),
    // Time and timers.
    (libc::SYS_clock_gettime, Always),
    (libc::SYS_clock_getres, Always),
    (libc::SYS_clock_nanosleep, Always),
    (libc::SYS_nanosleep, Always),
    (libc::SYS_gettimeofday, Always),
    (libc::SYS_setitimer, Always),
    (libc::SYS_getitimer, Always),
    (libc::SYS_times, Always),
    (libc::SYS_getrusage, Always),
    // Signals: handlers of its own, sending to itself.
    (libc::SYS_rt_sigaction, Always),
    (libc::SYS_rt_sigprocmask, Always),
    (libc::SYS_rt_sigreturn, Always),
    (libc::SYS_rt_sigtimedwait, Always),
    (libc::SYS_sigaltstack, Always),
    (libc::SYS_restart_syscall, Always),
    (libc::SYS_tgkill, Itself),
    (libc::SYS_kill, Itself),
    // Questions about itself.
    (libc::SYS_getpid, Always),
    (libc::SYS_gettid, Always),
    (libc::SYS_getppid, Always),
    (libc::SYS_getuid, Always),
    (libc::SYS_geteuid, Always),
    (libc::SYS_getgid, Always),
    (libc::SYS_getegid, Always),
    (libc::SYS_uname, Always),
    (libc::SYS_sysinfo, Always),
    (libc::SYS_prlimit64, AskLimits),
    (libc::SYS_prctl, OneOf(0, PLAIN_PRCTL)),
    (libc::SYS_getrandom, Always),
    // A scratch directory, where there is one.
    (libc::SYS_mkdirat, Scratch),
    (libc::SYS_unlinkat, Scratch),
    (libc::SYS_renameat2, Scratch),
    (libc::SYS_ftruncate, Scratch),
    (libc::SYS_fsync, Scratch),
    (libc::SYS_fdatasync, Scratch),
    (libc::SYS_flock, Scratch),
    (libc::SYS_fallocate, Scratch),
];

/// The older spellings of the same calls, which x86-64 has kept.
#[cfg(target_arch = "x86_64")]
const WORK_OLD: &[Call] = &[
    (libc::SYS_poll, Always),
    (libc::SYS_select, Always),
    (libc::SYS_epoll_wait, Always),
    (libc::SYS_open, ReadOnly(1)),
    (libc::SYS_stat, Always),
    (libc::SYS_lstat, Always),
    (libc::SYS_access, Always),
    (libc::SYS_readlink, Always),
    (libc::SYS_time, Always),
    (libc::SYS_alarm, Always),
    (libc::SYS_getrlimit, Always),
    (libc::SYS_mkdir, Scratch),
    (libc::SYS_rmdir, Scratch),
    (libc::SYS_unlink, Scratch),
    (libc::SYS_rename, Scratch),
];
#[cfg(not(target_arch = "x86_64"))]
const WORK_OLD: &[Call] = &[];

/// Between the first filter and `lock_down`: imports map code, and `lock_down` itself.
const PREPARATION: &[Call] = &[
    (libc::SYS_mmap, Always),
    (libc::SYS_mprotect, Always),
    (libc::SYS_seccomp, Always),
    // Keys are mapped for reading, and stay so.
    (libc::SYS_mseal, Always),
    // PR_SET_NO_NEW_PRIVS, which is set already; asked again with every filter.
    (libc::SYS_prctl, OneOf(0, &[38])),
    // Python duplicates a descriptor when it maps it. A duplicate's number is not among the writable ones, and from `lock_down` on,
    // before the first byte of traffic, none can be made.
    (libc::SYS_fcntl, OneOf(1, DUPLICATING_FCNTL)),
];

/// Links are socket pairs made at the set-up; no other socket can be made or named.
const LINK: &[Call] = &[
    (libc::SYS_sendto, WritableConnected),
    (libc::SYS_recvfrom, ReadableConnected),
    (libc::SYS_getsockopt, Always),
    (libc::SYS_getsockname, Always),
    (libc::SYS_shutdown, Writable),
];

/// The spool's files: space was claimed at the set-up; recycling punches holes, finished files are pushed to the disk.
const CAPTURER: &[Call] = &[
    (libc::SYS_fallocate, Always),
    (libc::SYS_ftruncate, Always),
    (libc::SYS_fsync, Always),
    (libc::SYS_fdatasync, Always),
    (libc::SYS_sync_file_range, Always),
];

/// Libraries of analyzers make pipes and duplicates; both stay within the process.
const WORKER: &[Call] = &[
    (libc::SYS_pipe2, Unlimited),
    (libc::SYS_dup, Unlimited),
    (libc::SYS_dup3, Unlimited),
    (libc::SYS_eventfd2, Unlimited),
];

/// Starting, watching and ending children; their launch is a fork of the supervisor, so all a launch needs stands here.
const SUPERVISOR: &[Call] = &[
    (libc::SYS_clone, NoNamespace),
    (libc::SYS_wait4, Always),
    (libc::SYS_waitid, Always),
    (libc::SYS_kill, Always),
    // Itself of a child is another number than the supervisor's.
    (libc::SYS_tgkill, Always),
    (libc::SYS_pidfd_open, Always),
    (libc::SYS_pidfd_send_signal, Always),
    (libc::SYS_unshare, ChildNamespace),
    (libc::SYS_setresuid, Always),
    (libc::SYS_setresgid, Always),
    (libc::SYS_setgroups, Always),
    (libc::SYS_capset, Always),
    (libc::SYS_capget, Always),
    (libc::SYS_setsid, Always),
    (libc::SYS_umask, Always),
    (libc::SYS_prlimit64, Always),
    (libc::SYS_prctl, Always),
    (libc::SYS_close_range, Always),
    (libc::SYS_pipe2, Always),
    (libc::SYS_dup, Always),
    (libc::SYS_dup3, Always),
    (libc::SYS_fcntl, OneOf(1, DUPLICATING_FCNTL)),
    (libc::SYS_landlock_create_ruleset, Always),
    (libc::SYS_landlock_add_rule, Always),
    (libc::SYS_landlock_restrict_self, Always),
    (libc::SYS_execve, Execute),
    (libc::SYS_chdir, Always),
    // /dev/null, for the children's standard descriptors; Landlock allows no other writing.
    (libc::SYS_openat, Always),
];
#[cfg(target_arch = "x86_64")]
const SUPERVISOR_OLD: &[Call] =
    &[(libc::SYS_fork, Always), (libc::SYS_vfork, Always), (libc::SYS_dup2, Always), (libc::SYS_arch_prctl, Execute)];
#[cfg(not(target_arch = "x86_64"))]
const SUPERVISOR_OLD: &[Call] = &[];

/// A program in another language: starts itself and, like any script, others below the paths it sees; no network, no files.
const EXTERNAL: &[Call] = &[
    (libc::SYS_execve, Always),
    (libc::SYS_clone, NoNamespace),
    (libc::SYS_wait4, Always),
    (libc::SYS_waitid, Always),
    (libc::SYS_pipe2, Always),
    (libc::SYS_dup, Always),
    (libc::SYS_dup3, Always),
    (libc::SYS_fcntl, OneOf(1, DUPLICATING_FCNTL)),
    (libc::SYS_set_tid_address, Always),
    (libc::SYS_chdir, Always),
    (libc::SYS_getpgid, Always),
];
#[cfg(target_arch = "x86_64")]
const EXTERNAL_OLD: &[Call] = &[
    (libc::SYS_arch_prctl, Always),
    (libc::SYS_dup2, Always),
    (libc::SYS_vfork, Always),
    (libc::SYS_fork, Always),
    (libc::SYS_getpgrp, Always),
    (libc::SYS_pipe, Always),
];
#[cfg(not(target_arch = "x86_64"))]
const EXTERNAL_OLD: &[Call] = &[];

/// The list of a role at work.
pub fn strict(role: Role) -> Vec<Call> {
    let lists: &[&[Call]] = match role {
        // A filter is inherited, so the supervisor's must hold whatever a child of its may do.
        Role::Supervisor => &[WORK, WORK_OLD, LINK, CAPTURER, WORKER, SUPERVISOR, SUPERVISOR_OLD, PREPARATION],
        Role::Capturer => &[WORK, WORK_OLD, LINK, CAPTURER],
        Role::Worker => &[WORK, WORK_OLD, LINK, WORKER],
        Role::Releaser => &[WORK, WORK_OLD, LINK],
        Role::External => &[WORK, WORK_OLD, PREPARATION, EXTERNAL, EXTERNAL_OLD],
    };
    lists.concat()
}

/// The list of a role from its launch to `lock_down`.
pub fn first(role: Role) -> Vec<Call> {
    [strict(role).as_slice(), PREPARATION].concat()
}

/// What a box that may start external programs adds to its supervisor's list.
pub fn for_externals() -> Vec<Call> {
    [EXTERNAL, EXTERNAL_OLD].concat()
}

/// Looked for with arguments behind a pointer, which no filter can see: answered as if the kernel were older.
pub const ABSENT: &[Number] = &[libc::SYS_clone3, libc::SYS_openat2];

/// Nobody in a box makes these by accident: the process dies, and the supervisor counts it.
pub const HOSTILE: &[Number] = &[
    // Other processes' memory, descriptors and secrets.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    // Programs and queues in the kernel, which run around filters.
    libc::SYS_bpf,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    // The kernel itself.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_quotactl,
    libc::SYS_clock_settime,
    libc::SYS_settimeofday,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    // Keys of the kernel's key rings, which outlive a process.
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Mounts and other namespaces.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
];

/// Hostile on x86-64 alone: ports of the hardware, other segments.
#[cfg(target_arch = "x86_64")]
pub const HOSTILE_HERE: &[Number] = &[libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt];
/// Hostile on this architecture alone.
#[cfg(not(target_arch = "x86_64"))]
pub const HOSTILE_HERE: &[Number] = &[];

#[cfg(test)]
mod tests {
    use super::*;

    const CHILDREN: [Role; 3] = [Role::Capturer, Role::Worker, Role::Releaser];

    fn numbers(calls: &[Call]) -> Vec<Number> {
        calls.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn no_role_may_make_a_socket_or_a_hostile_call() {
        let sockets = [
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_connect,
            libc::SYS_bind,
            libc::SYS_sendmsg,
            libc::SYS_recvmsg,
        ];
        for role in [Role::Supervisor, Role::Capturer, Role::Worker, Role::Releaser, Role::External] {
            let listed = numbers(&first(role));
            for number in sockets.iter().chain(HOSTILE).chain(HOSTILE_HERE).chain(ABSENT) {
                assert!(!listed.contains(number), "{role:?} may make call {number}");
            }
        }
    }

    #[test]
    fn children_may_start_nothing_and_change_no_ids() {
        let powers = [libc::SYS_execve, libc::SYS_execveat, libc::SYS_unshare, libc::SYS_setresuid, libc::SYS_capset];
        for role in CHILDREN {
            let listed = numbers(&strict(role));
            assert!(powers.iter().all(|number| !listed.contains(number)), "{role:?}");
            assert!(!strict(role).contains(&(libc::SYS_clone, NoNamespace)), "{role:?} may fork");
        }
        assert!(numbers(&strict(Role::Supervisor)).contains(&libc::SYS_unshare));
    }

    #[test]
    fn what_a_child_may_its_supervisor_may() {
        let supervisor = numbers(&strict(Role::Supervisor));
        for role in CHILDREN {
            assert!(numbers(&first(role)).iter().all(|number| supervisor.contains(number)), "{role:?}");
        }
    }

    #[test]
    fn code_may_be_mapped_before_lock_down_only() {
        for role in CHILDREN {
            assert!(first(role).contains(&(libc::SYS_mmap, Always)));
            assert!(!strict(role).contains(&(libc::SYS_mmap, Always)));
        }
    }
}
