//! Recordings mean the same on every engine: order, places of parameters, ranges of buffers.

mod support;

use regrow::device::{Device, DeviceOptions, Fused, Recording, SLICE_ALIGNMENT};
use regrow::kernels::{column_sum, optimizer_step};
use support::device::{engines, garbage, gpu_uniform, upload, writable};

fn all() -> impl Iterator<Item = (&'static str, &'static Device)> {
    engines().into_iter().chain([gpu_uniform()])
}

#[test]
fn uploads_launches_clears_and_reads_keep_their_order() {
    for (engine, device) in all() {
        let (matrix, sums) = (garbage(device, 300), garbage(device, 100));
        // More recordings on their way than there are staging buffers, of growing and shrinking sizes.
        let mut tickets = Vec::new();
        for round in 0..12_usize {
            let (rows, columns) = (1 + round % 3, 1 + 17 * (round % 5));
            let values: Vec<f32> = (0..rows * columns).map(|i| (i * (round + 1)) as f32).collect();
            let mut recording = Recording::new();
            recording.upload(&matrix, 0, bytemuck::cast_slice(&values).to_vec());
            recording.clear(sums.range(0, 4 * columns as u64));
            recording.launch(column_sum::launch(rows, columns, &matrix.whole(), &sums.whole(), false));
            let before = recording.read_back(&sums.range(0, 4 * columns as u64));
            recording.upload(&sums, 0, bytemuck::bytes_of(&-1.0_f32).to_vec());
            let after = recording.read_back(&sums.range(0, 4));
            device.submit(recording).unwrap();
            tickets.push((round, values, columns, before, after));
        }
        for (round, values, columns, before, after) in tickets {
            let sum = |c: usize| values.chunks(columns).map(|row| row[c]).sum();
            let want: Vec<f32> = (0..columns).map(sum).collect();
            let got: Vec<f32> = bytemuck::pod_collect_to_vec(&device.collect(before).unwrap());
            assert_eq!(got, want, "round {round} on {engine}");
            let after: Vec<f32> = bytemuck::pod_collect_to_vec(&device.collect(after).unwrap());
            assert_eq!(after, [-1.0], "round {round} on {engine}");
        }
    }
}

#[test]
fn launches_of_one_recording_have_their_own_parameters() {
    // A member without work, which no engine runs, must not shift the parameters of those after it.
    static GROUP: Fused = Fused { name: "nothing", bindings: &[], twin: |_| {} };
    for (engine, device) in all().filter(|(_, device)| !device.runs_fused()) {
        let matrix = upload(device, &[1.0_f32; 64]);
        let outputs = [1, 2, 3].map(|_| writable(device, &[0.0_f32; 4]));
        let launch = |rows, columns, to: usize| {
            column_sum::launch(rows, columns, &matrix, &outputs[to].whole(), false)
        };
        let mut recording = Recording::new();
        recording.launch(launch(5, 1, 0));
        let members = vec![launch(9, 0, 1), launch(7, 2, 1)];
        recording.fused(&GROUP, Vec::new(), Vec::new(), members);
        recording.launch(launch(11, 3, 2));
        device.submit(recording).unwrap();
        let got = outputs.each_ref().map(|buffer| device.read_vec::<f32>(buffer, 4).unwrap());
        let want = [[5.0, 0.0, 0.0, 0.0], [7.0, 7.0, 0.0, 0.0], [11.0, 11.0, 11.0, 0.0]];
        assert_eq!(got, want, "{engine}");
    }
}

#[test]
fn ranges_of_a_buffer_are_bound_where_they_begin() {
    for (engine, device) in all() {
        let floats = SLICE_ALIGNMENT as usize / 4;
        let values: Vec<f32> = (0..4 * floats).map(|i| i as f32).collect();
        let matrix = upload(device, &values);
        let sums = writable(device, &vec![0.0_f32; 3 * floats]);
        let mut recording = Recording::new();
        let to = sums.range(2 * SLICE_ALIGNMENT, 8);
        recording.launch(column_sum::launch(2, 2, &matrix, &to, false));
        device.submit(recording).unwrap();
        let mut want = vec![0.0; 3 * floats];
        want[2 * floats..][..2].copy_from_slice(&[2.0, 4.0]);
        assert_eq!(device.read_vec::<f32>(&sums, 3 * floats).unwrap(), want, "{engine}");
    }
}

#[test]
fn many_workgroups_fold_into_two_dimensions() {
    // 65,536 workgroups of 64, one more than a dimension holds.
    let count = 65_536 * 64 - 3;
    let rates = regrow::kernels::optimizer::Rates { rate: 1.0, keep: 1.0, ..Default::default() };
    for (engine, device) in all() {
        let gradient = upload(device, &vec![1.0_f32; count]);
        let parameters = writable(device, &vec![0.0_f32; count + 8]);
        let states = [(); 2].map(|()| writable(device, &[0.0_f32; 4]).whole());
        let mut recording = Recording::new();
        let bindings = [&gradient, &parameters.whole(), &states[0], &states[1]];
        recording.launch(optimizer_step::launch(
            count,
            regrow::kernels::optimizer::Rule::Sgd,
            rates,
            Default::default(),
            bindings,
        ));
        device.submit(recording).unwrap();
        let got: Vec<f32> = device.read_vec(&parameters, count + 8).unwrap();
        let wrong = (0..count + 8).find(|i| got[*i] != if *i < count { -1.0 } else { 0.0 });
        assert_eq!(wrong, None, "{engine}");
    }
}

#[test]
fn a_buffer_to_write_is_given_once() {
    let device = Device::cpu(DeviceOptions::default()).unwrap();
    let buffer = writable(&device, &[0.0_f32; 4]);
    let mut recording = Recording::new();
    recording.launch(column_sum::launch(1, 1, &buffer.whole(), &buffer.whole(), false));
    assert!(device.submit(recording).is_err());
}
