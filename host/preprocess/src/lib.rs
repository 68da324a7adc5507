//! What stands before a model: from text to token ids, with the checkpoint's tokenizer and
//! truncation, and from image files to pixels. Pure functions of their arguments; no network
//! or file is touched after loading.

mod error;
mod image;
mod settings;
mod tokenizer;

pub use error::Error;
pub use image::{Crop, Image, ImageError, ImageLimits, Size};
pub use tokenizer::{Encoded, Segment, Side, TextTokenizer};
