//! The limit of every list in a request.

use serde::de::{Error, IgnoredAny, SeqAccess};

/// Inputs of one request, as OpenAI limits them; messages and parts of content too.
pub const MAX_ITEMS: usize = 2048;

/// The error of a list that goes on after its first `read` items.
pub fn too_many<'de, A: SeqAccess<'de>>(read: usize, mut list: A) -> A::Error {
    let mut items = read;
    loop {
        match list.next_element::<IgnoredAny>() {
            Ok(Some(_)) => items += 1,
            Ok(None) => break,
            Err(error) => return error,
        }
    }
    A::Error::custom(format!("the list has {items} items, more than {MAX_ITEMS}"))
}
