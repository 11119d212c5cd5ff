// Product of two matrices by cooperative matrices of 8 x 8.
enable f16;
enable wgpu_cooperative_matrix;
//!import cooperative_8
//!import product
//!import product_store
//!import product_cooperative
