//! The five jobs that a component can do.

/// A role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Reads the body of a request.
    RequestParser,
    /// Renders inputs for the tokenizer.
    Template,
    /// Computes hidden states.
    Model,
    /// Makes vectors of hidden states.
    Pooling,
    /// Writes the body of an answer.
    ResponseEncoder,
}

impl Role {
    /// Every role, in the order of a request's life.
    pub const ALL: [Self; 5] = [
        Self::RequestParser,
        Self::Template,
        Self::Model,
        Self::Pooling,
        Self::ResponseEncoder,
    ];

    /// The name as it stands in `wit/` and in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::RequestParser => "request-parser",
            Self::Template => "template",
            Self::Model => "model",
            Self::Pooling => "pooling",
            Self::ResponseEncoder => "response-encoder",
        }
    }

    /// The interfaces that the role may import, besides `types` and inert WASI. This is
    /// the whole of its capabilities.
    pub fn capabilities(self) -> &'static [&'static str] {
        match self {
            Self::RequestParser | Self::ResponseEncoder => &["config"],
            Self::Template => &["config", "tokenizer"],
            Self::Model => &["config", "tensor", "weights", "batches"],
            Self::Pooling => &["config", "tensor", "weights"],
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
