//! The images of a request: fetched, measured, and made into what the model sees.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

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

/// Pixels that a request may keep from measuring its images to resampling them: 48 MB. What
/// goes beyond is decoded a second time.
const MAX_KEPT_PIXELS: u64 = 16_000_000;

/// An image whose size is known.
pub struct MeasuredImage {
    bytes: Bytes,
    size: Size,
    /// Its pixels, where they were few enough to keep.
    decoded: Option<Arc<Image>>,
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

    /// Fetches what lies elsewhere, and finds the size of each.
    pub async fn measure(&self, sources: Vec<MediaSource>) -> Result<Vec<MeasuredImage>, ApiError> {
        let fetched = sources.into_iter().map(|source| self.fetch(source));
        let fetched = try_join_all(fetched).await?;
        let mut total = 0;
        for (bytes, param) in &fetched {
            total += bytes.len();
            if total > MAX_REQUEST_BYTES {
                let message = format!(
                    "The images of one request may have {MAX_REQUEST_BYTES} bytes together."
                );
                return Err(ApiError::invalid(message, Some(param)));
            }
        }
        let room = Arc::new(AtomicU64::new(MAX_KEPT_PIXELS));
        let measured = fetched
            .into_iter()
            .map(|(bytes, param)| self.measure_one(bytes, param, room.clone()));
        try_join_all(measured).await
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

    /// Where an image's turn is written may follow its pixels, so that its size is known for
    /// sure only once it is decoded.
    async fn measure_one(
        &self,
        bytes: Bytes,
        param: String,
        room: Arc<AtomicU64>,
    ) -> Result<MeasuredImage, ApiError> {
        let (file, limits) = (bytes.clone(), self.limits);
        let (size, decoded) = self
            .decode(&param, move || {
                let image = Image::decode(&file, &limits)?;
                let size = image.size();
                let kept =
                    room.fetch_update(Relaxed, Relaxed, |room| room.checked_sub(size.pixels()));
                Ok((size, kept.is_ok().then(|| Arc::new(image))))
            })
            .await?;
        Ok(MeasuredImage {
            bytes,
            size,
            decoded,
            param,
        })
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
        let image = images.get(run.image).ok_or_else(failed)?;
        let (file, decoded, limits) = (image.bytes.clone(), image.decoded.clone(), self.limits);
        let (to, crop) = (run.resize, run.crop);
        let resampled = self
            .decode(&image.param, move || match decoded {
                Some(image) => image.resample(to, crop),
                None => Image::decode(&file, &limits)?.resample(to, crop),
            })
            .await?;
        let Size { width, height } = resampled.size();
        Pixels::new(width, height, resampled.into_rgb()).map_err(|_| failed())
    }

    /// Runs `job` where it holds nobody up, once there is a place for it.
    async fn decode<T: Send + 'static>(
        &self,
        param: &str,
        job: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let place = self.decoding.clone().acquire_owned().await;
        let job = tokio::task::spawn_blocking(move || {
            let _place = place;
            job()
        });
        job.await.map_err(|_| failed())?.map_err(|error| {
            ApiError::invalid(format!("The image cannot be used: {error}."), Some(param))
        })
    }
}

fn failed() -> ApiError {
    ApiError::internal("The image could not be read.")
}
