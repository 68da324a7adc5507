//! The one place where a file is mapped into memory.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Range;

use memmap2::Mmap;

/// Pages are released in units of this, the largest page size in common use.
const PAGE: usize = 64 << 10;

/// A file's bytes, read only.
pub(super) struct Mapping {
    map: Mmap,
}

impl Mapping {
    /// Maps a whole file.
    pub fn new(file: &File) -> std::io::Result<Self> {
        // SAFETY: the map is only read, as bytes that may have any value. A checkpoint that
        // is overwritten while it is served gives wrong numbers, and one that is cut short
        // ends the process with SIGBUS: operators replace files, they do not edit them.
        let map = unsafe { Mmap::map(file)? };
        Ok(Self { map })
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Lets go of the pages inside of a range that was read and will hardly be read again.
    pub fn release(&self, range: Range<usize>) {
        let start = range.start.next_multiple_of(PAGE);
        let end = range.end / PAGE * PAGE;
        #[cfg(unix)]
        if start < end && end <= self.map.len() {
            // SAFETY: the map is shared and read only, so a released page comes back from
            // the file with the same bytes.
            let released = unsafe {
                let advice = memmap2::UncheckedAdvice::DontNeed;
                self.map.unchecked_advise_range(advice, start, end - start)
            };
            // Where the system refuses, the pages stay: more memory, the same result.
            drop(released);
        }
    }
}
