//! Images decoded and resampled as Pillow 13.0.0 does: to the bit, but for JPEG, which every
//! decoder rounds its own way.

use std::path::PathBuf;

use serde::Deserialize;
use tenon_preprocess::{Crop, Image, ImageLimits, Size};

/// The greatest difference of a channel that was found in JPEG, of 255, away from the image's
/// outermost pixels; and its mean over all of them.
const JPEG_MAX_INSIDE: u8 = 4;
const JPEG_MAX_MEAN: f64 = 0.36;

/// The same for the outermost pixels: where colour is stored at half the resolution, this
/// decoder takes what pads the last column or row for neighbours of it.
const JPEG_MAX_OUTERMOST: u8 = 14;

#[derive(Deserialize)]
struct Cases {
    decoded: Vec<Decoded>,
    resized: Vec<Resized>,
}

#[derive(Deserialize)]
struct Decoded {
    file: String,
    size: (u32, u32),
    /// Where the expected pixels lie.
    at: usize,
}

#[derive(Deserialize)]
struct Resized {
    file: String,
    to: (u32, u32),
    crop: (u32, u32, u32, u32),
    at: usize,
}

fn read(file: &str) -> Vec<u8> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/images");
    std::fs::read(dir.join(file)).unwrap()
}

fn cases() -> (Cases, Vec<u8>) {
    let cases = serde_json::from_slice(&read("images.json")).unwrap();
    (cases, read("pixels.bin"))
}

fn decode(file: &str) -> Image {
    Image::decode(&read(file), &ImageLimits::default())
        .unwrap_or_else(|error| panic!("{file}: {error}"))
}

#[test]
fn decodes_exact_formats_to_the_bit() {
    let (cases, pixels) = cases();
    let exact = |case: &&Decoded| !case.file.ends_with(".jpg");
    assert!(cases.decoded.iter().filter(exact).count() > 60);
    for case in cases.decoded.iter().filter(exact) {
        let image = decode(&case.file);
        let (width, height) = case.size;
        assert_eq!(image.size(), Size { width, height }, "{}", case.file);
        let expected = &pixels[case.at..][..image.rgb().len()];
        let differs = image.rgb().iter().zip(expected).position(|(a, b)| a != b);
        let what = differs.map(|at| (at / 3 % width as usize, at / 3 / width as usize));
        assert_eq!(what, None, "{}: the first pixel that differs", case.file);
    }
}

#[test]
fn decodes_jpeg_within_rounding() {
    let (cases, pixels) = cases();
    let jpeg = |case: &&Decoded| case.file.ends_with(".jpg");
    let (mut inside, mut outermost) = (0, 0);
    let (mut sum, mut count) = (0.0, 0);
    for case in cases.decoded.iter().filter(jpeg) {
        let image = decode(&case.file);
        let (width, height) = case.size;
        assert_eq!(image.size(), Size { width, height }, "{}", case.file);
        let expected = &pixels[case.at..][..image.rgb().len()];
        for (at, (&found, &expected)) in image.rgb().iter().zip(expected).enumerate() {
            let (x, y) = (at as u32 / 3 % width, at as u32 / 3 / width);
            let is_outermost = x == 0 || y == 0 || x + 1 == width || y + 1 == height;
            let greatest = if is_outermost {
                &mut outermost
            } else {
                &mut inside
            };
            let difference = found.abs_diff(expected);
            *greatest = difference.max(*greatest);
            sum += f64::from(difference);
            count += 1;
        }
    }
    let mean = sum / f64::from(count);
    println!("JPEG: at most {inside} inside, {outermost} at the edge, {mean:.3} in the mean");
    assert!(inside <= JPEG_MAX_INSIDE, "{inside}");
    assert!(outermost <= JPEG_MAX_OUTERMOST, "{outermost}");
    assert!(mean <= JPEG_MAX_MEAN, "{mean}");
}

#[test]
fn resamples_to_the_bit() {
    let (cases, pixels) = cases();
    assert!(cases.resized.len() > 40);
    for case in cases.resized {
        let to = Size {
            width: case.to.0,
            height: case.to.1,
        };
        let (left, top, width, height) = case.crop;
        let crop = Crop {
            left,
            top,
            width,
            height,
        };
        let image = decode(&case.file).resample(to, crop).unwrap();
        assert_eq!(image.size(), Size { width, height });
        let expected = &pixels[case.at..][..image.rgb().len()];
        let differs = image.rgb().iter().zip(expected).position(|(a, b)| a != b);
        assert_eq!(differs, None, "{} to {to}, {crop:?}", case.file);
    }
}

#[test]
fn resamples_a_sliver_without_all_that_is_around_the_crop() {
    let column = decode("size-1x9.png");
    let tall = column.resample(size(1, 10_000), Crop::all(size(1, 10_000)));
    let tall = tall.unwrap();
    let crop = Crop {
        left: 0,
        top: 1_119_888,
        width: 224,
        height: 224,
    };
    let part = tall.resample(size(224, 2_240_000), crop).unwrap();
    assert_eq!(part.size(), size(224, 224));
    // All columns are the only column.
    let (pixels, _) = part.rgb().as_chunks::<3>();
    assert!(
        pixels
            .chunks(224)
            .all(|row| row.iter().all(|pixel| *pixel == row[0]))
    );
}

fn size(width: u32, height: u32) -> Size {
    Size { width, height }
}
