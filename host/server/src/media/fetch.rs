//! Fetches files by URL, within the policy and the limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::{ClientConfig, RootCertStore};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::exchange::{Answer, get};
use super::target::Target;
use super::{FetchError, FetchPolicy};

/// Limits of fetching.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchLimits {
    /// Bytes of a file, counted as they arrive. Photographs of fifty megapixels have less.
    pub max_bytes: usize,
    /// How long a fetch may take in all: waiting its turn, names, redirects and the file.
    pub timeout: Duration,
    /// Redirects of one fetch.
    pub max_redirects: usize,
    /// Fetches at once, over all requests; more wait. With `max_bytes` it bounds memory.
    pub max_concurrent: usize,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            max_bytes: 20 << 20,
            timeout: Duration::from_secs(10),
            max_redirects: 5,
            max_concurrent: 16,
        }
    }
}

/// Fetches files; shared by all requests.
#[derive(Debug)]
pub struct Fetcher {
    policy: FetchPolicy,
    limits: FetchLimits,
    slots: Arc<Semaphore>,
    tls: Arc<ClientConfig>,
}

impl Fetcher {
    /// A fetcher that trusts the certificate authorities of Mozilla's list.
    ///
    /// # Errors
    /// If TLS cannot be set up.
    pub fn new(policy: FetchPolicy, limits: FetchLimits) -> Result<Self, rustls::Error> {
        let roots = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
        Self::with_roots(policy, limits, roots)
    }

    pub(super) fn with_roots(
        policy: FetchPolicy,
        limits: FetchLimits,
        roots: RootCertStore,
    ) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            slots: Arc::new(Semaphore::new(limits.max_concurrent)),
            policy,
            limits,
            tls: Arc::new(tls),
        })
    }

    /// The file that a URL names.
    ///
    /// # Errors
    /// [`FetchError`], whose message may be shown to the caller.
    pub async fn fetch(&self, url: &str) -> Result<Bytes, FetchError> {
        if self.policy.is_empty() {
            return Err(FetchError::Off);
        }
        let limit = self.limits.timeout;
        match tokio::time::timeout(limit, self.follow(url)).await {
            Ok(result) => result,
            Err(_) => Err(FetchError::TooSlow { limit }),
        }
    }

    async fn follow(&self, url: &str) -> Result<Bytes, FetchError> {
        let mut target = Target::parse(url, &self.policy)?;
        // Nobody closes the semaphore.
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        let slot = Arc::new(slot.map_err(|_| FetchError::Off)?);
        for hop in 0..=self.limits.max_redirects {
            match self.ask(&target, &slot).await {
                Ok(Answer::File(file)) => return Ok(file),
                Ok(Answer::Elsewhere(location)) => {
                    target = target.redirected(&location, &self.policy)?;
                }
                // The caller knows the first host only.
                Err(error) if hop > 0 && error.names_host() => return Err(error.of_redirect()),
                Err(error) => return Err(error),
            }
        }
        Err(FetchError::Redirects {
            limit: self.limits.max_redirects,
        })
    }
    async fn ask(
        &self,
        target: &Target,
        slot: &Arc<OwnedSemaphorePermit>,
    ) -> Result<Answer, FetchError> {
        let addresses = target.addresses(&self.policy, Arc::clone(slot)).await?;
        get(target, &addresses, &self.tls, self.limits.max_bytes).await
    }
}
