//! Frames between the server and a worker process, and the values in them: lengths before
//! everything, all numbers little-endian, nothing allocated that did not arrive.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// The largest frame. A batch of text takes kilobytes; this holds 350 million pixels, and the
/// vectors of 65536 sequences at 4096 dimensions.
pub const MAX_FRAME_BYTES: usize = 1 << 30;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// They end too early.
    #[error("a frame ends within its {what}: {wanted} bytes wanted, {left} left")]
    Short {
        /// What was read.
        what: &'static str,
        /// Bytes that it takes.
        wanted: u64,
        /// Bytes that there are.
        left: usize,
    },
    /// They go on after the last value.
    #[error("a frame has {0} bytes too many")]
    Rest(usize),
    /// A value that its place does not allow.
    #[error("a frame has {value} for its {what}")]
    Value {
        /// What was read.
        what: &'static str,
        /// What it says.
        value: u64,
    },
    /// Text that is not UTF-8, or values that contradict each other.
    #[error("a frame is wrong about its {0}")]
    Content(&'static str),
}

/// Sends one frame.
pub fn write_frame(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    if frame.len() > MAX_FRAME_BYTES {
        return Err(too_large(frame.len() as u64));
    }
    to.write_all(&(frame.len() as u32).to_le_bytes())?;
    to.write_all(frame)?;
    to.flush()
}

/// Receives one frame; none where the other end closed before it began.
pub fn read_frame(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut read = 0;
    while read < length.len() {
        match from.read(&mut length[read..]) {
            Ok(0) if read == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(more) => read += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = u32::from_le_bytes(length);
    if length as usize > MAX_FRAME_BYTES {
        return Err(too_large(u64::from(length)));
    }
    // Grows with what arrives: a length alone costs nothing.
    let mut frame = Vec::new();
    from.take(u64::from(length)).read_to_end(&mut frame)?;
    if frame.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(frame))
}

fn too_large(bytes: u64) -> io::Error {
    let what = format!("a frame of {bytes} bytes, the limit is {MAX_FRAME_BYTES}");
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Writes values one after the other.
#[derive(Default)]
pub struct Encoder {
    bytes: Vec<u8>,
}

impl Encoder {
    /// All that was written.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub fn bool(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub fn u32(&mut self, value: u32) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.bytes.extend(value.to_le_bytes());
    }

    pub fn optional(&mut self, value: Option<u32>) {
        self.bool(value.is_some());
        if let Some(value) = value {
            self.u32(value);
        }
    }

    pub fn bytes(&mut self, value: &[u8]) {
        self.u64(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub fn path(&mut self, value: &Path) {
        self.bytes(value.as_os_str().as_bytes());
    }

    pub fn u32s(&mut self, values: &[u32]) {
        self.u64(values.len() as u64);
        self.bytes
            .extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }

    pub fn f32s(&mut self, values: &[f32]) {
        self.u64(values.len() as u64);
        self.bytes
            .extend(values.iter().flat_map(|v| v.to_le_bytes()));
    }
}

/// Reads values one after the other.
pub struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Of a frame.
    pub fn new(frame: &'a [u8]) -> Self {
        Self { rest: frame }
    }

    /// Everything must have been read.
    pub fn finish(self) -> Result<(), WireError> {
        match self.rest.len() {
            0 => Ok(()),
            left => Err(WireError::Rest(left)),
        }
    }

    fn take(&mut self, what: &'static str, wanted: u64) -> Result<&'a [u8], WireError> {
        let left = self.rest.len();
        let short = WireError::Short { what, wanted, left };
        let length = usize::try_from(wanted).map_err(|_| short.clone())?;
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(short)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], WireError> {
        let bytes = self.take(what, N as u64)?;
        bytes.try_into().map_err(|_| WireError::Content(what))
    }

    pub fn u8(&mut self, what: &'static str) -> Result<u8, WireError> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    pub fn bool(&mut self, what: &'static str) -> Result<bool, WireError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(WireError::Value {
                what,
                value: other.into(),
            }),
        }
    }

    pub fn u32(&mut self, what: &'static str) -> Result<u32, WireError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub fn u64(&mut self, what: &'static str) -> Result<u64, WireError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    pub fn optional(&mut self, what: &'static str) -> Result<Option<u32>, WireError> {
        match self.bool(what)? {
            true => self.u32(what).map(Some),
            false => Ok(None),
        }
    }

    pub fn bytes(&mut self, what: &'static str) -> Result<&'a [u8], WireError> {
        let length = self.u64(what)?;
        self.take(what, length)
    }

    pub fn text(&mut self, what: &'static str) -> Result<String, WireError> {
        let text = std::str::from_utf8(self.bytes(what)?);
        Ok(text.map_err(|_| WireError::Content(what))?.to_owned())
    }

    pub fn path(&mut self, what: &'static str) -> Result<PathBuf, WireError> {
        let bytes = self.bytes(what)?.to_vec();
        Ok(OsString::from_vec(bytes).into())
    }

    /// How many values follow, each of `size` bytes at least.
    pub fn count(&mut self, what: &'static str, size: u64) -> Result<usize, WireError> {
        let count = self.u64(what)?;
        let left = self.rest.len();
        let wanted = count.saturating_mul(size);
        if wanted > left as u64 {
            return Err(WireError::Short { what, wanted, left });
        }
        Ok(count as usize)
    }

    fn words(&mut self, what: &'static str) -> Result<&'a [[u8; 4]], WireError> {
        let count = self.count(what, 4)?;
        let (words, _) = self.take(what, count as u64 * 4)?.as_chunks();
        Ok(words)
    }

    pub fn u32s(&mut self, what: &'static str) -> Result<Vec<u32>, WireError> {
        let words = self.words(what)?.iter();
        Ok(words.map(|&word| u32::from_le_bytes(word)).collect())
    }

    pub fn f32s(&mut self, what: &'static str) -> Result<Vec<f32>, WireError> {
        let words = self.words(what)?.iter();
        Ok(words.map(|&word| f32::from_le_bytes(word)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_as_they_were_sent_and_an_end_between_them_is_no_error() {
        let mut sent = Vec::new();
        write_frame(&mut sent, b"one").unwrap();
        write_frame(&mut sent, b"").unwrap();
        let mut from = sent.as_slice();
        assert_eq!(read_frame(&mut from).unwrap().unwrap(), b"one");
        assert_eq!(read_frame(&mut from).unwrap().unwrap(), b"");
        assert!(read_frame(&mut from).unwrap().is_none());
    }

    #[test]
    fn a_frame_cut_off_or_over_the_limit_is_an_error() {
        let mut sent = Vec::new();
        write_frame(&mut sent, b"frame").unwrap();
        for end in 1..sent.len() {
            let error = read_frame(&mut &sent[..end]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{end}");
        }
        let error = read_frame(&mut u32::MAX.to_le_bytes().as_slice()).unwrap_err();
        assert!(error.to_string().contains("limit"), "{error}");
    }

    #[test]
    fn a_count_beyond_the_frame_is_an_error_before_anything_is_allocated() {
        let frame = u64::MAX.to_le_bytes();
        let wrong = Decoder::new(&frame).u32s("ids");
        assert!(matches!(wrong, Err(WireError::Short { what: "ids", .. })));
        let wrong = Decoder::new(&frame).text("name");
        assert!(matches!(wrong, Err(WireError::Short { what: "name", .. })));
    }

    #[test]
    fn values_of_no_meaning_and_bytes_left_over_are_errors() {
        let wrong = Decoder::new(&[2]).bool("flag");
        assert!(matches!(wrong, Err(WireError::Value { value: 2, .. })));
        let mut text = Encoder::default();
        text.bytes(&[0xff]);
        let frame = text.finish();
        let wrong = Decoder::new(&frame).text("name");
        assert_eq!(wrong, Err(WireError::Content("name")));
        assert_eq!(Decoder::new(&[1]).finish(), Err(WireError::Rest(1)));
    }
}
