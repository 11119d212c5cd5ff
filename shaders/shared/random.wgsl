// Philox4x32-10, the same function as src/random.rs: a number depends on (seed, purpose, step, index, sub) alone.

// The product of two words as (low, high): WGSL has no 64-bit integers everywhere.
fn wide_product(a: u32, b: u32) -> vec2<u32> {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let middle = a1 * b0 + ((a0 * b0) >> 16u);
    let other = a0 * b1 + (middle & 0xffffu);
    return vec2<u32>(a * b, a1 * b1 + (middle >> 16u) + (other >> 16u));
}

fn philox(counter: vec4<u32>, seed: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = seed;
    for (var round = 0u; round < 10u; round++) {
        let p0 = wide_product(c.x, 0xD2511F53u);
        let p1 = wide_product(c.z, 0xCD9E8D57u);
        c = vec4<u32>(p1.y ^ c.y ^ k.x, p1.x, p0.y ^ c.w ^ k.y, p0.x);
        k += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return c;
}

// A word as a float in [0, 1), a multiple of 2^-24.
fn unit(word: u32) -> f32 {
    return f32(word >> 8u) * (1.0 / 16777216.0);
}

// A word as an integer in [0, n).
fn below(word: u32, n: u32) -> u32 {
    return wide_product(word, n).y;
}
