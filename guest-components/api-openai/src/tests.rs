//! What the dialects read and write.

mod parsing;
mod writing;
