//! Stub.
pub struct Fetcher;
#[derive(Debug, thiserror::Error)]
#[error("stub")]
pub struct FetchError;
impl Fetcher {
    pub async fn fetch(&self, _: &str) -> Result<bytes::Bytes, FetchError> {
        Err(FetchError)
    }
}
