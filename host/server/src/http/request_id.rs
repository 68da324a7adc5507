//! The id under which a request is known to client and log.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};

/// The header that carries it, in both directions.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken from a client: it goes to logs and back into a header.
const MAX_BYTES: usize = 128;

/// Makes ids that nobody can guess or collide with: a keyed hash of a counter.
#[derive(Debug, Default)]
pub(super) struct RequestIds {
    keys: (RandomState, RandomState),
    next: AtomicU64,
}

impl RequestIds {
    /// The client's id if it is well formed, else a new one.
    pub(super) fn of(&self, headers: &HeaderMap) -> String {
        let given = headers.get(X_REQUEST_ID).map(HeaderValue::as_bytes);
        match given.and_then(well_formed) {
            Some(id) => id.to_owned(),
            None => self.new_id(),
        }
    }

    fn new_id(&self) -> String {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (self.keys.0.hash_one(count), self.keys.1.hash_one(count));
        format!("req_{high:016x}{low:016x}")
    }
}

/// Whether an id may go to logs and into a header.
pub fn is_well_formed(id: &str) -> bool {
    well_formed(id.as_bytes()).is_some()
}

/// 1 to 128 visible ASCII characters.
fn well_formed(id: &[u8]) -> Option<&str> {
    let fits = (1..=MAX_BYTES).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    std::str::from_utf8(id).ok().filter(|_| fits)
}

/// The id as a header, if it is well formed.
pub(super) fn header(id: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(well_formed(id.as_bytes())?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_well_formed_id_and_makes_one_otherwise() {
        let ids = RequestIds::default();
        let longest = "x".repeat(MAX_BYTES);
        for good in ["a", "req-1/2:3", &longest] {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(good).unwrap());
            assert_eq!(ids.of(&headers), good);
        }
        let too_long = format!("{longest}x");
        for bad in ["", "two words", "\u{e9}", "tab\there", &too_long] {
            let mut headers = HeaderMap::new();
            headers.insert(
                X_REQUEST_ID,
                HeaderValue::from_bytes(bad.as_bytes()).unwrap(),
            );
            assert!(ids.of(&headers).starts_with("req_"), "{bad:?}");
            assert!(header(bad).is_none());
        }
        assert_ne!(ids.new_id(), ids.new_id());
        assert!(header(&ids.new_id()).is_some());
    }
}
