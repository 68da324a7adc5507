//! The checkpoint's own tokenizer, with truncation as transformers does it.

use std::path::Path;

use tokenizers::normalizers::{Lowercase, Sequence};
use tokenizers::{PostProcessor as _, PostProcessorWrapper, Tokenizer};

use crate::Error;
use crate::settings::{Settings, file_error, read};

/// A piece of one sequence.
#[derive(Debug, Clone, Copy)]
pub enum Segment<'a> {
    /// Text; special tokens written in it are recognised.
    Text(&'a str),
    /// Token ids, taken as they are.
    Tokens(&'a [u32]),
    /// The placeholders of an image: a token, so many times.
    Image {
        /// Id of the token.
        token: u32,
        /// How many there are.
        count: usize,
    },
}

/// The end of a long sequence that is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The start.
    Left,
    /// The end.
    Right,
}

/// The token ids of one sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Special tokens included.
    pub token_ids: Vec<u32>,
    /// How many there were before truncation.
    pub untruncated_len: usize,
    /// Where the placeholders of each image begin.
    pub image_starts: Vec<usize>,
}

/// A loaded tokenizer; shared between threads.
pub struct TextTokenizer {
    inner: Tokenizer,
    model_max_length: Option<usize>,
    /// Special tokens that are added to one sequence: before it, and after it.
    prefix: Vec<u32>,
    suffix: Vec<u32>,
}

impl TextTokenizer {
    /// Loads `tokenizer.json` and `tokenizer_config.json` of a checkpoint's folder. The
    /// truncation and padding that the file itself asks for are never the limit. With
    /// `add_eos_token`, `eos_token` counts among the special tokens, once.
    pub fn from_dir(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("tokenizer.json");
        let mut inner =
            Tokenizer::from_bytes(read(&path)?).map_err(|error| file_error(&path, error))?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| file_error(&path, error))?;
        let (prefix, mut suffix) =
            take_affixes(&mut inner).map_err(|error| file_error(&path, error))?;
        let settings = Settings::read(dir)?;
        let eos = added_eos(&inner, &settings)
            .map_err(|what| file_error(&dir.join(Settings::FILE), what))?;
        // The post-processor of some files adds it, that of others does not.
        suffix.extend(eos.filter(|id| !suffix.contains(id)));
        Ok(Self {
            inner,
            model_max_length: settings.max_length(),
            prefix,
            suffix,
        })
    }

    /// The same tokenizer for texts in lower case (`do_lower_case` of sentence-transformers):
    /// before the tokenizer's own normalisation, and not for special tokens.
    ///
    /// # Errors
    /// [`Error::Text`] where the tokenizer takes no other normalizer.
    pub fn lowercasing(mut self) -> Result<Self, Error> {
        let mut normalizers = vec![Lowercase.into()];
        normalizers.extend(self.inner.get_normalizer().cloned());
        let normalizer = Sequence::new(normalizers);
        match self.inner.with_normalizer(Some(normalizer)) {
            Ok(_) => Ok(self),
            Err(error) => Err(Error::Text(error.to_string())),
        }
    }

    /// The ids of one sequence. `truncate` keeps that many tokens, special tokens counted
    /// and never dropped. Ids given as tokens get no special tokens.
    ///
    /// # Errors
    /// [`Error::Text`] where the tokenizer fails; [`Error::NoRoom`] where `truncate` keeps
    /// fewer tokens than the special ones; [`Error::ImageCut`] where it would drop tokens of
    /// a sequence with an image.
    pub fn encode(
        &self,
        segments: &[Segment<'_>],
        add_special_tokens: bool,
        truncate: Option<(usize, Side)>,
    ) -> Result<Encoded, Error> {
        let is_text = segments
            .iter()
            .any(|segment| matches!(segment, Segment::Text(_)));
        let (prefix, suffix) = match add_special_tokens && is_text {
            true => (self.prefix.as_slice(), self.suffix.as_slice()),
            false => (&[][..], &[][..]),
        };
        let special = prefix.len() + suffix.len();

        let mut body = Vec::new();
        let mut image_starts = Vec::new();
        for segment in segments {
            match segment {
                Segment::Tokens(ids) => body.extend_from_slice(ids),
                Segment::Image { token, count } => {
                    image_starts.push(prefix.len() + body.len());
                    body.resize(body.len() + count, *token);
                }
                Segment::Text(text) => {
                    let encoding = self
                        .inner
                        .encode_fast(*text, false)
                        .map_err(|error| Error::Text(error.to_string()))?;
                    body.extend_from_slice(encoding.get_ids());
                }
            }
        }
        let untruncated_len = body.len() + special;
        if let Some((limit, side)) = truncate
            && untruncated_len > limit
        {
            if !image_starts.is_empty() {
                return Err(Error::ImageCut {
                    limit,
                    tokens: untruncated_len,
                });
            }
            // All special tokens and none of the text would be no answer to the text.
            let keep = limit
                .checked_sub(special)
                .filter(|&keep| keep > 0)
                .ok_or(Error::NoRoom { limit, special })?;
            match side {
                Side::Right => body.truncate(keep),
                Side::Left => {
                    body.drain(..body.len() - keep);
                }
            }
        }
        let mut token_ids = Vec::with_capacity(body.len() + special);
        token_ids.extend_from_slice(prefix);
        token_ids.append(&mut body);
        token_ids.extend_from_slice(suffix);
        Ok(Encoded {
            token_ids,
            untruncated_len,
            image_starts,
        })
    }

    /// Tokens of a prompt alone with its special tokens, less a special token at its end:
    /// what sentence-transformers leaves out of pooling (`include_prompt: false`).
    pub fn prompt_len(&self, prompt: &str) -> Result<usize, Error> {
        let encoded = self.encode(&[Segment::Text(prompt)], true, None)?;
        Ok(encoded.token_ids.len() - usize::from(!self.suffix.is_empty()))
    }

    /// The id of a token, special or not.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// How many tokens there are, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The longest input that the tokenizer's settings name, special tokens counted.
    pub fn model_max_length(&self) -> Option<usize> {
        self.model_max_length
    }
}

/// The id of the token that the settings end sequences with.
fn added_eos(tokenizer: &Tokenizer, settings: &Settings) -> Result<Option<u32>, String> {
    let Some(token) = settings.added_eos()? else {
        return Ok(None);
    };
    match tokenizer.token_to_id(token) {
        Some(id) => Ok(Some(id)),
        None => Err(format!(
            "eos_token is {token:?}, which tokenizer.json does not have"
        )),
    }
}

/// The special tokens that the tokenizer adds to one sequence, found by encoding a text with
/// its post-processor and without, which is how it is left.
fn take_affixes(tokenizer: &mut Tokenizer) -> Result<(Vec<u32>, Vec<u32>), String> {
    let encode = |tokenizer: &Tokenizer| {
        let encoding = tokenizer
            .encode_fast("a", true)
            .map_err(|error| error.to_string())?;
        Ok::<_, String>(encoding.get_ids().to_vec())
    };
    let full = encode(tokenizer)?;
    let added = tokenizer
        .get_post_processor()
        .map_or(0, |processor| processor.added_tokens(false));
    tokenizer.with_post_processor(None::<PostProcessorWrapper>);
    let bare = encode(tokenizer)?;
    let start = match bare.as_slice() {
        // A vocabulary that has nothing for the text: what is added stands before it.
        [] => Some(full.len()),
        bare => full.windows(bare.len()).position(|window| window == bare),
    };
    match start {
        Some(start) if full.len() == bare.len() + added => {
            let after = (start + bare.len()).min(full.len());
            Ok((full[..start].to_vec(), full[after..].to_vec()))
        }
        _ => Err(format!(
            "its post-processor changes the tokens of a text: {bare:?} becomes {full:?}"
        )),
    }
}
