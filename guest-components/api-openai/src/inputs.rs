//! Reading the inputs of a request: text, token ids, or lists of either.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use tenon_sdk::types::{EmbedInput, Part};

use crate::lists::{MAX_ITEMS, too_many};
use crate::place::Place;

/// The inputs of a request.
#[derive(Debug)]
pub struct Inputs {
    /// One entry a vector.
    pub inputs: Vec<EmbedInput>,
    /// How they were written.
    pub shape: Shape,
}

/// Whether inputs were written as a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// One input, not in a list.
    Single,
    /// A list of inputs.
    List,
}

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
pub enum Accepts {
    /// OpenAI's and SGLang's `input`: text, ids, lists of them, list of objects.
    Anything,
    /// SGLang's `text`.
    Text,
    /// SGLang's `input_ids`.
    Ids,
}

/// Reads the inputs; null counts as absent.
#[derive(Clone, Copy)]
pub struct InputsSeed<'a> {
    /// What the field may hold.
    pub accepts: Accepts,
    /// Where errors are noted.
    pub place: &'a Place,
}

impl<'de> DeserializeSeed<'de> for InputsSeed<'_> {
    type Value = Option<Inputs>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for InputsSeed<'_> {
    type Value = Option<Inputs>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.accepts {
            Accepts::Anything => {
                "a string, a list of strings, a list of token ids, a list of lists of token ids or a list of objects"
            }
            Accepts::Text => "a string or a list of strings",
            Accepts::Ids => "a list of token ids or a list of lists of token ids",
        })
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        if let Accepts::Ids = self.accepts {
            return Err(E::invalid_type(Unexpected::Str(text), &self));
        }
        Ok(Some(Inputs {
            inputs: vec![text_input(text)?],
            shape: Shape::Single,
        }))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let item = ItemSeed {
            accepts: self.accepts,
            kind: None,
            place: self.place,
        };
        self.place.at_item(Some(0));
        let (kind, inputs) = match list.next_element_seed(item)? {
            None => {
                self.place.at_item(None);
                return Err(A::Error::custom("the list is empty"));
            }
            Some(Item::Id(first)) => {
                let ids = read_ids(first, list, |index| self.place.at_item(Some(index)))?;
                let inputs = vec![EmbedInput::Tokens(ids)];
                return Ok(Some(Inputs {
                    inputs,
                    shape: Shape::Single,
                }));
            }
            Some(Item::Input(kind, input)) => (kind, vec![input]),
        };
        let item = ItemSeed {
            kind: Some(kind),
            ..item
        };
        let inputs = read_inputs(inputs, item, list)?;
        Ok(Some(Inputs {
            inputs,
            shape: Shape::List,
        }))
    }
}

/// The ids after the first.
fn read_ids<'de, A: SeqAccess<'de>>(
    first: u32,
    mut list: A,
    at: impl Fn(usize),
) -> Result<Vec<u32>, A::Error> {
    let mut ids = vec![first];
    loop {
        at(ids.len());
        match list.next_element_seed(IdSeed)? {
            Some(id) => ids.push(id),
            None => return Ok(ids),
        }
    }
}

/// The inputs after the first.
fn read_inputs<'de, A: SeqAccess<'de>>(
    mut inputs: Vec<EmbedInput>,
    item: ItemSeed<'_>,
    mut list: A,
) -> Result<Vec<EmbedInput>, A::Error> {
    loop {
        item.place.at_item(Some(inputs.len()));
        match list.next_element_seed(item)? {
            None => return Ok(inputs),
            Some(_) if inputs.len() == MAX_ITEMS => {
                item.place.at_item(None);
                return Err(too_many(MAX_ITEMS + 1, list));
            }
            Some(Item::Input(_, input)) => inputs.push(input),
            Some(Item::Id(id)) => {
                return Err(A::Error::invalid_type(
                    Unexpected::Unsigned(id.into()),
                    &item,
                ));
            }
        }
    }
}

/// What an item of a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Ids,
    Object,
}

enum Item {
    /// One token id: the list is one input.
    Id(u32),
    /// An input of its own.
    Input(Kind, EmbedInput),
}

/// Reads an item: of any kind that the field accepts, or of the kind of the first.
#[derive(Clone, Copy)]
struct ItemSeed<'a> {
    accepts: Accepts,
    kind: Option<Kind>,
    place: &'a Place,
}

impl ItemSeed<'_> {
    fn takes(&self, kind: Kind) -> bool {
        let accepted = match self.accepts {
            Accepts::Anything => true,
            Accepts::Text => kind == Kind::Text,
            Accepts::Ids => kind == Kind::Ids,
        };
        accepted && self.kind.is_none_or(|first| first == kind)
    }
}

impl<'de> DeserializeSeed<'de> for ItemSeed<'_> {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Item, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemSeed<'_> {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.kind, self.accepts) {
            (Some(Kind::Text), _) => "a string like the items before it",
            (Some(Kind::Ids), _) => "a list of token ids like the items before it",
            (Some(Kind::Object), _) => "an object like the items before it",
            (None, Accepts::Anything) => "a string, a token id, a list of token ids or an object",
            (None, Accepts::Text) => "a string",
            (None, Accepts::Ids) => "a token id or a list of token ids",
        })
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Item, E> {
        if !self.takes(Kind::Text) {
            return Err(E::invalid_type(Unexpected::Str(text), &self));
        }
        text_input(text).map(|input| Item::Input(Kind::Text, input))
    }

    fn visit_u64<E: Error>(self, id: u64) -> Result<Item, E> {
        if self.kind.is_some() || matches!(self.accepts, Accepts::Text) {
            return Err(E::invalid_type(Unexpected::Unsigned(id), &self));
        }
        IdSeed.visit_u64(id).map(Item::Id)
    }

    fn visit_i64<E: Error>(self, id: i64) -> Result<Item, E> {
        if self.kind.is_some() || matches!(self.accepts, Accepts::Text) {
            return Err(E::invalid_type(Unexpected::Signed(id), &self));
        }
        IdSeed.visit_i64(id).map(Item::Id)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Item, A::Error> {
        if !self.takes(Kind::Ids) {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        self.place.at_inner(Some(0));
        let first = list.next_element_seed(IdSeed)?;
        let ids = match first {
            Some(first) => read_ids(first, list, |index| self.place.at_inner(Some(index)))?,
            None => {
                self.place.at_inner(None);
                return Err(A::Error::custom("the list of token ids is empty"));
            }
        };
        self.place.at_inner(None);
        Ok(Item::Input(Kind::Ids, EmbedInput::Tokens(ids)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item, A::Error> {
        if !self.takes(Kind::Object) {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        }
        let object = Object::deserialize(MapAccessDeserializer::new(map))?;
        let parts = object.parts(self.place)?;
        Ok(Item::Input(Kind::Object, EmbedInput::Parts(parts)))
    }
}

/// An item in SGLang's words.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Object {
    text: Option<String>,
    image: Option<String>,
    video: Option<String>,
}

impl Object {
    /// The media first: what they are said to show follows.
    fn parts<E: Error>(self, place: &Place) -> Result<Vec<Part>, E> {
        let mut parts = Vec::new();
        if let Some(image) = self.image {
            place.at_key(Some("image"));
            parts.push(place.image(&image)?);
        }
        if let Some(video) = self.video {
            place.at_key(Some("video"));
            parts.push(place.video(&video)?);
        }
        place.at_key(None);
        match self.text {
            // Callers write an empty text beside an image for none.
            Some(text) if text.is_empty() && !parts.is_empty() => {}
            Some(text) => parts.push(text_part(&text)?),
            None if parts.is_empty() => {
                return Err(E::custom("the object has neither text nor image"));
            }
            None => {}
        }
        Ok(parts)
    }
}

/// Reads one token id.
struct IdSeed;

impl<'de> DeserializeSeed<'de> for IdSeed {
    type Value = u32;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for IdSeed {
    type Value = u32;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a token id from 0 to {}", u32::MAX)
    }

    fn visit_u64<E: Error>(self, id: u64) -> Result<u32, E> {
        u32::try_from(id).map_err(|_| E::invalid_value(Unexpected::Unsigned(id), &self))
    }

    fn visit_i64<E: Error>(self, id: i64) -> Result<u32, E> {
        u32::try_from(id).map_err(|_| E::invalid_value(Unexpected::Signed(id), &self))
    }
}

/// One input of text.
fn text_input<E: Error>(text: &str) -> Result<EmbedInput, E> {
    Ok(EmbedInput::Parts(vec![text_part(text)?]))
}

/// A text that says something.
pub fn text_part<E: Error>(text: &str) -> Result<Part, E> {
    if text.trim_start().is_empty() {
        return Err(E::custom("the text is empty or only whitespace"));
    }
    Ok(Part::Text(text.to_owned()))
}
