//! The BERT encoder's forward graph.
