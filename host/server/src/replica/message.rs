//! What the server and a worker process say to each other, as frames.

use std::time::Duration;

use tenon_tensor::{DType, Pixels, PlacedImage};

use super::plan::{BackFacts, BackPlan, PlannedRole};
use super::wire::{Decoder, Encoder, WireError};
use crate::batch::{BatchOutput, ExecuteError, PackedBatch, PoolOptions, RowError};
use crate::bundles::{ComponentSource, ServedDtype};
use crate::role::Role;
use crate::sandbox::{ComponentFailure, ModelInfo, PoolingInfo};

/// Names an executor of a worker process, alike in all that load the same deployments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane {
    /// The deployment, counted in the order of loading.
    pub deployment: u32,
    /// Which of the deployment's executors.
    pub slot: u32,
}

/// What the server wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Order {
    /// Load the back half of a deployment; answered with [`Report::Loaded`].
    Load(u32, Box<BackPlan>),
    /// Run a batch; answered with [`Report::Ran`].
    Execute(Lane, PackedBatch),
}

/// What a worker process tells.
#[derive(Debug)]
pub enum Report {
    /// Its device is open, or why not: the first thing that it says.
    Opened(Result<DeviceFacts, String>),
    /// A deployment is loaded, or why not.
    Loaded(u32, Result<BackFacts, String>),
    /// A component failed; the batch's own report follows.
    Failed(ComponentFailure),
    /// What became of a batch.
    Ran(Lane, Result<BatchOutput, ExecuteError>),
}

/// What the server must know of a device that another process has opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceFacts {
    /// What it is, e.g. `cuda:0 (NVIDIA H100)`.
    pub name: String,
    /// Executors of each deployment.
    pub batches_in_flight: u32,
}

const LOAD: u8 = 1;
const EXECUTE: u8 = 2;

impl Order {
    /// The order to load a deployment, as a frame.
    pub fn load(deployment: u32, plan: &BackPlan) -> Vec<u8> {
        let mut to = Encoder::default();
        to.u8(LOAD);
        to.u32(deployment);
        encode_plan(&mut to, plan);
        to.finish()
    }

    /// The order to run a batch, as a frame.
    pub fn execute(lane: Lane, batch: &PackedBatch) -> Vec<u8> {
        let mut to = Encoder::default();
        to.u8(EXECUTE);
        encode_lane(&mut to, lane);
        encode_batch(&mut to, batch);
        to.finish()
    }

    /// The order in a frame.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        let mut from = Decoder::new(frame);
        let order = match from.u8("order")? {
            LOAD => {
                let deployment = from.u32("deployment")?;
                Self::Load(deployment, Box::new(decode_plan(&mut from)?))
            }
            EXECUTE => Self::Execute(decode_lane(&mut from)?, decode_batch(&mut from)?),
            other => return Err(unknown("order", other)),
        };
        from.finish()?;
        Ok(order)
    }
}

const OPENED: u8 = 1;
const LOADED: u8 = 2;
const FAILED: u8 = 3;
const RAN: u8 = 4;

impl Report {
    /// The report as a frame.
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Encoder::default();
        match self {
            Self::Opened(result) => {
                to.u8(OPENED);
                encode_result(&mut to, result, |to, facts| {
                    to.text(&facts.name);
                    to.u32(facts.batches_in_flight);
                });
            }
            Self::Loaded(deployment, result) => {
                to.u8(LOADED);
                to.u32(*deployment);
                encode_result(&mut to, result, encode_facts);
            }
            Self::Failed(failure) => {
                to.u8(FAILED);
                encode_failure(&mut to, failure);
            }
            Self::Ran(lane, result) => {
                to.u8(RAN);
                encode_lane(&mut to, *lane);
                encode_ran(&mut to, result);
            }
        }
        to.finish()
    }

    /// The report in a frame.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        let mut from = Decoder::new(frame);
        let report = match from.u8("report")? {
            OPENED => Self::Opened(decode_result(&mut from, |from| {
                Ok(DeviceFacts {
                    name: from.text("device")?,
                    batches_in_flight: from.u32("batches in flight")?,
                })
            })?),
            LOADED => {
                let deployment = from.u32("deployment")?;
                Self::Loaded(deployment, decode_result(&mut from, decode_facts)?)
            }
            FAILED => Self::Failed(decode_failure(&mut from)?),
            RAN => Self::Ran(decode_lane(&mut from)?, decode_ran(&mut from)?),
            other => return Err(unknown("report", other)),
        };
        from.finish()?;
        Ok(report)
    }
}

fn unknown(what: &'static str, value: u8) -> WireError {
    WireError::Value {
        what,
        value: value.into(),
    }
}

fn encode_result<T>(
    to: &mut Encoder,
    result: &Result<T, String>,
    value: impl Fn(&mut Encoder, &T),
) {
    to.bool(result.is_ok());
    match result {
        Ok(it) => value(to, it),
        Err(reason) => to.text(reason),
    }
}

fn decode_result<T>(
    from: &mut Decoder<'_>,
    value: impl Fn(&mut Decoder<'_>) -> Result<T, WireError>,
) -> Result<Result<T, String>, WireError> {
    Ok(match from.bool("result")? {
        true => Ok(value(from)?),
        false => Err(from.text("reason")?),
    })
}

fn encode_lane(to: &mut Encoder, lane: Lane) {
    to.u32(lane.deployment);
    to.u32(lane.slot);
}

fn decode_lane(from: &mut Decoder<'_>) -> Result<Lane, WireError> {
    Ok(Lane {
        deployment: from.u32("deployment")?,
        slot: from.u32("slot")?,
    })
}

const SERVED_DTYPES: [ServedDtype; 5] = [
    ServedDtype::Auto,
    ServedDtype::F32,
    ServedDtype::Bf16,
    ServedDtype::F16,
    ServedDtype::Fp8,
];
const DTYPES: [DType; 5] = [DType::F32, DType::BF16, DType::F16, DType::FP8, DType::U8];

/// One of a closed set, by its place in it.
fn encode_one_of<T: PartialEq>(to: &mut Encoder, set: &[T], value: &T) {
    let place = set.iter().position(|it| it == value);
    to.u32(place.map_or(u32::MAX, |place| place as u32));
}

fn decode_one_of<T: Copy>(
    from: &mut Decoder<'_>,
    what: &'static str,
    set: &[T],
) -> Result<T, WireError> {
    let place = from.u32(what)?;
    let value = u64::from(place);
    let found = set.get(place as usize).copied();
    found.ok_or(WireError::Value { what, value })
}

fn encode_plan(to: &mut Encoder, plan: &BackPlan) {
    to.text(&plan.bundle);
    to.path(&plan.weights_dir);
    encode_one_of(to, &SERVED_DTYPES, &plan.dtype);
    to.bool(plan.checkpoint_is_bf16);
    to.text(&plan.checkpoint_config);
    for role in [&plan.model, &plan.pooling] {
        match &role.component {
            ComponentSource::Builtin(name) => {
                to.bool(true);
                to.text(name);
            }
            ComponentSource::File(path) => {
                to.bool(false);
                to.path(path);
            }
        }
        to.text(&role.config);
    }
}

fn decode_plan(from: &mut Decoder<'_>) -> Result<BackPlan, WireError> {
    let role = |from: &mut Decoder<'_>| {
        Ok(PlannedRole {
            component: match from.bool("component")? {
                true => ComponentSource::Builtin(from.text("component")?),
                false => ComponentSource::File(from.path("component")?),
            },
            config: from.text("role's settings")?,
        })
    };
    Ok(BackPlan {
        bundle: from.text("bundle")?,
        weights_dir: from.path("weights")?,
        dtype: decode_one_of(from, "dtype", &SERVED_DTYPES)?,
        checkpoint_is_bf16: from.bool("checkpoint's dtype")?,
        checkpoint_config: from.text("checkpoint's settings")?,
        model: role(from)?,
        pooling: role(from)?,
    })
}

fn encode_facts(to: &mut Encoder, facts: &BackFacts) {
    let BackFacts {
        model,
        pooling,
        dtype,
    } = facts;
    to.u32(model.hidden_size);
    to.optional(model.max_tokens);
    to.u32(model.vocab_size);
    to.bool(model.images);
    to.bool(model.pooled);
    to.u32(pooling.dimensions);
    to.bool(pooling.matryoshka);
    to.u32s(&pooling.matryoshka_dimensions);
    encode_one_of(to, &DTYPES, dtype);
}

fn decode_facts(from: &mut Decoder<'_>) -> Result<BackFacts, WireError> {
    Ok(BackFacts {
        model: ModelInfo {
            hidden_size: from.u32("hidden size")?,
            max_tokens: from.optional("max tokens")?,
            vocab_size: from.u32("vocabulary")?,
            images: from.bool("images")?,
            pooled: from.bool("pooled")?,
        },
        pooling: PoolingInfo {
            dimensions: from.u32("dimensions")?,
            matryoshka: from.bool("matryoshka")?,
            matryoshka_dimensions: from.u32s("matryoshka's dimensions")?,
        },
        dtype: decode_one_of(from, "dtype", &DTYPES)?,
    })
}

fn encode_failure(to: &mut Encoder, failure: &ComponentFailure) {
    to.text(&failure.bundle);
    encode_one_of(to, &Role::ALL, &failure.role);
    to.text(&failure.component);
    to.text(&failure.reason);
}

fn decode_failure(from: &mut Decoder<'_>) -> Result<ComponentFailure, WireError> {
    Ok(ComponentFailure {
        bundle: from.text("bundle")?,
        role: decode_one_of(from, "role", &Role::ALL)?,
        component: from.text("component")?,
        reason: from.text("reason")?,
    })
}

fn encode_batch(to: &mut Encoder, batch: &PackedBatch) {
    to.u32s(&batch.token_ids);
    to.u32s(&batch.cu_seqlens);
    for options in &batch.pool {
        to.u32(options.excluded_tokens);
        to.optional(options.dimensions);
    }
    to.u64(batch.images.len() as u64);
    for image in &batch.images {
        to.u32(image.start);
        to.u32(image.rows);
        to.u32(image.columns);
        to.u32(image.pixels.width() as u32);
        to.bytes(image.pixels.bytes());
    }
}

/// What a batch means is checked where it is computed; here, that it is one.
fn decode_batch(from: &mut Decoder<'_>) -> Result<PackedBatch, WireError> {
    let token_ids = from.u32s("token ids")?;
    let cu_seqlens = from.u32s("cu_seqlens")?;
    let (Some(0), Some(&end)) = (cu_seqlens.first(), cu_seqlens.last()) else {
        return Err(WireError::Content("cu_seqlens"));
    };
    if !cu_seqlens.is_sorted() || end as usize != token_ids.len() {
        return Err(WireError::Content("cu_seqlens"));
    }
    let mut pool = Vec::new();
    for _ in 1..cu_seqlens.len() {
        pool.push(PoolOptions {
            excluded_tokens: from.u32("excluded tokens")?,
            dimensions: from.optional("dimensions")?,
        });
    }
    let mut images = Vec::new();
    // An image is four numbers and the length of its pixels at least.
    for _ in 0..from.count("images", 24)? {
        let (start, rows, columns) = (from.u32("image")?, from.u32("image")?, from.u32("image")?);
        let width = from.u32("image's width")?;
        let rgb = from.bytes("pixels")?;
        let height = (rgb.len() as u64).checked_div(u64::from(width) * 3);
        let height = height.and_then(|height| u32::try_from(height).ok());
        let pixels = height.and_then(|height| Pixels::new(width, height, rgb.to_vec()).ok());
        images.push(PlacedImage {
            start,
            rows,
            columns,
            pixels: pixels.ok_or(WireError::Content("pixels"))?,
        });
    }
    Ok(PackedBatch {
        token_ids,
        cu_seqlens,
        pool,
        images,
    })
}

const RAN_WELL: u8 = 0;
const COMPONENT: u8 = 1;
const UNAVAILABLE: u8 = 2;
const LOST: u8 = 3;

fn encode_ran(to: &mut Encoder, result: &Result<BatchOutput, ExecuteError>) {
    let (kind, reason) = match result {
        Ok(output) => return encode_output(to, output),
        Err(ExecuteError::Component(reason)) => (COMPONENT, reason),
        Err(ExecuteError::Unavailable(reason)) => (UNAVAILABLE, reason),
        // What a worker process has lost is lost to it for good.
        Err(ExecuteError::Lost(reason) | ExecuteError::Interrupted { reason, .. }) => {
            (LOST, reason)
        }
    };
    to.u8(kind);
    to.text(reason);
}

fn encode_output(to: &mut Encoder, output: &BatchOutput) {
    to.u8(RAN_WELL);
    for time in [output.forward, output.pooling, output.sandbox] {
        to.u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }
    to.u64(output.rows.len() as u64);
    for row in &output.rows {
        to.bool(row.is_ok());
        match row {
            Ok(vector) => to.f32s(vector),
            Err(RowError::NotFinite) => {}
        }
    }
}

fn decode_ran(from: &mut Decoder<'_>) -> Result<Result<BatchOutput, ExecuteError>, WireError> {
    let kind = from.u8("outcome")?;
    if kind == RAN_WELL {
        return decode_output(from).map(Ok);
    }
    let reason = from.text("reason")?;
    Ok(Err(match kind {
        COMPONENT => ExecuteError::Component(reason),
        UNAVAILABLE => ExecuteError::Unavailable(reason),
        LOST => ExecuteError::Lost(reason),
        other => return Err(unknown("outcome", other)),
    }))
}

fn decode_output(from: &mut Decoder<'_>) -> Result<BatchOutput, WireError> {
    let mut time = || from.u64("time").map(Duration::from_nanos);
    let (forward, pooling, sandbox) = (time()?, time()?, time()?);
    let mut rows = Vec::new();
    for _ in 0..from.count("rows", 1)? {
        rows.push(match from.bool("row")? {
            true => Ok(from.f32s("vector")?),
            false => Err(RowError::NotFinite),
        });
    }
    Ok(BatchOutput {
        rows,
        forward,
        pooling,
        sandbox,
    })
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
