//! HTTP: routes, limits, errors, shutdown.

pub mod service;
