// Rows of samples in tiles of sixteen, each tile a uniform buffer of 1,024 rows: software Vulkan fetches from those without
// going from lane to lane. Who imports this has `tile0` to `tile7`, arrays of vec2<u64>, [1024, 16]; where there are fewer
// tiles, the rest stand for the first.
//!import pairs

// Four samples: those from 4 * (at % 4) on of the tile's row at / 4. `tile` is a constant, so that one of these is left.
fn in_tile(tile: u32, at: u32) -> vec4<f32> {
    switch tile {
        case 1u: { return bitcast<vec4<f32>>(words_of(tile1[at])); }
        case 2u: { return bitcast<vec4<f32>>(words_of(tile2[at])); }
        case 3u: { return bitcast<vec4<f32>>(words_of(tile3[at])); }
        case 4u: { return bitcast<vec4<f32>>(words_of(tile4[at])); }
        case 5u: { return bitcast<vec4<f32>>(words_of(tile5[at])); }
        case 6u: { return bitcast<vec4<f32>>(words_of(tile6[at])); }
        case 7u: { return bitcast<vec4<f32>>(words_of(tile7[at])); }
        default: { return bitcast<vec4<f32>>(words_of(tile0[at])); }
    }
}
