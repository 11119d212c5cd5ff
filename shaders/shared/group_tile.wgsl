// How labels that share the features of their connections are shared out: a tile is up to eight labels of one group.

const TILE: u32 = 8u;

struct Tile {
    index_row: u32, // of the group
    first: u32,     // label of the tile
    end: u32,       // behind its last label; not above `first` where the last group has no such tile
}

fn tile_of(number: u32) -> Tile {
    let tiles = (params.group + TILE - 1u) / TILE;
    let index_row = number / tiles;
    let begin = index_row * params.group;
    let first = begin + (number % tiles) * TILE;
    return Tile(index_row, first, min(min(first + TILE, begin + params.group), params.rows));
}
