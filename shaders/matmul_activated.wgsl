// Product of two matrices without workgroup memory, with bias, and its activation.
//!import product
//!import product_activate
//!import product_floor
