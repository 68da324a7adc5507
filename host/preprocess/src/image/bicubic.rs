//! Weights of the bicubic filter in the fixed point that Pillow resamples bytes in.

use std::ops::Range;

/// Bits of a weight's fraction: Pillow leaves eight for the pixel and two for sums that
/// overshoot.
pub const FRACTION_BITS: u32 = 32 - 8 - 2;

/// How far the filter reaches to either side, in pixels of the coarser image.
const REACH: f64 = 2.0;

/// For each of some target positions, the source positions that it is a weighted sum of.
pub struct Windows {
    /// The source positions that any window touches.
    span: Range<u32>,
    windows: Vec<Window>,
    weights: Vec<i32>,
}

struct Window {
    /// The first source position, counted from the start of the span.
    first: usize,
    weights: Range<usize>,
}

impl Windows {
    /// The windows of the positions `range`, which is not empty, among `target`, over `source`
    /// positions.
    pub fn new(source: u32, target: u32, range: Range<u32>) -> Self {
        let scale = f64::from(source) / f64::from(target);
        // Enlarged, the filter is as wide as a few pixels of the source; reduced, of the target.
        let stretch = scale.max(1.0);
        let inverse = 1.0 / stretch;
        let reach = REACH * stretch;
        let bounds = |position: u32| {
            let center = (f64::from(position) + 0.5) * scale;
            // As in C, these casts cut the fraction off.
            let first = (center - reach + 0.5).max(0.0) as u32;
            let end = ((center + reach + 0.5) as u32).min(source);
            (center, first..end)
        };
        // Both bounds grow with the position.
        let (_, start) = bounds(range.start);
        let (_, end) = bounds(range.end - 1);
        let span = start.start..end.end;

        let mut windows = Vec::with_capacity(range.len());
        let mut weights: Vec<i32> = Vec::new();
        let mut exact = Vec::new();
        for position in range {
            let (center, sources) = bounds(position);
            let first = (sources.start - span.start) as usize;
            exact.clear();
            exact.extend(sources.map(|x| filter((f64::from(x) - center + 0.5) * inverse)));
            let sum: f64 = exact.iter().sum();
            let start = weights.len();
            weights.extend(exact.iter().map(|weight| to_fixed(weight / sum)));
            windows.push(Window {
                first,
                weights: start..weights.len(),
            });
        }
        Self {
            span,
            windows,
            weights,
        }
    }

    /// How many target positions there are.
    pub fn len(&self) -> u32 {
        self.windows.len() as u32
    }

    /// The source positions that any window touches.
    pub fn span(&self) -> Range<u32> {
        self.span.clone()
    }

    /// Of each target position, the first source position, counted from the start of the span,
    /// and the weights from there on.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let windows = self.windows.iter();
        windows.map(|window| (window.first, &self.weights[window.weights.clone()]))
    }
}

/// Bicubic with a = -0.5.
fn filter(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Rounded to the nearest, halves away from zero.
fn to_fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << FRACTION_BITS);
    (scaled + 0.5_f64.copysign(weight)) as i32
}
