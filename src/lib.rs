//! regrow
pub mod classifier;
pub mod cli;
pub mod config;
pub mod data;
pub mod device;
pub mod encoder;
pub mod error;
pub mod evaluate;
pub mod files;
pub mod kernels;
pub mod optimize;
pub mod random;
pub mod train;

pub use error::{Error, Result};
