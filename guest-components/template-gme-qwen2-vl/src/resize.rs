//! What Qwen2-VL resizes an image to.

use tenon_sdk::preprocessor::Preprocessor;
use tenon_sdk::template::ImageSize;

/// What transformers' image processor takes where the checkpoint is silent.
const PATCH_SIZE: u32 = 14;
const MERGE_SIZE: u32 = 2;
const MIN_PIXELS: u64 = 56 * 56;
const MAX_PIXELS: u64 = 28 * 28 * 1280;

/// The longest side, as a multiple of the shortest, that is taken.
const MAX_ASPECT: f64 = 200.0;

/// Sides become multiples of a placeholder's, and the area stays within bounds.
#[derive(Debug, Clone, Copy)]
pub struct Resizer {
    side: u32,
    min_pixels: u64,
    max_pixels: u64,
}

impl Resizer {
    /// Reads the bounds.
    pub fn new(preprocessor: &Preprocessor) -> Result<Self, String> {
        let patch = preprocessor.patch_size.unwrap_or(PATCH_SIZE);
        let merge = preprocessor.merge_size.unwrap_or(MERGE_SIZE);
        let (min_pixels, max_pixels) = preprocessor.pixel_bounds(MIN_PIXELS, MAX_PIXELS)?;
        match patch.checked_mul(merge) {
            Some(side) if (1..=1024).contains(&side) && max_pixels >= u64::from(side * side) => {
                Ok(Self {
                    side,
                    min_pixels,
                    max_pixels,
                })
            }
            _ => Err(format!(
                "preprocessor_config.json: patch_size {patch} and merge_size {merge} for at most \
                 {max_pixels} pixels are not supported"
            )),
        }
    }

    /// Height and width of what one placeholder stands for.
    pub fn placeholder_side(&self) -> u32 {
        self.side
    }

    /// What an image of this size becomes (`smart_resize` in transformers).
    pub fn resize(&self, size: ImageSize) -> Result<ImageSize, String> {
        let (width, height) = (f64::from(size.width), f64::from(size.height));
        let aspect = width.max(height) / width.min(height);
        if aspect.is_nan() || aspect > MAX_ASPECT {
            return Err(format!(
                "the image is {} x {} pixels; its longer side may be at most {MAX_ASPECT} times \
                 the shorter",
                size.width, size.height
            ));
        }
        let side = f64::from(self.side);
        let nearest = |length: f64| (length / side).round_ties_even() * side;
        let (near_width, near_height) = (nearest(width), nearest(height));
        let area = near_width * near_height;
        let (min, max) = (self.min_pixels as f64, self.max_pixels as f64);
        let (width, height) = if area > max {
            let shrink = (height * width / max).sqrt();
            let smaller = |length: f64| ((length / shrink / side).floor() * side).max(side);
            (smaller(width), smaller(height))
        } else if area < min {
            let grow = (min / (height * width)).sqrt();
            let larger = |length: f64| (length * grow / side).ceil() * side;
            (larger(width), larger(height))
        } else {
            (near_width, near_height)
        };
        Ok(ImageSize {
            width: width as u32,
            height: height as u32,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures of transformers 5.23's `smart_resize`.
    #[test]
    fn sizes_are_those_of_transformers() {
        let resizer = Resizer {
            side: 28,
            min_pixels: 3136,
            max_pixels: 28 * 28 * 16,
        };
        for (from, to) in [
            ((61, 37), (84, 56)),
            ((28, 28), (56, 56)),
            ((9, 9), (56, 56)),
            ((300, 60), (224, 28)),
            ((120, 50), (112, 56)),
            ((42, 70), (56, 56)),
            ((14, 400), (28, 308)),
            ((1000, 777), (112, 84)),
        ] {
            let size = |(width, height)| ImageSize { width, height };
            let found = resizer.resize(size(from)).expect("a size");
            assert_eq!((found.width, found.height), to, "{from:?}");
        }
    }

    #[test]
    fn long_and_empty_images_are_refused() {
        let bounds = serde_json::from_str("{}").expect("a preprocessor");
        let resizer = Resizer::new(&bounds).expect("a resizer");
        let refused = |width, height| resizer.resize(ImageSize { width, height }).is_err();
        assert!(refused(1, 201) && refused(201, 1) && refused(0, 5));
        assert!(!refused(1, 200));
    }
}
