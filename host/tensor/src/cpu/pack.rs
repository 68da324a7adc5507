//! Weights in the order that the register tile reads them: panels of a few columns.

use std::sync::Arc;

use super::buffer::Buffer;
use super::tile::{AmxBf16Product, DotBf16Product, F32Product, Product, WideBf16Product};
use super::{CpuDevice, Level};
use crate::Account;
use crate::convert::bf16_bits;
use crate::dtype::DType;
use crate::error::Result;

/// The order of words in a panel. A panel is `columns` wide, two vectors; A's columns
/// beyond the weight's are zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `[k][columns]` of f32.
    F32,
    /// `[k][columns / 2]` words: bfloat16 of columns j (low) and j + columns / 2 (high).
    WideBf16,
    /// `[ceil(k / 2)][columns]` words: bfloat16 at 2 k (low) and 2 k + 1 (high).
    DotBf16,
    /// The same order, for the matrix unit.
    AmxBf16,
}

/// A constant of a format's product.
macro_rules! of_product {
    ($format:expr, $constant:ident) => {
        match $format {
            Format::F32 => F32Product::$constant,
            Format::WideBf16 => WideBf16Product::$constant,
            Format::DotBf16 => DotBf16Product::$constant,
            Format::AmxBf16 => AmxBf16Product::$constant,
        }
    };
}

impl Format {
    /// The format for weights served in this dtype.
    pub fn of(dtype: DType, level: Level) -> Self {
        match (dtype, level) {
            (DType::BF16, Level::Avx512Bf16) => Format::DotBf16,
            (DType::BF16, Level::AmxBf16) => Format::AmxBf16,
            (DType::BF16, _) => Format::WideBf16,
            _ => Format::F32,
        }
    }

    /// Whether products of this format may be made on a level.
    pub fn is_for(self, level: Level) -> bool {
        self != Format::AmxBf16 || level == Level::AmxBf16
    }

    /// Elements along k in a word of A.
    pub fn depth(self) -> usize {
        of_product!(self, DEPTH)
    }

    /// Steps that are summed together.
    pub fn run(self) -> usize {
        of_product!(self, RUN)
    }

    /// Steps of a slice of k.
    pub fn slice_steps(self) -> usize {
        of_product!(self, SLICE_STEPS)
    }

    /// Words of A in a row, which are also the steps of a sum over `k`.
    pub fn steps(self, k: usize) -> usize {
        k.div_ceil(self.depth())
    }

    /// Words of one step of a panel.
    pub fn step_words(self, columns: usize) -> usize {
        match self {
            Format::F32 | Format::DotBf16 | Format::AmxBf16 => columns,
            Format::WideBf16 => columns / 2,
        }
    }
}

/// A packed weight `[n, k]`.
#[derive(Clone, Copy)]
pub(crate) struct Panels<'a> {
    pub words: &'a [f32],
    pub format: Format,
    /// Columns of a panel.
    pub columns: usize,
    /// Rows of the weight: columns of the result.
    pub n: usize,
    pub k: usize,
}

impl Panels<'_> {
    /// Words of one panel.
    pub fn panel_words(&self) -> usize {
        self.format.steps(self.k) * self.format.step_words(self.columns)
    }
}

/// A packed weight and its memory.
pub(crate) struct PackedWeight {
    words: Buffer,
    level: Level,
    format: Format,
    n: usize,
    k: usize,
}

impl PackedWeight {
    /// Packs a weight `[n, k]` whose rows `read(row, out)` writes. `account` pays for one
    /// that is used once; without it the weight stays.
    pub fn new(
        device: &CpuDevice,
        account: Option<&Arc<Account>>,
        format: Format,
        [n, k]: [usize; 2],
        read: impl Fn(usize, &mut [f32]) + Sync,
    ) -> Result<Self> {
        let level = device.level();
        let columns = level.panel_columns();
        let panel_words = format.steps(k) * format.step_words(columns);
        let len = Self::words_of(level, format, [n, k]);
        let mut words = match account {
            Some(_) => device.allocate("linear", len, account)?,
            None => device.allocate_weight(len)?,
        };
        device.parallel_rows(
            words.as_mut_slice(),
            panel_words,
            columns * k,
            |first, panels| {
                // The rows of one panel in f32: all that exists beside the packed weight.
                let mut rows = vec![0.0; columns * k];
                for (index, panel) in panels.chunks_exact_mut(panel_words).enumerate() {
                    let row = (first + index) * columns;
                    for (offset, out) in rows.chunks_exact_mut(k).enumerate() {
                        if row + offset < n {
                            read(row + offset, out);
                        } else {
                            out.fill(0.0);
                        }
                    }
                    interleave(format, columns, k, &rows, panel);
                }
            },
        );
        Ok(Self {
            words,
            level,
            format,
            n,
            k,
        })
    }

    /// Its panels, where it was packed for this level.
    pub fn panels(&self, level: Level) -> Option<Panels<'_>> {
        (self.level == level).then(|| Panels {
            words: self.words.as_slice(),
            format: self.format,
            columns: level.panel_columns(),
            n: self.n,
            k: self.k,
        })
    }

    fn words_of(level: Level, format: Format, [n, k]: [usize; 2]) -> usize {
        let columns = level.panel_columns();
        n.div_ceil(columns) * format.steps(k) * format.step_words(columns)
    }

    /// Bytes that a packed weight `[n, k]` occupies.
    pub fn bytes_of(level: Level, format: Format, shape: [usize; 2]) -> u64 {
        (Self::words_of(level, format, shape) * 4) as u64
    }
}

/// Steps that are written together: a cache line of each row is read once.
const BLOCK: usize = 16;

/// Writes `columns` rows of `k` into a panel.
fn interleave(format: Format, columns: usize, k: usize, rows: &[f32], panel: &mut [f32]) {
    let step_words = format.step_words(columns);
    let row = |index: usize| &rows[index * k..][..k];
    let bf16 = |row: &[f32], index: usize| row.get(index).map_or(0, |&x| bf16_bits(x));
    for (block, words) in panel.chunks_mut(BLOCK * step_words).enumerate() {
        let first = block * BLOCK;
        let steps = words.len() / step_words;
        for word in 0..step_words {
            let row_words = row(word);
            for step in 0..steps {
                let at = first + step;
                words[step * step_words + word] = match format {
                    Format::F32 => row_words[at],
                    Format::WideBf16 => {
                        let high = bf16(row(word + step_words), at);
                        f32::from_bits(bf16(row_words, at) | high << 16)
                    }
                    Format::DotBf16 | Format::AmxBf16 => {
                        let high = bf16(row_words, 2 * at + 1);
                        f32::from_bits(bf16(row_words, 2 * at) | high << 16)
                    }
                };
            }
        }
    }
}
