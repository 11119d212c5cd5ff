// Product of two matrices by tiles in workgroup memory.
//!import product
//!import product_store
//!import product_tiled
