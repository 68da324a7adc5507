//! `preprocessor_config.json`: how images are made ready for a model.

use serde::Deserialize;

use crate::tensor::PixelOptions;

/// Pillow's number for bicubic resampling.
const BICUBIC: u32 = 3;

/// What image processors of transformers write. A key that is absent has the default of the
/// processor's class.
#[derive(Debug, Clone, Deserialize)]
pub struct Preprocessor {
    do_resize: Option<bool>,
    do_center_crop: Option<bool>,
    do_rescale: Option<bool>,
    do_normalize: Option<bool>,
    resample: Option<u32>,
    rescale_factor: Option<f64>,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
    size: Option<Size>,
    crop_size: Option<Size>,
    min_pixels: Option<u64>,
    max_pixels: Option<u64>,
    /// Height and width of a patch.
    pub patch_size: Option<u32>,
    /// Frames of a patch.
    pub temporal_patch_size: Option<u32>,
    /// Patches along each side of a placeholder.
    pub merge_size: Option<u32>,
}

/// A size, or bounds of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Size {
    Number(u32),
    Edges {
        shortest_edge: u64,
        longest_edge: Option<u64>,
    },
    Sides {
        height: u32,
        width: u32,
    },
}

impl Preprocessor {
    /// How pixels become numbers, with `frames` frames.
    ///
    /// # Errors
    /// The key that asks for something else.
    pub fn pixel_options(&self, frames: u32) -> Result<PixelOptions, String> {
        required("do_rescale", self.do_rescale)?;
        required("do_normalize", self.do_normalize)?;
        if let Some(factor) = self.rescale_factor
            && (factor * 255.0 - 1.0).abs() > 1e-9
        {
            return Err(error(format!(
                "rescale_factor is {factor}, only 1/255 is supported"
            )));
        }
        let triple = |key: &str, value: Option<[f32; 3]>| {
            value.ok_or_else(|| error(format!("{key} is missing, wanted three numbers")))
        };
        Ok(PixelOptions {
            frames,
            mean: triple("image_mean", self.image_mean)?.into(),
            deviation: triple("image_std", self.image_std)?.into(),
        })
    }

    /// The length that the shorter side is resized to, and the square that is then cut out
    /// of the middle.
    ///
    /// # Errors
    /// The key that asks for something else.
    pub fn shortest_edge_and_crop(&self) -> Result<(u32, u32), String> {
        self.check_resize()?;
        required("do_center_crop", self.do_center_crop)?;
        let edge = match self.size {
            Some(Size::Number(edge)) => Some(edge),
            Some(Size::Edges {
                shortest_edge,
                longest_edge: None,
            }) => u32::try_from(shortest_edge).ok(),
            _ => None,
        };
        let crop = match self.crop_size {
            Some(Size::Number(side)) => Some(side),
            Some(Size::Sides { height, width }) if height == width => Some(height),
            _ => None,
        };
        match (edge, crop) {
            (Some(edge), Some(crop)) if crop > 0 && crop <= edge => Ok((edge, crop)),
            _ => Err(error(format!(
                "size {:?} and crop_size {:?} are not supported, only a shortest edge and a \
                 square that fits it",
                self.size, self.crop_size
            ))),
        }
    }

    /// The fewest and the most pixels of an image, or the defaults.
    ///
    /// # Errors
    /// The key that asks for something else.
    pub fn pixel_bounds(&self, min: u64, max: u64) -> Result<(u64, u64), String> {
        self.check_resize()?;
        let (first, last) = match self.size {
            Some(Size::Edges {
                shortest_edge,
                longest_edge: Some(longest_edge),
            }) => (shortest_edge, longest_edge),
            None => (min, max),
            Some(other) => {
                return Err(error(format!(
                    "size {other:?} is not supported, only shortest_edge and longest_edge"
                )));
            }
        };
        let (min, max) = (
            self.min_pixels.unwrap_or(first),
            self.max_pixels.unwrap_or(last),
        );
        match 0 < min && min <= max {
            true => Ok((min, max)),
            false => Err(error(format!("min_pixels {min} and max_pixels {max}"))),
        }
    }

    fn check_resize(&self) -> Result<(), String> {
        required("do_resize", self.do_resize)?;
        match self.resample {
            None | Some(BICUBIC) => Ok(()),
            Some(other) => Err(error(format!(
                "resample is {other}, only {BICUBIC} (bicubic) is supported"
            ))),
        }
    }
}

fn required(key: &str, value: Option<bool>) -> Result<(), String> {
    match value {
        Some(false) => Err(error(format!("{key} is false, only true is supported"))),
        None | Some(true) => Ok(()),
    }
}

fn error(what: String) -> String {
    format!("preprocessor_config.json: {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Preprocessor {
        serde_json::from_str(text).expect("a preprocessor")
    }

    #[test]
    fn both_spellings_of_sizes_are_read() {
        let old = read(r#"{"size": 224, "crop_size": 224, "resample": 3}"#);
        assert_eq!(old.shortest_edge_and_crop(), Ok((224, 224)));
        let new = r#"{"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}}"#;
        assert_eq!(read(new).shortest_edge_and_crop(), Ok((36, 32)));
        let old = read(r#"{"min_pixels": 3136, "max_pixels": 5000}"#);
        assert_eq!(old.pixel_bounds(1, 2), Ok((3136, 5000)));
        let new = read(r#"{"size": {"shortest_edge": 3136, "longest_edge": 5000}}"#);
        assert_eq!(new.pixel_bounds(1, 2), Ok((3136, 5000)));
        assert_eq!(read("{}").pixel_bounds(1, 2), Ok((1, 2)));
    }

    #[test]
    fn what_asks_for_something_else_is_named() {
        let crop = |text: &str| read(text).shortest_edge_and_crop().expect_err(text);
        assert!(crop(r#"{"do_resize": false}"#).contains("do_resize is false"));
        assert!(crop(r#"{"resample": 2}"#).contains("resample is 2"));
        assert!(crop(r#"{"size": 224, "crop_size": 225}"#).contains("crop_size"));
        let pixels = |text: &str| read(text).pixel_options(1).expect_err(text);
        assert!(pixels(r#"{"do_normalize": false}"#).contains("do_normalize is false"));
        assert!(pixels(r#"{"rescale_factor": 1.0}"#).contains("rescale_factor is 1"));
        assert!(pixels("{}").contains("image_mean is missing"));
        let bounds = r#"{"min_pixels": 9, "max_pixels": 5}"#;
        assert!(read(bounds).pixel_bounds(1, 2).is_err());
    }
}
