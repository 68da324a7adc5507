//! Reading the content of a message: a string, or a list of parts.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use tenon_sdk::types::{Media, Part};

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
                Some(fields) => parts.push(fields.part()?),
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
    image_url: Option<ImageUrl>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ImageUrl {
    url: String,
}

impl PartFields {
    fn part<E: Error>(self) -> Result<Part, E> {
        match (self.r#type.as_str(), self.text, self.image_url) {
            ("text", Some(text), None) => text_part(&text),
            ("image_url", None, Some(image)) => image.media().map(Part::Image),
            ("text", _, _) => Err(E::custom(
                "a part of the type 'text' has the field text only",
            )),
            ("image_url", _, _) => Err(E::custom(
                "a part of the type 'image_url' has the field image_url only",
            )),
            (kind, _, _) => Err(E::custom(format!(
                "the type '{kind}' is not supported, give 'text' or 'image_url'"
            ))),
        }
    }
}

impl ImageUrl {
    fn media<E: Error>(self) -> Result<Media, E> {
        let Some(data) = self.url.strip_prefix("data:") else {
            return match self.url.starts_with("https://") || self.url.starts_with("http://") {
                true => Ok(Media::Url(self.url)),
                false => Err(E::custom("a url begins with https://, http:// or data:")),
            };
        };
        let bytes = data
            .split_once(";base64,")
            .and_then(|(_, base64)| BASE64_STANDARD.decode(base64).ok());
        match bytes {
            Some(bytes) => Ok(Media::Bytes(bytes)),
            None => Err(E::custom(
                "a data URI has the form data:MEDIA-TYPE;base64,DATA",
            )),
        }
    }
}
