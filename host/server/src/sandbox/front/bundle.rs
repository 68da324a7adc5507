//! The three front-half components of a bundle, linked once and run for each request.

use std::sync::Arc;

use bytes::Bytes;
use tenon_preprocess::{Size, TextTokenizer};
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::Store;

use super::body::Body;
use super::convert::{
    EncodedResponse, ParsedRequest, Rendered, ResponseInfo, api_error, guest_error,
};
use super::state::{FrontState, linker};
use crate::error::ApiError;
use crate::host_api::{RoleConfig, request_parser, response_encoder, template};
use crate::role::Role;
use crate::sandbox::compile::Component;
use crate::sandbox::engine::Sandbox;
use crate::sandbox::failure::{FrontError, LoadError, clip, reason};
use crate::sandbox::guest::{Budget, Guest, begin, run, store};
use crate::sandbox::link::Linked;

/// Values that the response-encoder is given at a time, in whole rows: 256 KiB.
const VALUES_PER_WRITE: usize = 64 << 10;

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
    sandbox: Sandbox,
    tokenizer: Arc<TextTokenizer>,
    parser: Linked<request_parser::RequestParserRolePre<FrontState>>,
    template: Linked<template::TemplateRolePre<FrontState>>,
    encoder: Linked<response_encoder::ResponseEncoderRolePre<FrontState>>,
}

/// A store and its place among all front-half stores. Dropped, it is gone with all that
/// the request left in it.
pub struct RequestStore {
    store: Store<FrontState>,
    _place: OwnedSemaphorePermit,
}

impl RequestStore {
    /// Drops it once the request has gone on: wiping its memory takes about as long as what
    /// ran in it.
    pub(super) fn leave(self) {
        tokio::spawn(async move { drop(self) });
    }
}

impl FrontBundle {
    /// Checks and links the components of `bundle`.
    pub fn new(
        sandbox: &Sandbox,
        bundle: &str,
        roles: FrontRoles,
        tokenizer: Arc<TextTokenizer>,
    ) -> Result<Self, LoadError> {
        let bundle: &Arc<str> = &bundle.into();
        let front = Self {
            parser: Linked::new(
                sandbox,
                bundle,
                Role::RequestParser,
                roles.parser,
                linker,
                request_parser::RequestParserRolePre::new,
            )?,
            template: Linked::new(
                sandbox,
                bundle,
                Role::Template,
                roles.template,
                linker,
                template::TemplateRolePre::new,
            )?,
            encoder: Linked::new(
                sandbox,
                bundle,
                Role::ResponseEncoder,
                roles.encoder,
                linker,
                response_encoder::ResponseEncoderRolePre::new,
            )?,
            sandbox: sandbox.clone(),
            tokenizer,
        };
        front.try_out(&front.parser, async |pre, store| {
            pre.instantiate_async(store).await.map(drop)
        })?;
        front.try_out(&front.template, async |pre, store| {
            pre.instantiate_async(store).await.map(drop)
        })?;
        front.try_out(&front.encoder, async |pre, store| {
            pre.instantiate_async(store).await.map(drop)
        })?;
        Ok(front)
    }

    /// Instantiates a component once, which also checks the types of what it exports.
    fn try_out<P>(
        &self,
        linked: &Linked<P>,
        instantiate: impl AsyncFnOnce(&P, &mut Store<FrontState>) -> wasmtime::Result<()>,
    ) -> Result<(), LoadError> {
        let limits = &self.sandbox.limits;
        let tried = self.store(linked).and_then(|mut store| {
            let budget = Budget::exclusive(limits, limits.front_time);
            begin(&mut store, limits, &linked.label, budget);
            run(instantiate(&linked.pre, &mut store))
        });
        tried.map_err(|error| linked.refusal(reason(&error)))
    }

    /// What tells its parser from another: the digest of the component.
    pub fn parser_digest(&self) -> [u8; 32] {
        self.parser.digest
    }

    /// Reads a request in a fresh store.
    pub async fn parse(&self, endpoint: &str, body: Bytes) -> Result<ParsedRequest, FrontError> {
        let mut request = self.open(&self.parser).await?;
        let store = &mut request.store;
        let run = async {
            let parser = self.parser.pre.instantiate_async(&mut *store).await?;
            let guest = parser.tenon_embed_request_parser();
            guest.call_parse(&mut *store, endpoint, &body).await
        };
        let parsed = run.await.map_err(|error| failure(&self.parser, &error))?;
        let parsed = parsed.map_err(|error| FrontError::Api(api_error(error)))?;
        Ok(ParsedRequest::new(parsed, request))
    }

    /// Renders the inputs of a request, in the store that parsed it, and drops that.
    /// `images` are the sizes of the request's images.
    pub async fn render(
        &self,
        parsed: &mut ParsedRequest,
        images: &[Size],
    ) -> Result<Vec<Rendered>, FrontError> {
        let mut request = match parsed.store.take() {
            Some(request) => request,
            None => self.open(&self.template).await?,
        };
        let store = &mut request.store;
        // The deployment that renders may be another than the one that parsed.
        store.data_mut().tokenizer = self.tokenizer.clone();
        self.begin(store, &self.template);
        let inputs = std::mem::take(&mut parsed.inputs);
        let images: Vec<_> = images
            .iter()
            .map(|size| template::ImageSize {
                width: size.width,
                height: size.height,
            })
            .collect();
        let run = async {
            let template = self.template.pre.instantiate_async(&mut *store).await?;
            let guest = template.tenon_embed_template();
            guest
                .call_render(&mut *store, &inputs, &images, &parsed.options)
                .await
        };
        let rendered = run.await.map_err(|error| failure(&self.template, &error))?;
        request.leave();
        let rendered = rendered.map_err(|error| FrontError::Api(api_error(error)))?;
        if rendered.len() != inputs.len() {
            let what = format!("it rendered {} of {} inputs", rendered.len(), inputs.len());
            return Err(FrontError::Component(self.template.failure(what)));
        }
        let rendered: Vec<Rendered> = rendered.into_iter().map(Rendered::from).collect();
        for run in rendered.iter().flat_map(Rendered::images) {
            run.check(images.len())
                .map_err(|what| FrontError::Component(self.template.failure(what)))?;
        }
        Ok(rendered)
    }

    /// Writes an answer of one vector a row, in a fresh store. All rows have one length.
    pub async fn encode(
        &self,
        info: ResponseInfo,
        rows: Vec<Vec<f32>>,
    ) -> Result<EncodedResponse, FrontError> {
        let mut request = self.open(&self.encoder).await?;
        let encoded = self
            .encode_in(&mut request.store, info, &rows)
            .await
            .map_err(|error| failure(&self.encoder, &error))?;
        request.leave();
        if !is_header_value(&encoded.content_type) {
            let shown = clip(&encoded.content_type, 80);
            let what = format!("its content type {shown:?} is no header");
            return Err(FrontError::Component(self.encoder.failure(what)));
        }
        Ok(encoded)
    }

    async fn encode_in(
        &self,
        store: &mut Store<FrontState>,
        info: ResponseInfo,
        rows: &[Vec<f32>],
    ) -> wasmtime::Result<EncodedResponse> {
        let dimensions = rows.first().map_or(0, Vec::len);
        if rows.iter().any(|row| row.len() != dimensions) {
            wasmtime::bail!("it was given vectors of different lengths");
        }
        let instance = self.encoder.pre.instantiate_async(&mut *store).await?;
        let guest = instance.tenon_embed_response_encoder();
        let encoding = guest.encoding();
        let handle = encoding
            .call_constructor(&mut *store, &info.with_count(rows.len()))
            .await?;
        let content_type = encoding.call_content_type(&mut *store, handle).await?;
        let mut body = Body::new(self.sandbox.limits.max_response_bytes);
        let rows_per_write = (VALUES_PER_WRITE / dimensions.max(1)).max(1);
        for rows in rows.chunks(rows_per_write) {
            let vectors = response_encoder::Vectors {
                dimensions: dimensions as u32,
                values: rows.concat(),
            };
            body.push(encoding.call_write(&mut *store, handle, &vectors).await?)?;
        }
        body.push(encoding.call_finish(&mut *store, handle).await?)?;
        handle.resource_drop_async(&mut *store).await?;
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
        let mut request = self.open(&self.encoder).await?;
        let store = &mut request.store;
        let run = async {
            let instance = self.encoder.pre.instantiate_async(&mut *store).await?;
            let guest = instance.tenon_embed_response_encoder();
            let error = guest_error(error);
            let written = guest
                .call_encode_error(&mut *store, endpoint, &error)
                .await?;
            let mut body = Body::new(self.sandbox.limits.max_response_bytes);
            body.push(written)?;
            Ok(body)
        };
        let body = run.await.map_err(|error| failure(&self.encoder, &error))?;
        Ok(body.finish().pop().unwrap_or_default())
    }

    /// A fresh store in which the component of `linked` may run, once there is a place.
    async fn open<P>(&self, linked: &Linked<P>) -> Result<RequestStore, FrontError> {
        let limits = &self.sandbox.limits;
        let place = self.sandbox.front_stores.clone().acquire_owned();
        let place = tokio::time::timeout(limits.front_store_wait, place)
            .await
            .map_err(|_| FrontError::Busy)?
            .map_err(|_| FrontError::Busy)?;
        let mut store = self
            .store(linked)
            .map_err(|error| failure(linked, &error))?;
        self.begin(&mut store, linked);
        Ok(RequestStore {
            store,
            _place: place,
        })
    }

    fn store<P>(&self, linked: &Linked<P>) -> wasmtime::Result<Store<FrontState>> {
        let limits = &self.sandbox.limits;
        let state = FrontState {
            guest: Guest::new(limits),
            config: linked.config.clone(),
            tokenizer: self.tokenizer.clone(),
        };
        store(&self.sandbox.engine, limits, state)
    }

    fn begin<P>(&self, store: &mut Store<FrontState>, linked: &Linked<P>) {
        let limits = &self.sandbox.limits;
        store.data_mut().config = linked.config.clone();
        begin(
            store,
            limits,
            &linked.label,
            Budget::shared(limits, limits.front_time),
        );
    }
}

fn failure<P>(linked: &Linked<P>, error: &wasmtime::Error) -> FrontError {
    FrontError::Component(linked.failure(reason(error)))
}

/// Visible ASCII and spaces: what may stand in a `content-type`.
fn is_header_value(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
