//! The role `pooling`: the hidden states of each sequence become one vector.

use crate::tensor::{Error, Layout, Tensor};

#[cfg(target_family = "wasm")]
pub use crate::bindings::pooling::exports::tenon::embed::pooling::PoolingInfo;
#[cfg(not(target_family = "wasm"))]
pub use crate::native::PoolingInfo;

/// A loaded pooling policy.
pub trait Pooling: Sized + 'static {
    /// Reads the configuration and takes its weights. `hidden_size` is the model's.
    ///
    /// # Errors
    /// What was wrong and what was wanted.
    fn load(hidden_size: u32) -> Result<(Self, PoolingInfo), String>;

    /// Vectors `[sequences, dimensions]` of the sequences in `layout`, which are some or
    /// all of those in `hidden`. `dimensions` is given where the caller asked for fewer.
    ///
    /// # Errors
    /// The error of an operation.
    fn pool(
        &self,
        hidden: &Tensor,
        layout: &Layout,
        dimensions: Option<u32>,
    ) -> Result<Tensor, Error>;
}

/// Exports a [`Pooling`](crate::Pooling) from this component.
#[macro_export]
macro_rules! export_pooling {
    ($pooling:ty) => {
        #[cfg(target_family = "wasm")]
        const _: () = {
            use $crate::bindings::pooling::exports::tenon::embed::pooling::{Guest, PoolingInfo};
            use $crate::tensor;

            ::std::thread_local! {
                static LOADED: ::std::cell::OnceCell<$pooling> =
                    const { ::std::cell::OnceCell::new() };
            }

            struct Component;

            impl Guest for Component {
                fn load(hidden_size: u32) -> Result<PoolingInfo, String> {
                    let (pooling, info) = <$pooling as $crate::Pooling>::load(hidden_size)?;
                    LOADED
                        .with(|loaded| loaded.set(pooling))
                        .map(|()| info)
                        .map_err(|_| "the pooling policy is loaded already".to_owned())
                }

                fn pool(
                    hidden: &tensor::Tensor,
                    layout: &tensor::Layout,
                    dimensions: Option<u32>,
                ) -> Result<tensor::Tensor, tensor::Error> {
                    LOADED.with(|loaded| match loaded.get() {
                        Some(pooling) => $crate::Pooling::pool(pooling, hidden, layout, dimensions),
                        None => Err(tensor::Error::Other("pool before load".to_owned())),
                    })
                }
            }

            $crate::bindings::pooling::export!(Component);
        };
    };
}
