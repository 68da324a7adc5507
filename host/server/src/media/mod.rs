//! Media that a request names by URL: fetched from the hosts that the operator allows, and
//! from nowhere else.
//!
//! A fetch is hyper's bare connection over an address that was checked. A client of more
//! comfort pools, follows redirects, asks the environment for a proxy and resolves names
//! behind one's back, all of which would have to be switched off and stay so. It costs one
//! crate that the server did not have yet, for TLS over a tokio stream. So there are no
//! cookies, no proxy and no second resolution, and each redirect is checked like a new URL.

mod address;
mod error;
mod exchange;
mod fetch;
mod policy;
mod target;

#[cfg(test)]
mod tests;

pub use error::FetchError;
pub use fetch::{FetchLimits, Fetcher};
pub use policy::{FetchPolicy, PolicyError};
