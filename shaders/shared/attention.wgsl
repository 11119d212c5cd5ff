// What the kernels of attention share: parameters, documents (in a binding `offsets`), heads as vectors of four,
// dropout.

// Numbers of a head
const HEAD: u32 = 32u;
const VECTORS: u32 = (HEAD + 3u) / 4u;
const WORKGROUP: u32 = 64u;

struct Params {
    tokens: u32,
    documents: u32,
    heads: u32,
    hidden: u32,        // H = heads * HEAD
    words_per_row: u32, // groups of four keys that the longest document of the model has
    scale: f32,         // 1 / sqrt(HEAD)
    drop_below: u32,    // a word below this drops: p * 2^32
    drop_scale: f32,    // 1 / (1 - p)
    step: u32,
    stream: u32,
    seed_low: u32,
    seed_high: u32,
}
var<immediate> params: Params;

// Purpose::Dropout of src/random.rs
const DROPOUT: u32 = 4u;

const FOUR: vec4<u32> = vec4<u32>(0u, 1u, 2u, 3u);

// Where vector i of a head lies in the head. Places beyond the head are moved inside; inside() makes them zero.
fn places(i: u32) -> vec4<u32> {
    let place = 4u * i + FOUR;
    if HEAD % 4u == 0u {
        return place;
    }
    return min(place, vec4<u32>(HEAD - 1u));
}

fn inside(i: u32, value: vec4<f32>) -> vec4<f32> {
    if HEAD % 4u == 0u {
        return value;
    }
    return select(vec4<f32>(0.0), value, 4u * i + FOUR < vec4<u32>(HEAD));
}

// Where four tokens of one document begin in a [T, H] tensor, at this head; those beyond its end are its last token.
fn rows_of(first: u32, end: u32, head: u32) -> vec4<u32> {
    return min(first + FOUR, vec4<u32>(end - 1u)) * params.hidden + head * HEAD;
}

// What the probabilities of four keys, beginning at key number 4 * group of the document, are multiplied by.
fn kept(row: u32, group: u32) -> vec4<f32> {
    if params.drop_below == 0u {
        return vec4<f32>(1.0);
    }
    let counter = vec4<u32>(row * params.words_per_row + group, params.stream, params.step, DROPOUT);
    let words = philox(counter, vec2<u32>(params.seed_low, params.seed_high));
    return select(vec4<f32>(params.drop_scale), vec4<f32>(0.0), words < vec4<u32>(params.drop_below));
}

// The document of a token: the last that begins at or before it.
fn document_of(token: u32) -> u32 {
    var low = 0u;
    var high = params.documents;
    while high - low > 1u {
        let middle = (low + high) / 2u;
        if offsets[middle] <= token {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}
