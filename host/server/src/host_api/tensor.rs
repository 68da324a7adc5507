//! `tensor`: handles and operations, each handed to `tenon-tensor`.

use std::time::{Duration, Instant};

use tenon_tensor::{self as rt, Context, Indices, Patches, SequenceLayout, Tensor, Weights, ops};
use wasmtime::component::{Resource, ResourceTable};

use super::dimensions;
use super::imports::tensor::{
    Activation, AttentionInput, AttentionOptions, Dtype, Error, HeadNorms, Host, HostIndices,
    HostLayout, HostPatches, HostTensor, PixelOptions, PoolMode,
};

/// What the operations of a back-half store work on.
pub struct TensorView<'a> {
    /// The handles of the store.
    pub table: &'a mut ResourceTable,
    /// Device and account of the store.
    pub context: &'a Context,
    /// The bundle's weights.
    pub weights: &'a Weights,
    /// Time spent in operations since the batch began.
    pub host_time: &'a mut Duration,
    /// Whether a quota was exceeded.
    pub condemned: &'a mut bool,
    /// Index lists that it may still ask of this batch: they are the host's memory.
    pub lists_left: &'a mut u32,
}

type Handle<T> = Resource<T>;
type OpResult = wasmtime::Result<Result<Handle<Tensor>, Error>>;

impl TensorView<'_> {
    /// Runs an operation on what handles stand for, and makes a handle of its result. A
    /// component is told once that it exceeded a quota; if it goes on, it traps.
    pub(super) fn run(
        &mut self,
        op: impl FnOnce(&Handles<'_>) -> wasmtime::Result<rt::Result<Tensor>>,
    ) -> OpResult {
        if *self.condemned {
            wasmtime::bail!("it went on after a quota was exceeded");
        }
        let started = Instant::now();
        let result = op(&Handles(self.table));
        *self.host_time += started.elapsed();
        match result? {
            Ok(tensor) => Ok(Ok(self.table.push(tensor)?)),
            Err(error) => {
                *self.condemned |= matches!(error, rt::Error::QuotaExceeded(_));
                Ok(Err(error.into()))
            }
        }
    }

    /// Makes a handle of an index list, if there may be one more.
    pub(super) fn push_list(&mut self, list: Indices) -> wasmtime::Result<Handle<Indices>> {
        let Some(left) = self.lists_left.checked_sub(1) else {
            wasmtime::bail!("it asked for more index lists than one batch gives out");
        };
        *self.lists_left = left;
        Ok(self.table.push(list)?)
    }
}

/// What the handles of a store stand for.
pub(super) struct Handles<'a>(&'a ResourceTable);

impl Handles<'_> {
    fn get<T: Send + 'static>(&self, handle: &Handle<T>) -> wasmtime::Result<&T> {
        Ok(self.0.get(handle)?)
    }

    fn get_some(&self, handle: Option<&Handle<Tensor>>) -> wasmtime::Result<Option<&Tensor>> {
        handle.map(|handle| self.get(handle)).transpose()
    }
}

impl HostTensor for TensorView<'_> {
    fn shape(&mut self, tensor: Handle<Tensor>) -> wasmtime::Result<Vec<u32>> {
        let tensor = self.table.get(&tensor)?;
        Ok(tensor
            .shape()
            .iter()
            .map(|&dimension| dimension as u32)
            .collect())
    }

    fn dtype(&mut self, tensor: Handle<Tensor>) -> wasmtime::Result<Dtype> {
        Ok(match self.table.get(&tensor)?.dtype() {
            rt::DType::F32 => Dtype::F32,
            rt::DType::F16 => Dtype::F16,
            // Tensors are never of fp8.
            rt::DType::BF16 | rt::DType::FP8 => Dtype::Bf16,
            rt::DType::U8 => Dtype::U8,
        })
    }

    fn drop(&mut self, tensor: Handle<Tensor>) -> wasmtime::Result<()> {
        self.table.delete(tensor)?;
        Ok(())
    }
}

impl HostIndices for TensorView<'_> {
    fn len(&mut self, indices: Handle<Indices>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&indices)?.len() as u32)
    }

    fn drop(&mut self, indices: Handle<Indices>) -> wasmtime::Result<()> {
        self.table.delete(indices)?;
        Ok(())
    }
}

impl HostLayout for TensorView<'_> {
    fn sequences(&mut self, layout: Handle<SequenceLayout>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&layout)?.sequences() as u32)
    }

    fn rows(&mut self, layout: Handle<SequenceLayout>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&layout)?.rows() as u32)
    }

    fn max_rows(&mut self, layout: Handle<SequenceLayout>) -> wasmtime::Result<u32> {
        Ok(self.table.get(&layout)?.max_rows() as u32)
    }

    fn drop(&mut self, layout: Handle<SequenceLayout>) -> wasmtime::Result<()> {
        self.table.delete(layout)?;
        Ok(())
    }
}

impl HostPatches for TensorView<'_> {
    fn layout(&mut self, patches: Handle<Patches>) -> wasmtime::Result<Handle<SequenceLayout>> {
        let layout = self.table.get(&patches)?.layout().clone();
        Ok(self.table.push(layout)?)
    }

    fn position_ids(&mut self, patches: Handle<Patches>) -> wasmtime::Result<Handle<Indices>> {
        let list = self.table.get(&patches)?.position_ids();
        self.push_list(list)
    }

    fn row_ids(&mut self, patches: Handle<Patches>) -> wasmtime::Result<Handle<Indices>> {
        let list = self.table.get(&patches)?.row_ids();
        self.push_list(list)
    }

    fn column_ids(&mut self, patches: Handle<Patches>) -> wasmtime::Result<Handle<Indices>> {
        let list = self.table.get(&patches)?.column_ids();
        self.push_list(list)
    }

    fn drop(&mut self, patches: Handle<Patches>) -> wasmtime::Result<()> {
        self.table.delete(patches)?;
        Ok(())
    }
}

impl Host for TensorView<'_> {
    fn pixels(&mut self, patches: Handle<Patches>, options: PixelOptions) -> OpResult {
        let context = self.context;
        let options = rt::PixelOptions {
            frames: options.frames as usize,
            mean: options.mean.into(),
            deviation: options.deviation.into(),
        };
        self.run(|of| Ok(ops::pixels(context, of.get(&patches)?, &options)))
    }

    fn embedding(
        &mut self,
        table: Handle<Tensor>,
        ids: Handle<Indices>,
        residual: Option<Handle<Tensor>>,
    ) -> OpResult {
        let context = self.context;
        self.run(|of| {
            let residual = of.get_some(residual.as_ref())?;
            Ok(ops::embedding(
                context,
                of.get(&table)?,
                of.get(&ids)?,
                residual,
            ))
        })
    }

    fn linear(
        &mut self,
        x: Handle<Tensor>,
        weight: Handle<Tensor>,
        bias: Option<Handle<Tensor>>,
        activation: Activation,
        residual: Option<Handle<Tensor>>,
    ) -> OpResult {
        let context = self.context;
        self.run(|of| {
            Ok(ops::linear(
                context,
                of.get(&x)?,
                of.get(&weight)?,
                of.get_some(bias.as_ref())?,
                activation.into(),
                of.get_some(residual.as_ref())?,
            ))
        })
    }

    fn layer_norm(
        &mut self,
        x: Handle<Tensor>,
        weight: Option<Handle<Tensor>>,
        bias: Option<Handle<Tensor>>,
        eps: f32,
        residual: Option<Handle<Tensor>>,
    ) -> OpResult {
        let context = self.context;
        self.run(|of| {
            Ok(ops::layer_norm(
                context,
                of.get(&x)?,
                of.get_some(weight.as_ref())?,
                of.get_some(bias.as_ref())?,
                eps,
                of.get_some(residual.as_ref())?,
            ))
        })
    }

    fn rms_norm(
        &mut self,
        x: Handle<Tensor>,
        weight: Handle<Tensor>,
        eps: f32,
        weight_offset: f32,
    ) -> OpResult {
        let context = self.context;
        self.run(|of| {
            let (x, weight) = (of.get(&x)?, of.get(&weight)?);
            Ok(ops::rms_norm(context, x, weight, eps, weight_offset))
        })
    }

    fn attention(
        &mut self,
        input: AttentionInput,
        layout: Handle<SequenceLayout>,
        bias: Option<Handle<Tensor>>,
        options: AttentionOptions,
    ) -> OpResult {
        let context = self.context;
        let options = rt::AttentionOptions {
            heads: options.heads as usize,
            kv_heads: options.kv_heads as usize,
            scale: options.scale,
            causal: options.causal,
            window: options.window.map(|window| window as usize),
        };
        self.run(|of| {
            let input = match &input {
                AttentionInput::Fused(qkv) => rt::AttentionInput::Fused(of.get(qkv)?),
                AttentionInput::Separate((q, k, v)) => {
                    rt::AttentionInput::Separate(of.get(q)?, of.get(k)?, of.get(v)?)
                }
            };
            let (layout, bias) = (of.get(&layout)?, of.get_some(bias.as_ref())?);
            Ok(ops::attention(context, input, layout, bias, &options))
        })
    }

    fn rotary_table(
        &mut self,
        positions: Handle<Indices>,
        inverse_frequencies: Vec<f32>,
        factor: f32,
    ) -> OpResult {
        let context = self.context;
        self.run(|of| {
            let positions = of.get(&positions)?;
            Ok(ops::rotary_table(
                context,
                positions,
                &inverse_frequencies,
                factor,
            ))
        })
    }

    fn rotary(
        &mut self,
        x: Handle<Tensor>,
        table: Handle<Tensor>,
        heads: u32,
        head_dim: u32,
        norms: Option<HeadNorms>,
    ) -> OpResult {
        let context = self.context;
        let (heads, head_dim) = (heads as usize, head_dim as usize);
        self.run(|of| {
            let (x, table) = (of.get(&x)?, of.get(&table)?);
            let norms = match &norms {
                Some(norms) => Some(rt::HeadNorms {
                    query: of.get(&norms.query)?,
                    key: of.get(&norms.key)?,
                    query_heads: norms.query_heads as usize,
                    eps: norms.eps,
                    weight_offset: norms.weight_offset,
                }),
                None => None,
            };
            let norms = norms.as_ref();
            Ok(ops::rotary(context, x, table, heads, head_dim, norms))
        })
    }

    fn activate(&mut self, x: Handle<Tensor>, activation: Activation) -> OpResult {
        let context = self.context;
        self.run(|of| Ok(ops::activate(context, of.get(&x)?, activation.into())))
    }

    fn gated(&mut self, x: Handle<Tensor>, activation: Activation) -> OpResult {
        let context = self.context;
        self.run(|of| Ok(ops::gated(context, of.get(&x)?, activation.into())))
    }

    fn add(&mut self, a: Handle<Tensor>, b: Handle<Tensor>) -> OpResult {
        let context = self.context;
        self.run(|of| Ok(ops::add(context, of.get(&a)?, of.get(&b)?)))
    }

    fn mul(&mut self, a: Handle<Tensor>, b: Handle<Tensor>) -> OpResult {
        let context = self.context;
        self.run(|of| Ok(ops::mul(context, of.get(&a)?, of.get(&b)?)))
    }

    fn scale(&mut self, x: Handle<Tensor>, factor: f32) -> OpResult {
        let context = self.context;
        self.run(|of| Ok(ops::scale(context, of.get(&x)?, factor)))
    }

    fn slice(&mut self, x: Handle<Tensor>, axis: u32, start: u32, length: u32) -> OpResult {
        let context = self.context;
        let (axis, start, length) = (axis as usize, start as usize, length as usize);
        self.run(|of| Ok(ops::slice(context, of.get(&x)?, axis, start, length)))
    }

    fn reshape(&mut self, x: Handle<Tensor>, shape: Vec<u32>) -> OpResult {
        let context = self.context;
        self.run(|of| Ok(ops::reshape(context, of.get(&x)?, &dimensions(&shape))))
    }

    fn concat(&mut self, parts: Vec<Handle<Tensor>>, axis: u32) -> OpResult {
        let context = self.context;
        self.run(|of| {
            let parts = parts.iter().map(|part| of.get(part));
            let parts = parts.collect::<wasmtime::Result<Vec<_>>>()?;
            Ok(ops::concat(context, &parts, axis as usize))
        })
    }

    fn segment_pool(
        &mut self,
        x: Handle<Tensor>,
        layout: Handle<SequenceLayout>,
        mode: PoolMode,
    ) -> OpResult {
        let context = self.context;
        self.run(|of| {
            let (x, layout) = (of.get(&x)?, of.get(&layout)?);
            Ok(ops::segment_pool(context, x, layout, mode.into()))
        })
    }

    fn l2_normalize(&mut self, x: Handle<Tensor>, eps: f32) -> OpResult {
        let context = self.context;
        self.run(|of| Ok(ops::l2_normalize(context, of.get(&x)?, eps)))
    }
}

impl From<rt::Error> for Error {
    fn from(error: rt::Error) -> Self {
        match error {
            rt::Error::InvalidArgument(text) => Self::InvalidArgument(text),
            rt::Error::ShapeMismatch(text) => Self::ShapeMismatch(text),
            rt::Error::Unsupported(text) => Self::Unsupported(text),
            rt::Error::QuotaExceeded(text) => Self::QuotaExceeded(text),
            rt::Error::DeviceLost(text) => Self::DeviceLost(text),
            rt::Error::Other(text) => Self::Other(text),
        }
    }
}

impl From<Activation> for rt::Activation {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Identity => Self::Identity,
            Activation::Relu => Self::Relu,
            Activation::GeluErf => Self::GeluErf,
            Activation::GeluTanh => Self::GeluTanh,
            Activation::GeluQuick => Self::GeluQuick,
            Activation::Silu => Self::Silu,
            Activation::Tanh => Self::Tanh,
        }
    }
}

impl From<PoolMode> for rt::PoolMode {
    fn from(mode: PoolMode) -> Self {
        match mode {
            PoolMode::First => Self::First,
            PoolMode::Last => Self::Last,
            PoolMode::Mean => Self::Mean,
            PoolMode::MeanSqrtLen => Self::MeanSqrtLen,
            PoolMode::WeightedMean => Self::WeightedMean,
            PoolMode::Max => Self::Max,
        }
    }
}
