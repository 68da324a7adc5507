//! What goes into the front half and what comes out of it, in the host's own types.

use bytes::Bytes;
use tenon_preprocess::{Crop, Size};

use crate::error::ApiError;
use crate::host_api::request_parser::types;
use crate::host_api::request_parser::{self, EmbedRequest};
use crate::host_api::{response_encoder, template};
use crate::sandbox::failure::clip;

/// The longest error message that a caller is sent.
const MAX_MESSAGE_BYTES: usize = 4096;

/// The longest of an error's other texts.
const MAX_LABEL_BYTES: usize = 256;

/// Which end of a long input is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TruncationSide {
    /// Tokens at the start are dropped.
    Left,
    /// Tokens at the end are dropped.
    Right,
}

/// How a long input is shortened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncation {
    /// Tokens to keep; none means the model's limit.
    pub max_tokens: Option<u32>,
    /// Which end is dropped.
    pub side: TruncationSide,
}

/// Where an image or a video comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Media {
    /// A URL, not looked at yet.
    Url(String),
    /// The encoded file.
    Bytes(Bytes),
}

/// An image or a video of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaSource {
    /// Its bytes, or where they lie.
    pub media: Media,
    /// The request field that it stands in.
    pub param: String,
}

impl From<request_parser::MediaSource> for MediaSource {
    fn from(source: request_parser::MediaSource) -> Self {
        Self {
            media: match source.media {
                types::Media::Url(url) => Media::Url(url),
                types::Media::Bytes(bytes) => Media::Bytes(bytes.into()),
            },
            param: clip(&source.param, MAX_LABEL_BYTES),
        }
    }
}

/// A request as its parser read it.
pub struct ParsedRequest {
    /// The model's name, if the caller gave one.
    pub model: Option<String>,
    /// How many inputs there are.
    pub input_count: usize,
    /// Length of the vectors, if the caller asked for one.
    pub dimensions: Option<u32>,
    /// How long inputs are shortened.
    pub truncate: Option<Truncation>,
    /// Larger runs earlier.
    pub priority: i32,
    /// The caller's own id for the request.
    pub request_id: Option<String>,
    /// For the response-encoder.
    pub state: Vec<u8>,
    /// The images that its inputs name.
    pub images: Vec<MediaSource>,
    /// The videos that its inputs name.
    pub videos: Vec<MediaSource>,
    pub(super) inputs: Vec<types::EmbedInput>,
    pub(super) options: template::RenderOptions,
    pub(super) store: Option<super::bundle::RequestStore>,
}

impl ParsedRequest {
    /// Gives its store up; rendering takes a fresh one.
    pub fn leave(&mut self) {
        if let Some(store) = self.store.take() {
            store.leave();
        }
    }

    pub(super) fn new(request: EmbedRequest, store: super::bundle::RequestStore) -> Self {
        Self {
            model: request.model,
            input_count: request.inputs.len(),
            dimensions: request.dimensions,
            truncate: request.truncate.map(|truncation| Truncation {
                max_tokens: truncation.max_tokens,
                side: match truncation.side {
                    types::TruncationSide::Left => TruncationSide::Left,
                    types::TruncationSide::Right => TruncationSide::Right,
                },
            }),
            priority: request.priority,
            request_id: request.request_id,
            state: request.state,
            images: request.images.into_iter().map(MediaSource::from).collect(),
            videos: request.videos.into_iter().map(MediaSource::from).collect(),
            inputs: request.inputs,
            options: template::RenderOptions {
                prompt_name: request.prompt_name,
                input_type: request.input_type,
                instruction: request.instruction,
                add_special_tokens: request.add_special_tokens,
            },
            store: Some(store),
        }
    }
}

/// A piece of a rendered input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenderedSegment {
    /// Text for the tokenizer.
    Text(String),
    /// Token ids.
    Tokens(Vec<u32>),
    /// An image.
    Image(ImageRun),
}

/// An image as the model is to see it, and its placeholders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageRun {
    /// Which image, counted over the request.
    pub image: usize,
    /// What it is resized to.
    pub resize: Size,
    /// What is kept of it after that.
    pub crop: Crop,
    /// Id of the placeholder token.
    pub token: u32,
    /// Rows of placeholders.
    pub rows: u32,
    /// Placeholders in a row.
    pub columns: u32,
}

impl ImageRun {
    /// The most placeholders of an image.
    const MAX_PLACEHOLDERS: u32 = 1 << 16;

    /// Refuses what cannot be done with one of `images` images.
    pub(super) fn check(&self, images: usize) -> Result<(), String> {
        let Self {
            image,
            resize,
            crop,
            rows,
            columns,
            ..
        } = self;
        if *image >= images {
            return Err(format!("it rendered image {image} of {images}"));
        }
        let within = |start: u32, length: u32, whole: u32| {
            length > 0 && start.checked_add(length).is_some_and(|end| end <= whole)
        };
        if !within(crop.left, crop.width, resize.width)
            || !within(crop.top, crop.height, resize.height)
        {
            return Err(format!("it rendered {crop:?} of an image of {resize:?}"));
        }
        let placeholders = rows.checked_mul(*columns);
        if !placeholders.is_some_and(|count| (1..=Self::MAX_PLACEHOLDERS).contains(&count)) {
            let limit = Self::MAX_PLACEHOLDERS;
            return Err(format!(
                "it rendered {rows} x {columns} placeholders for an image, not 1 to {limit}"
            ));
        }
        Ok(())
    }
}

impl From<template::ImageRun> for ImageRun {
    fn from(run: template::ImageRun) -> Self {
        Self {
            image: run.image as usize,
            resize: Size {
                width: run.resize.width,
                height: run.resize.height,
            },
            crop: Crop {
                left: run.crop.left,
                top: run.crop.top,
                width: run.crop.size.width,
                height: run.crop.size.height,
            },
            token: run.token,
            rows: run.rows,
            columns: run.columns,
        }
    }
}

/// One rendered input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The segments; together they are one sequence.
    pub segments: Vec<RenderedSegment>,
    /// Whether the tokenizer adds its special tokens.
    pub add_special_tokens: bool,
    /// A leading text that pooling leaves out.
    pub excluded_prompt: Option<String>,
}

impl Rendered {
    /// Its images, in order.
    pub fn images(&self) -> impl Iterator<Item = &ImageRun> {
        self.segments.iter().filter_map(|segment| match segment {
            RenderedSegment::Image(run) => Some(run),
            RenderedSegment::Text(_) | RenderedSegment::Tokens(_) => None,
        })
    }
}

impl From<template::Rendered> for Rendered {
    fn from(rendered: template::Rendered) -> Self {
        let segments = rendered.segments.into_iter().map(|segment| match segment {
            template::Segment::Text(text) => RenderedSegment::Text(text),
            template::Segment::Tokens(ids) => RenderedSegment::Tokens(ids),
            template::Segment::Image(run) => RenderedSegment::Image(run.into()),
        });
        Self {
            segments: segments.collect(),
            add_special_tokens: rendered.add_special_tokens,
            excluded_prompt: rendered.excluded_prompt,
        }
    }
}

/// What the response-encoder is told of an answer.
#[derive(Debug, Clone)]
pub struct ResponseInfo {
    /// The path of the route.
    pub endpoint: String,
    /// The name under which the model is served.
    pub model: String,
    /// The id of the request.
    pub request_id: String,
    /// Seconds since 1970-01-01T00:00:00Z.
    pub created_s: u64,
    /// Tokens of each input.
    pub prompt_tokens: Vec<u32>,
    /// Milliseconds since the request arrived.
    pub elapsed_ms: f64,
    /// What the request-parser left.
    pub state: Vec<u8>,
}

impl ResponseInfo {
    /// As the component reads it, with the number of vectors.
    pub(super) fn with_count(self, count: usize) -> response_encoder::ResponseInfo {
        response_encoder::ResponseInfo {
            endpoint: self.endpoint,
            model: self.model,
            request_id: self.request_id,
            created_s: self.created_s,
            count: count as u32,
            prompt_tokens: self.prompt_tokens,
            elapsed_ms: self.elapsed_ms,
            state: self.state,
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub struct EncodedResponse {
    /// The `content-type` header.
    pub content_type: String,
    /// The body, in pieces.
    pub chunks: Vec<Bytes>,
}

/// A component's API error, clipped to what a caller may be sent.
pub(super) fn api_error(error: types::ApiError) -> ApiError {
    let label = |text: String| clip(&text, MAX_LABEL_BYTES);
    ApiError {
        status: if (400..=599).contains(&error.status) {
            error.status
        } else {
            500
        },
        kind: label(error.kind),
        message: clip(&error.message, MAX_MESSAGE_BYTES),
        param: error.param.map(label),
        code: error.code.map(label),
        retry_after_s: None,
    }
}

/// The host's error for a component.
pub(super) fn guest_error(error: &ApiError) -> types::ApiError {
    types::ApiError {
        status: error.status,
        kind: error.kind.clone(),
        message: error.message.clone(),
        param: error.param.clone(),
        code: error.code.clone(),
    }
}
