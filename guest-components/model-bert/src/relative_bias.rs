//! What MPNet adds to scores for the distance of two tokens: T5's table of buckets.

use tenon_sdk::checkpoint::{Weights, reason};
use tenon_sdk::tensor::{self, Error, Tensor};

/// Rows of the table: half for tokens up to the one that looks, half for those after it.
const BUCKETS: u32 = 32;

/// Buckets of one direction.
const HALF: u32 = BUCKETS / 2;

/// Distances of one direction, from 0 on, that have a bucket to themselves.
const EXACT: u32 = HALF / 2;

/// The most tensors that the host joins at a time.
const MAX_JOINED: usize = 64;

/// The bias `[heads, 2 * reach + 1]` that attention takes.
///
/// # Errors
/// Where the table is absent or of another shape.
pub fn load(weights: &Weights, name: &str, heads: u32, reach: u32) -> Result<Tensor, String> {
    let table = weights.get(name, &[BUCKETS, heads])?;
    by_distance(&table, heads, reach).map_err(|error| format!("{name}: {}", reason(error)))
}

/// One column a distance, of a `table` with one row a bucket.
fn by_distance(table: &Tensor, heads: u32, reach: u32) -> Result<Tensor, Error> {
    let column = |bucket| {
        let row = tensor::slice(table, 0, bucket, 1)?;
        tensor::reshape(&row, &[heads, 1])
    };
    let columns = (0..BUCKETS).map(column).collect::<Result<Vec<_>, _>>()?;
    let reach = i64::from(reach);
    let distances = -reach..=reach;
    let picked: Vec<_> = distances
        .map(|distance| &columns[bucket(distance) as usize])
        .collect();
    joined(&picked)
}

/// The columns side by side.
fn joined(columns: &[&Tensor]) -> Result<Tensor, Error> {
    if columns.len() <= MAX_JOINED {
        return tensor::concat(columns, 1);
    }
    let groups = columns.chunks(MAX_JOINED);
    let groups = groups
        .map(|group| tensor::concat(group, 1))
        .collect::<Result<Vec<_>, _>>()?;
    joined(&groups.iter().collect::<Vec<_>>())
}

/// The bucket of the token that stands `distance` after the one that looks.
fn bucket(distance: i64) -> u32 {
    let first = if distance > 0 { HALF } else { 0 };
    let (apart, exact) = (distance.unsigned_abs(), u64::from(EXACT));
    if apart < exact {
        return first + apart as u32;
    }
    // Two buckets an octave, the last from 128 / sqrt 2 on. The reference takes logarithms;
    // in integers no processor rounds a boundary to the other side.
    let half_octaves = (apart * apart / (exact * exact)).ilog2();
    first + (EXACT + half_octaves).min(HALF - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_the_reference() {
        // The least distance of each bucket: MPNetEncoder.relative_position_bucket.
        let least = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        for distance in 0..1000 {
            let wanted = least.iter().rposition(|&least| least <= distance);
            let wanted = wanted.expect("a bucket") as u32;
            assert_eq!(bucket(-distance), wanted, "{distance} before");
            if distance > 0 {
                assert_eq!(bucket(distance), HALF + wanted, "{distance} after");
            }
        }
    }
}
