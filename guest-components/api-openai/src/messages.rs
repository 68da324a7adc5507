//! Reading the messages of a request: one conversation, in OpenAI's words.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use tenon_sdk::types::{Message, Part};

use crate::content::ContentSeed;
use crate::lists::{MAX_ITEMS, too_many};
use crate::place::Place;

/// Reads a conversation; null counts as absent.
#[derive(Clone, Copy)]
pub struct MessagesSeed<'a> {
    /// Where errors are noted.
    pub place: &'a Place,
}

impl<'de> DeserializeSeed<'de> for MessagesSeed<'_> {
    type Value = Option<Vec<Message>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessagesSeed<'_> {
    type Value = Option<Vec<Message>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of messages")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut messages = Vec::new();
        loop {
            self.place.at_item(Some(messages.len()));
            let message = list.next_element_seed(MessageSeed { place: self.place })?;
            match message {
                Some(_) if messages.len() == MAX_ITEMS => {
                    self.place.at_item(None);
                    return Err(too_many(MAX_ITEMS + 1, list));
                }
                Some(message) => messages.push(message),
                None => break,
            }
        }
        self.place.at_item(None);
        match messages.is_empty() {
            true => Err(A::Error::custom("the list is empty")),
            false => Ok(Some(messages)),
        }
    }
}

/// Reads one message.
struct MessageSeed<'a> {
    place: &'a Place,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = Message;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Message, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = Message;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with role and content")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Message, A::Error> {
        let (mut role, mut parts): (Option<String>, Option<Vec<Part>>) = (None, None);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "role" if role.is_some() => return Err(A::Error::duplicate_field("role")),
                "content" if parts.is_some() => return Err(A::Error::duplicate_field("content")),
                "role" => {
                    self.place.at_key(Some("role"));
                    let text: String = map.next_value()?;
                    if text.is_empty() {
                        return Err(A::Error::invalid_value(
                            Unexpected::Str(""),
                            &"the name of a role, e.g. user",
                        ));
                    }
                    role = Some(text);
                }
                "content" => {
                    self.place.at_key(Some("content"));
                    parts = Some(map.next_value_seed(ContentSeed { place: self.place })?);
                }
                _ => return Err(A::Error::unknown_field(&key, &["role", "content"])),
            }
            self.place.at_key(None);
        }
        Ok(Message {
            role: role.ok_or_else(|| A::Error::missing_field("role"))?,
            parts: parts.ok_or_else(|| A::Error::missing_field("content"))?,
        })
    }
}
