//! Dense products on the CPU: the same bits however they are cut, strides, factors.

mod support;

use regrow::device::{Device, DeviceOptions, Recording, dense};
use regrow::kernels::matmul::Layout;
use regrow::kernels::products::{Epilogue, Product, Products};
use support::device::{Numbers, assert_close, sum_tolerance, upload};
use support::product::Case;

#[test]
fn bits_do_not_depend_on_tasks_or_threads() {
    // More than one cut of the depth, of the columns, and of the rows into tasks.
    let sizes = [70, 800, 600];
    let [m, n, k] = sizes;
    for layout in Layout::ALL {
        let case = Case::new(3, sizes, layout, 1.0);
        let (a, b) = case.strided();
        let mut whole = vec![f32::NAN; m * n];
        dense::small_product(sizes, a, b, (&mut whole, n), [1.0, 0.0]);
        let truth = case.product();
        assert_close(&format!("{layout:?}"), &whole, &truth, sum_tolerance(k, &truth));
        for threads in [1, 2, 5] {
            let device = Device::cpu(DeviceOptions { threads, ..DeviceOptions::default() }).unwrap();
            let [a, b] = [&case.a, &case.b].map(|values| upload(&device, values));
            let c = device.allocate("c", (m * n * 4) as u64).unwrap();
            let mut recording = Recording::new();
            let epilogue = Epilogue::None;
            let product = Product { sizes, layout, a: &a, b: &b, c: &c.whole(), epilogue, gradient: None };
            Products::floor().record(&mut recording, product);
            device.submit(recording).unwrap();
            let got: Vec<f32> = device.read_vec(&c, m * n).unwrap();
            assert!(got == whole, "{layout:?} on {threads} threads");
        }
        // One row, and one column, by themselves.
        for row in [0, 7, 69] {
            let mut alone = vec![f32::NAN; n];
            let from = (&a.0[row * a.1[0]..], a.1);
            dense::small_product([1, n, k], from, b, (&mut alone, n), [1.0, 0.0]);
            assert!(alone == whole[row * n..][..n], "{layout:?}, row {row}");
        }
        for column in [0, 47, 799] {
            let mut alone = vec![f32::NAN; m];
            let from = (&b.0[column * b.1[1]..], b.1);
            dense::small_product([m, 1, k], a, from, (&mut alone, 1), [1.0, 0.0]);
            let there = (0..m).map(|row| whole[row * n + column]);
            assert!(alone.iter().copied().eq(there), "{layout:?}, column {column}");
        }
    }
}

#[test]
fn small_products_scale_and_keep_their_strides() {
    for (seed, [m, n, k]) in [[1, 1, 1], [7, 33, 5], [65, 48, 64], [33, 7, 400]].into_iter().enumerate() {
        // Rows and columns apart: every third element, rows with a gap.
        let (a_strides, b_strides, stride) = ([3 * k + 1, 3], [n + 2, 1], n + 5);
        let mut numbers = Numbers::new(seed as u64);
        let a = numbers.floats(m * a_strides[0], 1.0);
        let b = numbers.floats(k * b_strides[0], 1.0);
        let before = numbers.floats(m * stride, 1.0);
        for [alpha, beta] in [[1.0, 0.0], [0.125, 0.0], [1.0, 1.0], [-0.5, 0.25]] {
            let mut c = before.clone();
            if beta == 0.0 {
                // What is there must not count.
                c.chunks_mut(stride).for_each(|row| row[..n].fill(f32::NAN));
            }
            dense::small_product(
                [m, n, k],
                (&a, a_strides),
                (&b, b_strides),
                (&mut c, stride),
                [alpha, beta],
            );
            for (at, got) in c.iter().enumerate() {
                let (i, j) = (at / stride, at % stride);
                if j >= n {
                    assert_eq!(*got, before[at], "between the rows");
                    continue;
                }
                let term =
                    |t: usize| f64::from(a[i * a_strides[0] + 3 * t] * 1.0) * f64::from(b[t * (n + 2) + j]);
                let sum: f64 = (0..k).map(term).sum();
                let want = f64::from(alpha) * sum + f64::from(beta) * f64::from(before[at]);
                let place = format!("{m}, {n}, {k}, alpha {alpha}, beta {beta}, at {i}, {j}");
                assert_close(&place, &[*got], &[want], sum_tolerance(k + 2, &[want, 1.0]));
            }
        }
    }
}
