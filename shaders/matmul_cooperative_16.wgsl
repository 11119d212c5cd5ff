// Product of two matrices by cooperative matrices of 16 x 16.
enable f16;
enable wgpu_cooperative_matrix;
//!import cooperative_16
//!import product
//!import product_store
//!import product_cooperative
