//! The operator's API keys: their text, and the lookup that tells nothing by its timing.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::{ConditionallySelectable, ConstantTimeEq};

/// Longest key in bytes, configured or presented: room for a signed token, and a bound on
/// what is hashed for a stranger.
const MAX_KEY_BYTES: usize = 4096;

/// Whoever holds a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant {
    /// The name that logs and metrics use.
    pub name: Arc<str>,
}

/// Why a list of keys is refused. Messages name the place in the list, never the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nothing stands where the key should.
    #[error("api key {0} is empty")]
    Empty(usize),
    /// A key that no `authorization` header can carry.
    #[error(
        "api key {0} holds a character that a header cannot carry, or more than {MAX_KEY_BYTES} bytes"
    )]
    Unusable(usize),
    /// One key for two tenants.
    #[error("api key {0} repeats an earlier key")]
    Repeated(usize),
    /// One name for two keys.
    #[error("the name of api key {0} repeats an earlier name")]
    RepeatedName(usize),
}

/// All API keys, kept as digests. Without any, everyone may call.
#[derive(Clone, Default)]
pub struct Keys {
    entries: Arc<[(Digest256, Tenant)]>,
}

type Digest256 = [u8; 32];

impl Keys {
    /// Reads keys in the form `KEY`, whose tenant is `key-N` (counting from 1), or
    /// `NAME:KEY`, where the name has only ASCII letters, digits, `-`, `_` and `.`.
    pub fn from_list<S: AsRef<str>>(list: &[S]) -> Result<Self, KeyError> {
        let mut entries: Vec<(Digest256, Tenant)> = Vec::with_capacity(list.len());
        for (index, entry) in list.iter().enumerate() {
            let number = index + 1;
            let (name, key) = match entry.as_ref().split_once(':') {
                Some((name, key)) if is_name(name) => (name.to_owned(), key),
                _ => (format!("key-{number}"), entry.as_ref()),
            };
            if key.is_empty() {
                return Err(KeyError::Empty(number));
            }
            if key.len() > MAX_KEY_BYTES || !key.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(KeyError::Unusable(number));
            }
            let digest = digest(key.as_bytes());
            if entries.iter().any(|(known, _)| *known == digest) {
                return Err(KeyError::Repeated(number));
            }
            if entries.iter().any(|(_, known)| *known.name == *name) {
                return Err(KeyError::RepeatedName(number));
            }
            let tenant = Tenant { name: name.into() };
            entries.push((digest, tenant));
        }
        Ok(Self {
            entries: entries.into(),
        })
    }

    /// Whether callers need a key at all.
    pub fn required(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Whose key this is. Every digest is compared, each in constant time, so the time
    /// taken tells neither how much of a key is right nor which key it is.
    pub fn find(&self, key: &[u8]) -> Option<&Tenant> {
        if key.len() > MAX_KEY_BYTES {
            return None;
        }
        let presented = digest(key);
        let mut found = u64::MAX;
        for (index, (known, _)) in self.entries.iter().enumerate() {
            let equal = known.ct_eq(&presented);
            found = u64::conditional_select(&found, &(index as u64), equal);
        }
        let (_, tenant) = self.entries.get(usize::try_from(found).ok()?)?;
        Some(tenant)
    }
}

/// Shows names only, so that no log can hold a key.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.entries.iter().map(|(_, tenant)| &tenant.name);
        f.debug_list().entries(names).finish()
    }
}

fn is_name(name: &str) -> bool {
    let in_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= 64 && name.bytes().all(in_name)
}

fn digest(key: &[u8]) -> Digest256 {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_tenant_of_a_key_and_of_no_other() {
        let keys = Keys::from_list(&["sk-one", "team-a:sk-two", "sk:with:colons!"]).unwrap();
        let name = |key: &str| keys.find(key.as_bytes()).map(|t| t.name.to_string());
        assert!(keys.required());
        assert_eq!(name("sk-one").as_deref(), Some("key-1"));
        assert_eq!(name("sk-two").as_deref(), Some("team-a"));
        assert_eq!(name("with:colons!").as_deref(), Some("sk"));
        for wrong in ["", "sk-on", "sk-onee", "SK-ONE", "team-a:sk-two"] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
        assert_eq!(name(&"x".repeat(MAX_KEY_BYTES + 1)), None);
    }

    #[test]
    fn a_colon_after_what_is_no_name_belongs_to_the_key() {
        let keys = Keys::from_list(&["a/b:c"]).unwrap();
        assert!(keys.find(b"a/b:c").is_some());
    }

    #[test]
    fn refuses_bad_lists_without_echoing_them() {
        let check = |list: &[&str], expected: KeyError| {
            let error = Keys::from_list(list).unwrap_err();
            assert_eq!(error, expected);
            assert!(!error.to_string().contains("secret"));
        };
        check(&[""], KeyError::Empty(1));
        check(&["secret", "name:"], KeyError::Empty(2));
        check(&["a secret"], KeyError::Unusable(1));
        check(&["secré"], KeyError::Unusable(1));
        check(&["secret", "b:secret"], KeyError::Repeated(2));
        check(&["a:secret", "a:secret2"], KeyError::RepeatedName(2));
    }

    #[test]
    fn without_keys_none_is_required() {
        assert!(!Keys::default().required());
        assert!(Keys::default().find(b"anything").is_none());
    }

    #[test]
    fn debug_shows_names_only() {
        let keys = Keys::from_list(&["team:sk-secret"]).unwrap();
        assert_eq!(format!("{keys:?}"), "[\"team\"]");
    }
}
