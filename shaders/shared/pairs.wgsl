// Four words, fetched as two pairs.
fn words_of(pairs: vec2<u64>) -> vec4<u32> {
    return vec4<u32>(u32(pairs.x), u32(pairs.x >> 32u), u32(pairs.y), u32(pairs.y >> 32u));
}

fn pairs_of(words: vec4<u32>) -> vec2<u64> {
    return vec2<u64>(u64(words.x) | (u64(words.y) << 32u), u64(words.z) | (u64(words.w) << 32u));
}
