//! Runs guests natively: stand-ins for the imports, with the names and signatures of the
//! generated bindings, on top of `tenon-tensor`.
//!
//! Benchmarks compare a component in the sandbox with the same code run like this:
//! ```no_run
//! # use std::sync::Arc;
//! # use tenon_sdk::native::{Batch, Environment, enter};
//! # fn example<M: tenon_sdk::Model>(environment: Environment) -> Result<(), String> {
//! enter(Arc::new(environment), || {
//!     let (model, _info) = M::load()?;
//!     let batch = Batch::packed(vec![101, 7592, 102], &[0, 3], Vec::new()).map_err(|e| e.to_string())?;
//!     let hidden = model.forward(&batch).map_err(|e| e.to_string())?;
//!     println!("{:?}", hidden.shape());
//!     Ok(())
//! })
//! # }
//! ```

pub mod batches;
pub mod config;
pub mod tensor;
pub mod tokenizer;
pub mod weights;

use std::cell::RefCell;
use std::sync::Arc;

pub use batches::Batch;

/// What the host would know on behalf of a component.
pub struct Environment {
    /// Where operations run and who pays for them.
    pub context: tenon_tensor::Context,
    /// The checkpoint's weights.
    pub weights: tenon_tensor::Weights,
    /// The text of the checkpoint's `config.json`.
    pub checkpoint: String,
    /// The settings of the role, as JSON text.
    pub role: String,
}

/// What the host must know of a loaded model.
#[derive(Debug, Clone, Copy)]
pub struct ModelInfo {
    /// Width of the hidden states.
    pub hidden_size: u32,
    /// The longest sequence that the architecture can take, in tokens; none: no limit.
    pub max_tokens: Option<u32>,
    /// Rows of the token embedding: larger ids are refused.
    pub vocab_size: u32,
    /// Whether inputs may have images.
    pub images: bool,
    /// Whether `forward` gives one row a sequence, pooled already.
    pub pooled: bool,
}

/// What the host must know of a loaded pooling policy.
#[derive(Debug, Clone)]
pub struct PoolingInfo {
    /// The length of its vectors.
    pub dimensions: u32,
    /// Whether callers may ask for shorter vectors (Matryoshka).
    pub matryoshka: bool,
    /// The only lengths that callers may ask for; empty: any up to `dimensions`.
    pub matryoshka_dimensions: Vec<u32>,
}

thread_local! {
    static ENTERED: RefCell<Option<Arc<Environment>>> = const { RefCell::new(None) };
}

/// Runs `body`, on this thread, as a component in this environment.
pub fn enter<R>(environment: Arc<Environment>, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<Arc<Environment>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            ENTERED.set(self.0.take());
        }
    }
    let _restore = Restore(ENTERED.replace(Some(environment)));
    body()
}

/// The environment of this thread.
fn environment() -> tenon_tensor::Result<Arc<Environment>> {
    ENTERED.with_borrow(Option::clone).ok_or_else(|| {
        tenon_tensor::Error::Other("no environment is entered on this thread".to_owned())
    })
}
