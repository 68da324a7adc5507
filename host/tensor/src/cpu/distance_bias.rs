//! What attention adds to the score of a key for its distance from the query.

use super::{Level, Rows};

/// A number for each head and distance, laid out for vectors that reach beyond the keys.
#[derive(Clone, Copy)]
pub(super) struct DistanceBias<'a> {
    values: &'a [f32],
    /// Elements of a head.
    stride: usize,
    /// Where a head has the distance 0.
    zero: usize,
}

impl<'a> DistanceBias<'a> {
    /// Elements that it takes for sequences of up to `longest` rows.
    pub fn words(level: Level, heads: usize, longest: usize) -> usize {
        heads * stride(level, longest)
    }

    /// Lays out `table` `[heads, 2 * reach + 1]` in `to`, which has [`Self::words`].
    pub fn new(level: Level, table: Rows, longest: usize, to: &'a mut [f32]) -> Self {
        let (stride, zero) = (stride(level, longest), longest - 1);
        let reach = table.width / 2;
        let near = reach.min(zero);
        for (index, head) in to.chunks_exact_mut(stride).enumerate() {
            // Beyond the reach are masked keys and those that fill up a panel.
            head.fill(0.0);
            head[zero - near..=zero + near]
                .copy_from_slice(&table.row(index)[reach - near..=reach + near]);
        }
        Self {
            values: to,
            stride,
            zero,
        }
    }

    /// What is added to one head's scores of a query and the keys from `first_key` on.
    pub fn of(&self, head: usize, query: usize, first_key: usize) -> &'a [f32] {
        let head = &self.values[head * self.stride..][..self.stride];
        &head[self.zero + first_key - query..]
    }
}

/// Every distance of two rows, and those of the keys that fill up the last panel.
fn stride(level: Level, longest: usize) -> usize {
    2 * longest - 1 + level.panel_columns()
}
