//! `regrow shaders`.

use std::fs;
use std::path::PathBuf;

use clap::Args;

use super::print;
use crate::device::shader;
use crate::error::{Error, Result};
use crate::kernels;

/// Write every shader in every variant as complete WGSL, a file each: to read, to compile elsewhere, to compare.
#[derive(Args)]
pub(super) struct ShadersArgs {
    /// Folder to write to; made if missing
    #[arg(long, value_name = "DIR")]
    dump: PathBuf,
    /// Launch parameters in a uniform buffer, as on adapters without immediates
    #[arg(long)]
    uniform: bool,
}

impl ShadersArgs {
    pub(super) fn run(&self) -> Result<()> {
        fs::create_dir_all(&self.dump).map_err(Error::io("creating folder", &self.dump))?;
        let mut count = 0;
        for kernel in kernels::ALL {
            for constants in (kernel.variants)() {
                let text = shader::expand(kernel, &constants, !self.uniform)?;
                let path = self.dump.join(shader::variant_name(kernel, &constants) + ".wgsl");
                fs::write(&path, text).map_err(Error::io("writing", &path))?;
                count += 1;
            }
        }
        print(&format!("{count} shaders in {}", self.dump.display()))
    }
}
