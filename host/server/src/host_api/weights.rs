//! `weights`: the checkpoint's tensors.

use tenon_tensor::Tensor;
use wasmtime::component::Resource;

use super::imports::tensor::Error;
use super::imports::weights::Host;
use super::{TensorView, dimensions};

impl Host for TensorView<'_> {
    fn has(&mut self, name: String) -> wasmtime::Result<bool> {
        Ok(self.weights.has(&name))
    }

    fn get(
        &mut self,
        name: String,
        shape: Vec<u32>,
    ) -> wasmtime::Result<Result<Resource<Tensor>, Error>> {
        let weights = self.weights;
        self.run(|_| Ok(weights.get(&name, &dimensions(&shape))))
    }

    fn concat(
        &mut self,
        names: Vec<String>,
        shape: Vec<u32>,
    ) -> wasmtime::Result<Result<Resource<Tensor>, Error>> {
        let weights = self.weights;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.run(|_| Ok(weights.concat(&names, &dimensions(&shape))))
    }
}
