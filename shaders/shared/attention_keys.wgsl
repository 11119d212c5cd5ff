// Keys and values of attention, four at a time, from the bindings `k` and `v`.

fn k_at(row: u32, i: u32) -> vec4<f32> {
    let at = row + places(i);
    return inside(i, vec4<f32>(k[at.x], k[at.y], k[at.z], k[at.w]));
}

// Vector i of four keys, as columns.
fn k_four(rows: vec4<u32>, i: u32) -> mat4x4<f32> {
    return mat4x4<f32>(k_at(rows.x, i), k_at(rows.y, i), k_at(rows.z, i), k_at(rows.w, i));
}

fn v_at(row: u32, i: u32) -> vec4<f32> {
    let at = row + places(i);
    return inside(i, vec4<f32>(v[at.x], v[at.y], v[at.z], v[at.w]));
}

// Vector i of four values, as columns.
fn v_four(rows: vec4<u32>, i: u32) -> mat4x4<f32> {
    return mat4x4<f32>(v_at(rows.x, i), v_at(rows.y, i), v_at(rows.z, i), v_at(rows.w, i));
}
