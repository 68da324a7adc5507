//! Which layers see all tokens, and which those within a window.

use crate::checkpoint::CheckpointConfig;

use super::family::Family;

/// What transformers takes where `config.json` has no `sliding_window`.
const DEFAULT_WINDOW: u32 = 4096;

/// How far the tokens of a layer see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerType {
    /// As far as the sequence goes.
    Full,
    /// To a window's end.
    Sliding,
}

impl LayerType {
    /// Its name in `config.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full_attention",
            Self::Sliding => "sliding_attention",
        }
    }
}

/// The layers' types, and the window of the sliding ones.
#[derive(Debug, PartialEq, Eq)]
pub struct LayerTypes {
    /// One a layer.
    pub types: Vec<LayerType>,
    /// The farthest token that a sliding layer's tokens see, as a distance; 0 where no layer
    /// slides.
    pub window: u32,
}

impl LayerTypes {
    /// Those of `layers` layers.
    pub fn read(
        config: &CheckpointConfig,
        family: Family,
        layers: u32,
        causal: bool,
    ) -> Result<Self, String> {
        let size = sliding_window(config, family)?;
        let types = match family {
            Family::Llama => all(LayerType::Full, layers),
            Family::Mistral => {
                config.require("layer_types", ())?;
                let slides = size.map_or(LayerType::Full, |_| LayerType::Sliding);
                all(slides, layers)
            }
            Family::Qwen2 | Family::Qwen2Vl | Family::Qwen3 => match listed(config, layers)? {
                Some(types) => types,
                None => {
                    let first = config.count_or("max_window_layers", 28)?;
                    let slides = |layer| size.is_some() && layer >= first;
                    (0..layers).map(|layer| of(slides(layer))).collect()
                }
            },
            Family::Gemma3 => match listed(config, layers)? {
                Some(types) => types,
                None => {
                    let every = config.size_or("sliding_window_pattern", 6)?;
                    let slides = |layer: u32| !(layer + 1).is_multiple_of(every);
                    (0..layers).map(|layer| of(slides(layer))).collect()
                }
            },
        };
        if !types.contains(&LayerType::Sliding) {
            return Ok(Self { types, window: 0 });
        }
        let Some(size) = size else {
            let name = LayerType::Sliding.name();
            return Err(format!(
                "config.json: layer_types has {name:?}, but no sliding_window is in use"
            ));
        };
        let window = match (causal, family) {
            // The token itself is counted.
            (true, _) => size - 1,
            // Both sides are counted.
            (false, Family::Gemma3) => size / 2,
            (false, _) => size,
        };
        Ok(Self { types, window })
    }
}

/// The window as `config.json` counts it, where one is in use.
fn sliding_window(config: &CheckpointConfig, family: Family) -> Result<Option<u32>, String> {
    let key = "sliding_window";
    let in_use = match family {
        Family::Llama => false,
        Family::Mistral | Family::Gemma3 => true,
        Family::Qwen2 | Family::Qwen2Vl | Family::Qwen3 => {
            config.flag_or("use_sliding_window", false)?
        }
    };
    match in_use && !config.is_null(key) {
        true => config.size_or(key, DEFAULT_WINDOW).map(Some),
        false => Ok(None),
    }
}

/// The types that `layer_types` lists, where it is there.
fn listed(config: &CheckpointConfig, layers: u32) -> Result<Option<Vec<LayerType>>, String> {
    let key = "layer_types";
    let Some(value) = config.get(key) else {
        return Ok(None);
    };
    let names = [LayerType::Full, LayerType::Sliding].map(LayerType::name);
    let types: Option<Vec<_>> = value.as_array().and_then(|list| {
        let known = list.iter().map(|name| match name.as_str() {
            Some(name) if name == names[0] => Some(LayerType::Full),
            Some(name) if name == names[1] => Some(LayerType::Sliding),
            _ => None,
        });
        known.collect()
    });
    match types {
        Some(types) if types.len() == layers as usize => Ok(Some(types)),
        Some(types) => Err(format!(
            "config.json: layer_types lists {} layers, num_hidden_layers is {layers}",
            types.len()
        )),
        None => Err(config.unsupported(key, &names)),
    }
}

fn of(slides: bool) -> LayerType {
    match slides {
        true => LayerType::Sliding,
        false => LayerType::Full,
    }
}

fn all(kind: LayerType, layers: u32) -> Vec<LayerType> {
    vec![kind; layers as usize]
}

#[cfg(test)]
mod tests {
    use super::LayerType::{Full, Sliding};
    use super::*;

    fn read(text: &str, family: Family, causal: bool) -> Result<LayerTypes, String> {
        LayerTypes::read(&CheckpointConfig::parse(text)?, family, 3, causal)
    }

    fn check(text: &str, family: Family, causal: bool, types: [LayerType; 3], window: u32) {
        let types = types.to_vec();
        assert_eq!(
            read(text, family, causal),
            Ok(LayerTypes { types, window }),
            "{text}"
        );
    }

    #[test]
    fn windows_are_distances() {
        let eight = r#"{"sliding_window": 8}"#;
        check(eight, Family::Mistral, true, [Sliding; 3], 7);
        check(eight, Family::Mistral, false, [Sliding; 3], 8);
        let gemma = r#"{"sliding_window": 8, "sliding_window_pattern": 2}"#;
        check(gemma, Family::Gemma3, true, [Sliding, Full, Sliding], 7);
        check(gemma, Family::Gemma3, false, [Sliding, Full, Sliding], 4);
        check("{}", Family::Mistral, true, [Sliding; 3], 4095);
        check("{}", Family::Gemma3, true, [Sliding; 3], 4095);
        check(
            r#"{"sliding_window": null}"#,
            Family::Mistral,
            true,
            [Full; 3],
            0,
        );
        check(eight, Family::Llama, true, [Full; 3], 0);
    }

    #[test]
    fn windows_of_qwen_are_asked_for() {
        let qwen = |rest: &str| format!(r#"{{"sliding_window": 8{rest}}}"#);
        let check = |rest: &str, types, window| {
            check(&qwen(rest), Family::Qwen2, true, types, window);
        };
        check("", [Full; 3], 0);
        check(r#", "max_window_layers": 0"#, [Full; 3], 0);
        let used = r#", "use_sliding_window": true"#;
        check(used, [Full; 3], 0);
        let from = |first: u32| format!(r#"{used}, "max_window_layers": {first}"#);
        check(&from(0), [Sliding; 3], 7);
        check(&from(2), [Full, Full, Sliding], 7);
        let listed = r#""layer_types": ["sliding_attention", "full_attention", "full_attention"]"#;
        check(&format!("{}, {listed}", from(0)), [Sliding, Full, Full], 7);
    }

    #[test]
    fn names_what_does_not_fit() {
        let check = |text: &str, message: &str| {
            let message = format!("config.json: {message}");
            assert_eq!(read(text, Family::Qwen3, true), Err(message));
        };
        check(
            r#"{"layer_types": ["full_attention"]}"#,
            "layer_types lists 1 layers, num_hidden_layers is 3",
        );
        check(
            r#"{"layer_types": ["linear_attention"]}"#,
            r#"layer_types is ["linear_attention"]; supported are full_attention, sliding_attention"#,
        );
        check(
            r#"{"sliding_window": 8,
                "layer_types": ["full_attention", "full_attention", "sliding_attention"]}"#,
            r#"layer_types has "sliding_attention", but no sliding_window is in use"#,
        );
    }
}
