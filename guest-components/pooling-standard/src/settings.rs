//! The settings of standard pooling: which modules follow each other.

use serde::Deserialize;
use tenon_sdk::PoolingInfo;
use tenon_sdk::tensor::PoolMode;

/// What the host derives from `modules.json` and the folders it names.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The modules after the transformer: one pooling, then the others.
    modules: Vec<Module>,
    /// Whether callers may ask for shorter vectors; not said: if lengths are listed.
    #[serde(default)]
    matryoshka: Option<bool>,
    /// The only lengths that callers may ask for; empty: any.
    #[serde(default)]
    matryoshka_dimensions: Vec<u32>,
    /// Whether a vector that a caller wants shorter goes through a layer norm before.
    #[serde(default)]
    pub matryoshka_layer_norm: bool,
    /// The length of vectors whose callers ask for none, where it is less than the modules'.
    #[serde(default)]
    truncate_dim: Option<u32>,
}

/// One module of a sentence-transformers directory.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum Module {
    /// Makes one vector of a sequence: the results of all modes, side by side.
    Pooling {
        /// How; the order is that of the results.
        modes: Vec<Mode>,
        /// Width of the hidden states it takes, where the checkpoint says it.
        #[serde(default)]
        in_features: Option<u32>,
    },
    /// activation(W x + b)
    Dense {
        /// The folder that holds its weights.
        path: String,
        /// Length of the vectors it takes.
        in_features: u32,
        /// Length of the vectors it makes.
        out_features: u32,
        /// Whether there is a b.
        bias: bool,
        /// The activation's name.
        activation: String,
    },
    /// Divides a vector by its length.
    Normalize {},
}

/// A pooling mode, by the name that sentence-transformers gives it.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The first row.
    Cls,
    /// The largest value in each column.
    Max,
    /// The sum over the count.
    Mean,
    /// The sum over the square root of the count.
    MeanSqrtLen,
    /// The sum weighted with 1-based positions, over the sum of those.
    #[serde(rename = "weightedmean")]
    WeightedMean,
    /// The last row.
    #[serde(rename = "lasttoken")]
    LastToken,
}

impl From<Mode> for PoolMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Cls => Self::First,
            Mode::Max => Self::Max,
            Mode::Mean => Self::Mean,
            Mode::MeanSqrtLen => Self::MeanSqrtLen,
            Mode::WeightedMean => Self::WeightedMean,
            Mode::LastToken => Self::Last,
        }
    }
}

/// Modules that fit each other.
#[derive(Debug)]
pub struct Chain<'a> {
    /// The modes of the pooling.
    pub modes: Vec<PoolMode>,
    /// What follows it.
    pub steps: &'a [Module],
    /// Length of the vectors in the end.
    pub dimensions: u32,
    /// The length to cut them to.
    pub cut_to: Option<u32>,
}

impl Settings {
    /// Checks that the modules fit each other and a model of this width.
    pub fn chain(&self, hidden_size: u32) -> Result<Chain<'_>, String> {
        let Some((Module::Pooling { modes, in_features }, steps)) = self.modules.split_first()
        else {
            return Err("role settings: the first module is not a pooling".to_owned());
        };
        if let Some(width) = in_features.filter(|&width| width != hidden_size) {
            return Err(format!(
                "role settings: pooling takes hidden states of {width}, but the model's have {hidden_size}"
            ));
        }
        if modes.is_empty() {
            return Err("role settings: a pooling without a mode".to_owned());
        }
        let mut dimensions = u32::try_from(modes.len())
            .ok()
            .and_then(|modes| modes.checked_mul(hidden_size))
            .ok_or_else(|| format!("role settings: {} pooling modes are too many", modes.len()))?;
        for step in steps {
            match step {
                Module::Pooling { .. } => {
                    return Err("role settings: a second pooling module".to_owned());
                }
                Module::Dense {
                    path, in_features, ..
                } if *in_features != dimensions => {
                    return Err(format!(
                        "role settings: dense {path} takes vectors of {in_features}, but those before it have {dimensions}"
                    ));
                }
                Module::Dense { out_features, .. } => dimensions = *out_features,
                Module::Normalize {} => {}
            }
        }
        if self.truncate_dim == Some(0) {
            return Err("role settings: truncate_dim is 0".to_owned());
        }
        let beyond = |wanted: &&u32| **wanted == 0 || **wanted > dimensions;
        if let Some(wanted) = self.matryoshka_dimensions.iter().find(beyond) {
            return Err(format!(
                "role settings: {wanted} in matryoshka_dimensions is not between 1 and {dimensions}"
            ));
        }
        Ok(Chain {
            modes: modes.iter().map(|&mode| mode.into()).collect(),
            steps,
            dimensions,
            cut_to: self.truncate_dim.filter(|&length| length < dimensions),
        })
    }
}

impl Chain<'_> {
    /// What the host must know.
    pub fn info(&self, settings: &Settings) -> PoolingInfo {
        let listed = &settings.matryoshka_dimensions;
        let dimensions = self.cut_to.unwrap_or(self.dimensions);
        let reached = listed.iter().filter(|&&length| length <= dimensions);
        PoolingInfo {
            dimensions,
            matryoshka: settings.matryoshka.unwrap_or(!listed.is_empty()),
            matryoshka_dimensions: reached.copied().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(text: &str) -> Result<(Vec<PoolMode>, usize, u32), String> {
        let settings: Settings = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let chain = settings.chain(4)?;
        Ok((chain.modes, chain.steps.len(), chain.dimensions))
    }

    #[test]
    fn follows_the_modules() {
        let check = |text, modes: &[PoolMode], steps, dimensions| {
            assert_eq!(
                chain(text),
                Ok((modes.to_vec(), steps, dimensions)),
                "{text}"
            );
        };
        check(
            r#"{"modules": [{"type": "pooling", "modes": ["mean"], "in_features": 4},
                {"type": "normalize"}],
                "matryoshka": true, "matryoshka_dimensions": [1, 4]}"#,
            &[PoolMode::Mean],
            1,
            4,
        );
        check(
            r#"{"modules": [{"type": "pooling", "modes": ["lasttoken", "cls", "weightedmean"]}]}"#,
            &[PoolMode::Last, PoolMode::First, PoolMode::WeightedMean],
            0,
            12,
        );
        check(
            r#"{"modules": [{"type": "pooling", "modes": ["max", "mean_sqrt_len"]},
                {"type": "dense", "path": "2_Dense", "in_features": 8, "out_features": 3,
                 "bias": true, "activation": "tanh"}]}"#,
            &[PoolMode::Max, PoolMode::MeanSqrtLen],
            1,
            3,
        );
    }

    #[test]
    fn says_which_lengths_callers_may_ask_for() -> Result<(), serde_json::Error> {
        let check = |keys: &str, dimensions, matryoshka, listed: &[u32]| {
            let text = format!(r#"{{"modules": [{{"type": "pooling", "modes": ["cls"]}}]{keys}}}"#);
            let settings: Settings = serde_json::from_str(&text)?;
            let info = settings.chain(8).map(|chain| chain.info(&settings));
            let found = info.map(|it| (it.dimensions, it.matryoshka, it.matryoshka_dimensions));
            assert_eq!(
                found,
                Ok((dimensions, matryoshka, listed.to_vec())),
                "{keys}"
            );
            Ok::<_, serde_json::Error>(())
        };
        check("", 8, false, &[])?;
        check(r#", "matryoshka": true"#, 8, true, &[])?;
        check(r#", "matryoshka_dimensions": [2, 8]"#, 8, true, &[2, 8])?;
        let off = r#", "matryoshka": false, "matryoshka_dimensions": [2]"#;
        check(off, 8, false, &[2])?;
        check(r#", "truncate_dim": 9"#, 8, false, &[])?;
        let cut = r#", "truncate_dim": 3, "matryoshka_dimensions": [2, 8]"#;
        check(cut, 3, true, &[2])
    }

    #[test]
    fn refuses_what_it_does_not_understand() {
        let check = |text, part: &str| match chain(text) {
            Ok(chain) => panic!("{text} gave {chain:?}"),
            Err(message) => assert!(message.contains(part), "{message}"),
        };
        check(
            r#"{"modules": [{"type": "pooling", "modes": ["cls"], "in_features": 5}]}"#,
            "pooling takes hidden states of 5, but the model's have 4",
        );
        check(r#"{"modules": []}"#, "the first module is not a pooling");
        check(
            r#"{"modules": [{"type": "normalize"}]}"#,
            "the first module is not a pooling",
        );
        check(
            r#"{"modules": [{"type": "pooling", "modes": []}]}"#,
            "without a mode",
        );
        check(
            r#"{"modules": [{"type": "pooling", "modes": ["sum"]}]}"#,
            "unknown variant `sum`",
        );
        check(
            r#"{"modules": [{"type": "lstm"}]}"#,
            "unknown variant `lstm`",
        );
        check(r#"{"modules": [], "pool": 1}"#, "unknown field `pool`");
        check(
            r#"{"modules": [{"type": "pooling", "modes": ["cls"]}, {"type": "normalize", "p": 1}]}"#,
            "unknown field `p`",
        );
        check(
            r#"{"modules": [{"type": "pooling", "modes": ["cls"]},
                {"type": "pooling", "modes": ["cls"]}]}"#,
            "a second pooling",
        );
        check(
            r#"{"modules": [{"type": "pooling", "modes": ["cls"]}, {"type": "dense",
                "path": "2_Dense", "in_features": 5, "out_features": 3, "bias": true,
                "activation": "tanh"}]}"#,
            "dense 2_Dense takes vectors of 5, but those before it have 4",
        );
        check(
            r#"{"modules": [{"type": "pooling", "modes": ["cls"]}], "matryoshka_dimensions": [5]}"#,
            "5 in matryoshka_dimensions is not between 1 and 4",
        );
        check(
            r#"{"modules": [{"type": "pooling", "modes": ["cls"]}], "truncate_dim": 0}"#,
            "truncate_dim is 0",
        );
    }
}
