//! Products of bfloat16 pairs on the matrix unit (AMX): a tile of a product is four of its tiles,
//! each of up to 16 rows of 16 words.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::tile::{Sum, Tile};

/// Rows of a tile of the unit, and words of one of its rows.
const SIDE: usize = 16;

/// Whether the processor, which has AVX-512, has the unit too, and the system lets this process use
/// it. The system wants to be asked, because it has more of each thread to save; its answer holds
/// for all threads.
pub(super) fn is_available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        // CPUID leaf 7: AMX-BF16 and AMX-TILE.
        let features = (1 << 22) | (1 << 24);
        __cpuid_count(7, 0).edx & features == features && is_permitted()
    })
}

#[cfg(target_os = "linux")]
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_ulong = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: the request has no pointers; where it is unknown or refused, it changes nothing.
    let status = unsafe {
        libc::syscall(
            libc::SYS_arch_prctl,
            ARCH_REQ_XCOMP_PERM,
            XFEATURE_XTILEDATA,
        )
    };
    status == 0
}

#[cfg(not(target_os = "linux"))]
fn is_permitted() -> bool {
    false
}

/// The shapes of the unit's tiles: the upper rows of a product's tile, the lower ones, and the steps
/// that are summed at a time, a byte each. In one word, because a comparison of several waits for
/// the products that are under way.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Shapes(u32);

impl Shapes {
    fn new(upper: usize, lower: usize, depth: usize) -> Self {
        debug_assert!(
            [upper, lower, depth]
                .iter()
                .all(|it| (1..=SIDE).contains(it))
        );
        Self(upper as u32 | (lower as u32) << 8 | (depth as u32) << 16)
    }

    /// Tiles 0 to 3 are sums: those of the upper rows, then those of the lower, the left columns
    /// first. Tiles 4 and 5 are the upper and lower rows of A, 6 and 7 the left and right columns
    /// of the panel.
    fn config(self) -> Config {
        let [upper, lower, depth, _] = self.0.to_le_bytes();
        let (whole, words) = (SIDE as u16 * 4, u16::from(depth) * 4);
        let mut row_bytes = [0; 16];
        row_bytes[..8].copy_from_slice(&[whole, whole, whole, whole, words, words, whole, whole]);
        let mut rows = [0; 16];
        rows[..8].copy_from_slice(&[upper, upper, lower, lower, upper, lower, depth, depth]);
        Config {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes,
            rows,
        }
    }
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// The unit as one thread has set it: to do so takes as long as several products. It is given
/// back when this is dropped, so that the system need not save its state.
///
/// A thread uses one at a time: what another sets it would not know.
#[derive(Default)]
pub(super) struct Unit {
    /// None at first.
    shapes: Shapes,
    /// It stays on its thread.
    _thread: PhantomData<*mut ()>,
}

impl Drop for Unit {
    fn drop(&mut self) {
        if self.shapes != Shapes::default() {
            // SAFETY: it was set, so the processor has it.
            unsafe { asm!("tilerelease", options(nostack, nomem, preserves_flags)) };
        }
    }
}

/// Brings the next lines of what is read afterwards closer: a quarter of those that a run owes, so
/// that they do not hold up the loads of tiles.
macro_rules! bring_closer {
    () => {
        concat!(
            "mov {t}, {lines}\n",
            "jmp 6f\n",
            "5:\n",
            "prefetcht1 [{from}]\n",
            "add {from}, 64\n",
            "dec {t}\n",
            "6:\n",
            "test {t}, {t}\n",
            "jnz 5b",
        )
    };
}

impl Unit {
    /// Sets the shapes of the tiles, where they are others.
    ///
    /// # Safety
    /// [`is_available`].
    #[inline(always)]
    unsafe fn set(&mut self, shapes: Shapes) {
        if self.shapes != shapes {
            self.shapes = shapes;
            let config = shapes.config();
            // SAFETY: the caller's promise; the configuration is one that the unit knows.
            unsafe {
                asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly));
            }
        }
    }

    /// [`Product::tile`](super::tile::Product::tile) with 32 columns; sums are made of runs of 16
    /// steps.
    ///
    /// # Safety
    /// [`is_available`], and what the trait asks for; no other unit is in use on this thread.
    #[inline(always)]
    pub unsafe fn tile(&mut self, tile: Tile) {
        let runs = tile.steps / SIDE;
        let whole = runs * SIDE;
        // SAFETY: the caller's promise, of the whole runs and of what is left.
        unsafe {
            if runs > 0 {
                self.run(&tile, SIDE, runs);
            }
            if whole < tile.steps {
                let rest = Tile {
                    a: tile.a.add(whole),
                    b: tile.b.add(whole * 2 * SIDE),
                    sum: if runs > 0 { Sum::Continue } else { tile.sum },
                    ahead: None,
                    ..tile
                };
                self.run(&rest, tile.steps - whole, 1);
            }
        }
    }

    /// `runs` runs of `depth` steps of a tile.
    ///
    /// # Safety
    /// As for [`Unit::tile`]; there is a run, and its depth is 1 to 16.
    unsafe fn run(&mut self, tile: &Tile, depth: usize, runs: usize) {
        let &Tile {
            rows,
            a,
            lda,
            b,
            c,
            ldc,
            sum,
            ahead,
            ..
        } = tile;
        // A lone row is both the upper and the lower one: it is computed and written twice.
        let upper = rows.div_ceil(2);
        let below = upper.min(rows - 1);
        let (from, lines) = ahead.map_or((b, 0), |ahead| (ahead.from, ahead.words / 4));
        // SAFETY: the caller's promise: tiles 0 to 3 are rows of C, 4 and 5 of A from `a` on, 64 bytes
        // further with every run, 6 and 7 of the panel. What is only brought closer may be anywhere.
        unsafe {
            self.set(Shapes::new(upper, rows - below, depth));
            asm!(
                "test {sum:e}, {sum:e}",
                "jnz 2f",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "jmp 3f",
                "2:",
                "tileloadd tmm0, [{c0} + {ldc}]",
                "tileloadd tmm1, [{c0} + {ldc} + 64]",
                "tileloadd tmm2, [{c1} + {ldc}]",
                "tileloadd tmm3, [{c1} + {ldc} + 64]",
                "3:",
                // From here on this is the stride of a panel.
                "mov {sum:e}, 128",
                "4:",
                "tileloadd tmm6, [{b} + {sum}]",
                "tileloadd tmm4, [{a0} + {lda}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                bring_closer!(),
                "tileloadd tmm7, [{b} + {sum} + 64]",
                "tdpbf16ps tmm1, tmm4, tmm7",
                bring_closer!(),
                "tileloadd tmm5, [{a1} + {lda}]",
                "tdpbf16ps tmm2, tmm5, tmm6",
                bring_closer!(),
                "tdpbf16ps tmm3, tmm5, tmm7",
                bring_closer!(),
                "add {a0}, 64",
                "add {a1}, 64",
                "add {b}, 2048",
                "dec {runs}",
                "jnz 4b",
                "tilestored [{c0} + {ldc}], tmm0",
                "tilestored [{c0} + {ldc} + 64], tmm1",
                "tilestored [{c1} + {ldc}], tmm2",
                "tilestored [{c1} + {ldc} + 64], tmm3",
                t = out(reg) _,
                sum = inout(reg) u64::from(sum == Sum::Continue) => _,
                c0 = in(reg) c,
                c1 = in(reg) c.add(below * ldc),
                ldc = in(reg) ldc * 4,
                a0 = inout(reg) a => _,
                a1 = inout(reg) a.add(below * lda) => _,
                lda = in(reg) lda * 4,
                b = inout(reg) b => _,
                runs = inout(reg) runs => _,
                from = inout(reg) from => _,
                lines = in(reg) lines,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

/// `runs` times four products of whole tiles, with nothing to load or store: returns the
/// floating-point operations.
///
/// # Safety
/// [`is_available`].
pub(super) unsafe fn products(runs: usize) -> usize {
    let config = Shapes::new(SIDE, SIDE, SIDE).config();
    // SAFETY: the caller's promise; only registers are written.
    unsafe {
        asm!(
            "ldtilecfg [{config}]",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {runs}",
            "jnz 2b",
            "tilerelease",
            config = in(reg) &raw const config,
            runs = inout(reg) runs.max(1) => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly),
        );
    }
    4 * 2 * 2 * SIDE * SIDE * SIDE * runs.max(1)
}
