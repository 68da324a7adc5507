//! Reading the content of a message: a string, or a list of parts.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use tenon_sdk::types::Part;

use crate::inputs::text_part;
use crate::lists::{MAX_ITEMS, too_many};
use crate::place::Place;

/// Reads the content of one message.
pub struct ContentSeed<'a> {
    /// Where errors are noted.
    pub place: &'a Place,
}

impl<'de> DeserializeSeed<'de> for ContentSeed<'_> {
    type Value = Vec<Part>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Part>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ContentSeed<'_> {
    type Value = Vec<Part>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string or a list of parts")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<Part>, E> {
        Ok(vec![text_part(text)?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<Part>, A::Error> {
        let mut parts = Vec::new();
        loop {
            self.place.at_inner(Some(parts.len()));
            match list.next_element::<PartFields>()? {
                Some(_) if parts.len() == MAX_ITEMS => {
                    self.place.at_inner(None);
                    return Err(too_many(MAX_ITEMS + 1, list));
                }
                Some(fields) => parts.push(fields.part(self.place)?),
                None => break,
            }
        }
        self.place.at_inner(None);
        match parts.is_empty() {
            true => Err(A::Error::custom("the list is empty")),
            false => Ok(parts),
        }
    }
}

/// One part in OpenAI's words.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PartFields {
    r#type: String,
    text: Option<String>,
    image_url: Option<MediaUrl>,
    video_url: Option<MediaUrl>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MediaUrl {
    url: String,
}

impl PartFields {
    fn part<E: Error>(self, place: &Place) -> Result<Part, E> {
        let only = |field: &str| {
            let message = format!("a part of the type '{field}' has the field {field} only");
            Err(E::custom(message))
        };
        let fields = (self.text, self.image_url, self.video_url);
        match (self.r#type.as_str(), fields) {
            ("text", (Some(text), None, None)) => text_part(&text),
            ("image_url", (None, Some(image), None)) => place.image(&image.url),
            ("video_url", (None, None, Some(video))) => place.video(&video.url),
            ("text", _) => only("text"),
            ("image_url", _) => only("image_url"),
            ("video_url", _) => only("video_url"),
            (kind, _) => Err(E::custom(format!(
                "the type '{kind}' is not supported, give 'text' or 'image_url'"
            ))),
        }
    }
}
