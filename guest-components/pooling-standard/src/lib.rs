//! The sentence-transformers pooling modes, Dense, Normalize and Matryoshka.
