//! JPEG in grey, colour and CMYK, baseline and progressive.
//!
//! Decoders round in their own ways, so that this one is not to the bit that of Pillow. It is
//! the one that is written in safe code throughout, stays on its thread and bounds its passes.

use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;

use super::orientation::Orientation;
use super::{Image, ImageError, ImageLimits, MAX_SIDE};

/// Passes of a progressive file, each of which goes over all of the image. Encoders make ten.
const MAX_SCANS: usize = 64;

/// The pixels as they lie in the file, and how that is to the upright image.
pub fn decode(bytes: &[u8], limits: &ImageLimits) -> Result<(Image, Orientation), ImageError> {
    let max_side = MAX_SIDE as usize;
    let options = DecoderOptions::default()
        .set_max_width(max_side)
        .set_max_height(max_side)
        .jpeg_set_max_scans(MAX_SCANS)
        .set_strict_mode(false);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(explain)?;
    let info = decoder.info().ok_or(damaged("it has no header"))?;
    let size = limits.check(info.width.into(), info.height.into())?;
    let orientation = Orientation::of(info.exif_data.as_deref(), info.xmp_data.as_deref());

    let stored = decoder.input_colorspace();
    let decoded = match (info.components, stored) {
        (1 | 3, _) => ColorSpace::RGB,
        (4, Some(stored @ (ColorSpace::CMYK | ColorSpace::YCCK))) => stored,
        (components, _) => {
            return Err(ImageError::UnsupportedFeature {
                format: "JPEG",
                what: format!("colour of {components} components"),
            });
        }
    };
    if !is_ended(bytes) {
        return Err(damaged("it ends early"));
    }
    // Headers may hold what the standard does not know, but pixels must be there: else the
    // decoder would fill in grey.
    let options = decoder.options().set_strict_mode(true);
    decoder.set_options(options.jpeg_set_out_colorspace(decoded));
    let mut pixels = vec![0; size.pixels() as usize * decoded.num_components()];
    decoder.decode_into(&mut pixels).map_err(explain)?;
    let rgb = match decoded {
        ColorSpace::RGB => pixels,
        ColorSpace::YCCK => rgb_from_inks(pixels, inks_from_ycck),
        _ => rgb_from_inks(pixels, |inks| inks),
    };
    Ok((Image { size, rgb }, orientation))
}

/// Whether the end is marked somewhere after the pixels start. The decoder misses it where the
/// last row of blocks is cut.
fn is_ended(bytes: &[u8]) -> bool {
    const START_OF_SCAN: u8 = 0xda;
    const END: [u8; 2] = [0xff, 0xd9];
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        match marker {
            START_OF_SCAN => break,
            0xff => at += 1,
            _ => at += 2 + usize::from(u16::from_be_bytes([high, low])),
        }
    }
    let rest = bytes.get(at..).unwrap_or_default();
    rest.windows(END.len()).rev().any(|window| window == END)
}

/// RGB of pixels of four inks, in place. As to Pillow, the inks are always stored inverted,
/// as Adobe does: 255 is none of it.
fn rgb_from_inks(mut pixels: Vec<u8>, inks: fn([u8; 4]) -> [u8; 4]) -> Vec<u8> {
    let count = pixels.len() / 4;
    for index in 0..count {
        let (quads, _) = pixels.as_chunks::<4>();
        let [cyan, magenta, yellow, black] = inks(quads[index]);
        let lit = |ink: u8| black - divided_by_255(u32::from(255 - ink) * u32::from(black));
        let rgb = [lit(cyan), lit(magenta), lit(yellow)];
        pixels[3 * index..3 * index + 3].copy_from_slice(&rgb);
    }
    pixels.truncate(3 * count);
    pixels
}

/// A product of two bytes divided by 255, rounded as Pillow does.
fn divided_by_255(product: u32) -> u8 {
    let rounded = product + 128;
    (((rounded >> 8) + rounded) >> 8) as u8
}

/// Inks of YCCK, where what stands for red, green and blue is the inverse of three inks.
fn inks_from_ycck([y, cb, cr, black]: [u8; 4]) -> [u8; 4] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    // The factors of JFIF, in 65536ths.
    let red = y + ((91_881 * cr + 32_768) >> 16);
    let green = y + ((-22_554 * cb - 46_802 * cr + 32_768) >> 16);
    let blue = y + ((116_130 * cb + 32_768) >> 16);
    let ink = |light: i32| 255 - light.clamp(0, 255) as u8;
    [ink(red), ink(green), ink(blue), black]
}

fn explain(error: DecodeErrors) -> ImageError {
    match error {
        DecodeErrors::Unsupported(feature) => ImageError::UnsupportedFeature {
            format: "JPEG",
            what: format!("{feature:?}"),
        },
        DecodeErrors::ZeroError => ImageError::Empty {
            width: 0,
            height: 0,
        },
        other => damaged(format!("{other:?}")),
    }
}

fn damaged(what: impl Into<String>) -> ImageError {
    ImageError::Damaged {
        format: "JPEG",
        what: what.into(),
    }
}
