//! From the pixel layouts that decoders give to RGB.

/// Grey, three times.
pub fn from_grey(grey: &[u8]) -> Vec<u8> {
    grey.iter().flat_map(|&value| [value; 3]).collect()
}

/// Grey of 16 bits, most significant byte first, as Pillow shows its mode `I;16`: not scaled
/// but cut off at 255.
pub fn from_grey16(grey: &[u8]) -> Vec<u8> {
    let (values, _) = grey.as_chunks::<2>();
    let clipped = values
        .iter()
        .map(|&value| u16::from_be_bytes(value).min(255) as u8);
    clipped.flat_map(|value| [value; 3]).collect()
}

/// Grey with alpha.
pub fn from_grey_alpha(pixels: &[u8]) -> Vec<u8> {
    let (pixels, _) = pixels.as_chunks::<2>();
    pixels.iter().flat_map(|&[value, _]| [value; 3]).collect()
}

/// Drops alpha, in place: at the largest size a copy would be a hundred megabytes more.
pub fn from_rgba(mut pixels: Vec<u8>) -> Vec<u8> {
    let count = pixels.len() / 4;
    for index in 0..count {
        pixels.copy_within(4 * index..4 * index + 3, 3 * index);
    }
    pixels.truncate(3 * count);
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_of_16_bits_is_cut_off_at_255() {
        assert_eq!(
            from_grey16(&[0, 7, 0, 255, 1, 0, 255, 255]),
            [7, 7, 7, 255, 255, 255, 255, 255, 255, 255, 255, 255]
        );
    }

    #[test]
    fn alpha_is_dropped() {
        assert_eq!(from_grey_alpha(&[5, 0, 6, 255]), [5, 5, 5, 6, 6, 6]);
        assert_eq!(
            from_rgba(vec![1, 2, 3, 0, 4, 5, 6, 255]),
            [1, 2, 3, 4, 5, 6]
        );
    }
}
