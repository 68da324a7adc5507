//! What the dialects read and write.

mod parsing;
mod refusals;
mod writing;
