//! Rotary position embeddings: both spellings of their settings, and the scaled frequencies.

use std::f64::consts::TAU;

use crate::checkpoint::CheckpointConfig;
use crate::rotary;

use super::family::Family;
use super::layer_types::LayerType;

/// The base of the frequencies where `config.json` names none.
const DEFAULT_THETA: f32 = 10_000.0;

/// That of Gemma 3's full layers.
const DEFAULT_THETA_FULL: f32 = 1_000_000.0;

/// A rotary position embedding.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    theta: f32,
    scaling: Scaling,
}

/// How frequencies are changed for sequences longer than those first trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Scaling {
    None,
    /// Every frequency is divided by the factor.
    Linear {
        factor: f32,
    },
    /// Low frequencies are divided by the factor, high ones kept, those between blended.
    Llama3 {
        factor: f32,
        low_freq_factor: f32,
        high_freq_factor: f32,
        original_max_positions: f32,
    },
}

impl Rope {
    /// The one that all layers share.
    pub fn shared(config: &CheckpointConfig, family: Family) -> Result<Self, String> {
        let settings = config.section(spelling(config)?)?;
        for layer_type in [LayerType::Full, LayerType::Sliding] {
            settings.require(layer_type.name(), ())?;
        }
        let theta = config.positive_or("rope_theta", DEFAULT_THETA)?;
        Self::read(config, &settings, theta, family)
    }

    /// That of one type of layers, where each type has its own (Gemma 3).
    pub fn of_layer_type(config: &CheckpointConfig, layer_type: LayerType) -> Result<Self, String> {
        let theta = match layer_type {
            LayerType::Full => config.positive_or("rope_theta", DEFAULT_THETA_FULL)?,
            LayerType::Sliding => config.positive_or("rope_local_base_freq", DEFAULT_THETA)?,
        };
        let key = spelling(config)?;
        let settings = config.section(key)?;
        match (config.get(key).is_some(), key, layer_type) {
            (true, "rope_parameters", _) => {
                let name = layer_type.name();
                if settings.get(name).is_none() {
                    return Err(format!(
                        "config.json: rope_parameters.{name} is missing, wanted an object"
                    ));
                }
                Self::read(config, &settings.section(name)?, theta, Family::Gemma3)
            }
            // The old spelling scales full layers only.
            (true, _, LayerType::Full) => Self::read(config, &settings, theta, Family::Gemma3),
            _ => Ok(Self {
                theta,
                scaling: Scaling::None,
            }),
        }
    }

    /// The angles that a step of one position turns a head's pairs by: `head_dim` / 2.
    pub fn inverse_frequencies(&self, head_dim: u32) -> Vec<f32> {
        let frequencies = rotary::inverse_frequencies(head_dim, self.theta).into_iter();
        frequencies.map(|it| self.scaling.apply(it)).collect()
    }

    /// `theta` is that of the settings where they name none.
    fn read(
        config: &CheckpointConfig,
        settings: &CheckpointConfig,
        theta: f32,
        family: Family,
    ) -> Result<Self, String> {
        config.require("partial_rotary_factor", 1)?;
        settings.require("partial_rotary_factor", 1)?;
        let scaling = match family {
            // Its positions have axes; their frequencies are not scaled.
            Family::Qwen2Vl if settings.get("type") == Some(&"mrope".into()) => Scaling::None,
            Family::Qwen2Vl => Scaling::read(config, settings)?,
            _ => {
                settings.require("mrope_section", ())?;
                Scaling::read(config, settings)?
            }
        };
        Ok(Self {
            theta: settings.positive_or("rope_theta", theta)?,
            scaling,
        })
    }
}

/// How many of a head's frequencies turn with each axis of an image.
pub fn mrope_section(config: &CheckpointConfig, head_dim: u32) -> Result<[u32; 3], String> {
    let settings = config.section(spelling(config)?)?;
    let key = "mrope_section";
    let counts = settings.get(key).and_then(|value| {
        let counts = value
            .as_array()?
            .iter()
            .map(|count| u32::try_from(count.as_u64()?).ok());
        <[u32; 3]>::try_from(counts.collect::<Option<Vec<_>>>()?).ok()
    });
    let sum = |counts: &[u32; 3]| {
        counts
            .iter()
            .try_fold(0_u32, |sum, &it| sum.checked_add(it))
    };
    match counts {
        Some(counts) if !counts.contains(&0) && sum(&counts) == Some(head_dim / 2) => Ok(counts),
        _ => Err(format!(
            "config.json: {key} is {}, wanted three counts of together {}",
            settings.get(key).unwrap_or(&serde_json::Value::Null),
            head_dim / 2
        )),
    }
}

/// The key under which the settings are: the newer one where none is there.
fn spelling(config: &CheckpointConfig) -> Result<&'static str, String> {
    let (old, new) = ("rope_scaling", "rope_parameters");
    match (config.get(old), config.get(new)) {
        (Some(_), Some(_)) => Err(format!(
            "config.json: it has both {old} and {new}, only one is supported"
        )),
        (Some(_), None) => Ok(old),
        (None, _) => Ok(new),
    }
}

impl Scaling {
    fn read(config: &CheckpointConfig, settings: &CheckpointConfig) -> Result<Self, String> {
        let key = match (settings.get("rope_type"), settings.get("type")) {
            (None, None) => return Ok(Self::None),
            (None, Some(_)) => "type",
            (Some(_), _) => "rope_type",
        };
        match settings.text(key)? {
            "default" => Ok(Self::None),
            "linear" => Ok(Self::Linear {
                factor: settings.positive("factor")?,
            }),
            "llama3" => Self::llama3(config, settings),
            _ => Err(settings.unsupported(key, &["default", "linear", "llama3"])),
        }
    }

    fn llama3(config: &CheckpointConfig, settings: &CheckpointConfig) -> Result<Self, String> {
        let low_freq_factor = settings.positive("low_freq_factor")?;
        let high_freq_factor = settings.positive("high_freq_factor")?;
        if high_freq_factor <= low_freq_factor {
            return Err(format!(
                "config.json: high_freq_factor {high_freq_factor} of {} is not above \
                 low_freq_factor {low_freq_factor}",
                spelling(config)?
            ));
        }
        let original = "original_max_position_embeddings";
        let original_max_positions = match (config.get(original), settings.get(original)) {
            (Some(_), _) => config.positive(original)?,
            (None, Some(_)) => settings.positive(original)?,
            (None, None) => config.positive("max_position_embeddings")?,
        };
        Ok(Self::Llama3 {
            factor: settings.positive("factor")?,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        })
    }

    /// The frequency in place of this one.
    fn apply(self, frequency: f32) -> f32 {
        match self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_max_positions,
            } => {
                let wavelength = TAU as f32 / frequency;
                if wavelength < original_max_positions / high_freq_factor {
                    return frequency;
                }
                if wavelength > original_max_positions / low_freq_factor {
                    return frequency / factor;
                }
                let kept = (original_max_positions / wavelength - low_freq_factor)
                    / (high_freq_factor - low_freq_factor);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(text: &str) -> Result<Rope, String> {
        Rope::shared(&CheckpointConfig::parse(text)?, Family::Llama)
    }

    fn close(rope: Rope, wanted: [f32; 8]) {
        for (frequency, wanted) in rope.inverse_frequencies(16).into_iter().zip(wanted) {
            let error = (frequency - wanted).abs() / wanted;
            assert!(error < 2e-7, "{frequency}, wanted {wanted}");
        }
    }

    /// The figures of transformers 5.23.
    #[test]
    fn scaled_frequencies_are_those_of_transformers() -> Result<(), String> {
        let llama3 = r#"{"rope_theta": 10000.0, "rope_scaling": {"rope_type": "llama3",
            "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64}}"#;
        close(
            shared(llama3)?,
            [
                1.0,
                0.244_384_59,
                0.013_042_256,
                0.003_952_847_3,
                0.00125,
                0.000_395_284_73,
                0.000_125,
                3.952_847_3e-5,
            ],
        );
        let linear = r#"{"rope_parameters": {"rope_type": "linear", "factor": 3.0,
            "rope_theta": 500.0}}"#;
        close(
            shared(linear)?,
            [
                0.333_333_34,
                0.153_287_75,
                0.070_491_41,
                0.032_416_414,
                0.014_907_121,
                0.006_855_238,
                0.003_152_472,
                0.001_449_706_1,
            ],
        );
        Ok(())
    }

    #[test]
    fn both_spellings_say_the_same() -> Result<(), String> {
        let new = shared(r#"{"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}"#)?;
        assert_eq!(
            shared(r#"{"rope_theta": 500000, "rope_scaling": null}"#)?,
            new
        );
        let old = r#"{"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}}"#;
        let new = r#"{"rope_parameters": {"rope_type": "linear", "factor": 2, "rope_theta": 5e5}}"#;
        assert_eq!(shared(old)?, shared(new)?);
        assert_eq!(shared("{}")?, shared(r#"{"rope_theta": 10000}"#)?);
        Ok(())
    }

    #[test]
    fn each_layer_type_of_gemma_has_its_own() -> Result<(), String> {
        let both = |text: &str| -> Result<_, String> {
            let config = CheckpointConfig::parse(text)?;
            Ok([LayerType::Full, LayerType::Sliding]
                .map(|layer_type| Rope::of_layer_type(&config, layer_type)))
        };
        let old = r#"{"rope_theta": 2e5, "rope_local_base_freq": 300,
            "rope_scaling": {"rope_type": "linear", "factor": 8}}"#;
        let new = r#"{"rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8, "rope_theta": 2e5},
            "sliding_attention": {"rope_type": "default", "rope_theta": 300}}}"#;
        assert_eq!(both(old)?, both(new)?);
        let defaults = r#"{"rope_theta": 1e6, "rope_local_base_freq": 1e4}"#;
        assert_eq!(both("{}")?, both(defaults)?);
        let flat = both(r#"{"rope_parameters": {"rope_theta": 1e6}}"#)?;
        let missing = "config.json: rope_parameters.full_attention is missing, wanted an object";
        assert_eq!(flat[0], Err(missing.to_owned()));
        Ok(())
    }

    #[test]
    fn names_what_it_cannot_compute() {
        let check = |text: &str, message: &str| {
            assert_eq!(shared(text), Err(format!("config.json: {message}")));
        };
        check(
            r#"{"rope_scaling": {"type": "yarn", "factor": 4}}"#,
            r#"rope_scaling.type is "yarn"; supported are default, linear, llama3"#,
        );
        check(
            r#"{"rope_parameters": {"rope_type": "linear"}}"#,
            "rope_parameters.factor is missing, wanted a number above 0",
        );
        check(
            r#"{"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}"#,
            "rope_parameters.partial_rotary_factor is 0.5, only 1 is supported",
        );
        check(
            r#"{"rope_scaling": {"rope_type": "default", "mrope_section": [2]}}"#,
            "rope_scaling.mrope_section is [2], only null is supported",
        );
        check(
            r#"{"rope_parameters": {"full_attention": {}}}"#,
            "rope_parameters.full_attention is {}, only null is supported",
        );
        check(
            r#"{"rope_parameters": {}, "rope_scaling": {}}"#,
            "it has both rope_scaling and rope_parameters, only one is supported",
        );
        check(
            r#"{"rope_scaling": {"rope_type": "llama3", "factor": 8, "low_freq_factor": 4,
                "high_freq_factor": 4}}"#,
            "high_freq_factor 4 of rope_scaling is not above low_freq_factor 4",
        );
    }
}
