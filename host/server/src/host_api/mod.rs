//! What the host offers to components, one file a WIT interface.
