//! A policy as the gate takes it: values, checked against the records when a gate is made.
use std::collections::HashMap;

use crate::address_map::{Method, Sites};
use crate::aggregate::Aggregate;
use crate::keys::Rotation;
use crate::lists::List;
use crate::sample::Share;
use crate::transform::Rule;
use crate::window::{MinK, Scanners};

/// What may leave, and when.
pub struct Policy {
    /// Output columns by record.
    pub rules: HashMap<String, Vec<Rule>>,
    /// How long pseudonyms last.
    pub rotation: Rotation,
    /// Networks of the operator.
    pub sites: Sites,
    /// Sealed lists.
    pub lists: Vec<List>,
    /// How addresses that stand in names are mapped; none: tagged.
    pub literals: Option<Method>,
    /// How long thresholds and aggregates count.
    pub window: Rotation,
    /// The field that says whose a row is, by record.
    pub units: HashMap<String, String>,
    /// Which units are in the sample, by record; others are whole.
    pub sample: HashMap<String, Share>,
    /// Whether all rows wait until their window closes, also where no threshold needs it.
    pub delay: bool,
    /// Rows that wait for company, by record.
    pub min_k: HashMap<String, MinK>,
    /// What is done with the rows of scanners.
    pub scanners: Option<Scanners>,
    /// Noisy numbers instead of rows.
    pub aggregates: Vec<Aggregate>,
    /// Most that all aggregates of a run may spend.
    pub epsilon: f64,
}

impl Policy {
    /// One epoch, no thresholds.
    #[must_use]
    pub fn of_rules(rules: HashMap<String, Vec<Rule>>) -> Self {
        Self {
            rules,
            rotation: Rotation::Run,
            sites: Sites::default(),
            lists: Vec::new(),
            literals: None,
            window: Rotation::Run,
            units: HashMap::new(),
            sample: HashMap::new(),
            delay: false,
            min_k: HashMap::new(),
            scanners: None,
            aggregates: Vec::new(),
            epsilon: 0.0,
        }
    }
}

/// A rule that does not fit its record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleFault {
    /// Record.
    pub record: String,
    /// Output column, or the setting.
    pub rule: String,
}
