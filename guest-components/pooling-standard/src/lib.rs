//! The sentence-transformers pooling modes, Dense, Normalize and Matryoshka.

mod settings;

use tenon_sdk::checkpoint::{self, Weights};
use tenon_sdk::layers::Linear;
use tenon_sdk::tensor::{self, Activation, Error, Layout, PoolMode, Tensor};
use tenon_sdk::{Pooling, PoolingInfo, role_settings};

use settings::{Module, Settings};

/// The eps of torch's `normalize`.
const NORMALIZE_EPS: f32 = 1e-12;
/// The eps of torch's `layer_norm`.
const LAYER_NORM_EPS: f32 = 1e-5;

/// A loaded chain: pooling modes, then any number of steps.
pub struct Standard {
    modes: Vec<PoolMode>,
    steps: Vec<Step>,
    /// The length of vectors whose callers ask for none, where it is not the chain's.
    cut_to: Option<u32>,
    /// Whether a vector that a caller wants shorter goes through a layer norm before.
    norms_before_cut: bool,
}

enum Step {
    Dense(Box<Linear>, Activation),
    Normalize,
}

impl Pooling for Standard {
    fn load(hidden_size: u32) -> Result<(Self, PoolingInfo), String> {
        let settings: Settings = role_settings()?;
        let chain = settings.chain(hidden_size)?;
        let steps = chain
            .steps
            .iter()
            .map(load_step)
            .collect::<Result<_, _>>()?;
        let info = chain.info(&settings);
        let pooling = Self {
            cut_to: chain.cut_to,
            modes: chain.modes,
            steps,
            norms_before_cut: settings.matryoshka_layer_norm,
        };
        Ok((pooling, info))
    }

    fn pool(
        &self,
        hidden: &Tensor,
        layout: &Layout,
        dimensions: Option<u32>,
    ) -> Result<Tensor, Error> {
        let mut vectors = self.pool_modes(hidden, layout)?;
        for step in &self.steps {
            vectors = match step {
                Step::Dense(linear, activation) => linear.apply(&vectors, *activation)?,
                Step::Normalize => tensor::l2_normalize(&vectors, NORMALIZE_EPS)?,
            };
        }
        match dimensions {
            Some(dimensions) => self.shorten(vectors, dimensions),
            // Without a norm afterwards, as sentence-transformers has it.
            None => match self.cut_to {
                Some(length) => tensor::slice(&vectors, 1, 0, length),
                None => Ok(vectors),
            },
        }
    }
}

impl Standard {
    /// The results of all modes, side by side.
    fn pool_modes(&self, hidden: &Tensor, layout: &Layout) -> Result<Tensor, Error> {
        if let [mode] = self.modes[..] {
            return tensor::segment_pool(hidden, layout, mode);
        }
        let parts = self
            .modes
            .iter()
            .map(|&mode| tensor::segment_pool(hidden, layout, mode))
            .collect::<Result<Vec<_>, _>>()?;
        tensor::concat(&parts.iter().collect::<Vec<_>>(), 1)
    }

    /// The first elements of vectors, divided by their length.
    fn shorten(&self, mut vectors: Tensor, dimensions: u32) -> Result<Tensor, Error> {
        if self.norms_before_cut {
            vectors = tensor::layer_norm(&vectors, None, None, LAYER_NORM_EPS, None)?;
        }
        let shorter = tensor::slice(&vectors, 1, 0, dimensions)?;
        tensor::l2_normalize(&shorter, NORMALIZE_EPS)
    }
}

fn load_step(module: &Module) -> Result<Step, String> {
    match module {
        Module::Normalize {} => Ok(Step::Normalize),
        Module::Dense {
            path,
            in_features,
            out_features,
            bias,
            activation,
        } => {
            let weights = Weights::find(&[&format!("{path}/")], "linear.weight")?;
            let take = if *bias {
                Linear::with_bias
            } else {
                Linear::without_bias
            };
            let linear = take(&weights, "linear", *in_features, *out_features)?;
            let activation = checkpoint::activation(activation).ok_or_else(|| {
                format!("dense {path}: activation {activation:?} is not supported")
            })?;
            Ok(Step::Dense(Box::new(linear), activation))
        }
        Module::Pooling { .. } => Err("a pooling module is not a step".to_owned()),
    }
}

tenon_sdk::export_pooling!(Standard);
