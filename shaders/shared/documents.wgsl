// Packed documents, without padding: document b has the tokens offsets[b] .. offsets[b + 1] - 1. The shader that imports
// this binds `offsets`.

// The document that a token belongs to: the last that does not begin after it.
fn document_of(token: u32, documents: u32) -> u32 {
    var low = 0u;
    var high = documents;
    while high - low > 1u {
        let middle = (low + high) / 2u;
        if offsets[middle] <= token { low = middle; } else { high = middle; }
    }
    return low;
}
