//! Why an image cannot be decoded or resampled.

use super::{Crop, Size};

/// An error of decoding or resampling an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The bytes are nothing that is known.
    #[error("not an image: PNG, JPEG, WebP and GIF are known by their first bytes")]
    NotAnImage,
    /// An image of a known format that is not read.
    #[error("{0} images are not supported: PNG, JPEG, WebP and GIF are")]
    UnsupportedFormat(&'static str),
    /// A feature of a format that is not read.
    #[error("{format} image: {what} is not supported")]
    UnsupportedFeature {
        /// The format.
        format: &'static str,
        /// The feature.
        what: String,
    },
    /// The file is damaged or ends early.
    #[error("{format} image: {what}")]
    Damaged {
        /// The format.
        format: &'static str,
        /// What the decoder says.
        what: String,
    },
    /// A side of zero.
    #[error("the image has {width} x {height} pixels, which is none")]
    Empty {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// A side beyond the limit.
    #[error("the image has {size} pixels, the longest side that is taken is {limit}")]
    TooLong {
        /// The image's size.
        size: Size,
        /// The longest side.
        limit: u32,
    },
    /// More pixels than the limit.
    #[error("the image has {size} pixels, the limit is {limit} in all")]
    TooManyPixels {
        /// The image's size.
        size: Size,
        /// The most pixels.
        limit: u64,
    },
    /// A crop that shows nothing, or what is not there.
    #[error(
        "resample: the crop of {}x{} at ({}, {}) is not within {to}",
        crop.width, crop.height, crop.left, crop.top
    )]
    Crop {
        /// The crop.
        crop: Crop,
        /// The size to resize to.
        to: Size,
    },
}
