// Inverted indices of windows of labels, first of five: how often each feature occurs in each part of a window. The table
// holds zeros before.
//!import inverted_index_part

fn take(place: u32, first_row: u32, row: u32, slot: u32) {
    table[place] += 1u;
}
