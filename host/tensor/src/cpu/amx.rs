//! Products of bfloat16 pairs on the matrix unit (AMX): a tile of a product is four of its tiles,
//! each of up to 16 rows of 16 words.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::sync::OnceLock;

use super::tile::{Sum, Tile};

/// Rows of a tile of the unit, and words of one of its rows.
const SIDE: usize = 16;

/// Whether the processor has the unit and the system lets this process use it, which is asked
/// for once: the state of the unit makes threads' saved registers larger.
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

/// The shapes of the unit's tiles, as `ldtilecfg` reads them.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Shapes {
    /// Tiles 0 to 3 are sums: those of the upper rows, then those of the lower, the left columns
    /// first. Tiles 4 and 5 are the upper and lower rows of A, 6 and 7 the left and right columns
    /// of the panel.
    fn new(upper: usize, lower: usize, steps: usize) -> Self {
        let [upper, lower, depth] = [upper, lower, steps].map(|side| {
            debug_assert!((1..=SIDE).contains(&side));
            side as u8
        });
        let (whole, words) = (SIDE as u16 * 4, u16::from(depth) * 4);
        let mut row_bytes = [0; 16];
        row_bytes[..8].copy_from_slice(&[whole, whole, whole, whole, words, words, whole, whole]);
        let mut rows = [0; 16];
        rows[..8].copy_from_slice(&[upper, upper, lower, lower, upper, lower, depth, depth]);
        Self {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            row_bytes,
            rows,
        }
    }
}

/// [`Product::tile`](super::tile::Product::tile) with 32 columns; sums are made of runs of 16
/// steps.
///
/// # Safety
/// [`is_available`], and what the trait asks for.
#[inline(always)]
pub(super) unsafe fn tile(tile: Tile) {
    let runs = tile.steps / SIDE;
    let whole = runs * SIDE;
    // SAFETY: the caller's promise, of the whole runs and of what is left.
    unsafe {
        if runs > 0 {
            run(&tile, SIDE, runs);
        }
        if whole < tile.steps {
            let rest = Tile {
                a: tile.a.add(whole),
                b: tile.b.add(whole * 2 * SIDE),
                sum: if runs > 0 { Sum::Continue } else { tile.sum },
                ahead: None,
                ..tile
            };
            run(&rest, tile.steps - whole, 1);
        }
    }
}

/// `runs` runs of `depth` steps of a tile.
///
/// # Safety
/// As for [`tile`]; there is a run, and its depth is 1 to 16.
unsafe fn run(tile: &Tile, depth: usize, runs: usize) {
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
    let shapes = Shapes::new(upper, rows - below, depth);
    let (from, lines) = ahead.map_or((b, 0), |ahead| (ahead.from, ahead.words * depth / 16));
    // SAFETY: the caller's promise: tiles 0 to 3 are rows of C, 4 and 5 of A from `a` on, 64 bytes
    // further with every run, 6 and 7 of the panel. What is only brought closer may be anywhere.
    unsafe {
        asm!(
            "ldtilecfg [{t}]",
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
            "mov {sum:e}, 128",
            "4:",
            "tileloadd tmm6, [{b} + {sum}]",
            "tileloadd tmm4, [{a0} + {lda}]",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tileloadd tmm7, [{b} + {sum} + 64]",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tileloadd tmm5, [{a1} + {lda}]",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "mov {t}, {lines}",
            "jmp 6f",
            "5:",
            "prefetcht1 [{from}]",
            "add {from}, 64",
            "dec {t}",
            "6:",
            "test {t}, {t}",
            "jnz 5b",
            "add {a0}, 64",
            "add {a1}, 64",
            "add {b}, 2048",
            "dec {runs}",
            "jnz 4b",
            "tilestored [{c0} + {ldc}], tmm0",
            "tilestored [{c0} + {ldc} + 64], tmm1",
            "tilestored [{c1} + {ldc}], tmm2",
            "tilestored [{c1} + {ldc} + 64], tmm3",
            "tilerelease",
            t = inout(reg) &raw const shapes => _,
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

/// `runs` times four products of whole tiles, with nothing to load or store: returns the
/// floating-point operations.
///
/// # Safety
/// [`is_available`].
pub(super) unsafe fn products(runs: usize) -> usize {
    let shapes = Shapes::new(SIDE, SIDE, SIDE);
    // SAFETY: the caller's promise; only registers are written.
    unsafe {
        asm!(
            "ldtilecfg [{shapes}]",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm7",
            "tdpbf16ps tmm2, tmm5, tmm6",
            "tdpbf16ps tmm3, tmm5, tmm7",
            "dec {runs}",
            "jnz 2b",
            "tilerelease",
            shapes = in(reg) &raw const shapes,
            runs = inout(reg) runs.max(1) => _,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack, readonly),
        );
    }
    4 * 2 * 2 * SIDE * SIDE * SIDE * runs.max(1)
}
