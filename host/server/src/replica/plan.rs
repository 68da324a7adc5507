//! What it takes to load the back half of a deployment, in whatever process, and what loading
//! it tells.

use std::path::PathBuf;

use tenon_tensor::DType;

use crate::bundles::{Bundle, ComponentSource, ServedDtype};
use crate::role::Role;
use crate::sandbox::{ModelInfo, PoolingInfo};

/// The back half of a bundle: weights, and the components that compute with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackPlan {
    /// The bundle's name.
    pub bundle: String,
    /// The folder of the weights.
    pub weights_dir: PathBuf,
    /// The dtype that is asked for.
    pub dtype: ServedDtype,
    /// As in [`Bundle::checkpoint_is_bf16`].
    pub checkpoint_is_bf16: bool,
    /// The checkpoint's `config.json`.
    pub checkpoint_config: String,
    /// What computes hidden states.
    pub model: PlannedRole,
    /// What makes vectors of them.
    pub pooling: PlannedRole,
}

/// A component and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedRole {
    /// Where it comes from.
    pub component: ComponentSource,
    /// The role's own settings, as JSON text.
    pub config: String,
}

/// What loading a back half tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackFacts {
    /// What the model component said of itself.
    pub model: ModelInfo,
    /// What the pooling component said of itself.
    pub pooling: PoolingInfo,
    /// The dtype that weights are served in.
    pub dtype: DType,
}

impl BackPlan {
    /// The back half of this bundle.
    pub fn of(bundle: &Bundle) -> Self {
        let role = |role| PlannedRole {
            component: bundle.roles.get(role).clone(),
            config: bundle.role_config.get(role).to_string(),
        };
        Self {
            bundle: bundle.name.clone(),
            weights_dir: bundle.weights_dir.clone(),
            dtype: bundle.dtype,
            checkpoint_is_bf16: bundle.checkpoint_is_bf16,
            checkpoint_config: bundle.checkpoint_config.clone(),
            model: role(Role::Model),
            pooling: role(Role::Pooling),
        }
    }
}
