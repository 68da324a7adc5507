//! A URL that may be fetched: understood, and of a host that is allowed.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use tokio::sync::OwnedSemaphorePermit;
use url::{Host, Position, Url};

use super::{FetchError, FetchPolicy};

/// The longest URL, in bytes. Signed ones have some two thousand.
const MAX_URL_BYTES: usize = 8 << 10;

/// A URL whose scheme, host and form are allowed; its addresses are checked when they are known.
#[derive(Debug, Clone)]
pub struct Target {
    url: Url,
    /// Address or name, without the dot that may end it.
    pub host: Host<String>,
    port: u16,
}

impl Target {
    /// Reads a URL.
    pub fn parse(text: &str, policy: &FetchPolicy) -> Result<Self, FetchError> {
        check_len(text)?;
        let url = Url::parse(text).map_err(|error| FetchError::Url(error.to_string()))?;
        Self::checked(url, policy)
    }

    /// Reads a redirect, which may be relative to this URL. It is checked like any other.
    pub fn redirected(&self, location: &str, policy: &FetchPolicy) -> Result<Self, FetchError> {
        let follow = || {
            check_len(location)?;
            let url = self.url.join(location);
            let url = url.map_err(|error| FetchError::Url(error.to_string()))?;
            Self::checked(url, policy)
        };
        // Where it leads is the server's to know, not the caller's.
        follow().map_err(FetchError::of_redirect)
    }

    fn checked(url: Url, policy: &FetchPolicy) -> Result<Self, FetchError> {
        let refused = |what: &str| Err(FetchError::Url(what.to_owned()));
        if !matches!(url.scheme(), "http" | "https") {
            return refused("its scheme is not http or https");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refused("it holds a user name or a password");
        }
        let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
            return refused("it has no host");
        };
        if !policy.allows_host(&host) {
            return Err(FetchError::Host {
                host: host.to_string(),
            });
        }
        let host = match host {
            Host::Domain(name) => Host::Domain(name.strip_suffix('.').unwrap_or(name).to_owned()),
            Host::Ipv4(address) => Host::Ipv4(address),
            Host::Ipv6(address) => Host::Ipv6(address),
        };
        Ok(Self { url, host, port })
    }

    pub fn is_https(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// What follows GET.
    pub fn path_and_query(&self) -> &str {
        &self.url[Position::BeforePath..Position::AfterQuery]
    }

    /// The host and a port that is not the scheme's own.
    pub fn authority(&self) -> &str {
        &self.url[Position::BeforeHost..Position::AfterPort]
    }

    /// The addresses to connect to, all of them allowed. A name is looked up this once: what
    /// is checked here is what the connection goes to. The slot is kept for as long as the
    /// system looks, even if nobody waits for it any more.
    pub async fn addresses(
        &self,
        policy: &FetchPolicy,
        slot: Arc<OwnedSemaphorePermit>,
    ) -> Result<Vec<SocketAddr>, FetchError> {
        let addresses = match &self.host {
            Host::Ipv4(address) => vec![SocketAddr::from((*address, self.port))],
            Host::Ipv6(address) => vec![SocketAddr::from((*address, self.port))],
            Host::Domain(name) => {
                let found = look_up(name.clone(), self.port, slot).await;
                found.map_err(|error| self.unreachable(error))?
            }
        };
        self.admit(addresses, policy)
    }

    /// All addresses, unless one of them is not allowed: a name that leads to some of both is
    /// up to no good.
    pub fn admit(
        &self,
        addresses: Vec<SocketAddr>,
        policy: &FetchPolicy,
    ) -> Result<Vec<SocketAddr>, FetchError> {
        let is_allowed = |address: &SocketAddr| policy.allows_address(address.ip());
        match addresses.iter().all(is_allowed) {
            true => Ok(addresses),
            false => Err(FetchError::Address {
                host: self.host.to_string(),
            }),
        }
    }

    pub fn unreachable(&self, source: std::io::Error) -> FetchError {
        FetchError::Connect {
            host: self.host.to_string(),
            source,
        }
    }

    /// The name that a certificate must have.
    pub fn server_name(&self) -> Option<ServerName<'static>> {
        match &self.host {
            Host::Domain(name) => name.clone().try_into().ok(),
            Host::Ipv4(address) => Some(IpAddr::from(*address).into()),
            Host::Ipv6(address) => Some(IpAddr::from(*address).into()),
        }
    }
}

/// Asks the system, on a thread that may block.
async fn look_up(
    name: String,
    port: u16,
    slot: Arc<OwnedSemaphorePermit>,
) -> std::io::Result<Vec<SocketAddr>> {
    let ask = move || {
        let _slot = slot;
        Ok((name, port).to_socket_addrs()?.collect())
    };
    match tokio::task::spawn_blocking(ask).await {
        Ok(found) => found,
        Err(error) => Err(std::io::Error::other(error)),
    }
}

fn check_len(text: &str) -> Result<(), FetchError> {
    if text.len() > MAX_URL_BYTES {
        let what = format!("it has {} bytes, the limit is {MAX_URL_BYTES}", text.len());
        return Err(FetchError::Url(what));
    }
    Ok(())
}
