//! What several test files share.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod cli;
pub mod device;
pub mod encoder;
pub mod golden;
pub mod layer;
pub mod models;
pub mod page;
pub mod product;
pub mod strata;
