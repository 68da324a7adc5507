//! WebP: lossy, lossless or animated, of which the first frame as libwebp shows it.
//!
//! The decoder is given the chunk of the pixels alone: alpha is not wanted, and the first
//! frame of an animation is not blended with a canvas that is empty.

use std::io::Cursor;

use image_webp::WebPDecoder;

use super::orientation::Orientation;
use super::{Image, ImageError, ImageLimits, Size, pixels};

/// Names of the chunks that hold pixels.
const LOSSY: [u8; 4] = *b"VP8 ";
const LOSSLESS: [u8; 4] = *b"VP8L";

/// Flags of an extended file.
const EXIF_FLAG: u8 = 1 << 3;
const XMP_FLAG: u8 = 1 << 2;

/// Bytes of what stands before the pixels of a frame.
const FRAME_HEADER_BYTES: usize = 16;

/// What is needed of a file.
struct File<'a> {
    pixels: Chunk<'a>,
    /// Where the pixels belong; for a file of nothing but pixels, as large as they are.
    place: Option<Place>,
    orientation: Orientation,
}

/// Where a frame lies on the canvas.
#[derive(Clone, Copy)]
struct Place {
    canvas: Size,
    left: u32,
    top: u32,
    frame: Size,
}

#[derive(Clone, Copy)]
struct Chunk<'a> {
    name: [u8; 4],
    bytes: &'a [u8],
}

/// The pixels as they lie in the file, and how that is to the upright image.
pub fn decode(bytes: &[u8], limits: &ImageLimits) -> Result<(Image, Orientation), ImageError> {
    let file = File::read(bytes)?;
    let alone = file.pixels.as_file();
    let mut decoder = WebPDecoder::new(Cursor::new(alone)).map_err(damaged)?;
    let (width, height) = decoder.dimensions();
    let frame = limits.check(width, height)?;
    let place = file.place.unwrap_or(Place {
        canvas: frame,
        left: 0,
        top: 0,
        frame,
    });
    let canvas = limits.check(place.canvas.width, place.canvas.height)?;
    if place.frame != frame {
        let what = format!("a frame of {frame} pixels where it says {}", place.frame);
        return Err(damaged(what));
    }
    if place.left + width > canvas.width || place.top + height > canvas.height {
        return Err(damaged("a frame that reaches beyond the canvas"));
    }

    let len = decoder
        .output_buffer_size()
        .ok_or(damaged("more bytes than memory has addresses"))?;
    let mut buffer = vec![0; len];
    decoder.read_image(&mut buffer).map_err(damaged)?;
    let rgb = match decoder.has_alpha() {
        true => pixels::from_rgba(buffer),
        false => buffer,
    };
    let image = Image { size: frame, rgb };
    Ok((place.on_canvas(image), file.orientation))
}

impl<'a> File<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ImageError> {
        let mut rest = riff_body(bytes)?;
        let first = next_chunk(&mut rest)?;
        if first.name != *b"VP8X" {
            return Ok(Self {
                pixels: first.with_pixels()?,
                place: None,
                orientation: Orientation::default(),
            });
        }
        let mut header = first.bytes;
        let flags = take::<4>(&mut header)?[0];
        let canvas = take_size(&mut header)?;
        let (mut exif, mut xmp, mut found) = (None, None, None);
        while !rest.is_empty() {
            let chunk = next_chunk(&mut rest)?;
            match &chunk.name {
                b"EXIF" if flags & EXIF_FLAG != 0 => exif = exif.or(Some(chunk.bytes)),
                b"XMP " if flags & XMP_FLAG != 0 => xmp = xmp.or(Some(chunk.bytes)),
                &LOSSY | &LOSSLESS if found.is_none() => {
                    let place = Place {
                        canvas,
                        left: 0,
                        top: 0,
                        frame: canvas,
                    };
                    found = Some((chunk, place));
                }
                b"ANMF" if found.is_none() => found = Some(first_frame(chunk, canvas)?),
                _ => {}
            }
        }
        let (pixels, place) = found.ok_or(damaged("it has no pixels"))?;
        Ok(Self {
            pixels,
            place: Some(place),
            orientation: Orientation::of(exif, xmp),
        })
    }
}

impl Place {
    /// The canvas with a frame on it, black around it.
    fn on_canvas(self, frame: Image) -> Image {
        if self.frame == self.canvas {
            return frame;
        }
        let mut rgb = vec![0; 3 * self.canvas.pixels() as usize];
        let rows = rgb.chunks_exact_mut(3 * self.canvas.width as usize);
        let frame_rows = frame.rgb.chunks_exact(3 * self.frame.width as usize);
        for (row, frame_row) in rows.skip(self.top as usize).zip(frame_rows) {
            row[3 * self.left as usize..][..frame_row.len()].copy_from_slice(frame_row);
        }
        Image {
            size: self.canvas,
            rgb,
        }
    }
}

impl<'a> Chunk<'a> {
    fn with_pixels(self) -> Result<Self, ImageError> {
        match self.name {
            LOSSY | LOSSLESS => Ok(self),
            name => Err(damaged(format!(
                "a chunk {:?} where pixels belong",
                String::from_utf8_lossy(&name)
            ))),
        }
    }

    /// A file of this chunk alone.
    fn as_file(self) -> Vec<u8> {
        let len = self.bytes.len() as u32;
        let padding = (len % 2) as usize;
        let mut file = Vec::with_capacity(self.bytes.len() + 21);
        file.extend(b"RIFF");
        file.extend((12 + len + len % 2).to_le_bytes());
        file.extend(b"WEBP");
        file.extend(self.name);
        file.extend(len.to_le_bytes());
        file.extend(self.bytes);
        file.extend(&[0][..padding]);
        file
    }
}

/// The first frame of an animation, found in its chunk.
fn first_frame<'a>(chunk: Chunk<'a>, canvas: Size) -> Result<(Chunk<'a>, Place), ImageError> {
    let Some((mut header, mut rest)) = chunk.bytes.split_at_checked(FRAME_HEADER_BYTES) else {
        return Err(ends_early());
    };
    let place = Place {
        canvas,
        left: 2 * take_u24(&mut header)?,
        top: 2 * take_u24(&mut header)?,
        frame: take_size(&mut header)?,
    };
    let mut chunk = next_chunk(&mut rest)?;
    if chunk.name == *b"ALPH" {
        chunk = next_chunk(&mut rest)?;
    }
    Ok((chunk.with_pixels()?, place))
}

/// The chunks of a file; what follows them is ignored.
fn riff_body(bytes: &[u8]) -> Result<&[u8], ImageError> {
    let mut rest = bytes;
    let [_, _, _, _, len @ ..] = take::<8>(&mut rest)?;
    let body = rest.get(..u32::from_le_bytes(len) as usize);
    let body = body.ok_or_else(ends_early)?;
    body.strip_prefix(b"WEBP").ok_or_else(ends_early)
}

/// Takes a chunk and the byte that pads it to an even length.
fn next_chunk<'a>(rest: &mut &'a [u8]) -> Result<Chunk<'a>, ImageError> {
    let name = take(rest)?;
    let len = u32::from_le_bytes(take(rest)?) as usize;
    let (bytes, after) = rest.split_at_checked(len).ok_or_else(ends_early)?;
    *rest = after.get(len % 2..).unwrap_or_default();
    Ok(Chunk { name, bytes })
}

/// Takes a width and a height, each stored less one.
fn take_size(rest: &mut &[u8]) -> Result<Size, ImageError> {
    Ok(Size {
        width: take_u24(rest)? + 1,
        height: take_u24(rest)? + 1,
    })
}

fn take_u24(rest: &mut &[u8]) -> Result<u32, ImageError> {
    let [a, b, c] = take(rest)?;
    Ok(u32::from_le_bytes([a, b, c, 0]))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ImageError> {
    let (taken, after) = rest.split_first_chunk().ok_or_else(ends_early)?;
    *rest = after;
    Ok(*taken)
}

fn ends_early() -> ImageError {
    damaged("it ends early")
}

fn damaged(what: impl std::fmt::Display) -> ImageError {
    ImageError::Damaged {
        format: "WebP",
        what: what.to_string(),
    }
}
