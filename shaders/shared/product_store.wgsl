// What becomes of an element of the product: 0 it is c, 1 the bias is added, 2 it is added to c
const EPILOGUE: u32 = 0u;

fn finish(row: u32, column: u32, value: f32) {
    if row < params.m && column < params.n {
        let at = row * params.n + column;
        if EPILOGUE == 1u {
            c[at] = value + bias[column];
        } else if EPILOGUE == 2u {
            c[at] += value;
        } else {
            c[at] = value;
        }
    }
}
