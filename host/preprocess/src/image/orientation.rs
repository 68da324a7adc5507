//! Which way up a picture was taken: the orientation of EXIF or XMP, read and undone as
//! `ImageOps.exif_transpose` of Pillow does.

use super::{Image, Size};

/// The tag of the orientation in EXIF.
const TAG: u16 = 0x0112;
/// The types of its value: 16 bits, 32 bits.
const SHORT: u16 = 3;
const LONG: u16 = 4;
/// Bytes of an entry of a TIFF directory.
const ENTRY_BYTES: usize = 12;

/// Rows and columns that are copied together when they change places, so that both stay in the
/// cache.
const TILE: usize = 32;

/// How the pixels of a file lie to those of the upright image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orientation {
    /// The upright image's rows are the file's columns.
    transposed: bool,
    /// The file's columns run from right to left.
    flipped_x: bool,
    /// The file's rows run from bottom to top.
    flipped_y: bool,
}

impl Orientation {
    /// What a file's EXIF says, else its XMP; upright where neither says anything that is known.
    pub fn of(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Self {
        let value = exif
            .and_then(in_exif)
            .or_else(|| xmp.and_then(in_xmp))
            .unwrap_or(1);
        let (transposed, flipped_x, flipped_y) = match value {
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, false, true),
            7 => (true, true, true),
            8 => (true, true, false),
            _ => (false, false, false),
        };
        Self {
            transposed,
            flipped_x,
            flipped_y,
        }
    }

    /// The image as it should be seen.
    pub fn turn_upright(self, image: Image) -> Image {
        if self == Self::default() {
            return image;
        }
        let Size { width, height } = image.size;
        let size = match self.transposed {
            true => Size {
                width: height,
                height: width,
            },
            false => image.size,
        };
        let (width, height) = (width as usize, height as usize);
        let (source, _) = image.rgb.as_chunks::<3>();
        let mut rgb = vec![0; image.rgb.len()];
        let (target, _) = rgb.as_chunks_mut::<3>();
        let (columns, rows) = (size.width as usize, size.height as usize);
        for top in (0..rows).step_by(TILE) {
            for left in (0..columns).step_by(TILE) {
                for y in top..rows.min(top + TILE) {
                    for x in left..columns.min(left + TILE) {
                        let (mut column, mut row) = if self.transposed { (y, x) } else { (x, y) };
                        if self.flipped_x {
                            column = width - 1 - column;
                        }
                        if self.flipped_y {
                            row = height - 1 - row;
                        }
                        target[y * columns + x] = source[row * width + column];
                    }
                }
            }
        }
        Image { size, rgb }
    }
}

/// The orientation that a TIFF directory holds, after the prefix that some files keep.
fn in_exif(exif: &[u8]) -> Option<u32> {
    let mut tiff = exif;
    while let Some(rest) = tiff.strip_prefix(b"Exif\0\0") {
        tiff = rest;
    }
    let big = match tiff.get(..4)? {
        b"MM\0*" => true,
        b"II*\0" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(match big {
            true => u16::from_be_bytes(bytes),
            false => u16::from_le_bytes(bytes),
        })
    };
    let u32_at = |at: usize| {
        let bytes = *tiff.get(at..)?.first_chunk()?;
        Some(match big {
            true => u32::from_be_bytes(bytes),
            false => u32::from_le_bytes(bytes),
        })
    };
    let directory = usize::try_from(u32_at(4)?).ok()?;
    let count = usize::from(u16_at(directory)?);
    let entries = (0..count).map(|index| directory + 2 + index * ENTRY_BYTES);
    // Of several, the last counts.
    let value = |entry: usize| match (u16_at(entry)?, u16_at(entry + 2)?, u32_at(entry + 4)?) {
        (TAG, SHORT, 1) => u16_at(entry + 8).map(u32::from),
        (TAG, LONG, 1) => u32_at(entry + 8),
        _ => None,
    };
    entries
        .take_while(|&entry| entry < tiff.len())
        .filter_map(value)
        .last()
}

/// The orientation in an XMP packet, as attribute or element.
fn in_xmp(xmp: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b"tiff:Orientation";
    let after_name = (0..xmp.len().checked_sub(NAME.len())?)
        .filter(|&at| xmp[at..].starts_with(NAME))
        .map(|at| &xmp[at + NAME.len()..]);
    after_name
        .filter_map(|rest| {
            let value = rest.strip_prefix(b"=\"").or(rest.strip_prefix(b">"))?;
            char::from(*value.first()?).to_digit(10)
        })
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A TIFF directory of the entries: tag, type, value.
    fn exif(big: bool, entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let short = |value: u16| match big {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        };
        let long = |value: u32| match big {
            true => value.to_be_bytes(),
            false => value.to_le_bytes(),
        };
        let mut tiff = match big {
            true => b"MM\0*".to_vec(),
            false => b"II*\0".to_vec(),
        };
        tiff.extend(long(8));
        tiff.extend(short(entries.len() as u16));
        for &(tag, kind, value) in entries {
            tiff.extend(short(tag));
            tiff.extend(short(kind));
            tiff.extend(long(1));
            if kind == SHORT {
                tiff.extend(short(value as u16));
                tiff.extend([0, 0]);
            } else {
                tiff.extend(long(value));
            }
        }
        tiff
    }

    fn image(width: u32, rgb: &[u8]) -> Image {
        let rgb: Vec<u8> = rgb.iter().flat_map(|&value| [value; 3]).collect();
        let height = rgb.len() as u32 / 3 / width;
        let size = Size { width, height };
        Image { size, rgb }
    }

    #[test]
    fn reads_either_byte_order_type_and_place() {
        for big in [true, false] {
            for kind in [SHORT, LONG] {
                let exif = exif(big, &[(0x010f, SHORT, 9), (TAG, kind, 6)]);
                assert_eq!(in_exif(&exif), Some(6));
                let prefixed = [b"Exif\0\0".as_slice(), b"Exif\0\0", &exif].concat();
                assert_eq!(in_exif(&prefixed), Some(6));
                for cut in 0..exif.len() - 2 {
                    let _ = in_exif(&exif[..cut]);
                }
            }
        }
        assert_eq!(in_exif(&exif(true, &[(TAG, 2, 6)])), None, "a text");
        let wild = [b"II*\0".as_slice(), &u32::MAX.to_le_bytes()].concat();
        assert_eq!(in_exif(&wild), None, "a directory beyond the end");
    }

    #[test]
    fn reads_xmp_where_exif_is_silent() {
        let xmp = br#"<rdf tiff:Orientation="8"/>"#;
        let element = b"<tiff:Orientation>8</tiff:Orientation>";
        let expected = Orientation::of(Some(&exif(true, &[(TAG, SHORT, 8)])), None);
        assert_eq!(Orientation::of(None, Some(xmp)), expected);
        assert_eq!(
            Orientation::of(Some(&exif(true, &[])), Some(element)),
            expected
        );
        assert_eq!(
            Orientation::of(None, Some(b"tiff:Orientation")),
            Orientation::default()
        );
        let upright = exif(false, &[(TAG, SHORT, 1)]);
        assert_eq!(
            Orientation::of(Some(&upright), Some(xmp)),
            Orientation::default()
        );
    }

    #[test]
    fn turns_two_rows_of_three_upright() {
        let check = |value: u32, width: u32, expected: &[u8]| {
            let orientation = Orientation::of(Some(&exif(false, &[(TAG, SHORT, value)])), None);
            let turned = orientation.turn_upright(image(3, &[1, 2, 3, 4, 5, 6]));
            assert_eq!(turned, image(width, expected), "{value}");
        };
        check(1, 3, &[1, 2, 3, 4, 5, 6]);
        check(2, 3, &[3, 2, 1, 6, 5, 4]);
        check(3, 3, &[6, 5, 4, 3, 2, 1]);
        check(4, 3, &[4, 5, 6, 1, 2, 3]);
        check(5, 2, &[1, 4, 2, 5, 3, 6]);
        check(6, 2, &[4, 1, 5, 2, 6, 3]);
        check(7, 2, &[6, 3, 5, 2, 4, 1]);
        check(8, 2, &[3, 6, 2, 5, 1, 4]);
        check(9, 3, &[1, 2, 3, 4, 5, 6]);
    }
}
