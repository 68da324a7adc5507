//! From a bundle to a deployment: components compiled and linked, weights opened, the
//! queue started.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use tenon_preprocess::TextTokenizer;
use tenon_tensor::{DType, Device, Weights};

use crate::bundles::{Bundle, ComponentSource, ServedDtype, builtin};
use crate::http::service::ModelCard;
use crate::observability::Metrics;
use crate::sandbox::{BackHalf, Component, FrontBundle, FrontRoles, RoleConfig, Sandbox};
use crate::scheduler::{Scheduler, SchedulerOptions};
use crate::service::Deployment;

/// Loads bundles onto one device, each component compiled once.
pub struct Loader {
    device: Device,
    sandbox: Sandbox,
    metrics: Arc<Metrics>,
    scheduler: SchedulerOptions,
    compiled: Mutex<HashMap<ComponentSource, Component>>,
}

impl Loader {
    /// A loader for one device and one sandbox.
    pub fn new(
        device: Device,
        sandbox: Sandbox,
        metrics: Arc<Metrics>,
        scheduler: SchedulerOptions,
    ) -> Self {
        Self { device, sandbox, metrics, scheduler, compiled: Mutex::new(HashMap::new()) }
    }

    /// Loads a bundle.
    pub fn deploy(&self, bundle: &Bundle) -> anyhow::Result<Deployment> {
        self.deploy_inner(bundle).with_context(|| format!("cannot load {:?}", bundle.name))
    }
}
