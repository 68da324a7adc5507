//! Which format a file has, by its first bytes.

use super::ImageError;

/// A format that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Png,
    Jpeg,
    WebP,
    Gif,
}

/// Formats that are common enough to be named when they are refused: name, offset, bytes.
const REFUSED: [(&str, usize, &[u8]); 10] = [
    ("BMP", 0, b"BM"),
    ("TIFF", 0, b"II*\0"),
    ("TIFF", 0, b"MM\0*"),
    ("AVIF", 4, b"ftypavif"),
    ("HEIC", 4, b"ftyphei"),
    ("HEIC", 4, b"ftypmif1"),
    ("JPEG XL", 0, b"\xff\x0a"),
    ("JPEG XL", 4, b"JXL "),
    ("JPEG 2000", 4, b"jP  "),
    ("ICO", 0, b"\0\0\x01\0"),
];

/// As much of a text as is looked through for the start of an SVG document.
const SVG_PROLOGUE_BYTES: usize = 1024;

impl Format {
    /// The format of a file.
    ///
    /// # Errors
    /// [`ImageError::UnsupportedFormat`] and [`ImageError::NotAnImage`].
    pub fn of(bytes: &[u8]) -> Result<Self, ImageError> {
        if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Ok(Self::Png);
        }
        if bytes.starts_with(b"\xff\xd8\xff") {
            return Ok(Self::Jpeg);
        }
        if bytes.starts_with(b"RIFF") && has(bytes, 8, b"WEBP") {
            return Ok(Self::WebP);
        }
        if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
            return Ok(Self::Gif);
        }
        let refused = REFUSED
            .iter()
            .find(|(_, offset, magic)| has(bytes, *offset, magic));
        if let Some((name, ..)) = refused {
            return Err(ImageError::UnsupportedFormat(name));
        }
        if is_svg(bytes) {
            return Err(ImageError::UnsupportedFormat("SVG"));
        }
        Err(ImageError::NotAnImage)
    }
}

fn has(bytes: &[u8], offset: usize, magic: &[u8]) -> bool {
    bytes
        .get(offset..)
        .is_some_and(|rest| rest.starts_with(magic))
}

fn is_svg(bytes: &[u8]) -> bool {
    let prologue = &bytes[..bytes.len().min(SVG_PROLOGUE_BYTES)];
    let text = prologue.trim_ascii_start();
    text.starts_with(b"<") && text.windows(4).any(|window| window == b"<svg")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_formats_that_it_refuses() {
        let check = |bytes: &[u8], expected: ImageError| {
            assert_eq!(Format::of(bytes), Err(expected), "{bytes:?}");
        };
        let unsupported = ImageError::UnsupportedFormat;
        check(b"BM\x46\0\0\0", unsupported("BMP"));
        check(b"MM\0*\0\0\0\x08", unsupported("TIFF"));
        check(b"\0\0\0\x20ftypavif\0\0\0\0", unsupported("AVIF"));
        check(b"\0\0\0\x18ftypheic\0\0\0\0", unsupported("HEIC"));
        check(
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            unsupported("SVG"),
        );
        check(
            b" <?xml version='1.0'?>\n<!-- x --><svg/>",
            unsupported("SVG"),
        );
        for other in [
            b"".as_slice(),
            b"RIFF\0\0\0\0WAVEfmt ",
            b"<html></html>",
            b"\xff\xd8",
        ] {
            check(other, ImageError::NotAnImage);
        }
    }
}
