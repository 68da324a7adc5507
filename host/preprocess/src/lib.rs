//! From text to token ids: the checkpoint's tokenizer and truncation. Pure functions of
//! their arguments; no image, network or file is touched after loading.

mod error;
mod image;
mod settings;
mod tokenizer;

pub use error::Error;
pub use image::*;
pub use tokenizer::{Encoded, Segment, Side, TextTokenizer};
