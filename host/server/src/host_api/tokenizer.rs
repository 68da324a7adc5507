//! `tokenizer`: the checkpoint's vocabulary.

use tenon_preprocess::TextTokenizer;

use super::imports::tokenizer::Host;

/// The tokenizer of the bundle that is running.
pub struct TokenizerView<'a>(pub &'a TextTokenizer);

impl Host for TokenizerView<'_> {
    fn token_id(&mut self, token: String) -> wasmtime::Result<Option<u32>> {
        Ok(self.0.token_id(&token))
    }
}
