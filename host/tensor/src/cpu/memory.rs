//! Memory for numbers. What is large lies in huge pages where the system has them: a
//! product streams through its weights, and small pages cost it a third of its speed in
//! address translation and in prefetches that end at each page.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};

use memmap2::MmapMut;

/// The size of a huge page on x86-64, and on AArch64 with pages of 4 KiB.
const HUGE_PAGE: usize = 2 << 20;

/// From this size on memory is mapped for itself.
const LARGE: usize = 1 << 20;

/// What is mapped at once for weights, which are packed one after the other.
const SLAB: usize = 32 << 20;

/// Elements in a cache line, on which every part of a slab begins.
pub(super) const LINE: usize = 16;

const ELEMENT: usize = size_of::<f32>();

/// Elements that belong to one owner.
pub(super) enum Words {
    /// In small pages.
    Heap(Vec<f32>),
    /// In huge pages.
    Mapped(Part),
}

impl Words {
    /// `len` elements with arbitrary contents, in memory of their own; none where the system
    /// refuses. They are `len` or somewhat more.
    pub fn new(len: usize) -> Option<Self> {
        if len.checked_mul(ELEMENT)? < LARGE {
            // Asked for first because `vec!` aborts where memory is short.
            Vec::<f32>::new().try_reserve_exact(len).ok()?;
            return Some(Self::Heap(vec![0.0; len]));
        }
        let map = Arc::new(Map::new(len * ELEMENT)?);
        let len = map.len;
        Some(Self::Mapped(Part { map, start: 0, len }))
    }

    /// How many [`Words::new`] of `len` has.
    pub fn len_of(len: usize) -> usize {
        let bytes = len.saturating_mul(ELEMENT);
        match bytes < LARGE {
            true => len,
            false => bytes
                .div_ceil(HUGE_PAGE)
                .saturating_mul(HUGE_PAGE / ELEMENT),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::Heap(words) => words.len(),
            Self::Mapped(part) => part.len,
        }
    }

    /// The elements.
    pub fn as_slice(&self) -> &[f32] {
        match self {
            Self::Heap(words) => words,
            // SAFETY: the part lies in its map, which lives as long as the part; all bits are
            // an f32; it is written only through `as_mut_slice`, which borrows the part.
            Self::Mapped(part) => unsafe {
                std::slice::from_raw_parts(part.map.words.as_ptr().add(part.start), part.len)
            },
        }
    }

    /// The elements, to be written.
    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        match self {
            Self::Heap(words) => words,
            // SAFETY: as above; no two parts of a map overlap, and this one is borrowed.
            Self::Mapped(part) => unsafe {
                std::slice::from_raw_parts_mut(part.map.words.as_ptr().add(part.start), part.len)
            },
        }
    }
}

/// A part of a map. No two that are alive overlap: each comes from [`Words::new`], which
/// gives all of a new map away, or from [`Slabs::take`], which gives each element away once.
pub(super) struct Part {
    map: Arc<Map>,
    start: usize,
    len: usize,
}

/// Anonymous memory, aligned to a page, all of it f32.
struct Map {
    words: NonNull<f32>,
    len: usize,
    /// Unmapped with this; never looked at.
    _map: MmapMut,
}

// SAFETY: memory may be used from any thread; parts of it have one owner each.
unsafe impl Send for Map {}
// SAFETY: as above; `Map` itself gives nobody access.
unsafe impl Sync for Map {}

impl Map {
    /// At least `bytes`, in whole huge pages; none where the system refuses.
    fn new(bytes: usize) -> Option<Self> {
        let bytes = bytes.checked_next_multiple_of(HUGE_PAGE)?;
        let mut map = MmapMut::map_anon(bytes).ok()?;
        #[cfg(target_os = "linux")]
        // A system without huge pages refuses, and is as fast as it can be.
        let _ = map.advise(memmap2::Advice::HugePage);
        Some(Self {
            words: NonNull::new(map.as_mut_ptr().cast())?,
            len: bytes / ELEMENT,
            _map: map,
        })
    }
}

/// Maps that many weights share. A map is given back with the last of them.
#[derive(Default)]
pub(super) struct Slabs {
    /// The newest, and how many of its elements are given away.
    current: Mutex<Option<(Arc<Map>, usize)>>,
}

impl Slabs {
    /// `len` elements, which are zeros; none where the system refuses.
    pub fn take(&self, len: usize) -> Option<Words> {
        let whole = len.checked_next_multiple_of(LINE)?;
        // Nothing is left half done by a panic.
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = current
            .as_ref()
            .filter(|(map, used)| map.len - used >= whole);
        let (map, start) = match fits {
            Some((map, used)) => (map.clone(), *used),
            None => (
                Arc::new(Map::new(SLAB.max(whole.checked_mul(ELEMENT)?))?),
                0,
            ),
        };
        *current = Some((map.clone(), start + whole));
        Some(Words::Mapped(Part { map, start, len }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_slabs_do_not_overlap_and_outlive_them() {
        let slabs = Slabs::default();
        let sizes = [1, 17, 4 << 20, 5 << 20, 100, 9 << 20, 3];
        let mut parts: Vec<Words> = sizes.iter().map(|&len| slabs.take(len).unwrap()).collect();
        for (value, part) in parts.iter_mut().enumerate() {
            assert!(part.as_slice().iter().all(|&x| x == 0.0));
            assert!(
                part.as_slice()
                    .as_ptr()
                    .addr()
                    .is_multiple_of(LINE * ELEMENT)
            );
            part.as_mut_slice().fill(value as f32);
        }
        drop(slabs);
        for (index, (part, len)) in parts.iter().zip(sizes).enumerate() {
            assert_eq!(part.len(), len);
            assert!(part.as_slice().iter().all(|&x| x == index as f32));
        }
    }

    #[test]
    fn memory_of_any_size_can_be_written_whole() {
        for len in [
            0,
            1,
            LARGE / ELEMENT - 1,
            LARGE / ELEMENT,
            3 * HUGE_PAGE / ELEMENT + 1,
        ] {
            let mut words = Words::new(len).unwrap();
            assert!(words.len() >= len);
            words.as_mut_slice().fill(1.0);
            assert!(words.as_slice().iter().all(|&x| x == 1.0));
        }
    }

    #[test]
    fn what_the_system_has_not_is_refused() {
        assert!(Words::new(usize::MAX / 8).is_none());
        assert!(Words::new(usize::MAX).is_none());
        assert!(Slabs::default().take(usize::MAX).is_none());
        assert!(Slabs::default().take(usize::MAX / 8).is_none());
    }
}
