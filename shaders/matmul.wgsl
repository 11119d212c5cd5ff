// Product of two matrices without workgroup memory.
//!import product
//!import product_store
//!import product_floor
