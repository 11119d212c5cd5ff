// Number of this invocation in a launch that was folded into two dimensions of workgroups.
fn lane_of(workgroup: vec3<u32>, grid: vec3<u32>, size: u32, local: u32) -> u32 {
    return (workgroup.x + workgroup.y * grid.x) * size + local;
}
