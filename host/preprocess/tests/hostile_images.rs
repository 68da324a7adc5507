//! Images that are cut, damaged or claim to be larger than they are: each an error, none a
//! panic, and none paid for with memory before its size is known.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tenon_preprocess::{Crop, Image, ImageError, ImageLimits, Size};

/// Small, so that what claims much is refused and the tests are quick.
const LIMITS: ImageLimits = ImageLimits {
    max_pixels: 1_000_000,
};

fn read(file: &str) -> Vec<u8> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/images");
    std::fs::read(dir.join(file)).unwrap()
}

/// The good files of a format.
fn files(extension: &str) -> Vec<(String, Vec<u8>)> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/images");
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(extension) && !name.starts_with("hostile"))
        .collect();
    names.sort();
    assert!(names.len() > 8, "{extension}");
    names
        .into_iter()
        .map(|name| (name.clone(), read(&name)))
        .collect()
}

fn size(width: u32, height: u32) -> Size {
    Size { width, height }
}

#[test]
fn a_file_that_ends_early_is_refused() {
    for extension in [".jpg", ".webp"] {
        for (name, bytes) in files(extension) {
            for len in 0..bytes.len() {
                let result = Image::decode(&bytes[..len], &LIMITS);
                assert!(result.is_err(), "{name} decodes from {len} bytes");
            }
        }
    }
}

/// Of these, what follows the pixels is not needed.
#[test]
fn a_file_that_ends_before_its_pixels_do_is_refused() {
    for extension in [".png", ".gif"] {
        for (name, bytes) in files(extension) {
            let whole = Image::decode(&bytes, &LIMITS).unwrap();
            for len in 0..bytes.len() {
                if let Ok(image) = Image::decode(&bytes[..len], &LIMITS)
                    && !name.starts_with("exif")
                {
                    assert_eq!(image, whole, "{name} from {len} bytes");
                }
            }
            let result = Image::decode(&bytes[..bytes.len() / 4], &LIMITS);
            assert!(result.is_err(), "{name} decodes from a quarter");
        }
    }
}

#[test]
fn damage_never_panics() {
    const ROUNDS: usize = 4_000;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    for extension in [".png", ".jpg", ".webp", ".gif"] {
        let files = files(extension);
        let (mut decoded, mut refused) = (0, 0);
        for _ in 0..ROUNDS {
            let (_, bytes) = &files[random(files.len())];
            let mut bytes = bytes.clone();
            for _ in 0..1 + random(5) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            match Image::decode(&bytes, &LIMITS) {
                Ok(image) => {
                    assert_eq!(image.rgb().len() as u64, 3 * image.size().pixels());
                    decoded += 1;
                }
                Err(_) => refused += 1,
            }
        }
        println!("{extension}: {decoded} decoded, {refused} refused");
        assert!(decoded > 0 && refused > 0, "{extension}");
    }
}

#[test]
fn a_size_is_refused_before_pixels_are_decoded() {
    let check = |file: &str, expected: ImageError| {
        let start = Instant::now();
        let error = Image::decode(&read(file), &LIMITS).unwrap_err();
        assert_eq!(error, expected, "{file}");
        assert!(start.elapsed() < Duration::from_millis(500), "{file}");
    };
    let too_many = |width, height| ImageError::TooManyPixels {
        size: size(width, height),
        limit: LIMITS.max_pixels,
    };
    let too_long = |width, height| ImageError::TooLong {
        size: size(width, height),
        limit: 65_535,
    };
    check("hostile-large.png", too_many(60_000, 60_000));
    check("hostile-long.png", too_long(70_000, 1));
    check("hostile-screen.gif", too_many(60_000, 60_000));
    check("hostile-frame.gif", too_many(65_009, 65_009));
    check("hostile.jpg", too_many(60_000, 60_000));
    check("hostile.webp", too_long(16_000_001, 16_000_001));
}

#[test]
fn a_size_of_zero_is_refused() {
    let error = Image::decode(&read("hostile-empty.png"), &LIMITS).unwrap_err();
    assert!(
        matches!(error, ImageError::Damaged { .. } | ImageError::Empty { .. }),
        "{error}"
    );
}

#[test]
fn the_limit_is_the_last_that_is_taken() {
    let bytes = read("size-3x2.png");
    assert!(Image::decode(&bytes, &ImageLimits { max_pixels: 6 }).is_ok());
    let error = Image::decode(&bytes, &ImageLimits { max_pixels: 5 }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the image has 3 x 2 pixels, the limit is 5 in all"
    );
}

#[test]
fn other_kinds_are_refused_by_name() {
    for (file, name) in [
        ("other.bmp", "BMP"),
        ("other.tiff", "TIFF"),
        ("other.ico", "ICO"),
    ] {
        let error = Image::decode(&read(file), &LIMITS).unwrap_err();
        assert_eq!(error, ImageError::UnsupportedFormat(name));
    }
}

#[test]
fn resampling_beyond_the_limits_is_refused() {
    let image = Image::decode(&read("photo.png"), &LIMITS).unwrap();
    let crop = |left, top, width, height| Crop {
        left,
        top,
        width,
        height,
    };
    let refused = |to: Size, crop: Crop| {
        let error = image.resample(to, crop).unwrap_err();
        assert_eq!(error, ImageError::Crop { crop, to });
    };
    refused(size(10, 10), crop(0, 0, 0, 5));
    refused(size(10, 10), crop(0, 0, 11, 5));
    refused(size(10, 10), crop(1, 6, 5, 5));
    refused(size(10, 10), crop(u32::MAX, 0, 2, 1));
    refused(size(0, 10), crop(0, 0, 1, 1));

    let error = image.resample(size(u32::MAX, 10), crop(0, 0, 65_536, 1));
    assert_eq!(
        error.unwrap_err().to_string(),
        "the image has 65536 x 1 pixels, the longest side that is taken is 65535"
    );
    let error = image.resample(size(10_000, 10_000), crop(0, 0, 10_000, 10_000));
    let limit = 50_000_000;
    let expected = ImageError::TooManyPixels {
        size: size(10_000, 10_000),
        limit,
    };
    assert_eq!(error.unwrap_err(), expected);
}

/// Shapes whose passes would be large in the wrong order, or if they were not cropped.
#[test]
fn resampling_slivers_is_cheap() {
    let image = Image::decode(&read("photo.png"), &LIMITS).unwrap();
    let sliver = |width, height| {
        let size = size(width, height);
        image.resample(size, Crop::all(size)).unwrap()
    };
    let start = Instant::now();
    let part = Crop {
        left: 0,
        top: 0,
        width: 700,
        height: 700,
    };
    for (image, to) in [
        (sliver(1, 60_000), size(60_000, 800)),
        (sliver(60_000, 1), size(800, 60_000)),
        (sliver(1, 60_000), size(700, 4_200_000_000)),
        (sliver(60_000, 1), size(4_200_000_000, 700)),
        (sliver(60_000, 700), size(700, 700)),
        (sliver(700, 60_000), size(700, 700)),
    ] {
        assert_eq!(image.resample(to, part).unwrap().size(), size(700, 700));
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{start:?}");
}
