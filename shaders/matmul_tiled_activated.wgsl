// Product of two matrices by tiles in workgroup memory, with bias, and its activation.
//!import product
//!import product_activate
//!import product_tiled
