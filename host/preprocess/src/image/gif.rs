//! GIF: its first frame, on the whole screen, as Pillow shows it.

use std::num::NonZeroU64;

use gif::{ColorOutput, DecodeOptions, MemoryLimit};

use super::{Image, ImageError, ImageLimits};

/// The first frame's pixels. Where the frame does not reach, and where it is transparent,
/// stands the palette's colour of the transparent index; without one, its first colour.
pub fn decode(bytes: &[u8], limits: &ImageLimits) -> Result<Image, ImageError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    let max_bytes = NonZeroU64::new(limits.max_pixels).unwrap_or(NonZeroU64::MIN);
    options.set_memory_limit(MemoryLimit::Bytes(max_bytes));
    let mut decoder = options.read_info(bytes).map_err(damaged)?;
    let (width, height) = (decoder.width(), decoder.height());

    let frame = decoder.next_frame_info().map_err(damaged)?;
    let frame = frame.ok_or(damaged("it has no frame"))?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let columns = usize::from(frame.width);
    let background = frame.transparent.unwrap_or(0);
    // A frame that reaches beyond the screen makes it larger.
    let right = u32::from(frame.left) + u32::from(frame.width);
    let bottom = u32::from(frame.top) + u32::from(frame.height);
    let size = limits.check(right.max(width.into()), bottom.max(height.into()))?;

    let mut indices = vec![0; decoder.buffer_size()];
    decoder.read_into_buffer(&mut indices).map_err(damaged)?;
    let palette = colours(decoder.palette().map_err(damaged)?);

    let background = palette[usize::from(background)];
    let mut rgb = background.repeat(size.pixels() as usize);
    let rows = rgb.chunks_exact_mut(3 * size.width as usize).skip(top);
    for (row, indices) in rows.zip(indices.chunks_exact(columns.max(1))) {
        let (row, _) = row[3 * left..].as_chunks_mut::<3>();
        for (pixel, &index) in row.iter_mut().zip(indices) {
            *pixel = palette[usize::from(index)];
        }
    }
    Ok(Image { size, rgb })
}

/// The palette, black where the file has no colour.
fn colours(palette: &[u8]) -> [[u8; 3]; 256] {
    let mut colours = [[0; 3]; 256];
    let (known, _) = palette.as_chunks::<3>();
    for (colour, known) in colours.iter_mut().zip(known) {
        *colour = *known;
    }
    colours
}

fn damaged(what: impl std::fmt::Display) -> ImageError {
    ImageError::Damaged {
        format: "GIF",
        what: what.to_string(),
    }
}
