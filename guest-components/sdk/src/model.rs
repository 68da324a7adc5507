//! The role `model`: a packed batch becomes hidden states.

use crate::batches::Batch;
use crate::tensor::{Error, Tensor};

#[cfg(target_family = "wasm")]
pub use crate::bindings::model::exports::tenon::embed::model::ModelInfo;
#[cfg(not(target_family = "wasm"))]
pub use crate::native::ModelInfo;

/// A loaded model.
pub trait Model: Sized + 'static {
    /// Reads the configuration and takes every weight.
    ///
    /// # Errors
    /// What was wrong and what was wanted.
    fn load() -> Result<(Self, ModelInfo), String>;

    /// Hidden states `[rows, hidden_size]` of a packed batch.
    ///
    /// # Errors
    /// The error of an operation.
    fn forward(&self, input: &Batch) -> Result<Tensor, Error>;
}

/// Exports a [`Model`](crate::Model) from this component.
#[macro_export]
macro_rules! export_model {
    ($model:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::bindings::model::exports::tenon::embed::model::{Guest, ModelInfo};
            use $crate::{batches, tensor};

            ::std::thread_local! {
                static LOADED: ::std::cell::OnceCell<$model> =
                    const { ::std::cell::OnceCell::new() };
            }

            struct Component;

            impl Guest for Component {
                fn load() -> Result<ModelInfo, String> {
                    let (model, info) = <$model as $crate::Model>::load()?;
                    let is_first = LOADED.with(|loaded| loaded.set(model).is_ok());
                    is_first
                        .then_some(info)
                        .ok_or_else(|| "the model is loaded already".to_owned())
                }

                fn forward(input: &batches::Batch) -> Result<tensor::Tensor, tensor::Error> {
                    LOADED.with(|loaded| match loaded.get() {
                        Some(model) => $crate::Model::forward(model, input),
                        None => Err(tensor::Error::Other("forward before load".to_owned())),
                    })
                }
            }

            $crate::bindings::model::export!(Component);
        };
    };
}
