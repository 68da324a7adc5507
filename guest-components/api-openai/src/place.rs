//! Where in a request the reader is, so that an error can say it.

use std::cell::{Cell, RefCell};

use serde::de::Error;
use serde_json::error::Category;
use tenon_sdk::types::{ApiError, Part};

use crate::media::FoundMedia;

/// Bytes of an error message that are kept: a message can quote what the caller sent.
const MAX_MESSAGE_BYTES: usize = 512;

/// A field, an item of its list, a key of that item, an item of what stands there; and the
/// media that were met on the way.
#[derive(Default)]
pub struct Place {
    field: RefCell<Option<String>>,
    item: Cell<Option<usize>>,
    key: Cell<Option<&'static str>>,
    inner: Cell<Option<usize>>,
    media: RefCell<FoundMedia>,
}

impl Place {
    /// The reader is at the value of this field, or at none.
    pub fn at_field(&self, field: Option<&str>) {
        self.field.replace(field.map(str::to_owned));
        self.at_item(None);
    }

    /// The reader is at this item of the field, or at the field itself.
    pub fn at_item(&self, index: Option<usize>) {
        self.item.set(index);
        self.at_key(None);
    }

    /// The reader is at this key of the item, or at the item itself.
    pub fn at_key(&self, key: Option<&'static str>) {
        self.key.set(key);
        self.inner.set(None);
    }

    /// The reader is at this item of the item or of its key, or at those themselves.
    pub fn at_inner(&self, index: Option<usize>) {
        self.inner.set(index);
    }

    /// The reader met an image here, written as `text`.
    pub fn image<E: Error>(&self, text: &str) -> Result<Part, E> {
        let param = self.param().unwrap_or_default();
        let found = self.media.borrow_mut().image(text, param);
        found.map_err(E::custom)
    }

    /// The reader met a video here, written as `text`.
    pub fn video<E: Error>(&self, text: &str) -> Result<Part, E> {
        let param = self.param().unwrap_or_default();
        let found = self.media.borrow_mut().video(text, param);
        found.map_err(E::custom)
    }

    /// What was met.
    pub fn into_media(self) -> FoundMedia {
        self.media.into_inner()
    }

    /// What the caller is told of an error that happened here.
    pub fn explain(&self, error: &serde_json::Error) -> ApiError {
        let message = error.to_string();
        if error.classify() != Category::Data {
            return invalid(None, format!("the body is not valid JSON: {message}"));
        }
        let position = format!(" at line {} column {}", error.line(), error.column());
        let message = message.strip_suffix(&position).unwrap_or(&message);
        invalid(self.param().as_deref(), message)
    }

    fn param(&self) -> Option<String> {
        let mut param = self.field.borrow().clone()?;
        let index = |index: Option<usize>| index.map(|index| format!("[{index}]"));
        let key = self.key.get().map(|key| format!(".{key}"));
        param.extend(
            [index(self.item.get()), key, index(self.inner.get())]
                .into_iter()
                .flatten(),
        );
        Some(param)
    }
}

/// A caller's mistake.
pub fn invalid(param: Option<&str>, message: impl Into<String>) -> ApiError {
    let mut message = message.into();
    if let Some(param) = param {
        message.insert_str(0, &format!("{param}: "));
    }
    if message.len() > MAX_MESSAGE_BYTES {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
        message.push_str("...");
    }
    ApiError {
        status: 400,
        kind: "invalid_request_error".to_owned(),
        message,
        param: param.map(str::to_owned),
        code: None,
    }
}
