//! The one error of this crate: which step failed and why, without content.

use std::fmt;

/// Why a step failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The kernel's error number.
    Errno(i32),
    /// A rule of ours, in words of ours.
    Rule(&'static str),
}

impl fmt::Display for Cause {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cause::Errno(number) => match std::io::Error::from_raw_os_error(*number).kind() {
                std::io::ErrorKind::PermissionDenied => write!(out, "not permitted (errno {number})"),
                std::io::ErrorKind::Unsupported => write!(out, "the kernel has it not (errno {number})"),
                _ => write!(out, "errno {number}"),
            },
            Cause::Rule(words) => out.write_str(words),
        }
    }
}

/// A step of the jail that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JailError {
    /// The step, usually a system call's name.
    pub step: &'static str,
    /// Why.
    pub cause: Cause,
}

impl JailError {
    /// A step refused by a rule of ours.
    #[must_use]
    pub fn rule(step: &'static str, words: &'static str) -> Self {
        Self { step, cause: Cause::Rule(words) }
    }
}

impl fmt::Display for JailError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.step, self.cause)
    }
}

impl std::error::Error for JailError {}
