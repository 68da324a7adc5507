//! Loads back halves onto a device of this process, whichever that is.

use anyhow::Context as _;
use indicatif::ProgressBar;
use tenon_tensor::{DType, Device, Weights};

use super::components::Components;
use crate::batch::{Executor, PackedBatch, Sequence};
use crate::bundles::ServedDtype;
use crate::replica::{BackFacts, BackPlan, Loaded, PlannedRole};
use crate::role::Role;
use crate::sandbox::{BackHalf, OnFailure, RoleConfig};

/// Compiles and links components, opens weights, and runs a first batch.
pub fn load(
    plan: &BackPlan,
    device: &Device,
    components: &Components,
    on_failure: &OnFailure,
    progress: &ProgressBar,
) -> anyhow::Result<Loaded> {
    progress.set_message("compiling components");
    let part = |role: Role, planned: &PlannedRole| {
        let config = RoleConfig {
            checkpoint: plan.checkpoint_config.as_str().into(),
            role: planned.config.as_str().into(),
        };
        anyhow::Ok((components.of_role(role, &planned.component)?, config))
    };
    let model = part(Role::Model, &plan.model)?;
    let pooling = part(Role::Pooling, &plan.pooling)?;

    progress.set_message("opening weights");
    let dtype = dtype(plan, device);
    let weights = Weights::open(device, &plan.weights_dir, dtype)?;
    let back_half = || {
        let (back, model, pooling) = BackHalf::new(
            components.sandbox(),
            &plan.bundle,
            model.clone(),
            pooling.clone(),
            weights.clone(),
            device.clone(),
        )?;
        anyhow::Ok((back.with_on_failure(on_failure.clone()), model, pooling))
    };
    let (mut back, model_info, pooling_info) = back_half()?;

    progress.set_message("running a first batch");
    // It packs every weight, so that no request waits for that.
    let probe = Sequence {
        token_ids: vec![0; 2],
        ..Sequence::default()
    };
    let output = back
        .execute(&PackedBatch::pack([&probe]))
        .context("the first batch failed")?;
    for row in output.rows {
        row.context("the first batch failed")?;
    }

    let mut executors: Vec<Box<dyn Executor>> = vec![Box::new(back)];
    while executors.len() < device.batches_in_flight() {
        let (another, ..) = back_half()?;
        executors.push(Box::new(another));
    }
    let facts = BackFacts {
        model: model_info,
        pooling: pooling_info,
        dtype,
    };
    Ok(Loaded { facts, executors })
}

/// `auto` keeps the checkpoint's precision: bf16 only where the checkpoint is stored in bf16
/// and the device multiplies it natively.
fn dtype(plan: &BackPlan, device: &Device) -> DType {
    match plan.dtype {
        ServedDtype::F32 => DType::F32,
        ServedDtype::Bf16 => DType::BF16,
        ServedDtype::F16 => DType::F16,
        ServedDtype::Fp8 => DType::FP8,
        ServedDtype::Auto if plan.checkpoint_is_bf16 => device.preferred_weight_dtype(),
        ServedDtype::Auto => DType::F32,
    }
}
