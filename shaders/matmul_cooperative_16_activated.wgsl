// Product of two matrices by cooperative matrices of 16 x 16, with bias, and its activation.
enable f16;
enable wgpu_cooperative_matrix;
//!import cooperative_16
//!import product
//!import product_activate
//!import product_cooperative
