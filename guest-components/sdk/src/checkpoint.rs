//! Reading a checkpoint: its `config.json`, and its weights under whichever prefix.

use serde_json::{Map, Value};

use crate::tensor::{Activation, Error, Tensor};
use crate::{config, weights};

/// The checkpoint's `config.json`, or a section of it. A key with the value null counts as
/// absent.
pub struct CheckpointConfig {
    values: Map<String, Value>,
    /// What error texts put before a key: nothing, or `SECTION.`.
    path: String,
}

impl CheckpointConfig {
    /// Reads that of the calling component.
    ///
    /// # Errors
    /// Where it is not a JSON object.
    pub fn read() -> Result<Self, String> {
        Self::parse(&config::checkpoint())
    }

    /// Reads `config.json` from its text.
    ///
    /// # Errors
    /// Where it is not a JSON object.
    pub fn parse(text: &str) -> Result<Self, String> {
        let values = serde_json::from_str(text).map_err(|error| format!("config.json: {error}"))?;
        let path = String::new();
        Ok(Self { values, path })
    }

    /// The object under `key`: an empty one where the key is absent.
    ///
    /// # Errors
    /// Where it is no object.
    pub fn section(&self, key: &str) -> Result<Self, String> {
        let values = match self.get(key) {
            None => Map::new(),
            Some(Value::Object(values)) => values.clone(),
            Some(other) => return Err(self.mismatch(key, other, "an object")),
        };
        let path = format!("{}{key}.", self.path);
        Ok(Self { values, path })
    }

    /// A size or count: an integer of at least 1 that must be there.
    ///
    /// # Errors
    /// Where it is not.
    pub fn size(&self, key: &str) -> Result<u32, String> {
        let wanted = "an integer of at least 1";
        let value = self.required(key, wanted)?;
        match value.as_u64().and_then(|size| u32::try_from(size).ok()) {
            Some(size) if size > 0 => Ok(size),
            _ => Err(self.mismatch(key, value, wanted)),
        }
    }

    /// The width of the hidden states and the number of attention heads, which divides it.
    ///
    /// # Errors
    /// Where one is not there, or they do not fit each other.
    pub fn width_and_heads(&self, width: &str, heads: &str) -> Result<(u32, u32), String> {
        let (size, count) = (self.size(width)?, self.size(heads)?);
        if !size.is_multiple_of(count) {
            return Err(format!(
                "config.json: {width} {size} is not a multiple of {heads} {count}"
            ));
        }
        if size > u32::MAX / 3 {
            return Err(format!("config.json: {width} {size} is too large"));
        }
        Ok((size, count))
    }

    /// The id of a token, which must be there.
    ///
    /// # Errors
    /// Where it is not.
    pub fn token_id(&self, key: &str) -> Result<u32, String> {
        let wanted = "an integer of at least 0";
        let value = self.required(key, wanted)?;
        let id = value.as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| self.mismatch(key, value, wanted))
    }

    /// A number above 0 that must be there.
    ///
    /// # Errors
    /// Where it is not.
    pub fn positive(&self, key: &str) -> Result<f32, String> {
        let wanted = "a number above 0";
        let value = self.required(key, wanted)?;
        match value.as_f64().map(|number| number as f32) {
            Some(number) if number > 0.0 && number.is_finite() => Ok(number),
            _ => Err(self.mismatch(key, value, wanted)),
        }
    }

    /// A number above 0, or `default` where the key is absent.
    ///
    /// # Errors
    /// Where it is anything else.
    pub fn positive_or(&self, key: &str, default: f32) -> Result<f32, String> {
        self.get(key).map_or(Ok(default), |_| self.positive(key))
    }

    /// An eps: a finite number of at least 0 that must be there.
    ///
    /// # Errors
    /// Where it is not.
    pub fn eps(&self, key: &str) -> Result<f32, String> {
        let wanted = "a number of at least 0";
        let value = self.required(key, wanted)?;
        match value.as_f64() {
            Some(eps) if eps >= 0.0 && (eps as f32).is_finite() => Ok(eps as f32),
            _ => Err(self.mismatch(key, value, wanted)),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// Where it is not.
    pub fn text(&self, key: &str) -> Result<&str, String> {
        let value = self.required(key, "a string")?;
        value
            .as_str()
            .ok_or_else(|| self.mismatch(key, value, "a string"))
    }

    /// The function that `key` names, which must be there.
    ///
    /// # Errors
    /// Where it is not, or is none that [`activation`] knows.
    pub fn activation(&self, key: &str) -> Result<Activation, String> {
        let name = self.text(key)?;
        activation(name).ok_or_else(|| {
            let path = &self.path;
            format!("config.json: {path}{key} is {name:?}, which is not supported")
        })
    }

    /// Refuses a key that is there with another value than the `only` one supported.
    ///
    /// # Errors
    /// Where it has.
    pub fn require(&self, key: &str, only: impl Into<Value>) -> Result<(), String> {
        match self.get(key) {
            Some(_) => self.require_stated(key, only),
            None => Ok(()),
        }
    }

    /// Refuses a key that is absent or has another value than the `only` one supported:
    /// where absence would mean something else.
    ///
    /// # Errors
    /// Where it is or has.
    pub fn require_stated(&self, key: &str, only: impl Into<Value>) -> Result<(), String> {
        let only = only.into();
        let value = self.required(key, &only.to_string())?;
        // 1 and 1.0 are one number.
        let number = value.as_f64();
        if *value == only || (number.is_some() && number == only.as_f64()) {
            return Ok(());
        }
        Err(format!(
            "config.json: {}{key} is {value}, only {only} is supported",
            self.path
        ))
    }

    /// A size or count of at least 1, or `default` where the key is absent.
    ///
    /// # Errors
    /// Where it is anything else.
    pub fn size_or(&self, key: &str, default: u32) -> Result<u32, String> {
        self.get(key).map_or(Ok(default), |_| self.size(key))
    }

    /// A count that may be 0, or `default` where the key is absent.
    ///
    /// # Errors
    /// Where it is anything else.
    pub fn count_or(&self, key: &str, default: u32) -> Result<u32, String> {
        self.get(key).map_or(Ok(default), |_| self.token_id(key))
    }

    /// True or false, or `default` where the key is absent.
    ///
    /// # Errors
    /// Where it is anything else.
    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool, String> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.mismatch(key, other, "true or false")),
        }
    }

    /// Whether the key is there with the value null, where that means something else than
    /// its absence.
    pub fn is_null(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(Value::is_null)
    }

    /// The error text of a key whose value is none of those `supported`.
    pub fn unsupported(&self, key: &str, supported: &[&str]) -> String {
        let value = self.get(key).unwrap_or(&Value::Null);
        format!(
            "config.json: {}{key} is {value}; supported are {}",
            self.path,
            supported.join(", ")
        )
    }

    /// The value of a key that is there and not null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    fn required(&self, key: &str, wanted: &str) -> Result<&Value, String> {
        let path = &self.path;
        self.get(key)
            .ok_or_else(|| format!("config.json: {path}{key} is missing, wanted {wanted}"))
    }

    fn mismatch(&self, key: &str, value: &Value, wanted: &str) -> String {
        format!(
            "config.json: {}{key} is {value}, wanted {wanted}",
            self.path
        )
    }
}

/// The function that transformers gives this name, where there is one.
pub fn activation(name: &str) -> Option<Activation> {
    Some(match name {
        "identity" | "linear" => Activation::Identity,
        "relu" => Activation::Relu,
        "gelu" | "gelu_python" => Activation::GeluErf,
        "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" | "gelu_python_tanh" => Activation::GeluTanh,
        "quick_gelu" => Activation::GeluQuick,
        "silu" | "swish" => Activation::Silu,
        "tanh" => Activation::Tanh,
        _ => return None,
    })
}

/// The checkpoint's weights, whose names all begin with one prefix: `bert.` where a
/// checkpoint was saved with a head, nothing where it was saved without.
pub struct Weights {
    prefix: String,
}

impl Weights {
    /// Finds which of the `prefixes` the checkpoint uses: the first under which it has
    /// the weight `probe`.
    ///
    /// # Errors
    /// Where it uses none of them.
    pub fn find(prefixes: &[&str], probe: &str) -> Result<Self, String> {
        let found = prefixes
            .iter()
            .find(|prefix| weights::has(&format!("{prefix}{probe}")));
        match found {
            Some(prefix) => Ok(Self {
                prefix: (*prefix).to_owned(),
            }),
            None => Err(format!(
                "the checkpoint has no weight {probe}, with or without one of the prefixes {prefixes:?}"
            )),
        }
    }

    /// These weights under one more level of names, e.g. `encoder.layer.0.`.
    pub fn under(&self, name: &str) -> Self {
        Self {
            prefix: format!("{}{name}", self.prefix),
        }
    }

    /// Whether the checkpoint has this weight.
    pub fn has(&self, name: &str) -> bool {
        weights::has(&format!("{}{name}", self.prefix))
    }

    /// One weight.
    ///
    /// # Errors
    /// Where it is absent or of another shape.
    pub fn get(&self, name: &str, shape: &[u32]) -> Result<Tensor, String> {
        let name = format!("{}{name}", self.prefix);
        weights::get(&name, shape).map_err(|error| format!("weight {name}: {}", reason(error)))
    }

    /// Several weights one after the other along dimension 0.
    ///
    /// # Errors
    /// Where one is absent, or the result is of another shape.
    pub fn concat(&self, names: &[&str], shape: &[u32]) -> Result<Tensor, String> {
        let names: Vec<_> = names
            .iter()
            .map(|name| format!("{}{name}", self.prefix))
            .collect();
        weights::concat(&names, shape)
            .map_err(|error| format!("weights {}: {}", names.join(", "), reason(error)))
    }
}

/// The text of an error.
pub fn reason(error: Error) -> String {
    match error {
        Error::InvalidArgument(text)
        | Error::ShapeMismatch(text)
        | Error::Unsupported(text)
        | Error::QuotaExceeded(text)
        | Error::DeviceLost(text)
        | Error::Other(text) => text,
    }
}
