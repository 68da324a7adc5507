//! Images and videos: how they are written, and which a request has.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tenon_sdk::request_parser::MediaSource;
use tenon_sdk::types::{Media, Part};

/// Base64 with padding or without: callers write both.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The images and videos of a request, in the order in which they are met.
#[derive(Debug, Default)]
pub struct FoundMedia {
    /// What `part.image` counts.
    pub images: Vec<MediaSource>,
    /// What `part.video` counts.
    pub videos: Vec<MediaSource>,
}

impl FoundMedia {
    /// Takes an image up that stands in the field `param`.
    pub fn image(&mut self, text: &str, param: String) -> Result<Part, String> {
        add(&mut self.images, text, param).map(Part::Image)
    }

    /// Takes a video up that stands in the field `param`.
    pub fn video(&mut self, text: &str, param: String) -> Result<Part, String> {
        add(&mut self.videos, text, param).map(Part::Video)
    }
}

fn add(list: &mut Vec<MediaSource>, text: &str, param: String) -> Result<u32, String> {
    let media = read(text)?;
    list.push(MediaSource { media, param });
    Ok(list.len() as u32 - 1)
}

/// A URL, a data URI, or the file in base64.
fn read(text: &str) -> Result<Media, String> {
    if text.starts_with("https://") || text.starts_with("http://") {
        return Ok(Media::Url(text.to_owned()));
    }
    let base64 = match text.strip_prefix("data:") {
        None => text,
        Some(data) => match data.split_once(";base64,") {
            Some((_, base64)) => base64,
            None => return Err("a data URI has the form data:MEDIA-TYPE;base64,DATA".to_owned()),
        },
    };
    match BASE64.decode(base64) {
        Ok(bytes) if !bytes.is_empty() => Ok(Media::Bytes(bytes)),
        _ => Err("neither a URL (https://, http://, data:) nor base64".to_owned()),
    }
}
