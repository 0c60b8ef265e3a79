//! `Owners`: whose records wait in a builder, so that those of a condemned flow can be left out and no flow makes too many.
//!
//! Rules of this file:
//! 1. The flow is the one that the hand page shows when the record comes: nothing is done in Python for it.
use std::collections::HashSet;

use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::hand::Hand;

/// The flow of each record that waits, in order.
pub struct Owners {
    hand: Hand,
    flows: Vec<u64>,
    /// Records of one flow.
    most: usize,
    /// When there are so many, it is counted of whom they are.
    ceiling: usize,
    too_many: Py<PyType>,
}

impl Owners {
    /// None yet. `too_many` is raised when a flow has made `most`.
    pub fn new(hand: &Hand, most: usize, too_many: Py<PyType>) -> Self {
        Self { hand: hand.share(), flows: Vec::new(), most, ceiling: most, too_many }
    }

    /// The flow in hand, if it may have another record.
    pub fn admit(&mut self, py: Python<'_>) -> PyResult<u64> {
        let flow = self.hand.uid();
        if self.flows.len() >= self.ceiling {
            if self.flows.iter().filter(|owner| **owner == flow).count() >= self.most {
                return Err(PyErr::from_type(self.too_many.bind(py).clone(), ()));
            }
            self.ceiling = self.ceiling.saturating_add(self.most);
        }
        Ok(flow)
    }

    /// It has one more.
    pub fn push(&mut self, flow: u64) {
        self.flows.push(flow);
    }

    /// Which records stay when these flows are condemned, None: all; the list starts over.
    pub fn take(&mut self, condemned: &HashSet<u64>) -> Option<Vec<bool>> {
        let flows = core::mem::take(&mut self.flows);
        self.ceiling = self.most;
        if condemned.is_empty() || !flows.iter().any(|flow| condemned.contains(flow)) {
            return None;
        }
        Some(flows.iter().map(|flow| !condemned.contains(flow)).collect())
    }
}
