//! Why something could not be fetched.

use std::time::Duration;

/// An error of fetching. Its message is for the caller who sent the URL: it says nothing about
/// addresses that the caller did not name; what does is the source, for the log.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The operator allows no host.
    #[error(
        "nothing is fetched by URL here: the operator of the server may allow hosts with \
         --image-hosts or TENON_IMAGE_HOSTS"
    )]
    Off,
    /// Not a URL that can be fetched.
    #[error("the URL cannot be fetched: {0}")]
    Url(String),
    /// A host that is not on the list.
    #[error("{host} is not among the hosts that the operator allows to fetch from")]
    Host {
        /// The URL's host.
        host: String,
    },
    /// An allowed host, but an address that is not.
    #[error("{host} leads to an address that is not public")]
    Address {
        /// The URL's host.
        host: String,
    },
    /// A redirect to what is not allowed or does not answer.
    #[error("the URL redirects to what cannot be fetched")]
    Redirect(#[source] Box<FetchError>),
    /// A long way, or a circle.
    #[error("the URL redirects more than {limit} times, the limit")]
    Redirects {
        /// The most redirects.
        limit: usize,
    },
    /// No address, no connection or no trust.
    #[error("cannot connect to {host}")]
    Connect {
        /// The URL's host.
        host: String,
        /// What happened.
        #[source]
        source: std::io::Error,
    },
    /// An answer that is broken, or ends early.
    #[error("{host} gave no proper answer")]
    Answer {
        /// The URL's host.
        host: String,
        /// What happened.
        #[source]
        source: hyper::Error,
    },
    /// An answer that has not what was asked for.
    #[error("the server answered the URL with status {status}")]
    Status {
        /// The HTTP status.
        status: u16,
    },
    /// A compressed answer, although none was asked for.
    #[error("the server compressed its answer to the URL, which was not asked for")]
    Compressed,
    /// More bytes than the limit.
    #[error("the file has more than {limit} bytes, the limit")]
    TooLarge {
        /// The most bytes.
        limit: usize,
    },
    /// More time than the limit.
    #[error("fetching took longer than {} s, the limit", limit.as_secs_f32())]
    TooSlow {
        /// The longest time.
        limit: Duration,
    },
}

impl FetchError {
    /// Whether the message names the host that was asked.
    pub(super) fn names_host(&self) -> bool {
        matches!(
            self,
            Self::Host { .. } | Self::Address { .. } | Self::Connect { .. } | Self::Answer { .. }
        )
    }

    /// The same, of a host that the caller did not name.
    pub(super) fn of_redirect(self) -> Self {
        Self::Redirect(Box::new(self))
    }
}
