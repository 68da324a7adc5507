//! The life of one embedding request, from body to body.

mod deployment;
mod images;
mod prepare;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tenon_preprocess::Size;

pub use deployment::Deployment;
pub use images::ImageReader;
pub use prepare::RequestLimits;

use images::MeasuredImage;

use crate::error::ApiError;
use crate::http::service::{Answer, BoxFuture, Call, EmbedService, ModelCard};
use crate::observability::Stage;
use crate::sandbox::{EncodedResponse, FrontError, ParsedRequest, ResponseInfo};
use crate::scheduler::{AdmissionError, SubmitError};

/// Every deployment of this process, and how a request finds its own.
pub struct Service {
    deployments: Vec<Arc<Deployment>>,
    by_name: HashMap<String, usize>,
    limits: RequestLimits,
    images: ImageReader,
}

impl Service {
    /// Serves `deployments`, the first of which reads requests that name no other.
    ///
    /// Fails if there is none, or if two share a name.
    pub fn new(
        deployments: Vec<Arc<Deployment>>,
        limits: RequestLimits,
        images: ImageReader,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!(!deployments.is_empty(), "no model to serve");
        let mut by_name = HashMap::new();
        for (index, deployment) in deployments.iter().enumerate() {
            for name in deployment.names() {
                if let Some(other) = by_name.insert(name.to_owned(), index) {
                    anyhow::ensure!(
                        other == index,
                        "two models are served under the name {name:?}: {} and {}",
                        deployments[other].card.source,
                        deployment.card.source
                    );
                }
            }
        }
        Ok(Self {
            deployments,
            by_name,
            limits,
            images,
        })
    }

    async fn answer(&self, call: Call) -> Result<Answer, ApiError> {
        let reader = &self.deployments[0];
        let parsed = self.parse(reader, &call).await;
        // The dialect of the deployment that answers is the one that reports errors.
        let (deployment, parsed) = match parsed.and_then(|parsed| self.route(reader, parsed)) {
            Ok((deployment, Some(parsed))) => (deployment, Ok(parsed)),
            Ok((deployment, None)) => (deployment, self.parse(deployment, &call).await),
            Err(error) => (reader, Err(error)),
        };
        let request_id = match &parsed {
            Ok(ParsedRequest {
                request_id: Some(id),
                ..
            }) => id.clone(),
            _ => call.request_id.clone(),
        };
        let answer = match parsed {
            Ok(parsed) => {
                self.embed_parsed(deployment, parsed, &call, &request_id)
                    .await
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok(encoded) => Ok(Answer {
                status: 200,
                content_type: encoded.content_type,
                chunks: encoded.chunks,
                retry_after_s: None,
                request_id,
            }),
            Err(error) => Ok(self.refuse(deployment, &call, error, request_id).await),
        }
    }

    async fn parse(&self, reader: &Deployment, call: &Call) -> Result<ParsedRequest, ApiError> {
        let started = Instant::now();
        let parsed = reader.front.parse(call.endpoint, call.body.clone()).await;
        reader.metrics.stage(Stage::Parse, started.elapsed());
        let parsed = parsed.map_err(|error| front_error(reader, error))?;
        if let Some(id) = &parsed.request_id
            && !crate::http::is_request_id(id)
        {
            return Err(ApiError::invalid(
                "The request id must be 1 to 128 visible ASCII characters.",
                Some("request_id"),
            ));
        }
        Ok(parsed)
    }

    /// The deployment that a request names, and the request unless that deployment must
    /// read it again with a parser of its own.
    fn route<'a>(
        &'a self,
        reader: &'a Arc<Deployment>,
        parsed: ParsedRequest,
    ) -> Result<(&'a Arc<Deployment>, Option<ParsedRequest>), ApiError> {
        let Some(name) = &parsed.model else {
            return Ok((reader, Some(parsed)));
        };
        let Some(&index) = self.by_name.get(name) else {
            let mut shown: String = name.chars().take(200).collect();
            if shown.len() < name.len() {
                shown.push('…');
            }
            return Err(ApiError {
                status: 404,
                ..ApiError::invalid(
                    format!("The model `{shown}` does not exist or is not served here."),
                    Some("model"),
                )
            }
            .with_code("model_not_found"));
        };
        let deployment = &self.deployments[index];
        let same_parser = deployment.front.parser_digest() == reader.front.parser_digest();
        Ok((deployment, same_parser.then_some(parsed)))
    }

    async fn embed_parsed(
        &self,
        deployment: &Arc<Deployment>,
        mut parsed: ParsedRequest,
        call: &Call,
        request_id: &str,
    ) -> Result<EncodedResponse, ApiError> {
        prepare::check_request(deployment, &parsed, &self.limits)?;

        let sources = std::mem::take(&mut parsed.images);
        if !sources.is_empty() {
            // Others may need its store while images are on their way.
            parsed.leave();
        }
        let started = Instant::now();
        let images = self.images.measure(sources).await?;
        let sizes: Vec<Size> = images.iter().map(MeasuredImage::size).collect();
        let mut image_time = started.elapsed();

        let started = Instant::now();
        let rendered = deployment.front.render(&mut parsed, &sizes).await;
        deployment.metrics.stage(Stage::Render, started.elapsed());
        let rendered = rendered.map_err(|error| front_error(deployment, error))?;

        let started = Instant::now();
        let pixels = self.images.resample(&images, &rendered).await?;
        image_time += started.elapsed();
        if !images.is_empty() {
            deployment.metrics.stage(Stage::Images, image_time);
        }

        let started = Instant::now();
        let sequences = prepare::tokenise(
            deployment.clone(),
            rendered,
            pixels,
            parsed.truncate,
            parsed.dimensions,
            &self.limits,
        )
        .await?;
        deployment.metrics.stage(Stage::Tokenise, started.elapsed());

        let prompt_tokens: Vec<u32> = sequences
            .iter()
            .map(|sequence| sequence.token_ids.len() as u32)
            .collect();
        let ticket = deployment
            .scheduler
            .submit(sequences, parsed.priority, None)
            .map_err(|error| admission_error(&error))?;
        let rows = ticket.await.map_err(|error| submit_error(&error))?;

        let mut vectors = Vec::with_capacity(rows.len());
        for (index, row) in rows.into_iter().enumerate() {
            vectors.push(row.map_err(|error| {
                let mut api = ApiError::internal(format!("input[{index}]: {error}."));
                api.param = Some(format!("input[{index}]"));
                api
            })?);
        }
        deployment
            .metrics
            .tokens(prompt_tokens.iter().map(|&tokens| tokens as usize).sum());

        let started = Instant::now();
        let info = ResponseInfo {
            endpoint: call.endpoint.into(),
            model: deployment.card.name.clone(),
            request_id: request_id.into(),
            created_s: unix_seconds(),
            prompt_tokens,
            elapsed_ms: call.arrived.elapsed().as_secs_f64() * 1e3,
            state: parsed.state,
        };
        let encoded = deployment.front.encode(info, vectors).await;
        deployment.metrics.stage(Stage::Encode, started.elapsed());
        encoded.map_err(|error| front_error(deployment, error))
    }

    async fn refuse(
        &self,
        deployment: &Deployment,
        call: &Call,
        error: ApiError,
        request_id: String,
    ) -> Answer {
        let body = match deployment.front.encode_error(call.endpoint, &error).await {
            Ok(body) => body,
            Err(failure) => {
                front_error(deployment, failure);
                Bytes::from(error.openai_json())
            }
        };
        Answer {
            status: error.status,
            content_type: "application/json".into(),
            chunks: vec![body],
            retry_after_s: error.retry_after_s,
            request_id,
        }
    }
}

impl EmbedService for Service {
    fn embed(&self, call: Call) -> BoxFuture<'_, Result<Answer, ApiError>> {
        Box::pin(self.answer(call))
    }

    fn models(&self) -> Vec<ModelCard> {
        self.deployments
            .iter()
            .map(|deployment| deployment.card.clone())
            .collect()
    }
}

fn admission_error(error: &AdmissionError) -> ApiError {
    match error {
        AdmissionError::QueueFull {
            queued,
            limit,
            retry_after,
        } => ApiError::overloaded(
            429,
            format!("The queue is full: {queued} inputs wait, the limit is {limit}."),
            retry_after.as_secs().max(1),
        ),
        AdmissionError::ShuttingDown => {
            ApiError::overloaded(503, "The server is shutting down.", 1)
        }
    }
}

fn submit_error(error: &SubmitError) -> ApiError {
    match error {
        // Logged where it happened, with its detail.
        SubmitError::Component(_) => {
            ApiError::internal("The model's components failed on this request.")
        }
        SubmitError::DeadlineExceeded => ApiError {
            status: 504,
            kind: "timeout_error".into(),
            ..ApiError::internal("The request was not run within its deadline.")
        },
        SubmitError::Unavailable { retry_after, .. } => ApiError::overloaded(
            503,
            "The model is not available for now.",
            retry_after.as_secs().max(1),
        ),
        SubmitError::Stopped => ApiError::overloaded(503, "The model is not available.", 60),
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// What the caller is told of a failure in the front half; a component's own failure
/// is logged and counted here, and its detail stays here.
fn front_error(deployment: &Deployment, error: FrontError) -> ApiError {
    match error {
        FrontError::Api(error) => error,
        FrontError::Component(failure) => {
            (deployment.on_failure)(&failure);
            ApiError::internal(format!(
                "The {} component {:?} of {:?} failed on this request.",
                failure.role, failure.component, failure.bundle
            ))
        }
        FrontError::Busy => ApiError::overloaded(
            503,
            "The server has no free sandbox for this request; try again shortly.",
            1,
        ),
    }
}
