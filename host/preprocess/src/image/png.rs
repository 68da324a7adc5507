//! PNG, decoded to what Pillow makes of its colour types.

use std::io::Cursor;

use png::{BitDepth, ColorType, Transformations};

use super::orientation::Orientation;
use super::{Image, ImageError, ImageLimits, pixels};

/// Memory of the decoder beside the pixels: a few rows, and text in which EXIF and XMP may lie.
const MAX_EXTRA_BYTES: usize = 16 << 20;

/// EXIF or XMP in text, once it is expanded.
const MAX_TEXT_BYTES: usize = 1 << 20;

/// Keywords of the texts in which EXIF and XMP lie.
const EXIF_KEYWORD: &str = "Raw profile type exif";
const XMP_KEYWORD: &str = "XML:com.adobe.xmp";

/// The pixels as they lie in the file, and how that is to the upright image.
pub fn decode(bytes: &[u8], limits: &ImageLimits) -> Result<(Image, Orientation), ImageError> {
    let extra = png::Limits {
        bytes: MAX_EXTRA_BYTES,
    };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), extra);
    decoder.set_ignore_iccp_chunk(true);
    let header = decoder.read_header_info().map_err(damaged)?;
    let size = limits.check(header.width, header.height)?;
    // Pillow takes the upper half of 16 bits, but keeps grey without alpha as it is. Left
    // alone, an image takes up to eight bytes a pixel; expanded so, four.
    let is_grey16 =
        (header.color_type, header.bit_depth) == (ColorType::Grayscale, BitDepth::Sixteen);
    decoder.set_transformations(match is_grey16 {
        true => Transformations::IDENTITY,
        false => Transformations::EXPAND | Transformations::STRIP_16,
    });

    let mut reader = decoder.read_info().map_err(damaged)?;
    let len = reader
        .output_buffer_size()
        .ok_or(damaged("more bytes than memory has addresses"))?;
    let mut buffer = vec![0; len];
    let frame = reader.next_frame(&mut buffer).map_err(damaged)?;
    if (frame.width, frame.height) != (size.width, size.height) {
        return Err(damaged("its first frame is not all of it"));
    }
    // EXIF may follow the pixels. A file that ends early after them is whole enough, as it is
    // to Pillow.
    let _ = reader.finish();
    let orientation = orientation(reader.info());

    let rgb = match frame.color_type {
        ColorType::Grayscale if is_grey16 => pixels::from_grey16(&buffer),
        ColorType::Grayscale => pixels::from_grey(&buffer),
        ColorType::GrayscaleAlpha => pixels::from_grey_alpha(&buffer),
        ColorType::Rgb => buffer,
        ColorType::Rgba => pixels::from_rgba(buffer),
        ColorType::Indexed => return Err(damaged("its palette was not looked up")),
    };
    Ok((Image { size, rgb }, orientation))
}

fn orientation(info: &png::Info<'_>) -> Orientation {
    let exif = match &info.exif_metadata {
        Some(exif) => Some(exif.to_vec()),
        None => raw_profile(info).as_deref().and_then(bytes_of_profile),
    };
    let xmp = info
        .utf8_text
        .iter()
        .find(|text| text.keyword == XMP_KEYWORD);
    let xmp = xmp.and_then(|text| {
        let mut text = text.clone();
        text.decompress_text_with_limit(MAX_TEXT_BYTES).ok()?;
        text.get_text().ok()
    });
    Orientation::of(exif.as_deref(), xmp.as_deref().map(str::as_bytes))
}

/// EXIF as ImageMagick wrote it before PNG had a place for it.
fn raw_profile(info: &png::Info<'_>) -> Option<String> {
    let plain = &info.uncompressed_latin1_text;
    if let Some(text) = plain.iter().find(|text| text.keyword == EXIF_KEYWORD) {
        return Some(text.text.clone());
    }
    let compressed = &info.compressed_latin1_text;
    let mut text = compressed
        .iter()
        .find(|text| text.keyword == EXIF_KEYWORD)?
        .clone();
    text.decompress_text_with_limit(MAX_TEXT_BYTES).ok()?;
    text.get_text().ok()
}

/// The bytes of a raw profile: an empty line, a name and a length, then hexadecimal digits.
fn bytes_of_profile(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .split('\n')
        .skip(3)
        .flat_map(str::chars)
        .map(|digit| digit.to_digit(16).map(|value| value as u8))
        .collect::<Option<_>>()?;
    let (pairs, _) = digits.as_chunks::<2>();
    Some(pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

fn damaged(what: impl std::fmt::Display) -> ImageError {
    ImageError::Damaged {
        format: "PNG",
        what: what.to_string(),
    }
}
