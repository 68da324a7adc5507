//! Which sequences of a batch are pooled together.

use std::collections::BTreeMap;

use crate::batch::PoolOptions;

/// The sequences of each length of vector that is asked for.
pub fn groups(options: &[PoolOptions]) -> BTreeMap<Option<u32>, Vec<u32>> {
    let mut groups: BTreeMap<Option<u32>, Vec<u32>> = BTreeMap::new();
    for (sequence, options) in options.iter().enumerate() {
        groups
            .entry(options.dimensions)
            .or_default()
            .push(sequence as u32);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_by_dimensions_in_order() {
        let options = [None, Some(64), None, Some(32), Some(64)].map(|dimensions| PoolOptions {
            excluded_tokens: 0,
            dimensions,
        });
        let groups = groups(&options);
        let expected = [
            (None, vec![0, 2]),
            (Some(32), vec![3]),
            (Some(64), vec![1, 4]),
        ];
        assert!(groups.into_iter().eq(expected));
    }
}
