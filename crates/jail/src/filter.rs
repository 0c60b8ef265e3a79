//! Makes seccomp programs out of the lists and installs them.
//!
//! Rules of this file:
//! 1. Three programs: the absent calls (ENOSYS), the hostile ones (kill), the allow-list (else EPERM). The kernel takes the harshest
//!    answer, and among error numbers the newest program's; so the allow-list lets the absent calls pass to the program before it.
//! 2. A filter is inherited and only ever narrows. The launch sets role and grants once; `lock_down` cannot be told others.
//! 3. `lock_down` reaches all threads of the process at once.

use std::collections::BTreeMap;
use std::sync::Mutex;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, apply_filter, apply_filter_all_threads,
};

use crate::calls::{self, Call, When};
use crate::error::JailError;
use crate::record::Record;
use crate::spec::{Grants, Role, Spec, Surroundings};
use crate::sys;

/// Role and grants of this process, kept from its launch for `lock_down`.
static LAUNCHED: Mutex<Option<(Role, Grants)>> = Mutex::new(None);

const EPERM: u32 = libc::EPERM as u32;
const ENOSYS: u32 = libc::ENOSYS as u32;
const NEW_NAMESPACES: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;
/// All flags of unshare but those of the namespaces a child gets; the kernel refuses what stands above 32 bits.
const NOT_FOR_CHILDREN: u64 =
    u32::MAX as u64 & !((libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS) as u64);
const WRITING: u64 = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u64;
const SECCOMP_MODE_FILTER: i32 = 2;

/// Install the programs of a launch; entry `seccomp`.
///
/// # Errors
/// No filter could be made or installed.
pub fn install_first(spec: &Spec, record: &mut Record) -> Result<(), JailError> {
    let mut listed = calls::first(spec.role);
    if spec.role == Role::Supervisor && spec.grants.execute {
        listed.extend(calls::for_externals());
    }
    // Within a box the supervisor's two are inherited.
    let mut programs = match spec.surroundings {
        Surroundings::NewBox { .. } => vec![absent()?, hostile()?],
        Surroundings::InBox => Vec::new(),
    };
    programs.push(allow_list(listed, &spec.grants)?);
    for program in &programs {
        apply_filter(program).map_err(|_| JailError::rule("seccomp", "the kernel refused a filter"))?;
    }
    let mode = sys::prctl("PR_GET_SECCOMP", libc::PR_GET_SECCOMP, 0, 0)?;
    record.seen("seccomp", "allow-list of the role", mode == SECCOMP_MODE_FILTER);
    if let Ok(mut launched) = LAUNCHED.lock() {
        *launched = Some((spec.role, spec.grants.clone()));
    }
    Ok(())
}

/// The strict list of the role this process was launched with, for all its threads; entry `seccomp_strict`.
///
/// # Errors
/// The process was launched with another role or without the jail, or the kernel refused the filter.
pub fn lock_down(role: Role) -> Result<Record, JailError> {
    let launched = LAUNCHED.lock().ok().and_then(|launched| launched.clone());
    let Some((launched_role, grants)) = launched else {
        return Err(JailError::rule("lock_down", "this process was not launched into the jail"));
    };
    if launched_role != role {
        return Err(JailError::rule("lock_down", "this process was launched as another role"));
    }
    let mut record = Record::default();
    if role == Role::Supervisor {
        // Its children inherit whatever it has, so its launch list is as strict as it can be.
        record.enforced("seccomp_strict", "the supervisor's list, since its launch");
        return Ok(record);
    }
    let strict = allow_list(calls::strict(role), &grants)?;
    apply_filter_all_threads(&strict)
        .map_err(|_| JailError::rule("seccomp", "the kernel refused the strict filter"))?;
    record.enforced("seccomp_strict", "no code, no program, no socket, no file to write");
    Ok(record)
}

fn allow_list(mut listed: Vec<Call>, grants: &Grants) -> Result<BpfProgram, JailError> {
    listed.extend(always(calls::ABSENT));
    program(&listed, grants, SeccompAction::Errno(EPERM), SeccompAction::Allow)
}

fn absent() -> Result<BpfProgram, JailError> {
    let listed: Vec<Call> = always(calls::ABSENT).collect();
    program(&listed, &Grants::default(), SeccompAction::Allow, SeccompAction::Errno(ENOSYS))
}

fn hostile() -> Result<BpfProgram, JailError> {
    let listed: Vec<Call> = always(calls::HOSTILE).chain(always(calls::HOSTILE_HERE)).collect();
    program(&listed, &Grants::default(), SeccompAction::Allow, SeccompAction::KillProcess)
}

fn always(numbers: &'static [libc::c_long]) -> impl Iterator<Item = Call> {
    numbers.iter().map(|number| (*number, When::Always))
}

fn program(
    listed: &[Call],
    grants: &Grants,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, JailError> {
    let mut rules: BTreeMap<i64, Option<Vec<SeccompRule>>> = BTreeMap::new();
    for (number, when) in listed {
        match conditions(*when, grants)? {
            // Without a condition: whatever other entries of the call demand no longer matters.
            Allowed::Always => {
                rules.insert(*number, None);
            }
            Allowed::If(alternatives) => {
                // A call without any alternative must not become an entry: an empty list means "always" below.
                if let (false, Some(known)) =
                    (alternatives.is_empty(), rules.entry(*number).or_insert_with(|| Some(Vec::new())))
                {
                    for alternative in alternatives {
                        known.push(SeccompRule::new(alternative).map_err(unmakeable)?);
                    }
                }
            }
        }
    }
    let rules = rules
        .into_iter()
        .filter_map(|(number, rules)| match rules {
            None => Some((number, Vec::new())),
            Some(rules) if rules.is_empty() => None,
            Some(rules) => Some((number, rules)),
        })
        .collect();
    let arch: TargetArch = std::env::consts::ARCH.try_into().map_err(unmakeable)?;
    SeccompFilter::new(rules, otherwise, matched, arch).and_then(TryInto::try_into).map_err(unmakeable)
}

fn unmakeable(_: seccompiler::BackendError) -> JailError {
    JailError::rule("seccomp", "a list cannot be made into a filter")
}

/// A call's condition as the filter needs it: alternatives, each a conjunction; none of them means never.
#[derive(Debug)]
enum Allowed {
    Always,
    If(Vec<Vec<SeccompCondition>>),
}

fn conditions(when: When, grants: &Grants) -> Result<Allowed, JailError> {
    let one = |condition| Allowed::If(vec![vec![condition]]);
    Ok(match when {
        When::Always => Allowed::Always,
        When::Readable => readable(grants, None)?,
        When::ReadableConnected => readable(grants, Some(zero_pointer(4)?))?,
        When::Writable => writable(grants, None)?,
        When::WritableConnected => writable(grants, Some(zero_pointer(4)?))?,
        When::ReadOnly(_) if grants.scratch => Allowed::Always,
        When::ReadOnly(argument) => one(masked(argument, WRITING, 0)?),
        When::Scratch => if_granted(grants.scratch),
        When::Execute => if_granted(grants.execute),
        When::Unlimited => if_granted(grants.writable.is_none()),
        When::NotExecutable => one(masked(2, libc::PROT_EXEC as u64, 0)?),
        When::Thread => {
            let thread = (libc::CLONE_THREAD | libc::CLONE_VM | libc::CLONE_SIGHAND) as u64;
            one(masked(0, thread | NEW_NAMESPACES, thread)?)
        }
        When::NoNamespace => one(masked(0, NEW_NAMESPACES, 0)?),
        When::ChildNamespace => one(masked(0, NOT_FOR_CHILDREN, 0)?),
        When::Itself => one(equal(0, u64::try_from(sys::process_id()).unwrap_or(0))?),
        When::OneOf(argument, values) => {
            let each = values.iter().map(|value| equal(argument, *value).map(|condition| vec![condition]));
            Allowed::If(each.collect::<Result<_, _>>()?)
        }
        When::AskLimits => Allowed::If(vec![vec![equal(0, 0)?, zero_pointer(2)?]]),
    })
}

fn if_granted(granted: bool) -> Allowed {
    if granted { Allowed::Always } else { Allowed::If(Vec::new()) }
}

/// Descriptors that may be read: all but the unread ones.
fn readable(grants: &Grants, also: Option<SeccompCondition>) -> Result<Allowed, JailError> {
    let unread = grants.unread.iter().map(|fd| condition(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, number(*fd)));
    let all: Vec<SeccompCondition> = unread.chain(also.map(Ok)).collect::<Result<_, _>>()?;
    Ok(if all.is_empty() { Allowed::Always } else { Allowed::If(vec![all]) })
}

/// Descriptors that may be written: those listed, or all where there is no list.
fn writable(grants: &Grants, also: Option<SeccompCondition>) -> Result<Allowed, JailError> {
    let Some(listed) = &grants.writable else {
        return Ok(also.map_or(Allowed::Always, |condition| Allowed::If(vec![vec![condition]])));
    };
    let each = listed
        .iter()
        .map(|fd| equal(0, number(*fd)).map(|condition| std::iter::once(condition).chain(also.clone()).collect()));
    Ok(Allowed::If(each.collect::<Result<_, _>>()?))
}

fn number(fd: i32) -> u64 {
    u64::try_from(fd).unwrap_or(u64::from(u32::MAX))
}

fn condition(
    argument: u8,
    length: SeccompCmpArgLen,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, JailError> {
    SeccompCondition::new(argument, length, operator, value).map_err(unmakeable)
}

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, JailError> {
    condition(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn masked(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, JailError> {
    condition(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
}

/// All 64 bits: a pointer whose lower half is zero is still a pointer.
fn zero_pointer(argument: u8) -> Result<SeccompCondition, JailError> {
    condition(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::panic)]

    use super::*;

    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    const KILL: u32 = 0x8000_0000;

    /// What a program answers to a call: the few instructions of classic BPF that a filter uses.
    fn answer(program: &BpfProgram, number: i64, arguments: [u64; 6]) -> u32 {
        let arch: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
        let mut data = Vec::new();
        data.extend(u32::try_from(number).unwrap().to_ne_bytes());
        data.extend(arch.to_ne_bytes());
        data.extend(0_u64.to_ne_bytes());
        for argument in arguments {
            data.extend(argument.to_ne_bytes());
        }
        let (mut accumulator, mut at) = (0_u32, 0_usize);
        loop {
            let step = &program[at];
            at += 1;
            let jump = |holds: bool| if holds { step.jt as usize } else { step.jf as usize };
            match step.code {
                0x20 => {
                    let from = step.k as usize;
                    accumulator = u32::from_ne_bytes(data[from..from + 4].try_into().unwrap());
                }
                0x54 => accumulator &= step.k,
                0x05 => at += step.k as usize,
                0x15 => at += jump(accumulator == step.k),
                0x25 => at += jump(accumulator > step.k),
                0x35 => at += jump(accumulator >= step.k),
                0x06 => return step.k,
                other => panic!("instruction {other:#x} of a filter is unknown"),
            }
        }
    }

    fn allows(role: Role, grants: &Grants, number: i64, arguments: [u64; 6]) -> bool {
        let made = allow_list(calls::strict(role), grants).unwrap();
        match answer(&made, number, arguments) {
            ALLOW => true,
            denied => {
                assert_eq!(denied, ERRNO | EPERM);
                false
            }
        }
    }

    #[test]
    fn open_for_reading_passes_and_for_writing_does_not() {
        let grants = Grants::default();
        let open = |flags: i32| allows(Role::Worker, &grants, libc::SYS_openat, [0, 0, flags as u64, 0, 0, 0]);
        assert!(open(libc::O_RDONLY | libc::O_CLOEXEC));
        for flags in [libc::O_WRONLY, libc::O_RDWR, libc::O_CREAT, libc::O_TRUNC, libc::O_TMPFILE | libc::O_RDWR] {
            assert!(!open(flags), "{flags:o}");
        }
        let scratch = Grants { scratch: true, ..Grants::default() };
        let created = [0, 0, (libc::O_CREAT | libc::O_RDWR) as u64, 0, 0, 0];
        assert!(allows(Role::Worker, &scratch, libc::SYS_openat, created));
    }

    #[test]
    fn threads_pass_and_processes_do_not() {
        let grants = Grants::default();
        let clone = |flags: i32| allows(Role::Worker, &grants, libc::SYS_clone, [flags as u64, 0, 0, 0, 0, 0]);
        let thread = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD | libc::CLONE_FS | libc::CLONE_FILES;
        assert!(clone(thread));
        assert!(!clone(libc::SIGCHLD));
        assert!(!clone(libc::CLONE_VM | libc::CLONE_VFORK));
        assert!(!clone(thread | libc::CLONE_NEWUSER));
    }

    #[test]
    fn code_cannot_be_mapped() {
        let grants = Grants::default();
        for number in [libc::SYS_mmap, libc::SYS_mprotect] {
            let may = |protection: i32| allows(Role::Capturer, &grants, number, [0, 0, protection as u64, 0, 0, 0]);
            assert!(may(libc::PROT_READ | libc::PROT_WRITE));
            assert!(!may(libc::PROT_READ | libc::PROT_EXEC));
        }
    }

    #[test]
    fn writing_reaches_listed_descriptors_alone() {
        let grants = Grants { writable: Some(vec![5, 7]), ..Grants::default() };
        let write = |fd: u64| allows(Role::Capturer, &grants, libc::SYS_write, [fd, 0, 0, 0, 0, 0]);
        assert!(write(5) && write(7));
        assert!(!write(6) && !write(3));
        // What would put another file behind a listed number.
        for number in [libc::SYS_dup, libc::SYS_dup3] {
            assert!(!allows(Role::Worker, &grants, number, [6, 5, 0, 0, 0, 0]));
        }
        assert!(!allows(Role::Capturer, &grants, libc::SYS_fcntl, [6, 1030, 5, 0, 0, 0]));
        assert!(allows(Role::Capturer, &grants, libc::SYS_fcntl, [6, 3, 0, 0, 0, 0]));
    }

    #[test]
    fn an_empty_list_of_writable_descriptors_means_none() {
        let grants = Grants { writable: Some(Vec::new()), ..Grants::default() };
        assert!(!allows(Role::Releaser, &grants, libc::SYS_write, [3, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn sending_names_no_destination() {
        let send = |grants: &Grants, fd: u64, address: u64| {
            allows(Role::Capturer, grants, libc::SYS_sendto, [fd, 0, 0, 0, address, 0])
        };
        let listed = Grants { writable: Some(vec![5]), ..Grants::default() };
        assert!(send(&listed, 5, 0));
        assert!(!send(&listed, 6, 0));
        assert!(!send(&listed, 5, 0x7fff_0000_0000));
        assert!(!send(&Grants::default(), 5, 0x1_0000_0000));
    }

    #[test]
    fn the_egress_is_never_read() {
        let grants = Grants { unread: vec![9], ..Grants::default() };
        for number in [libc::SYS_read, libc::SYS_readv, libc::SYS_pread64, libc::SYS_recvfrom] {
            assert!(!allows(Role::Releaser, &grants, number, [9, 0, 0, 0, 0, 0]));
            assert!(allows(Role::Releaser, &grants, number, [8, 0, 0, 0, 0, 0]));
        }
    }

    #[test]
    fn signals_reach_the_process_itself_alone() {
        let own = u64::from(std::process::id());
        let grants = Grants::default();
        for number in [libc::SYS_kill, libc::SYS_tgkill] {
            assert!(allows(Role::Worker, &grants, number, [own, 9, 9, 0, 0, 0]));
            assert!(!allows(Role::Worker, &grants, number, [own + 1, 9, 9, 0, 0, 0]));
            assert!(!allows(Role::Worker, &grants, number, [u64::MAX, 9, 9, 0, 0, 0]));
        }
    }

    #[test]
    fn the_supervisor_makes_the_namespaces_of_children_and_no_others() {
        let grants = Grants::default();
        let unshare = |flags: i32| allows(Role::Supervisor, &grants, libc::SYS_unshare, [flags as u64, 0, 0, 0, 0, 0]);
        assert!(unshare(libc::CLONE_NEWPID) && unshare(libc::CLONE_NEWNET));
        for flags in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET | libc::CLONE_NEWUSER, 0x80] {
            assert!(!unshare(flags), "{flags:#x}");
        }
        assert!(!allows(Role::Worker, &grants, libc::SYS_unshare, [libc::CLONE_NEWNET as u64, 0, 0, 0, 0, 0]));
    }

    #[test]
    fn hostile_calls_kill_and_others_pass_that_program() {
        let made = hostile().unwrap();
        assert_eq!(answer(&made, libc::SYS_ptrace, [0; 6]), KILL);
        assert_eq!(answer(&made, libc::SYS_read, [0; 6]), ALLOW);
    }

    #[test]
    fn calls_with_hidden_arguments_look_like_those_of_an_older_kernel() {
        let made = absent().unwrap();
        assert_eq!(answer(&made, libc::SYS_clone3, [0; 6]), ERRNO | ENOSYS);
        assert_eq!(answer(&made, libc::SYS_clone, [0; 6]), ALLOW);
        assert!(allows(Role::Worker, &Grants::default(), libc::SYS_clone3, [0; 6]));
    }

    #[test]
    fn lock_down_refuses_a_process_that_was_not_launched() {
        assert!(lock_down(Role::Worker).is_err());
    }
}
