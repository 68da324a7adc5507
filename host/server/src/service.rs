//! The life of one embedding request, from body to body.
