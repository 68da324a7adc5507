//! Images: from a file's bytes to upright RGB pixels, and from those to another size: what
//! Pillow 13 makes of them, to the bit but for JPEG.

mod bicubic;
mod error;
mod format;
mod gif;
mod jpeg;
mod orientation;
mod pixels;
mod png;
mod resample;
mod webp;

use format::Format;

pub use error::ImageError;

/// The longest side of a source and of what [`Image::resample`] gives: JPEG and GIF can say no
/// more, and the tables that grow with a side stay small.
const MAX_SIDE: u32 = 65_535;

/// What a source may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Pixels of the source, told by its header and checked before any is decoded. Decoding
    /// takes up to twelve bytes for each.
    pub max_pixels: u64,
}

impl Default for ImageLimits {
    fn default() -> Self {
        Self {
            max_pixels: 50_000_000,
        }
    }
}

impl ImageLimits {
    /// The size that a header tells, if it is within limits.
    fn check(&self, width: u32, height: u32) -> Result<Size, ImageError> {
        let size = Size { width, height };
        if size.pixels() == 0 {
            return Err(ImageError::Empty { width, height });
        }
        if width.max(height) > MAX_SIDE {
            let limit = MAX_SIDE;
            return Err(ImageError::TooLong { size, limit });
        }
        if size.pixels() > self.max_pixels {
            let limit = self.max_pixels;
            return Err(ImageError::TooManyPixels { size, limit });
        }
        Ok(size)
    }
}

/// Width and height in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Size {
    /// How many pixels there are.
    pub fn pixels(self) -> u64 {
        u64::from(self.width) * u64::from(self.height)
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} x {}", self.width, self.height)
    }
}

/// A rectangle of a resized image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    /// The first column.
    pub left: u32,
    /// The first row.
    pub top: u32,
    /// Columns.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

impl Crop {
    /// All of an image.
    pub fn all(size: Size) -> Self {
        Self {
            left: 0,
            top: 0,
            width: size.width,
            height: size.height,
        }
    }
}

/// An upright image in RGB, eight bits a channel.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    size: Size,
    rgb: Vec<u8>,
}

impl Image {
    /// Reads a PNG, JPEG, WebP or GIF file, told apart by its first bytes, as transformers
    /// does: turned upright by its EXIF orientation, its transparency dropped rather than
    /// blended, its palette looked up, its first frame if there are several.
    ///
    /// # Errors
    /// [`ImageError`], for what is none of these files, is damaged or is beyond a limit.
    pub fn decode(bytes: &[u8], limits: &ImageLimits) -> Result<Self, ImageError> {
        let (image, orientation) = match Format::of(bytes)? {
            Format::Png => png::decode(bytes, limits)?,
            Format::Jpeg => jpeg::decode(bytes, limits)?,
            Format::WebP => webp::decode(bytes, limits)?,
            Format::Gif => (gif::decode(bytes, limits)?, Default::default()),
        };
        Ok(orientation.turn_upright(image))
    }

    /// The part `crop` of this image resized to `to`, as `Image.resize(to, BICUBIC)` of Pillow
    /// computes it: antialiased, in its fixed point, with eight bits between the two passes.
    /// Only what the crop shows is computed.
    ///
    /// # Errors
    /// [`ImageError::Crop`] if the crop is empty or not within `to`; [`ImageError::TooLong`]
    /// and [`ImageError::TooManyPixels`] if it is beyond a limit, 65,535 pixels a side and
    /// 50 million in all.
    pub fn resample(&self, to: Size, crop: Crop) -> Result<Self, ImageError> {
        resample::resample(self, to, crop)
    }

    /// Width and height.
    pub fn size(&self) -> Size {
        self.size
    }

    /// Red, green and blue of each pixel, row after row, as they lie in memory.
    pub fn into_rgb(self) -> Vec<u8> {
        self.rgb
    }

    /// Red, green and blue of each pixel, row after row.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }
}

/// Without the pixels, which would fill a log.
impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({})", self.size)
    }
}
