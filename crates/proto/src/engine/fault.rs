//! Why a flow ended `erroneous`: a closed set of words.

/// What hit a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// An analyzer raised.
    Exception,
    /// A parser or the core panicked.
    Panic,
    /// It took longer than allowed.
    Time,
    /// It took more memory than allowed.
    Memory,
    /// A record of it does not fit its declaration, or there were too many.
    Output,
    /// Native code crashed.
    Crash,
    /// The process was ended from within.
    Exited,
    /// The process was ended from outside.
    Killed,
    /// A program outside the process failed.
    External,
}

impl Fault {
    /// Each.
    pub const ALL: &[Self] = &[
        Self::Exception,
        Self::Panic,
        Self::Time,
        Self::Memory,
        Self::Output,
        Self::Crash,
        Self::Exited,
        Self::Killed,
        Self::External,
    ];

    /// Its word in flow records.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Exception => "exception",
            Self::Panic => "panic",
            Self::Time => "time",
            Self::Memory => "memory",
            Self::Output => "output",
            Self::Crash => "crash",
            Self::Exited => "exited",
            Self::Killed => "killed",
            Self::External => "external",
        }
    }

    /// The fault with this word.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|fault| fault.word() == word)
    }
}
