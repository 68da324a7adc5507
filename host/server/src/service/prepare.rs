//! From a parsed request to sequences that the scheduler takes: every limit of a request.

use std::sync::Arc;

use tenon_preprocess::{Segment, Side};
use tenon_tensor::{Pixels, PlacedImage};

use super::Deployment;
use crate::batch::Sequence;
use crate::error::ApiError;
use crate::sandbox::{ParsedRequest, Rendered, RenderedSegment, Truncation, TruncationSide};

/// Text up to this size is tokenised where the request runs, within some 2 ms; more goes to the
/// blocking pool, so that other requests on the same thread, of which there are few, do not wait
/// for it.
const INLINE_TEXT_BYTES: usize = 4 << 10;

/// What one request may ask for.
#[derive(Debug, Clone)]
pub struct RequestLimits {
    /// Inputs in one request. 2048 is OpenAI's limit.
    pub max_inputs: usize,
    /// Tokens in one request, after truncation. 300,000 is OpenAI's limit.
    pub max_request_tokens: usize,
    /// Images in one request.
    pub max_images: usize,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Self {
            max_inputs: 2048,
            max_request_tokens: 300_000,
            max_images: 64,
        }
    }
}

/// Checks what can be checked before anything is rendered.
pub fn check_request(
    deployment: &Deployment,
    parsed: &ParsedRequest,
    limits: &RequestLimits,
) -> Result<(), ApiError> {
    match parsed.input_count {
        0 => {
            return Err(ApiError::invalid(
                "`input` must not be empty.",
                Some("input"),
            ));
        }
        count if count > limits.max_inputs => {
            return Err(ApiError::invalid(
                format!(
                    "`input` has {count} items; the limit is {}.",
                    limits.max_inputs
                ),
                Some("input"),
            ));
        }
        _ => {}
    }
    check_dimensions(deployment, parsed.dimensions)?;
    check_media(deployment, parsed, limits)?;
    if let Some(Truncation {
        max_tokens: Some(max_tokens),
        ..
    }) = parsed.truncate
    {
        let limit = deployment.card.max_tokens;
        if max_tokens as usize > limit {
            return Err(ApiError::invalid(
                format!("`truncate_prompt_tokens` is {max_tokens}; this model's limit is {limit}."),
                Some("truncate_prompt_tokens"),
            ));
        }
    }
    Ok(())
}

fn check_media(
    deployment: &Deployment,
    parsed: &ParsedRequest,
    limits: &RequestLimits,
) -> Result<(), ApiError> {
    if let Some(video) = parsed.videos.first() {
        return Err(ApiError::invalid(
            "Videos are not served yet; send frames of it as images.",
            Some(&video.param),
        ));
    }
    let Some(first) = parsed.images.first() else {
        return Ok(());
    };
    if !deployment.model.images {
        let name = &deployment.card.name;
        let message = format!("The model `{name}` takes text only; it has no part for images.");
        return Err(ApiError::invalid(message, Some(&first.param)));
    }
    if let Some(beyond) = parsed.images.get(limits.max_images) {
        let (count, limit) = (parsed.images.len(), limits.max_images);
        let message = format!("The request has {count} images; the limit is {limit}.");
        return Err(ApiError::invalid(message, Some(&beyond.param)));
    }
    Ok(())
}

fn check_dimensions(deployment: &Deployment, dimensions: Option<u32>) -> Result<(), ApiError> {
    let Some(dimensions) = dimensions else {
        return Ok(());
    };
    let pooling = &deployment.pooling;
    let refuse = |message: String| Err(ApiError::invalid(message, Some("dimensions")));
    if !pooling.matryoshka {
        return refuse("This model does not support specifying dimensions.".into());
    }
    if dimensions == 0 || dimensions > pooling.dimensions {
        return refuse(format!(
            "`dimensions` is {dimensions}; this model takes 1 to {}.",
            pooling.dimensions
        ));
    }
    let listed = &pooling.matryoshka_dimensions;
    if !listed.is_empty() && !listed.contains(&dimensions) {
        return refuse(format!(
            "`dimensions` is {dimensions}; this model takes one of {listed:?}."
        ));
    }
    Ok(())
}

/// Tokenises, truncates and counts the rendered inputs of a request, whose images have
/// become `pixels`, in order.
pub async fn tokenise(
    deployment: Arc<Deployment>,
    rendered: Vec<Rendered>,
    pixels: Vec<Pixels>,
    truncate: Option<Truncation>,
    dimensions: Option<u32>,
    limits: &RequestLimits,
) -> Result<Vec<Sequence>, ApiError> {
    let job = Job {
        deployment,
        truncate,
        dimensions,
        max_request_tokens: limits.max_request_tokens,
    };
    let text_bytes: usize = rendered
        .iter()
        .flat_map(|input| &input.segments)
        .map(text_len)
        .sum();
    if text_bytes <= INLINE_TEXT_BYTES {
        return job.run(&rendered, pixels);
    }
    tokio::task::spawn_blocking(move || job.run(&rendered, pixels))
        .await
        .unwrap_or_else(|_| Err(ApiError::internal("The tokenizer failed on this request.")))
}

fn text_len(segment: &RenderedSegment) -> usize {
    match segment {
        RenderedSegment::Text(text) => text.len(),
        RenderedSegment::Tokens(_) | RenderedSegment::Image(_) => 0,
    }
}

struct Job {
    deployment: Arc<Deployment>,
    truncate: Option<Truncation>,
    dimensions: Option<u32>,
    max_request_tokens: usize,
}

impl Job {
    fn run(&self, rendered: &[Rendered], pixels: Vec<Pixels>) -> Result<Vec<Sequence>, ApiError> {
        let mut pixels = pixels.into_iter();
        let mut sequences = Vec::with_capacity(rendered.len());
        let mut total = 0;
        for (index, input) in rendered.iter().enumerate() {
            let sequence = self.sequence(index, input, &mut pixels)?;
            total += sequence.token_ids.len();
            if total > self.max_request_tokens {
                let message = format!(
                    "The inputs of one request may have {} tokens together; input[{index}] \
                     exceeds it.",
                    self.max_request_tokens
                );
                let mut error =
                    ApiError::invalid(message, Some("input")).with_code("max_tokens_per_request");
                error.kind = "max_tokens_per_request".into();
                return Err(error);
            }
            sequences.push(sequence);
        }
        Ok(sequences)
    }

    fn sequence(
        &self,
        index: usize,
        input: &Rendered,
        pixels: &mut impl Iterator<Item = Pixels>,
    ) -> Result<Sequence, ApiError> {
        let param = format!("input[{index}]");
        let invalid = |message: String| ApiError::invalid(message, Some(&param));
        let tokenizer = &self.deployment.tokenizer;
        let limit = self.deployment.card.max_tokens;

        let segments: Vec<Segment<'_>> = input.segments.iter().map(segment).collect();
        self.check_vocabulary(&param, &segments)?;
        let truncate = self.truncate.map(|truncation| {
            let keep = truncation
                .max_tokens
                .map_or(limit, |tokens| tokens as usize);
            let side = match truncation.side {
                TruncationSide::Left => Side::Left,
                TruncationSide::Right => Side::Right,
            };
            (keep, side)
        });
        let encoded = tokenizer
            .encode(&segments, input.add_special_tokens, truncate)
            .map_err(|error| invalid(format!("{param} cannot be tokenised: {error}.")))?;
        let tokens = encoded.token_ids.len();
        if tokens == 0 {
            return Err(invalid(format!("{param} has no tokens.")));
        }
        if tokens > limit {
            return Err(invalid(format!(
                "This model's maximum context length is {limit} tokens, however you requested \
                 {tokens} tokens in {param}. Shorten it, or set `truncate_prompt_tokens`."
            )));
        }
        let excluded_tokens = match &input.excluded_prompt {
            None => 0,
            Some(prompt) => tokenizer
                .prompt_len(prompt)
                .map_err(|error| invalid(format!("the prompt cannot be tokenised: {error}.")))?,
        };
        if excluded_tokens >= tokens {
            return Err(invalid(format!("{param} has no tokens after its prompt.")));
        }
        let images = encoded.image_starts.iter().zip(input.images());
        let images = images
            .zip(pixels)
            .map(|((&start, run), pixels)| PlacedImage {
                start: start as u32,
                rows: run.rows,
                columns: run.columns,
                pixels,
            });
        Ok(Sequence {
            images: images.collect(),
            token_ids: encoded.token_ids,
            excluded_tokens: excluded_tokens as u32,
            dimensions: self.dimensions,
        })
    }

    fn check_vocabulary(&self, param: &str, segments: &[Segment<'_>]) -> Result<(), ApiError> {
        let vocab_size = self.deployment.model.vocab_size;
        for segment in segments {
            let ids = match segment {
                Segment::Text(_) => continue,
                Segment::Tokens(ids) => ids,
                Segment::Image { token, .. } => std::slice::from_ref(token),
            };
            if let Some(at) = ids.iter().position(|&id| id >= vocab_size) {
                return Err(ApiError::invalid(
                    format!(
                        "{param}[{at}] is token id {}; this model's vocabulary has {vocab_size} \
                         tokens. Token ids of another model's tokenizer cannot be used.",
                        ids[at]
                    ),
                    Some(param),
                ));
            }
        }
        Ok(())
    }
}

fn segment(segment: &RenderedSegment) -> Segment<'_> {
    match segment {
        RenderedSegment::Text(text) => Segment::Text(text),
        RenderedSegment::Tokens(ids) => Segment::Tokens(ids),
        RenderedSegment::Image(run) => Segment::Image {
            token: run.token,
            count: (run.rows * run.columns) as usize,
        },
    }
}
