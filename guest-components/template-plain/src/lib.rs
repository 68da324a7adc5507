//! Renders text as it is, with sentence-transformers prompts.
