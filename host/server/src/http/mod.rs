//! HTTP: routes, limits, errors, shutdown.
//!
//! A request passes `server` (accepts connections), `connection` (HTTP/1 or HTTP/2, their
//! timeouts), `handle` (route, key, limits, id, metrics) and, if it is for an embedding,
//! the [`EmbedService`](service::EmbedService). Every error that `handle` makes has the
//! shape of the OpenAI API; a request that is not HTTP gets hyper's bare 400, 414 or 431.
//!
//! | route | methods | needs a key | counts as work |
//! |---|---|---|---|
//! | `/v1/embeddings`, `/encode` | POST | yes | yes |
//! | `/v1/models`, `/v1/models/{id}`, `/model_info`, `/get_model_info` | GET, HEAD | yes | no |
//! | `/health`, `/ready`, `/metrics` | GET, HEAD | no | no |

mod body;
mod connection;
mod handle;
mod lifecycle;
mod model_info;
mod options;
mod panic;
mod request_id;
mod respond;
mod routes;
mod server;
pub mod service;
mod write_timeout;

#[cfg(test)]
mod tests;

pub use lifecycle::{Lifecycle, StopSignals};
pub use options::HttpOptions;
pub use request_id::is_well_formed as is_request_id;
pub use server::Server;
