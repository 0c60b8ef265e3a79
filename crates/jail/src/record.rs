//! The enforcement record: what was really reached, entry by entry, for the start statement and the heartbeats.

use crate::error::JailError;

/// One thing a jail may enforce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// A word of a closed vocabulary, e.g. `pid_namespace`.
    pub name: &'static str,
    /// It holds for this process, seen by asking the kernel where the kernel tells.
    pub enforced: bool,
    /// How it was reached, or why it was not; numbers and words of ours.
    pub detail: String,
}

/// All entries of one process, in the order of the steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    entries: Vec<Entry>,
}

impl Record {
    /// An entry that holds.
    pub fn enforced(&mut self, name: &'static str, detail: impl Into<String>) {
        self.entries.push(Entry { name, enforced: true, detail: detail.into() });
    }

    /// An entry that does not hold, and why.
    pub fn missing(&mut self, name: &'static str, why: impl Into<String>) {
        self.entries.push(Entry { name, enforced: false, detail: why.into() });
    }

    /// An entry whose step succeeded or failed.
    pub fn outcome(&mut self, name: &'static str, detail: &str, result: Result<(), JailError>) -> bool {
        match result {
            Ok(()) => self.enforced(name, detail),
            Err(error) => self.missing(name, error.to_string()),
        }
        result.is_ok()
    }

    /// An entry that holds if a question to the kernel says so.
    pub fn seen(&mut self, name: &'static str, detail: &str, holds: bool) {
        if holds { self.enforced(name, detail) } else { self.missing(name, "the kernel says it does not hold") }
    }

    /// All entries.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Whether an entry is there and holds.
    #[must_use]
    pub fn holds(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.name == name && entry.enforced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Cause;

    #[test]
    fn an_entry_holds_only_if_its_step_succeeded() {
        let mut record = Record::default();
        assert!(record.outcome("pid_namespace", "new", Ok(())));
        assert!(!record.outcome("user_namespace", "new", Err(JailError { step: "unshare", cause: Cause::Errno(1) })));
        assert!(record.holds("pid_namespace"));
        assert!(!record.holds("user_namespace"));
        assert!(!record.holds("never_tried"));
        assert_eq!(
            record.entries().last().map(|entry| entry.detail.as_str()),
            Some("unshare: not permitted (errno 1)")
        );
    }
}
