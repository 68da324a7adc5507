//! Which path is which route, and what each route allows.

use std::borrow::Cow;

/// A known path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// An embedding call, of the dialect that the path names.
    Embed(&'static str),
    Models,
    /// One model's card, by its decoded id, which may hold slashes.
    Model(Cow<'a, str>),
    ModelInfo(&'static str),
    Health,
    Ready,
    Metrics,
}

impl<'a> Route<'a> {
    /// The route of a path, query string not included.
    pub(super) fn of(path: &'a str) -> Option<Self> {
        Some(match path {
            "/v1/embeddings" => Self::Embed("/v1/embeddings"),
            "/encode" => Self::Embed("/encode"),
            "/v1/models" => Self::Models,
            "/get_model_info" => Self::ModelInfo("/get_model_info"),
            "/model_info" => Self::ModelInfo("/model_info"),
            "/health" => Self::Health,
            "/ready" => Self::Ready,
            "/metrics" => Self::Metrics,
            _ => Self::Model(percent_decode(path.strip_prefix("/v1/models/")?)?),
        })
    }

    /// The name for metrics and logs: no part of it comes from the caller.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Embed(endpoint) | Self::ModelInfo(endpoint) => endpoint,
            Self::Models => "/v1/models",
            Self::Model(_) => "/v1/models/{id}",
            Self::Health => "/health",
            Self::Ready => "/ready",
            Self::Metrics => "/metrics",
        }
    }

    /// The `allow` header.
    pub(super) fn allow(&self) -> &'static str {
        match self {
            Self::Embed(_) => "POST, OPTIONS",
            _ => "GET, HEAD, OPTIONS",
        }
    }

    /// Whether it can be called without a key: probes have none, and scrapers seldom.
    /// `/metrics` names models and counts, no tenant and no content.
    pub(super) fn is_open(&self) -> bool {
        matches!(self, Self::Health | Self::Ready | Self::Metrics)
    }
}

/// Decodes `%2F` and the like; `None` if it does not give text.
fn percent_decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => hex_digit(bytes.next()?)? << 4 | hex_digit(bytes.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_paths() {
        let model = |id: &str| Some(Route::Model(Cow::Owned(id.into())));
        let check = |path, expected| assert_eq!(Route::of(path), expected, "{path}");
        check("/v1/embeddings", Some(Route::Embed("/v1/embeddings")));
        check("/encode", Some(Route::Embed("/encode")));
        check("/v1/models", Some(Route::Models));
        check("/v1/models/mini", model("mini"));
        check("/v1/models/a/b", model("a/b"));
        check("/v1/models/a%2fb%2Fc", model("a/b/c"));
        check("/v1/models/caf%C3%A9", model("caf\u{e9}"));
        check("/v1/models/", model(""));
        for unknown in [
            "/",
            "",
            "*",
            "/v1",
            "/v1/embeddings/",
            "/v1/models/%",
            "/v1/models/%4",
            "/v1/models/%zz",
            "/v1/models/%+1",
            "/v1/models/%ff",
            "/HEALTH",
        ] {
            check(unknown, None);
        }
    }
}
