//! The three front-half components of a bundle, linked once and run for each request.

use std::sync::Arc;

use bytes::Bytes;
use tenon_preprocess::TextTokenizer;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

use super::convert::{
    EncodedResponse, ParsedRequest, Rendered, ResponseInfo, api_error, guest_error,
};
use super::state::FrontState;
use crate::error::ApiError;
use crate::host_api::{RoleConfig, request_parser, response_encoder, template};
use crate::role::Role;
use crate::sandbox::engine::{Component, Sandbox};
use crate::sandbox::failure::{ComponentFailure, FrontError, LoadError, clip, reason};
use crate::sandbox::guest::{Guest, WhenDue, set_deadline, store};
use crate::sandbox::link::{Place, front_linker};

/// Rows that the response-encoder is given at a time: 64 rows of 1024 values are 256 KiB.
const ROWS_PER_WRITE: usize = 64;

/// The components of the front half, each with its settings.
pub struct FrontRoles {
    /// Reads requests.
    pub parser: (Component, RoleConfig),
    /// Renders inputs.
    pub template: (Component, RoleConfig),
    /// Writes answers.
    pub encoder: (Component, RoleConfig),
}

/// The front half of one bundle.
pub struct FrontBundle {
    name: Arc<str>,
    sandbox: Sandbox,
    tokenizer: Arc<TextTokenizer>,
    parser: Linked<request_parser::RequestParserRolePre<FrontState>>,
    template: Linked<template::TemplateRolePre<FrontState>>,
    encoder: Linked<response_encoder::ResponseEncoderRolePre<FrontState>>,
}

struct Linked<P> {
    role: Role,
    component: Component,
    config: RoleConfig,
    pre: P,
}

/// A store and its place among all front-half stores.
pub struct RequestStore {
    store: Store<FrontState>,
    _place: OwnedSemaphorePermit,
}

impl FrontBundle {
    /// Checks and links the components of `bundle`.
    pub fn new(
        sandbox: &Sandbox,
        bundle: &str,
        roles: FrontRoles,
        tokenizer: Arc<TextTokenizer>,
    ) -> Result<Self, LoadError> {
        Ok(Self {
            name: bundle.into(),
            parser: link(sandbox, bundle, Role::RequestParser, roles.parser, |pre| {
                request_parser::RequestParserRolePre::new(pre)
            })?,
            template: link(sandbox, bundle, Role::Template, roles.template, |pre| {
                template::TemplateRolePre::new(pre)
            })?,
            encoder: link(
                sandbox,
                bundle,
                Role::ResponseEncoder,
                roles.encoder,
                |pre| response_encoder::ResponseEncoderRolePre::new(pre),
            )?,
            sandbox: sandbox.clone(),
            tokenizer,
        })
    }

    /// What tells its parser from another: the digest of the component.
    pub fn parser_digest(&self) -> [u8; 32] {
        self.parser.component.digest
    }

    /// Reads a request in a fresh store.
    pub async fn parse(&self, endpoint: &str, body: Bytes) -> Result<ParsedRequest, FrontError> {
        let mut request = self.open(Role::RequestParser, &self.parser.config).await?;
        let store = &mut request.store;
        let run = async {
            let parser = self.parser.pre.instantiate_async(&mut *store).await?;
            let guest = parser.tenon_embed_request_parser();
            guest.call_parse(&mut *store, endpoint, &body).await
        };
        let parsed = run
            .await
            .map_err(|error| self.failure(&self.parser, reason(&error)))?;
        let parsed = parsed.map_err(|error| FrontError::Api(api_error(error)))?;
        Ok(ParsedRequest::new(parsed, request))
    }

    /// Renders the inputs of a request, in the store that parsed it, and drops that.
    pub async fn render(&self, parsed: &mut ParsedRequest) -> Result<Vec<Rendered>, FrontError> {
        let mut request = match parsed.store.take() {
            Some(request) => request,
            None => self.open(Role::Template, &self.template.config).await?,
        };
        let store = &mut request.store;
        // The deployment that renders may be another than the one that parsed.
        store.data_mut().config = self.template.config.clone();
        store.data_mut().tokenizer = self.tokenizer.clone();
        set_deadline(store, self.sandbox.limits.front_deadline);
        let inputs = std::mem::take(&mut parsed.inputs);
        let run = async {
            let template = self.template.pre.instantiate_async(&mut *store).await?;
            let guest = template.tenon_embed_template();
            guest
                .call_render(&mut *store, &inputs, &parsed.options)
                .await
        };
        let rendered = run
            .await
            .map_err(|error| self.failure(&self.template, reason(&error)))?;
        let rendered = rendered.map_err(|error| FrontError::Api(api_error(error)))?;
        if rendered.len() != inputs.len() {
            let what = format!(
                "it rendered {} inputs where {} were given",
                rendered.len(),
                inputs.len()
            );
            return Err(self.failure(&self.template, what));
        }
        rendered
            .into_iter()
            .map(|rendered| {
                rendered
                    .try_into()
                    .map_err(|what: &str| self.failure(&self.template, what.into()))
            })
            .collect()
    }

    /// Writes an answer of one vector a row, in a fresh store.
    pub async fn encode(
        &self,
        info: ResponseInfo,
        rows: Vec<Vec<f32>>,
    ) -> Result<EncodedResponse, FrontError> {
        let mut request = self
            .open(Role::ResponseEncoder, &self.encoder.config)
            .await?;
        let encoded = self
            .encode_in(&mut request.store, info, &rows)
            .await
            .map_err(|error| self.failure(&self.encoder, reason(&error)))?;
        if encoded
            .content_type
            .parse::<axum::http::HeaderValue>()
            .is_err()
        {
            let what = format!(
                "its content type {:?} is no header",
                clip(&encoded.content_type, 80)
            );
            return Err(self.failure(&self.encoder, what));
        }
        Ok(encoded)
    }

    async fn encode_in(
        &self,
        store: &mut Store<FrontState>,
        info: ResponseInfo,
        rows: &[Vec<f32>],
    ) -> wasmtime::Result<EncodedResponse> {
        let instance = self.encoder.pre.instantiate_async(&mut *store).await?;
        let guest = instance.tenon_embed_response_encoder();
        let encoding = guest.encoding();
        let info = response_encoder::ResponseInfo {
            endpoint: info.endpoint,
            model: info.model,
            request_id: info.request_id,
            created_s: info.created_s,
            count: rows.len() as u32,
            prompt_tokens: info.prompt_tokens,
            elapsed_ms: info.elapsed_ms,
            state: info.state,
        };
        let handle = encoding.call_constructor(&mut *store, &info).await?;
        let content_type = encoding.call_content_type(&mut *store, handle).await?;
        let mut body = Body {
            chunks: Vec::new(),
            left: self.sandbox.limits.max_response_bytes,
        };
        for rows in rows.chunks(ROWS_PER_WRITE) {
            set_deadline(store, self.sandbox.limits.front_deadline);
            let vectors = response_encoder::Vectors {
                dimensions: rows.first().map_or(0, Vec::len) as u32,
                values: rows.concat(),
            };
            body.push(encoding.call_write(&mut *store, handle, &vectors).await?)?;
        }
        body.push(encoding.call_finish(&mut *store, handle).await?)?;
        Ok(EncodedResponse {
            content_type,
            chunks: body.finish(),
        })
    }

    /// Writes an error in the bundle's dialect, in a fresh store.
    pub async fn encode_error(
        &self,
        endpoint: &str,
        error: &ApiError,
    ) -> Result<Bytes, FrontError> {
        let mut request = self
            .open(Role::ResponseEncoder, &self.encoder.config)
            .await?;
        let store = &mut request.store;
        let run = async {
            let instance = self.encoder.pre.instantiate_async(&mut *store).await?;
            let guest = instance.tenon_embed_response_encoder();
            guest
                .call_encode_error(&mut *store, endpoint, &guest_error(error))
                .await
        };
        let body = run
            .await
            .map_err(|error| self.failure(&self.encoder, reason(&error)))?;
        Ok(body.into())
    }

    async fn open(&self, role: Role, config: &RoleConfig) -> Result<RequestStore, FrontError> {
        let limits = &self.sandbox.limits;
        let place = self.sandbox.front_stores.clone().acquire_owned();
        let place = tokio::time::timeout(limits.front_store_wait, place)
            .await
            .map_err(|_| FrontError::Busy)?
            .map_err(|_| FrontError::Busy)?;
        let state = FrontState {
            guest: Guest::new(limits, self.name.clone(), role),
            config: config.clone(),
            tokenizer: self.tokenizer.clone(),
        };
        let mut store = store(&self.sandbox.engine, limits, state, WhenDue::Yield);
        set_deadline(&mut store, limits.front_deadline);
        Ok(RequestStore {
            store,
            _place: place,
        })
    }

    fn failure<P>(&self, linked: &Linked<P>, reason: String) -> FrontError {
        FrontError::Component(ComponentFailure {
            bundle: self.name.to_string(),
            role: linked.role,
            component: linked.component.name.to_string(),
            reason,
        })
    }
}

fn link<P>(
    sandbox: &Sandbox,
    bundle: &str,
    role: Role,
    (component, config): (Component, RoleConfig),
    pre: impl FnOnce(wasmtime::component::InstancePre<FrontState>) -> wasmtime::Result<P>,
) -> Result<Linked<P>, LoadError> {
    let place = Place {
        bundle,
        role,
        component: &component,
    };
    place.check(sandbox)?;
    let pre = front_linker(sandbox, role)
        .and_then(|linker| linker.instantiate_pre(&component.inner))
        .and_then(pre)
        .map_err(|error| place.refuse(reason(&error)))?;
    Ok(Linked {
        role,
        component,
        config,
        pre,
    })
}

/// The pieces of a body, within the limit of their sum.
struct Body {
    chunks: Vec<Bytes>,
    left: usize,
}

impl Body {
    fn push(&mut self, chunk: Vec<u8>) -> wasmtime::Result<()> {
        let Some(left) = self.left.checked_sub(chunk.len()) else {
            wasmtime::bail!("its response is over the limit");
        };
        self.left = left;
        if !chunk.is_empty() {
            self.chunks.push(chunk.into());
        }
        Ok(())
    }

    /// A small body is one piece, so that it goes out with its length.
    fn finish(self) -> Vec<Bytes> {
        let total: usize = self.chunks.iter().map(Bytes::len).sum();
        if self.chunks.len() > 1 && total <= 64 << 10 {
            return vec![self.chunks.concat().into()];
        }
        self.chunks
    }
}
