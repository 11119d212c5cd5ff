// Narrow storage, the same as src/kernels/storage.rs: numbers in 32, 16 or 8 bits, packed into words; what is written is
// rounded stochastically. Integers throughout: drivers differ in what they do to numbers below the first exponent.

// 0 f32, 1 f16, 2 bf16, 3 fp8 (E4M3)
const WEIGHTS: u32 = 0u;
// of the optimizer's states: 0 f32, 2 bf16
const MOMENTS: u32 = 0u;

// Numbers in a word.
fn per_word(storage: u32) -> u32 {
    if storage == 3u { return 4u; }
    return select(2u, 1u, storage == 0u);
}

// Numbers that an invocation owns, so that no word is shared.
const SPAN: u32 = select(select(1u, 2u, WEIGHTS > 0u || MOMENTS > 0u), 4u, WEIGHTS == 3u);

fn fraction_bits(storage: u32) -> u32 {
    if storage == 3u { return 3u; }
    return select(7u, 10u, storage == 1u);
}

// Exponents of f32 below the first one of the format.
fn exponent_offset(storage: u32) -> u32 {
    if storage == 3u { return 120u; }
    return select(0u, 112u, storage == 1u);
}

fn largest_code(storage: u32) -> u32 {
    if storage == 3u { return 0x7eu; }
    return select(0x7f7fu, 0x7bffu, storage == 1u);
}

fn nan_code(storage: u32) -> u32 {
    if storage == 3u { return 0x7fu; }
    return select(0x7fc0u, 0x7e00u, storage == 1u);
}

// 2 to the number of steps between 0 and 1, for the formats whose exponents begin later than f32's.
fn steps_to_one(storage: u32) -> f32 {
    return select(16777216.0, 512.0, storage == 3u);
}

// The number at `place` of a row that lies in consecutive words, of which `word` is the one with this place.
fn stored(storage: u32, word: u32, place: u32) -> f32 {
    if storage == 0u {
        return bitcast<f32>(word);
    }
    let bits = select(16u, 8u, storage == 3u);
    let code = word >> ((place & (per_word(storage) - 1u)) * bits);
    let magnitude = code & ((1u << (bits - 1u)) - 1u);
    let sign = ((code >> (bits - 1u)) & 1u) << 31u;
    let fraction = fraction_bits(storage);
    let offset = exponent_offset(storage);
    var value = (magnitude << (23u - fraction)) + (offset << 23u);
    if offset > 0u && magnitude < (1u << fraction) {
        value = bitcast<u32>(f32(magnitude) / steps_to_one(storage));
    }
    if magnitude > largest_code(storage) {
        value = 0x7fc00000u;
    }
    return bitcast<f32>(value | sign);
}

// The bits of a word that belong to `place`.
fn place_mask(storage: u32, place: u32) -> u32 {
    let bits = 32u / per_word(storage);
    return (0xffffffffu >> (32u - bits)) << ((place & (per_word(storage) - 1u)) * bits);
}

// The code of a number, rounded up or down by sixteen random bits, shifted to its place in the word.
fn rounded(storage: u32, number: f32, place: u32, random: u32) -> u32 {
    if storage == 0u {
        return bitcast<u32>(number);
    }
    let bits = select(16u, 8u, storage == 3u);
    let magnitude = bitcast<u32>(number) & 0x7fffffffu;
    let fraction = fraction_bits(storage);
    let offset = exponent_offset(storage);
    let dropped = 23u - fraction;
    var added = random;
    if storage == 1u { added = random >> 3u; }
    if storage == 3u { added = (random << 4u) + 8u; }
    var code = ((magnitude + added) >> dropped) - (offset << fraction);
    if offset > 0u && magnitude < ((offset + 1u) << 23u) {
        code = (u32(bitcast<f32>(magnitude) * steps_to_one(storage) * 65536.0) + random) >> 16u;
    }
    code = min(code, largest_code(storage));
    if magnitude >= 0x7f800000u {
        code = nan_code(storage);
    }
    code |= (bitcast<u32>(number) >> 31u) << (bits - 1u);
    return code << ((place & (per_word(storage) - 1u)) * bits);
}
