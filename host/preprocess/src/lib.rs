//! From text to token ids: the checkpoint's tokenizer and truncation. Pure functions of
//! their arguments; no image, network or file is touched after loading.

mod error;
mod settings;
mod tokenizer;

pub use error::Error;
pub use tokenizer::{Encoded, Segment, Side, TextTokenizer};
