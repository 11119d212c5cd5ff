//! Files as memory, behind a safe door: the operating system reads what is looked at.

use std::fs::File;
use std::io;

use memmap2::Mmap;

/// Maps a file to be read. Who shortens it meanwhile ends the program; regrow only ever replaces files by renaming.
///
/// # Errors
/// What the operating system says; an empty file cannot be mapped on every system.
pub fn map_file(file: &File) -> io::Result<Mmap> {
    #[expect(
        unsafe_code,
        reason = "a memory map is the only way to read caches and models larger than memory"
    )]
    // SAFETY: the map is only read, and no code of this program opens a finished file to write.
    unsafe {
        Mmap::map(file)
    }
}
