//! What happens when there is no CUDA device, or a bad one. Those tests that need a driver run on the stand-in that
//! `tests/cuda.sh` builds.

use std::process::{Command, Output};

/// `regrow ARGUMENTS` with variables in its environment, without what the tests themselves were started with.
fn regrow(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regrow"));
    command.args(arguments).env_remove("LD_LIBRARY_PATH").envs(variables.iter().copied());
    command.output().unwrap()
}

/// The one line on standard error of a call that fails because of the device.
fn refusal(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    text
}

#[cfg(not(feature = "cuda"))]
#[test]
fn a_build_without_cuda_says_so() {
    for device in ["cuda", "cuda:0", "CUDA:1"] {
        let text = refusal(&regrow(&["bench", "--device", device], &[]));
        assert!(text.contains("this build has no CUDA: build with --features cuda"), "{text}");
    }
}

#[cfg(feature = "cuda")]
mod with_cuda {
    use regrow::Error;
    use regrow::classifier::{FanIn, FanInOptions, Loss, Positives, Step, StepScale};
    use regrow::device::{Device, DeviceOptions, Recording};
    use regrow::kernels::activation::{self, Activation};
    use regrow::kernels::fan_in_dlogits::Block;
    use regrow::kernels::matmul::Layout;
    use regrow::kernels::optimizer::{Rates, Rule};
    use regrow::kernels::products::{Epilogue, Product, Products};
    use regrow::kernels::rewire_histogram::{self, Digit};
    use regrow::kernels::storage::{Indices, Precision};

    use super::{Command, refusal, regrow};

    /// The folder of the stand-in, where the tests run on it.
    fn stand_in() -> Option<String> {
        let folder = std::env::var("REGROW_CUDA_STAND_IN").ok()?;
        assert!(std::path::Path::new(&folder).join("libcuda.so").is_file(), "run tests/cuda/build.sh");
        Some(folder)
    }

    /// What `--device DEVICE` is answered on a stand-in with these properties.
    fn refused(device: &str, properties: &[(&str, &str)]) -> Option<String> {
        let folder = stand_in()?;
        let variables = [&[("LD_LIBRARY_PATH", folder.as_str())], properties].concat();
        Some(refusal(&regrow(&["bench", "--device", device], &variables)))
    }

    #[test]
    fn a_machine_without_a_driver_is_told_what_to_install() {
        if std::path::Path::new("/proc/driver/nvidia").exists() {
            return;
        }
        let text = refusal(&regrow(&["bench", "--device", "cuda:0"], &[]));
        assert!(text.contains("no CUDA driver was found") && text.contains("530"), "{text}");
        let devices = regrow(&["devices"], &[]);
        assert!(devices.status.success());
        let text = String::from_utf8(devices.stdout).unwrap();
        assert!(text.contains("no CUDA device: no CUDA driver was found"), "{text}");
    }

    #[test]
    fn a_name_must_be_a_number() {
        let text = refusal(&regrow(&["bench", "--device", "cuda:first"], &[]));
        assert!(text.contains("`cuda:first` names no CUDA device; write cuda:0"), "{text}");
    }

    #[test]
    fn a_driver_can_be_too_old() {
        let Some(text) = refused("cuda:0", &[("REGROW_HOST_VERSION", "11080")]) else { return };
        assert!(text.contains("it knows CUDA 11.8, regrow needs 12.1"), "{text}");
    }

    #[test]
    fn a_number_that_is_not_there_lists_those_that_are() {
        let Some(text) = refused("cuda:2", &[("REGROW_HOST_DEVICES", "2")]) else { return };
        let there = "there is no cuda:2; CUDA devices: cuda:0 = CUDA kernels on the host, cuda:1 = ";
        assert!(text.contains(there), "{text}");
        let Some(text) = refused("cuda", &[("REGROW_HOST_DEVICES", "0")]) else { return };
        assert!(text.contains("there is no cuda:0; CUDA devices: none"), "{text}");
    }

    #[test]
    fn devices_are_listed() {
        let Some(folder) = stand_in() else { return };
        let variables = [("LD_LIBRARY_PATH", folder.as_str()), ("REGROW_HOST_MEMORY", "2048")];
        let output = regrow(&["devices", "--json"], &variables);
        let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let wanted = serde_json::json!([{
            "device": "cuda:0", "name": "CUDA kernels on the host", "capability": "8.0", "memory_bytes": 2048_u64 << 20,
        }]);
        assert_eq!(all["cuda"], wanted);
    }

    #[test]
    fn a_kernel_without_a_cuda_form_is_named() {
        if stand_in().is_none() {
            return;
        }
        let device = Device::cuda("cuda:0", DeviceOptions::default()).unwrap();
        let matrix = device.allocate("numbers", 256).unwrap();
        device.write(&matrix, 0, &[7; 64]).unwrap();
        let mut recording = Recording::new();
        recording.clear(&matrix);
        let [x, dout, dx, again] = [(); 4].map(|()| device.allocate("numbers", 16).unwrap().whole());
        let backward = activation::backward(Activation::Relu, 4, &x, &dout, &dx, Some(&again));
        recording.launch(backward);
        let text = device.submit(recording).unwrap_err().to_string();
        let wanted = "kernel activation_again has no CUDA form; set classifier.device = \"cuda:0\"";
        assert!(text.contains(wanted), "{text}");
        // Nothing of the recording has run.
        assert_eq!(device.read_vec::<u8>(&matrix, 64).unwrap(), [7; 64]);
    }

    fn layer_options(fan_in: usize, group: usize, precision: Precision) -> FanInOptions {
        FanInOptions {
            labels: 40,
            features: 2 * fan_in,
            fan_in,
            group,
            max_batch: 3,
            rule: Rule::AdamW,
            precision,
            train_bias: true,
            init_scale: 1.0,
            bias_init: 0.0,
            seed: 1,
            max_block_rows: 0,
            inverted_index: Default::default(),
        }
    }

    /// One step of a layer on three samples.
    fn step(device: &Device, layer: &FanIn) {
        let features = layer.options.features;
        let [x, dx] =
            [(); 2].map(|()| device.allocate("features", (features * 16 * 4) as u64).unwrap().whole());
        let [losses, pairs] = [(); 2].map(|()| device.allocate("pairs", 16).unwrap().whole());
        let mut recording = Recording::new();
        layer.record_step(
            &mut recording,
            &Step {
                batch: 3,
                loss: Loss::Bce,
                scale: StepScale { gradient: 1.0, loss: 1.0, place: 0 },
                step: 0,
                rates: Rates::default(),
                positives: &Positives { count: 0, pairs },
                x: &x,
                dx: &dx,
                losses: &losses,
            },
        );
        device.submit(recording).unwrap();
    }

    #[test]
    fn the_plan_lists_every_buffer_of_a_layer() {
        if stand_in().is_none() {
            return;
        }
        let stratified = Precision { indices: Indices::Stratified { features: 32 }, ..Precision::default() };
        for (group, precision) in [(1, Precision::default()), (16, Precision::default()), (1, stratified)] {
            let device = Device::cuda("cuda", DeviceOptions::default()).unwrap();
            let plan = device.planning();
            let options = layer_options(16, group, precision);
            let layers = [&plan, &device].map(|device| FanIn::new(device, options).unwrap());
            let listed = |device: &Device| -> Vec<(String, u64)> {
                device.memory().buffers.into_iter().map(|buffer| (buffer.name, buffer.bytes)).collect()
            };
            let planned = listed(&plan);
            assert!(planned.iter().any(|(name, _)| name == "weights before the step"), "{planned:?}");
            assert_eq!(planned, listed(&device));
            step(&device, &layers[1]);
            device.wait().unwrap();
            assert_eq!(planned, listed(&device));
        }
    }

    /// Sums of small integers, which are exact, in matrices of several tiles and odd sizes.
    #[test]
    fn products_of_every_layout() {
        if stand_in().is_none() {
            return;
        }
        let device = Device::cuda("cuda", DeviceOptions::default()).unwrap();
        assert_eq!(Products::names(&device), ["floor"]);
        let [m, n, k] = [35, 33, 70];
        let number = |i: usize| (i * i % 7) as f32 - 3.0;
        let [a, b] = [m * k, k * n].map(|count| (0..count).map(number).collect::<Vec<f32>>());
        let (bias, before): (Vec<f32>, Vec<f32>) =
            ((0..n).map(number).collect(), (0..m * n).map(number).collect());
        let [a_slice, b_slice, bias_slice] =
            [&a, &b, &bias].map(|v| device.upload("operand", v).unwrap().whole());
        for layout in Layout::ALL {
            let a_at = |r: usize, d: usize| if layout == Layout::Tn { a[d * m + r] } else { a[r * k + d] };
            let b_at = |d: usize, s: usize| if layout == Layout::Nt { b[s * k + d] } else { b[d * n + s] };
            for epilogue in [Epilogue::None, Epilogue::Bias(&bias_slice), Epilogue::Accumulate] {
                let c = device.upload("result", &before).unwrap();
                let (sizes, c_slice) = ([m, n, k], c.whole());
                let (a, b) = (&a_slice, &b_slice);
                let mut recording = Recording::new();
                let product = Product { sizes, layout, a, b, c: &c_slice, epilogue, gradient: None };
                Products::floor().record(&mut recording, product);
                device.submit(recording).unwrap();
                let truth = |i: usize| {
                    let sum: f32 = (0..k).map(|d| a_at(i / n, d) * b_at(d, i % n)).sum();
                    sum + match epilogue {
                        Epilogue::Bias(_) => bias[i % n],
                        Epilogue::Accumulate => before[i],
                        _ => 0.0,
                    }
                };
                let got: Vec<f32> = device.read_vec(&c, m * n).unwrap();
                assert_eq!(got, (0..m * n).map(truth).collect::<Vec<f32>>(), "{layout:?}, {epilogue:?}");
            }
        }
    }

    /// Runs the test of this name once more in a process with a variable; false: it is that process, or nowhere to run.
    fn runs_again(test: &str, variable: (&str, &str)) -> bool {
        let Some(folder) = stand_in() else { return true };
        if std::env::var_os(variable.0).is_some() {
            return false;
        }
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", test]).env("LD_LIBRARY_PATH", folder).env(variable.0, variable.1);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        true
    }

    #[test]
    fn memory_that_is_not_there_is_told() {
        if runs_again("with_cuda::memory_that_is_not_there_is_told", ("REGROW_HOST_MEMORY", "8")) {
            return;
        }
        let device = Device::open(Some("cuda:0"), DeviceOptions::default()).unwrap();
        let first = device.allocate("the first", 5 << 20).unwrap();
        let text = device.allocate("the second", 5 << 20).unwrap_err().to_string();
        assert!(text.contains("no room for `the second` (5 MiB)"), "{text}");
        assert!(text.contains("of whose 8 MiB 3 are free"), "{text}");
        drop(first);
        let second = device.allocate("the second", 5 << 20).unwrap();
        assert_eq!(device.memory().bytes, second.bytes());
    }

    #[test]
    fn a_lost_device_is_an_error_of_its_own() {
        if runs_again("with_cuda::a_lost_device_is_an_error_of_its_own", ("REGROW_HOST_LOST", "2")) {
            return;
        }
        let device = Device::open(Some("cuda:0"), DeviceOptions::default()).unwrap();
        let [weights, counts] = [64, 1024].map(|bytes| device.allocate("numbers", bytes).unwrap());
        let block =
            Block { rows: 4, first_label: 0, fan_in: 4, group: 1, batch: 1, precision: Default::default() };
        let digit = Digit { shift: 24, prefix: 0, equal_score: None };
        let step = || {
            let mut recording = Recording::new();
            recording.launch(rewire_histogram::launch(block, digit, &weights.whole(), &counts.whole()));
            device.submit(recording)
        };
        step().unwrap();
        device.wait().unwrap();
        let lost = step().and_then(|()| device.wait()).unwrap_err();
        assert!(matches!(lost, Error::DeviceLost(_)), "{lost:?}");
        assert!(lost.to_string().contains("the GPU was lost while running rewire_histogram"), "{lost}");
        assert!(device.read(&counts, 0, 16).is_err());
    }
}
