//! Reading the fields of a request in one pass over its JSON.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Unexpected, Visitor};
use serde_json::value::RawValue;
use tenon_sdk::types::{ApiError, Message};

use crate::inputs::{Accepts, Inputs, InputsSeed};
use crate::media::FoundMedia;
use crate::messages::MessagesSeed;
use crate::place::{Place, invalid};

/// Bytes of a caller's id for a request.
const MAX_REQUEST_ID_BYTES: usize = 256;
/// Levels of nesting in JSON that is carried along unread.
const MAX_DEPTH: usize = 128;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The fields of one kind of request.
pub trait Fields: Default {
    /// Reads the value of the field `name`, if there is such a field.
    fn read<'de, A: MapAccess<'de>>(
        &mut self,
        name: &str,
        value: FieldValue<'_, A>,
    ) -> Result<Known, A::Error>;
}

/// Whether a field exists.
pub enum Known {
    /// It does, and its value is read.
    Yes,
    /// It does not.
    No,
}

/// Reads a whole request, and the images and videos in it.
pub fn read<F: Fields>(body: &[u8]) -> Result<(F, FoundMedia), ApiError> {
    if body.starts_with(BYTE_ORDER_MARK) {
        return Err(invalid(
            None,
            "the body begins with a byte order mark, which JSON forbids",
        ));
    }
    let text = std::str::from_utf8(body).map_err(|error| {
        let at = error.valid_up_to();
        invalid(
            None,
            format!("the body is not valid UTF-8: see the byte at offset {at}"),
        )
    })?;
    let place = Place::default();
    let fields = FieldsVisitor {
        place: &place,
        fields: F::default(),
    };
    let mut json = serde_json::Deserializer::from_str(text);
    let fields = json
        .deserialize_map(fields)
        .and_then(|fields| json.end().map(|()| fields))
        .map_err(|error| place.explain(&error))?;
    Ok((fields, place.into_media()))
}

/// The value of one field, not read yet. Null counts as absent.
pub struct FieldValue<'a, A> {
    place: &'a Place,
    map: &'a mut A,
}

impl<'de, A: MapAccess<'de>> FieldValue<'_, A> {
    /// A value that its type alone describes.
    pub fn plain<T: Deserialize<'de>>(self, into: &mut Option<T>) -> Result<Known, A::Error> {
        *into = self.map.next_value()?;
        Ok(Known::Yes)
    }

    /// An integer of a range.
    pub fn integer<T: TryFrom<i64>>(
        self,
        min: i64,
        max: i64,
        into: &mut Option<T>,
    ) -> Result<Known, A::Error> {
        let integer = self.map.next_value_seed(Integer { min, max })?;
        *into = integer.and_then(|integer| T::try_from(integer).ok());
        Ok(Known::Yes)
    }

    /// One of some strings: the index of which.
    pub fn choice(self, choices: &[&str], into: &mut Option<usize>) -> Result<Known, A::Error> {
        let Some(value) = self.map.next_value::<Option<String>>()? else {
            return Ok(Known::Yes);
        };
        *into = choices.iter().position(|choice| *choice == value);
        if into.is_none() {
            let choices = choices.join("' or '");
            return Err(A::Error::custom(format!(
                "'{value}' is not supported, give '{choices}'"
            )));
        }
        Ok(Known::Yes)
    }

    /// What becomes vectors.
    pub fn inputs(self, accepts: Accepts, into: &mut Option<Inputs>) -> Result<Known, A::Error> {
        *into = self.map.next_value_seed(InputsSeed {
            accepts,
            place: self.place,
        })?;
        Ok(Known::Yes)
    }

    /// A conversation.
    pub fn messages(self, into: &mut Option<Vec<Message>>) -> Result<Known, A::Error> {
        *into = self
            .map
            .next_value_seed(MessagesSeed { place: self.place })?;
        Ok(Known::Yes)
    }

    /// A caller's id for a request, which may have several names.
    pub fn request_id(self, into: &mut Option<String>) -> Result<Known, A::Error> {
        let Some(id) = self.map.next_value::<Option<String>>()? else {
            return Ok(Known::Yes);
        };
        if let Some(reason) = unfit_for_id(&id) {
            return Err(A::Error::custom(reason));
        }
        match into.replace(id) {
            None => Ok(Known::Yes),
            Some(_) => Err(A::Error::custom(
                "the request has an id by another name already",
            )),
        }
    }

    /// Any JSON, kept as it was written.
    pub fn raw(self, into: &mut Option<Box<RawValue>>) -> Result<Known, A::Error> {
        *into = self.map.next_value()?;
        if into
            .as_deref()
            .is_some_and(|raw| depth(raw.get()) > MAX_DEPTH)
        {
            return Err(A::Error::custom(format!(
                "nested deeper than {MAX_DEPTH} levels"
            )));
        }
        Ok(Known::Yes)
    }

    /// A field of the dialect that this server does not support.
    pub fn unsupported(self) -> Result<Known, A::Error> {
        match self.map.next_value::<Option<IgnoredAny>>()? {
            None => Ok(Known::Yes),
            Some(_) => Err(A::Error::custom("not supported by this server")),
        }
    }
}

/// Why a text cannot be a request's id.
pub fn unfit_for_id(id: &str) -> Option<String> {
    let fits = (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_graphic());
    (!fits).then(|| format!("an id is 1 to {MAX_REQUEST_ID_BYTES} visible ASCII characters"))
}

struct FieldsVisitor<'a, F> {
    place: &'a Place,
    fields: F,
}

impl<'de, F: Fields> Visitor<'de> for FieldsVisitor<'_, F> {
    type Value = F;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<F, A::Error> {
        // Bounded by the fields that exist: the first that does not ends the loop.
        let mut seen: Vec<String> = Vec::new();
        while let Some(name) = map.next_key::<String>()? {
            self.place.at_field(Some(&name));
            if seen.contains(&name) {
                return Err(A::Error::custom("given twice"));
            }
            let value = FieldValue {
                place: self.place,
                map: &mut map,
            };
            let known = self.fields.read(&name, value)?;
            self.place.at_field(None);
            if let Known::No = known {
                let message = format!("Unrecognized request argument supplied: {name}");
                return Err(A::Error::custom(message));
            }
            seen.push(name);
        }
        Ok(self.fields)
    }
}

struct Integer {
    min: i64,
    max: i64,
}

impl<'de> DeserializeSeed<'de> for Integer {
    type Value = Option<i64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Integer {
    type Value = Option<i64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an integer from {} to {}", self.min, self.max)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        if (self.min..=self.max).contains(&value) {
            return Ok(Some(value));
        }
        Err(E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// The deepest nesting of JSON that is known to be well-formed.
fn depth(json: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
