//! Buckets of numbers.
use crate::transform::Edges;

/// The lower edge of the bucket; below the first edge is the first.
#[must_use]
pub fn lower_edge(edges: &Edges, value: f64) -> f64 {
    match edges {
        Edges::Log2 => {
            if value < 1.0 {
                0.0
            } else {
                value.log2().floor().exp2()
            }
        }
        Edges::Declared(edges) => {
            edges.iter().rev().find(|edge| **edge <= value).or(edges.first()).copied().unwrap_or(0.0)
        }
    }
}

/// The lower edge for an integer, without the detour that would round large ones up.
#[must_use]
pub fn lower_edge_u64(edges: &Edges, value: u64) -> u64 {
    match edges {
        Edges::Log2 => value.checked_ilog2().map_or(0, |bits| 1_u64.checked_shl(bits).unwrap_or(0)),
        // Declared edges are checked at load to be whole numbers of at most 2^53 for integer fields.
        #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        Edges::Declared(_) => lower_edge(edges, value as f64).max(0.0) as u64,
    }
}
