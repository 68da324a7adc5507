//! The images of a request: fetched, measured, and made into what the model sees.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tenon_preprocess::{Image, ImageError, ImageLimits, Size};
use tenon_tensor::Pixels;
use tokio::sync::Semaphore;

use crate::error::ApiError;
use crate::media::Fetcher;
use crate::sandbox::{ImageRun, Media, MediaSource, Rendered};

/// Encoded bytes of all images of a request, which wait in memory until they are decoded.
const MAX_REQUEST_BYTES: usize = 64 << 20;

/// Pixels of all images of a request as the model sees them, which wait in the queue: 16
/// images of the largest size that a Qwen2-VL takes by default.
const MAX_REQUEST_PIXELS: u64 = 16_000_000;

/// An image whose size is known.
pub struct MeasuredImage {
    bytes: Bytes,
    size: Size,
    param: String,
}

impl MeasuredImage {
    /// Its size, upright.
    pub fn size(&self) -> Size {
        self.size
    }
}

/// Reads the images of requests.
pub struct ImageReader {
    fetcher: Fetcher,
    limits: ImageLimits,
    /// Places for images being decoded: each takes a processor, and the memory of a whole
    /// image.
    decoding: Arc<Semaphore>,
}

impl ImageReader {
    /// A reader that decodes `at_a_time` images.
    pub fn new(fetcher: Fetcher, limits: ImageLimits, at_a_time: usize) -> Self {
        Self {
            fetcher,
            limits,
            decoding: Arc::new(Semaphore::new(at_a_time)),
        }
    }

    /// Fetches what lies elsewhere, and reads the size of each.
    pub async fn measure(&self, sources: Vec<MediaSource>) -> Result<Vec<MeasuredImage>, ApiError> {
        let fetched = sources.into_iter().map(|source| self.fetch(source));
        let fetched = try_join_all(fetched).await?;
        let mut total = 0;
        let measured = fetched.into_iter().map(|(bytes, param)| {
            total += bytes.len();
            if total > MAX_REQUEST_BYTES {
                let message = format!(
                    "The images of one request may have {MAX_REQUEST_BYTES} bytes together."
                );
                return Err(ApiError::invalid(message, Some(&param)));
            }
            match Image::measure(&bytes, &self.limits) {
                Ok(size) => Ok(MeasuredImage { bytes, size, param }),
                Err(error) => Err(image_error(&error, &param)),
            }
        });
        measured.collect()
    }

    async fn fetch(&self, source: MediaSource) -> Result<(Bytes, String), ApiError> {
        let MediaSource { media, param } = source;
        match media {
            Media::Bytes(bytes) => Ok((bytes, param)),
            Media::Url(url) => match self.fetcher.fetch(&url).await {
                Ok(bytes) => Ok((bytes, param)),
                Err(error) => {
                    let message = format!("The image cannot be fetched: {error}.");
                    Err(ApiError::invalid(message, Some(&param)))
                }
            },
        }
    }

    /// The pixels of every image that was rendered, in order.
    pub async fn resample(
        &self,
        images: &[MeasuredImage],
        rendered: &[Rendered],
    ) -> Result<Vec<Pixels>, ApiError> {
        let runs: Vec<&ImageRun> = rendered.iter().flat_map(Rendered::images).collect();
        let total: u64 = runs
            .iter()
            .map(|run| u64::from(run.crop.width) * u64::from(run.crop.height))
            .sum();
        if total > MAX_REQUEST_PIXELS {
            let message = format!(
                "The images of one request may have {MAX_REQUEST_PIXELS} pixels together after \
                 they are resized; these have {total}."
            );
            return Err(ApiError::invalid(message, Some("input")));
        }
        let resampled = runs.into_iter().map(|run| self.resample_one(images, run));
        try_join_all(resampled).await
    }

    async fn resample_one(
        &self,
        images: &[MeasuredImage],
        run: &ImageRun,
    ) -> Result<Pixels, ApiError> {
        let failed = || ApiError::internal("The image could not be read.");
        let image = images.get(run.image).ok_or_else(failed)?;
        let place = self.decoding.clone().acquire_owned().await;
        let (bytes, limits) = (image.bytes.clone(), self.limits);
        let (to, crop) = (run.resize, run.crop);
        let job = tokio::task::spawn_blocking(move || {
            let _place = place;
            Image::decode(&bytes, &limits)?.resample(to, crop)
        });
        let resampled = job.await.map_err(|_| failed())?;
        let resampled = resampled.map_err(|error| image_error(&error, &image.param))?;
        let Size { width, height } = resampled.size();
        Pixels::new(width, height, resampled.into_rgb()).map_err(|_| failed())
    }
}

fn image_error(error: &ImageError, param: &str) -> ApiError {
    ApiError::invalid(format!("The image cannot be used: {error}."), Some(param))
}
