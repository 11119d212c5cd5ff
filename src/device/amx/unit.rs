//! The unit itself: whether there is one, its state on a thread, and its product.

use std::arch::asm;
use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::OnceLock;

use super::slab::{Row, SIDE, Slab, Tile};

/// The unit, ready on this thread; [`Unit::of_this_cpu`] is the only way to one, so that whoever holds it runs on a
/// processor with AMX and AVX-512.
pub(crate) struct Unit(PhantomData<*const ()>);

/// The shapes of the eight tiles, as `ldtilecfg` reads them.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

/// All tiles are whole.
static SHAPES: Shapes = {
    let (mut row_bytes, mut rows) = ([0; 16], [0; 16]);
    let mut tile = 0;
    while tile < 8 {
        (row_bytes[tile], rows[tile]) = (64, 16);
        tile += 1;
    }
    Shapes { palette: 1, start_row: 0, reserved: [0; 14], row_bytes, rows }
};

thread_local! {
    /// Units that are held on this thread.
    static HELD: Cell<usize> = const { Cell::new(0) };
}

impl Unit {
    /// The unit, if there is one and the system permits its use.
    pub(crate) fn of_this_cpu() -> Option<Self> {
        static USABLE: OnceLock<bool> = OnceLock::new();
        if !*USABLE.get_or_init(|| has_instructions() && is_permitted()) {
            return None;
        }
        if HELD.replace(HELD.get() + 1) == 0 {
            #[expect(unsafe_code, reason = "the processor has the unit and the system permits it")]
            unsafe {
                asm!(
                    "ldtilecfg [{shapes}]",
                    shapes = in(reg) &raw const SHAPES,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack, readonly, preserves_flags),
                );
            }
        }
        Some(Self(PhantomData))
    }

    /// c [32, 32] = a [32, K] · b [K, 32], or += with `add`; rows of c begin `stride` numbers apart. `a` and `b` have a
    /// slab for each 32 of K.
    ///
    /// # Panics
    /// When the operands are not equally deep, or c is too short.
    pub(crate) fn product(&self, a: &[Slab], b: &[Slab], c: &mut [f32], stride: usize, add: bool) {
        assert!(a.len() == b.len(), "{} slabs against {}", a.len(), b.len());
        assert!(stride >= SIDE && c.len() >= (SIDE - 1) * stride + SIDE, "c holds 32 rows of 32");
        // tmm0 to 3: c, upper and lower left, upper and lower right of its tiles; 4 and 5: a; 6 and 7: b.
        #[expect(
            unsafe_code,
            reason = "the unit is ready, and reads and writes stay within what was asserted"
        )]
        unsafe {
            asm!(
                "test {add}, {add}",
                "jz 2f",
                "tileloadd tmm0, [{c} + {stride}]",
                "tileloadd tmm1, [{lower} + {stride}]",
                "tileloadd tmm2, [{c} + {stride} + 64]",
                "tileloadd tmm3, [{lower} + {stride} + 64]",
                "jmp 3f",
                "2:",
                "tilezero tmm0",
                "tilezero tmm1",
                "tilezero tmm2",
                "tilezero tmm3",
                "3:",
                "test {depth}, {depth}",
                "jz 5f",
                "4:",
                "tileloadd tmm4, [{a} + {row}]",
                "tileloadd tmm6, [{b} + {row}]",
                "tileloadd tmm5, [{a} + {row} + {tile}]",
                "tileloadd tmm7, [{b} + {row} + {tile}]",
                "tdpbf16ps tmm0, tmm4, tmm6",
                "tdpbf16ps tmm1, tmm5, tmm6",
                "tdpbf16ps tmm2, tmm4, tmm7",
                "tdpbf16ps tmm3, tmm5, tmm7",
                "add {a}, 2*{tile}",
                "add {b}, 2*{tile}",
                "dec {depth}",
                "jnz 4b",
                "5:",
                "tilestored [{c} + {stride}], tmm0",
                "tilestored [{lower} + {stride}], tmm1",
                "tilestored [{c} + {stride} + 64], tmm2",
                "tilestored [{lower} + {stride} + 64], tmm3",
                add = in(reg) u64::from(add),
                c = in(reg) c.as_mut_ptr(),
                lower = in(reg) c[16 * stride..].as_mut_ptr(),
                stride = in(reg) 4 * stride,
                a = inout(reg) a.as_ptr() => _,
                b = inout(reg) b.as_ptr() => _,
                row = in(reg) size_of::<Row>(),
                depth = inout(reg) a.len() => _,
                tile = const size_of::<Tile>(),
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack),
            );
        }
    }
}

// The steps in the product.
const _: () = assert!(size_of::<Row>() == 64 && size_of::<Slab>() == 2 * size_of::<Tile>());

impl Drop for Unit {
    fn drop(&mut self) {
        if HELD.replace(HELD.get() - 1) == 1 {
            #[expect(
                unsafe_code,
                reason = "the processor has the unit; without its state threads switch faster"
            )]
            unsafe {
                asm!(
                    "tilerelease",
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nomem, nostack, preserves_flags),
                );
            }
        }
    }
}

/// Whether the processor has tiles, their product of bf16, and the AVX-512 that prepares operands.
fn has_instructions() -> bool {
    const TILES: u32 = 1 << 24;
    const BF16: u32 = 1 << 22;
    let vectors = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512bf16");
    let features = std::arch::x86_64::__cpuid_count(7, 0).edx;
    vectors && features & (TILES | BF16) == TILES | BF16
}

/// Asks Linux for the room that the tiles take in every thread's saved state.
fn is_permitted() -> bool {
    const ARCH_PRCTL: u64 = 158;
    const REQUEST_PERMISSION: u64 = 0x1023;
    const TILE_DATA: u64 = 18;
    let refused: i64;
    #[expect(unsafe_code, reason = "the call grants a permission and touches no memory of ours")]
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => refused,
            in("rdi") REQUEST_PERMISSION,
            in("rsi") TILE_DATA,
            out("rcx") _, out("r11") _,
            options(nostack),
        );
    }
    refused == 0
}
