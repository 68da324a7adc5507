//! Resampling of bytes: one pass along rows and one along columns, over what the crop shows.

use std::borrow::Cow;
use std::ops::Range;

use super::bicubic::{FRACTION_BITS, Windows};
use super::{Crop, Image, ImageError, MAX_SIDE, Size};

/// Pixels of the result: as many as a source has by default. What lies between the passes is
/// no more than the source or little more than the result, so that memory and time grow with
/// the pixels of these two.
const MAX_PIXELS: u64 = 50_000_000;

/// What rounds a sum to the nearest byte.
const HALF: i32 = 1 << (FRACTION_BITS - 1);

/// See [`Image::resample`].
pub fn resample(image: &Image, to: Size, crop: Crop) -> Result<Image, ImageError> {
    check(to, crop)?;
    let source = image.size;
    let columns = crop.left..crop.left + crop.width;
    let rows = crop.top..crop.top + crop.height;
    let horizontal =
        (to.width != source.width).then(|| Windows::new(source.width, to.width, columns.clone()));
    let vertical =
        (to.height != source.height).then(|| Windows::new(source.height, to.height, rows.clone()));

    // What the passes ask of the source.
    let columns = horizontal.as_ref().map_or(columns, Windows::span);
    let rows = vertical.as_ref().map_or(rows, Windows::span);
    let part = cut(image, columns, rows);
    let (horizontal, vertical) = (horizontal.as_ref(), vertical.as_ref());
    let result = match is_vertical_first(source, to) {
        true => along_rows(along_columns(part, vertical), horizontal),
        false => along_columns(along_rows(part, horizontal), vertical),
    };
    Ok(result.into_owned())
}

/// Pillow reduces the height first, since version 13, where it shrinks by more than twice as
/// many pixels as the width. The order shows in the last bit.
fn is_vertical_first(source: Size, to: Size) -> bool {
    let less = |source: u32, to: u32| i64::from(source) - i64::from(to);
    let height = less(source.height, to.height);
    height > 0 && height > 2 * less(source.width, to.width)
}

/// Whether such a result may be asked for.
fn check(to: Size, crop: Crop) -> Result<(), ImageError> {
    let is_within = |start: u32, len: u32, whole: u32| {
        len > 0 && start.checked_add(len).is_some_and(|end| end <= whole)
    };
    if !is_within(crop.left, crop.width, to.width) || !is_within(crop.top, crop.height, to.height) {
        return Err(ImageError::Crop { crop, to });
    }
    let size = Size {
        width: crop.width,
        height: crop.height,
    };
    if size.width.max(size.height) > MAX_SIDE {
        let limit = MAX_SIDE;
        return Err(ImageError::TooLong { size, limit });
    }
    if size.pixels() > MAX_PIXELS {
        let limit = MAX_PIXELS;
        return Err(ImageError::TooManyPixels { size, limit });
    }
    Ok(())
}

/// Some columns of some rows, copied where that is not all of them.
fn cut(image: &Image, columns: Range<u32>, rows: Range<u32>) -> Cow<'_, Image> {
    let size = Size {
        width: columns.end - columns.start,
        height: rows.end - rows.start,
    };
    if size == image.size {
        return Cow::Borrowed(image);
    }
    let columns = 3 * columns.start as usize..3 * columns.end as usize;
    let rows = image
        .rgb
        .chunks_exact(3 * image.size.width as usize)
        .skip(rows.start as usize)
        .take(size.height as usize);
    let mut rgb = Vec::with_capacity(3 * size.pixels() as usize);
    rows.for_each(|row| rgb.extend_from_slice(&row[columns.clone()]));
    Cow::Owned(Image { size, rgb })
}

fn along_rows<'a>(image: Cow<'a, Image>, windows: Option<&Windows>) -> Cow<'a, Image> {
    match windows {
        Some(windows) => Cow::Owned(resample_rows(&image, windows)),
        None => image,
    }
}

fn along_columns<'a>(image: Cow<'a, Image>, windows: Option<&Windows>) -> Cow<'a, Image> {
    match windows {
        Some(windows) => Cow::Owned(resample_columns(&image, windows)),
        None => image,
    }
}

/// Each pixel a sum of its neighbours in the row.
fn resample_rows(image: &Image, windows: &Windows) -> Image {
    let size = Size {
        width: windows.len(),
        height: image.size.height,
    };
    let mut rgb = vec![0; 3 * size.pixels() as usize];
    let rows = rgb.chunks_exact_mut(3 * size.width as usize);
    let sources = image.rgb.chunks_exact(3 * image.size.width as usize);
    for (row, source) in rows.zip(sources) {
        let (row, _) = row.as_chunks_mut::<3>();
        let (source, _) = source.as_chunks::<3>();
        for (pixel, (first, weights)) in row.iter_mut().zip(windows.iter()) {
            let mut sums = [HALF; 3];
            for (source, &weight) in source[first..].iter().zip(weights) {
                for (sum, &value) in sums.iter_mut().zip(source) {
                    *sum += i32::from(value) * weight;
                }
            }
            *pixel = sums.map(to_byte);
        }
    }
    Image { size, rgb }
}

/// Each pixel a sum of those above and below.
fn resample_columns(image: &Image, windows: &Windows) -> Image {
    let size = Size {
        width: image.size.width,
        height: windows.len(),
    };
    let stride = 3 * size.width as usize;
    let mut rgb = vec![0; 3 * size.pixels() as usize];
    let mut sums = vec![0; stride];
    for (row, (first, weights)) in rgb.chunks_exact_mut(stride).zip(windows.iter()) {
        sums.fill(HALF);
        let sources = image.rgb[stride * first..].chunks_exact(stride);
        for (source, &weight) in sources.zip(weights) {
            for (sum, &value) in sums.iter_mut().zip(source) {
                *sum += i32::from(value) * weight;
            }
        }
        for (value, &sum) in row.iter_mut().zip(&sums) {
            *value = to_byte(sum);
        }
    }
    Image { size, rgb }
}

/// The whole part of a sum, cut off at both ends.
fn to_byte(sum: i32) -> u8 {
    (sum >> FRACTION_BITS).clamp(0, 255) as u8
}
