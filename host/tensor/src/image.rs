//! Pixels of images, and how they are cut into patches.

use std::fmt;
use std::sync::Arc;

use crate::error::{Result, bail};
use crate::sequence::{Indices, SequenceLayout};

/// The largest patch side, and the most patches that are merged along a side.
const MAX_SIZE: u32 = 256;
const MAX_MERGE: u32 = 16;
/// The most rows of zeros before an image's patches.
const MAX_LEADING: u32 = 16;
/// The most rows of all images of a batch.
const MAX_ROWS: u32 = 1 << 24;

/// An image: red, green and blue of each pixel, row by row. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Pixels {
    width: u32,
    height: u32,
    rgb: Arc<[u8]>,
}

impl Pixels {
    /// An image of `width` x `height` pixels of three bytes.
    ///
    /// # Errors
    /// [`crate::Error::ShapeMismatch`] where a side is 0 or there are more or fewer bytes.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self> {
        let wanted = u64::from(width) * u64::from(height) * 3;
        if wanted == 0 || rgb.len() as u64 != wanted {
            bail!(
                ShapeMismatch,
                "pixels: {} bytes for an image of {width} x {height}",
                rgb.len()
            );
        }
        Ok(Self {
            width,
            height,
            rgb: rgb.into(),
        })
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width as usize
    }

    /// All rows, one after the other.
    pub fn bytes(&self) -> &[u8] {
        &self.rgb
    }

    /// How many pixels there are.
    pub fn count(&self) -> usize {
        self.rgb.len() / 3
    }

    /// `length` pixels of row `y`, from column `x` on.
    pub(crate) fn line(&self, x: usize, y: usize, length: usize) -> &[u8] {
        &self.rgb[(y * self.width as usize + x) * 3..][..length * 3]
    }
}

impl fmt::Debug for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} x {} pixels", self.width, self.height)
    }
}

/// An image and the placeholder tokens that stand for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedImage {
    /// Its first placeholder.
    pub start: u32,
    /// Rows of placeholders.
    pub rows: u32,
    /// Placeholders in a row.
    pub columns: u32,
    /// What the model sees.
    pub pixels: Pixels,
}

impl PlacedImage {
    /// The row and column of each placeholder.
    pub(crate) fn places(&self) -> impl ExactSizeIterator<Item = (u32, u32)> {
        let count = (self.rows * self.columns) as usize;
        let columns = self.columns as usize;
        (0..count).map(move |index| ((index / columns) as u32, (index % columns) as u32))
    }
}

/// How images are cut into patches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PatchOptions {
    /// Height and width of a patch in pixels.
    pub size: u32,
    /// Patches come in blocks of `merge` x `merge`.
    pub merge: u32,
    /// Rows of zeros before each image's patches.
    pub leading: u32,
}

/// Images cut into patches: one row a patch, after each image's rows of zeros. Cheap to
/// clone.
#[derive(Clone)]
pub struct Patches {
    images: Arc<[Pixels]>,
    options: PatchOptions,
    layout: SequenceLayout,
}

/// What a row is cut from.
pub(crate) enum PatchRow<'a> {
    /// Nothing: a row of zeros.
    Leading,
    /// The square of an image, which is number `index`, whose first pixel is at `x`, `y`.
    Patch {
        index: usize,
        image: &'a Pixels,
        x: usize,
        y: usize,
    },
}

impl Patches {
    /// Cuts `images`.
    ///
    /// # Errors
    /// [`crate::Error::InvalidArgument`] for an option out of range or too many rows;
    /// [`crate::Error::ShapeMismatch`] for an image that is no multiple of the blocks.
    pub fn cut(images: Vec<Pixels>, options: PatchOptions) -> Result<Self> {
        let PatchOptions {
            size,
            merge,
            leading,
        } = options;
        let fits = (1..=MAX_SIZE).contains(&size) && (1..=MAX_MERGE).contains(&merge);
        if !fits || leading > MAX_LEADING {
            bail!(
                InvalidArgument,
                "patches: size {size}, merge {merge} and {leading} leading rows; sizes are 1 to \
                 {MAX_SIZE}, merge 1 to {MAX_MERGE}, leading rows at most {MAX_LEADING}"
            );
        }
        let block = size * merge;
        let mut ends = vec![0];
        let mut end = 0_u32;
        for Pixels { width, height, .. } in &images {
            if !width.is_multiple_of(block) || !height.is_multiple_of(block) {
                bail!(
                    ShapeMismatch,
                    "patches: an image of {width} x {height} is no multiple of {block}"
                );
            }
            let rows = u64::from(width / size) * u64::from(height / size) + u64::from(leading);
            if u64::from(end) + rows > u64::from(MAX_ROWS) {
                bail!(
                    InvalidArgument,
                    "patches: the images of a batch have more than {MAX_ROWS} rows"
                );
            }
            end += rows as u32;
            ends.push(end);
        }
        let layout = SequenceLayout::packed(&ends, &vec![0; images.len()])?;
        Ok(Self {
            images: images.into(),
            options,
            layout,
        })
    }

    /// Each image as a sequence of rows.
    pub fn layout(&self) -> &SequenceLayout {
        &self.layout
    }

    /// 0, 1, 2, ... in each image.
    pub fn position_ids(&self) -> Indices {
        let spans = self.layout.spans().iter();
        Indices::new(spans.flat_map(|span| 0..span.length as u32).collect())
    }

    /// The row of each patch in its image's grid; 0 for a row of zeros.
    pub fn row_ids(&self) -> Indices {
        self.grid_ids(|_, y| y)
    }

    /// The column of each patch in its image's grid; 0 for a row of zeros.
    pub fn column_ids(&self) -> Indices {
        self.grid_ids(|x, _| x)
    }

    fn grid_ids(&self, of_place: impl Fn(usize, usize) -> usize) -> Indices {
        let size = self.options.size as usize;
        let ids = (0..self.rows()).map(|row| match self.row(row) {
            PatchRow::Leading => 0,
            PatchRow::Patch { x, y, .. } => of_place(x / size, y / size) as u32,
        });
        Indices::new(ids.collect())
    }

    /// Rows of all images.
    pub fn rows(&self) -> usize {
        self.layout.rows()
    }

    /// The images.
    pub(crate) fn images(&self) -> &[Pixels] {
        &self.images
    }

    /// Height and width of a patch in pixels.
    pub(crate) fn size(&self) -> usize {
        self.options.size as usize
    }

    /// What a row is cut from.
    pub(crate) fn row(&self, row: usize) -> PatchRow<'_> {
        let PatchOptions {
            size,
            merge,
            leading,
        } = self.options;
        let (size, merge) = (size as usize, merge as usize);
        let spans = self.layout.spans();
        let index = spans.partition_point(|span| span.start <= row) - 1;
        let image = &self.images[index];
        let Some(patch) = (row - spans[index].start).checked_sub(leading as usize) else {
            return PatchRow::Leading;
        };
        let blocks = image.width as usize / (size * merge);
        let (block, inner) = (patch / (merge * merge), patch % (merge * merge));
        PatchRow::Patch {
            index,
            image,
            x: (block % blocks * merge + inner % merge) * size,
            y: (block / blocks * merge + inner / merge) * size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(width: u32, height: u32) -> Pixels {
        let bytes = (width * height * 3) as usize;
        Pixels::new(width, height, vec![0; bytes]).expect("pixels")
    }

    fn options(size: u32, merge: u32, leading: u32) -> PatchOptions {
        PatchOptions {
            size,
            merge,
            leading,
        }
    }

    #[test]
    fn patches_come_block_by_block_after_the_leading_rows() -> Result<()> {
        let patches = Patches::cut(vec![pixels(8, 4), pixels(4, 4)], options(2, 2, 1))?;
        assert_eq!((patches.layout().sequences(), patches.rows()), (2, 14));
        assert_eq!(
            patches.row_ids().values(),
            [0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1]
        );
        assert_eq!(
            patches.column_ids().values(),
            [0, 0, 1, 0, 1, 2, 3, 2, 3, 0, 0, 1, 0, 1]
        );
        assert_eq!(
            patches.position_ids().values(),
            [0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 2, 3, 4]
        );
        Ok(())
    }

    #[test]
    fn refuses_what_cannot_be_cut() {
        let refused = |image, options| Patches::cut(vec![image], options).is_err();
        assert!(refused(pixels(8, 6), options(2, 2, 0)), "no whole blocks");
        assert!(refused(pixels(4, 4), options(0, 1, 0)), "no size");
        assert!(refused(pixels(4, 4), options(2, 0, 0)), "no merge");
        assert!(refused(pixels(4, 4), options(2, 1, 17)), "too many rows");
        assert!(Pixels::new(0, 4, Vec::new()).is_err(), "no pixels");
        assert!(Pixels::new(2, 2, vec![0; 11]).is_err(), "a byte short");
    }
}
