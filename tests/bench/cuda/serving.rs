//! A model behind HTTP, loaded with texts of known token counts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use tenon::bundles::Bundle;
use tenon_preprocess::{Segment, TextTokenizer};
use tenon_tests::server::{Refusal, Server};

use super::models::Model;
use crate::load;
use crate::workload::{Body, Workload};

/// The name under which a model is served.
const NAME: &str = "bench";
/// Clients that ask without a pause: some batches are computed, some wait, others are answered.
const CLIENTS: usize = 32;
/// Different requests.
const VARIETY: usize = 16;
/// The shortest and the longest load before anything is counted: the server chooses algorithms for
/// batches of new sizes meanwhile.
const WARM_UP: (f64, f64) = (1.0, 6.0);
/// Batches that are counted at least, since all answers of one come at the same moment.
const MIN_BATCHES: f64 = 24.0;
/// The longest that they are waited for.
const MAX_TIME: Duration = Duration::from_secs(10);
/// Load before a lone client is timed.
const LONE_WARM_UP: Duration = Duration::from_millis(200);

/// Tokens of the text that is counted.
const COUNTED_TOKENS: usize = 24;

const WORDS: [&str; 12] = [
    "oak", "beam", "joint", "saw", "glue", "the", "house", "water", "river", "stone", "a", "paper",
];

/// A server of one model, and texts for it.
pub struct Serving {
    server: Server,
    texts: Texts,
}

/// Texts of known token counts.
pub struct Texts(TextTokenizer);

impl Serving {
    /// Starts `tenon serve` on the device.
    pub fn start(model: &Model, folder: &Path, bundle: &Bundle) -> Result<Self> {
        let tokens = model.batch_tokens.to_string();
        let arguments = [
            "--device",
            "cuda",
            "--dtype",
            "bf16",
            "--max-batch-tokens",
            &tokens,
            "--model",
            folder.to_str().context("a path in UTF-8")?,
            "--served-model-name",
            NAME,
        ];
        let refused = |Refusal { status, log }: Refusal| {
            anyhow!("the server did not start ({status:?}):\n{log}")
        };
        let serving = Self {
            server: Server::try_start(&arguments).map_err(refused)?,
            texts: Texts::of(bundle)?,
        };
        serving.check_count()?;
        Ok(serving)
    }

    /// The server counts a text's tokens as they are counted here.
    fn check_count(&self) -> Result<()> {
        let (text, tokens) = self.texts.text(COUNTED_TOKENS, 0)?;
        let answer = self
            .server
            .embeddings(&json!({"model": NAME, "input": text}));
        ensure!(answer.status == 200, "{:.500}", answer.text());
        let counted = &answer.json()["usage"]["prompt_tokens"];
        ensure!(*counted == tokens, "{counted} tokens where {tokens} are");
        Ok(())
    }

    /// Tokens a second, special tokens counted, while many clients send texts of so many tokens.
    /// `expected` is what the device can do: it says how long to load it.
    pub fn tokens_per_s(
        &self,
        model: &Model,
        tokens: usize,
        expected: f64,
        time: Duration,
    ) -> Result<f64> {
        let texts = (model.request_tokens / tokens).max(1);
        let under_way = (CLIENTS * texts * tokens) as f64;
        let warm_up = (1.5 * under_way / expected).clamp(WARM_UP.0, WARM_UP.1);
        let warm_up = Duration::from_secs_f64(warm_up);
        let batches = MIN_BATCHES * model.batch_tokens as f64 / expected;
        let time = Duration::from_secs_f64(batches.min(MAX_TIME.as_secs_f64())).max(time);
        let workload = self.texts.workload(texts, tokens)?;
        let seen = load::run(self.server.address, &workload, CLIENTS, warm_up, time)?;
        Ok(seen.tokens_per_s())
    }

    /// The median of the milliseconds that a lone client waits for the vector of one text.
    pub fn p50_ms(&self, tokens: usize, time: Duration) -> Result<f64> {
        let workload = self.texts.workload(1, tokens)?;
        let seen = load::run(self.server.address, &workload, 1, LONE_WARM_UP, time)?;
        Ok(seen.percentile_ms(0.5))
    }
}

impl Texts {
    /// For the tokenizer of a bundle.
    pub fn of(bundle: &Bundle) -> Result<Self> {
        let tokenizer = TextTokenizer::from_dir(&bundle.weights_dir)?;
        Ok(Self(match bundle.lowercase {
            true => tokenizer.lowercasing()?,
            false => tokenizer,
        }))
    }

    /// A text of that many tokens, special tokens counted, or of the next fewer that there is,
    /// with its count.
    pub fn text(&self, tokens: usize, seed: usize) -> Result<(String, usize)> {
        let words: Vec<&str> = (0..tokens)
            .map(|index| WORDS[(seed * 7 + index * 5 + index * index) % WORDS.len()])
            .collect();
        let count = |words: &[&str]| -> Result<usize> {
            let text = words.join(" ");
            let encoded = self.0.encode(&[Segment::Text(&text)], true, None)?;
            Ok(encoded.token_ids.len())
        };
        // More words have more tokens: the last number of words that has no more than wanted.
        let (mut fits, mut too_many) = (1, words.len() + 1);
        while too_many - fits > 1 {
            let middle = usize::midpoint(fits, too_many);
            match count(&words[..middle])? <= tokens {
                true => fits = middle,
                false => too_many = middle,
            }
        }
        Ok((words[..fits].join(" "), count(&words[..fits])?))
    }

    fn workload(&self, texts: usize, tokens: usize) -> Result<Workload> {
        let body = |seed: usize| {
            let found = (0..texts).map(|index| self.text(tokens, seed + index));
            let found: Vec<(String, usize)> = found.collect::<Result<_>>()?;
            let input: Vec<&str> = found.iter().map(|(text, _)| text.as_str()).collect();
            let body = json!({"model": NAME, "input": input, "encoding_format": "base64"});
            anyhow::Ok(Body {
                json: body.to_string().into(),
                texts,
                tokens: found.iter().map(|(_, tokens)| tokens).sum(),
            })
        };
        Ok(Workload {
            name: "cuda",
            bodies: (0..VARIETY).map(body).collect::<Result<_>>()?,
        })
    }
}
