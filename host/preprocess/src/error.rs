//! Why a tokenizer cannot be loaded or an input cannot be tokenised.

/// An error of loading or tokenising.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the checkpoint is missing or wrong.
    #[error("{file}: {what}")]
    File {
        /// The file.
        file: String,
        /// What is wrong with it.
        what: String,
    },
    /// The tokenizer refused a text.
    #[error("tokenizer: {0}")]
    Text(String),
    /// The tokens to keep leave no room for the special tokens.
    #[error("truncation to {limit} tokens leaves no room beside {special} special tokens")]
    NoRoom {
        /// Tokens to keep.
        limit: usize,
        /// Special tokens that the tokenizer adds.
        special: usize,
    },
    /// Truncation would drop tokens of a sequence with an image.
    #[error(
        "an input with an image is not truncated: it has {tokens} tokens, the limit is {limit}"
    )]
    ImageCut {
        /// Tokens to keep.
        limit: usize,
        /// Tokens that there are.
        tokens: usize,
    },
}
