//! Stub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub width: u32,
    pub height: u32,
}
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crop {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}
#[derive(Debug, Clone, Copy)]
pub struct ImageLimits {
    pub max_pixels: u64,
}
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct ImageError;
pub struct Image;
impl Image {
    pub fn measure(_: &[u8], _: &ImageLimits) -> Result<Size, ImageError> {
        Err(ImageError)
    }
    pub fn decode(_: &[u8], _: &ImageLimits) -> Result<Self, ImageError> {
        Err(ImageError)
    }
    pub fn resample(&self, _: Size, _: Crop) -> Result<Self, ImageError> {
        Err(ImageError)
    }
    pub fn size(&self) -> Size {
        Size {
            width: 0,
            height: 0,
        }
    }
    pub fn into_rgb(self) -> Vec<u8> {
        vec![]
    }
}
