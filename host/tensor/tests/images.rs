//! From pixels to patches, against plain loops; and what such operations refuse.

mod common;

use common::{Random, check_close, contexts};
use tenon_tensor::{Batch, Error, PatchOptions, Patches, PixelOptions, Pixels, PlacedImage, ops};

const MEAN: [f32; 3] = [0.48145466, 0.4578275, 0.40821073];
const DEVIATION: [f32; 3] = [0.26862954, 0.261_302_6, 0.275_777_1];

fn image(random: &mut Random, width: u32, height: u32) -> (Pixels, Vec<u8>) {
    let bytes: Vec<u8> = (0..width * height * 3)
        .map(|_| random.integer(0, 255) as u8)
        .collect();
    (Pixels::new(width, height, bytes.clone()).unwrap(), bytes)
}

/// Rows by blocks, columns by channel, frame, line and pixel: the order of Qwen2-VL.
#[test]
fn pixels_are_normalised_and_laid_out_by_patch() {
    let (size, merge, leading, frames) = (3, 2, 1, 2);
    for ctx in contexts() {
        let mut random = Random(31);
        let sizes = [(12, 6), (6, 18)];
        let images = sizes.map(|(width, height)| image(&mut random, width, height));
        let options = PatchOptions {
            size: size as u32,
            merge: merge as u32,
            leading,
        };
        let pixels = images.iter().map(|(pixels, _)| pixels.clone()).collect();
        let patches = Patches::cut(pixels, options).unwrap();
        let how = PixelOptions {
            frames,
            mean: MEAN,
            deviation: DEVIATION,
        };
        let found = ops::pixels(&ctx, &patches, &how).unwrap();
        let row_width = 3 * frames * size * size;
        let mut wanted = Vec::new();
        for ((width, height), (_, bytes)) in sizes.iter().zip(&images) {
            let (width, height) = (*width as usize, *height as usize);
            wanted.extend(vec![0.0; leading as usize * row_width]);
            for block_y in 0..height / size / merge {
                for block_x in 0..width / size / merge {
                    for inner in 0..merge * merge {
                        let top = (block_y * merge + inner / merge) * size;
                        let left = (block_x * merge + inner % merge) * size;
                        for channel in 0..3 {
                            for place in 0..frames * size * size {
                                let (y, x) = (place / size % size, place % size);
                                let at = ((top + y) * width + left + x) * 3 + channel;
                                let value = f64::from(bytes[at]) / 255.0;
                                let mean = f64::from(MEAN[channel]);
                                wanted.push((value - mean) / f64::from(DEVIATION[channel]));
                            }
                        }
                    }
                }
            }
        }
        assert_eq!(found.shape(), [wanted.len() / row_width, row_width]);
        check_close("pixels", &found.to_f32().unwrap(), &wanted, 1e-6, 1e-6);
    }
}

#[test]
fn refuses_bad_pixel_options() {
    for ctx in contexts() {
        let (pixels, _) = image(&mut Random(3), 4, 4);
        let options = PatchOptions {
            size: 2,
            merge: 1,
            leading: 0,
        };
        let patches = Patches::cut(vec![pixels], options).unwrap();
        let good = PixelOptions {
            frames: 1,
            mean: MEAN,
            deviation: DEVIATION,
        };
        assert!(ops::pixels(&ctx, &patches, &good).is_ok());
        for bad in [
            PixelOptions { frames: 0, ..good },
            PixelOptions { frames: 17, ..good },
            PixelOptions {
                mean: [f32::NAN, 0.0, 0.0],
                ..good
            },
            PixelOptions {
                deviation: [0.5, 0.0, 0.5],
                ..good
            },
        ] {
            let refused = ops::pixels(&ctx, &patches, &bad);
            assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{bad:?}");
        }
    }
}

#[test]
fn rows_are_joined_and_split() {
    for ctx in contexts() {
        let mut random = Random(4);
        let (x, values) = random.tensor(&ctx, &[6, 4]);
        let joined = ops::reshape(&ctx, &x, &[3, 8]).unwrap();
        assert_eq!(joined.to_f32().unwrap(), values);
        // Columns of wider rows are copied first.
        let part = ops::slice(&ctx, &x, 1, 1, 2).unwrap();
        let joined = ops::reshape(&ctx, &part, &[2, 6]).unwrap();
        assert_eq!(joined.shape(), [2, 6]);
        assert_eq!(joined.to_f32().unwrap(), part.to_f32().unwrap());
        let refused = ops::reshape(&ctx, &x, &[5, 5]);
        assert!(matches!(refused, Err(Error::ShapeMismatch(_))));
    }
}

/// The rows of images take the places of their placeholders by a gather.
#[test]
fn rows_of_images_replace_placeholders() {
    for ctx in contexts() {
        let mut random = Random(5);
        let (text, rows_of_text) = random.tensor(&ctx, &[4, 3]);
        let (images, rows_of_images) = random.tensor(&ctx, &[2, 3]);
        let placed = PlacedImage {
            start: 1,
            rows: 1,
            columns: 2,
            pixels: image(&mut random, 2, 2).0,
        };
        let batch = Batch::packed(vec![9; 4], vec![0, 4], &[0], vec![placed]).unwrap();
        let both = ops::concat(&ctx, &[&text, &images], 0).unwrap();
        let merged = ops::embedding(&ctx, &both, &batch.rows_with_images(), None).unwrap();
        let mut wanted = rows_of_text.clone();
        wanted[3..9].copy_from_slice(&rows_of_images);
        assert_eq!(merged.to_f32().unwrap(), wanted);
    }
}
