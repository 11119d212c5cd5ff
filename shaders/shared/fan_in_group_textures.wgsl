// Features as the step of groups of labels fetches them from a texture; they are f32.
//!import fan_in_group_pairs

@group(0) @binding(0) var x: texture_storage_2d<rgba32float, read>; // [D, columns]

// Eight samples of a feature.
fn fetch(feature: u32, eight: u32) -> Eight {
    return Eight(
        textureLoad(x, vec2<u32>(2u * eight, feature)),
        textureLoad(x, vec2<u32>(2u * eight + 1u, feature)),
    );
}
