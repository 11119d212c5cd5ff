//! The memory plan: every buffer of a run, before the first is taken.
//!
//! The plan is made by the very code that allocates: the model is built on a device that only counts.

use serde::Serialize;

use super::auxiliary::{auxiliary_cluster_count, auxiliary_sizes};
use super::build_encoder::micro_batch;
use super::calendar::Calendar;
use super::devices::Devices;
use super::feed::FeedSizes;
use super::host_memory::{HostSizes, driver};
use super::model::Model;
use super::purposes::{PURPOSES, purpose_of};
use super::sizes::{EncoderSizes, ModelSizes};
use crate::classifier::Ranker;
use crate::config::{Config, RewireMode};
use crate::device::{Device, MemoryUse};
use crate::error::{Error, Result};
use crate::evaluate::DEPTH;

/// What a run will take on its device.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The device.
    pub device: String,
    /// Labels, L.
    pub labels: usize,
    /// Connections of a label: F, or all features of a dense classifier.
    pub fan_in: usize,
    /// Bytes of a label's weights, indices, bias and optimizer states.
    pub bytes_per_label: f64,
    /// Bytes by purpose.
    pub purposes: Vec<Purpose>,
    /// Every buffer, and the most that is there at once.
    pub memory: MemoryUse,
    /// Bytes of the host beside the buffers, by purpose; empty where they are not planned.
    pub host: Vec<Purpose>,
    /// The largest buffer that the device binds, bytes.
    pub max_buffer_bytes: u64,
    /// Memory that is free on the device now, where it is known.
    pub available_bytes: Option<u64>,
    /// What the device of the classifier takes, where it is another: then the rest is of the encoder's device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classifier_device: Option<Box<Plan>>,
}

/// Bytes of a kind.
#[derive(Clone, Debug, Serialize)]
pub struct Purpose {
    /// What for.
    pub name: &'static str,
    /// Bytes.
    pub bytes: u64,
}

impl Plan {
    /// Plans a run of `config` on a device like this one, or on two.
    ///
    /// # Errors
    /// As building the model there: [`Error::Config`], [`Error::Device`].
    pub fn new<'d>(devices: impl Into<Devices<'d>>, config: &Config, sizes: ModelSizes) -> Result<Self> {
        let devices = devices.into();
        let planning = devices.encoder.planning();
        let second = devices.second().map(Device::planning);
        let both = Devices { encoder: &planning, classifier: second.as_ref().unwrap_or(&planning) };
        let model = Model::new(both, config, sizes)?;
        if let Some(layer) = model.classifier.fan_in().filter(|_| config.rewire.mode != RewireMode::Off) {
            layer.plan_rewiring(both.classifier)?;
        }
        let _ranker = Ranker::new(both.classifier, &model.classifier, DEPTH, config.evaluate.batch_size)?;
        let fan_in = model.classifier.connections();
        let mut plan = Self::of_device(&planning, sizes.labels, fan_in);
        plan.host.extend(driver(devices));
        if let Some(second) = &second {
            let second = Self::of_device(second, sizes.labels, fan_in);
            plan.bytes_per_label = second.bytes_per_label;
            plan.classifier_device = Some(Box::new(second));
        }
        Ok(plan)
    }

    /// What was allocated on a device that only counts.
    pub(crate) fn of_device(planning: &Device, labels: usize, fan_in: usize) -> Self {
        let memory = planning.memory();
        let mut purposes = PURPOSES.map(|(name, _)| Purpose { name, bytes: 0 });
        for buffer in &memory.buffers {
            purposes[purpose_of(&buffer.name)].bytes += buffer.bytes;
        }
        let label_bytes = purposes[0].bytes + purposes[1].bytes;
        Self {
            device: planning.name().to_owned(),
            labels,
            fan_in,
            bytes_per_label: label_bytes as f64 / labels as f64,
            purposes: purposes.to_vec(),
            host: Vec::new(),
            max_buffer_bytes: planning.max_buffer_bytes(),
            available_bytes: if planning.kind().shares_memory() { available_memory() } else { None },
            memory,
            classifier_device: None,
        }
    }

    /// The most that all buffers take at once, bytes; of two devices, the sum of what each takes at most.
    #[must_use]
    pub fn peak_bytes(&self) -> u64 {
        self.memory.peak_bytes + self.classifier_device.as_ref().map_or(0, |second| second.peak_bytes())
    }

    /// The plan with what the host holds beside the buffers.
    #[must_use]
    pub fn with_host(mut self, config: &Config, sizes: HostSizes) -> Self {
        self.host.splice(0..0, sizes.purposes(config));
        self
    }

    /// Bytes of the host beside the buffers.
    #[must_use]
    pub fn host_bytes(&self) -> u64 {
        self.host.iter().map(|purpose| purpose.bytes).sum()
    }

    /// What the process takes at most, bytes: what the host holds, and the buffers of devices that have no memory of
    /// their own.
    #[must_use]
    pub fn process_bytes<'d>(&self, devices: impl Into<Devices<'d>>) -> u64 {
        let devices = devices.into();
        let second = self.classifier_device.as_ref().map_or(0, |plan| plan.peak_bytes());
        let buffers = [(devices.encoder, self.memory.peak_bytes), (devices.classifier, second)];
        let shared = buffers.iter().filter(|(device, _)| device.kind().shares_memory());
        self.host_bytes() + shared.map(|(_, bytes)| bytes).sum::<u64>()
    }

    /// Refuses a run that does not fit.
    ///
    /// # Errors
    /// [`Error::Device`] with what is needed, what there is, and what to change.
    pub fn check(&self) -> Result<()> {
        let refuse = |needed: u64, available: u64, remedy: String| {
            let (needed, available) = (megabytes(needed), megabytes(available));
            Err(Error::Device(format!("the run needs {needed} and {available} is free; {remedy}")))
        };
        let host = self.host_bytes();
        if let Some(second) = &self.classifier_device {
            second.check()?;
            // Both in the memory of the host: they share what is free.
            if let Some(available) = self.available_bytes.and(second.available_bytes)
                && available < self.peak_bytes() + host
            {
                return refuse(self.peak_bytes() + host, available, second.remedy());
            }
        }
        match self.available_bytes {
            Some(available) if available < self.memory.peak_bytes + host => {
                refuse(self.memory.peak_bytes + host, available, self.remedy())
            }
            _ => Ok(()),
        }
    }

    /// What to change so that a run takes less.
    #[must_use]
    pub fn remedy(&self) -> String {
        let most = self.purposes.iter().max_by_key(|purpose| purpose.bytes);
        let (largest, bytes) = most.map_or(("", 0), |purpose| (purpose.name, purpose.bytes));
        let kept = self.memory.buffers.iter().find(|buffer| buffer.name == "inverted index");
        let advice = match largest {
            // As easily given up as it is, it need not be most.
            _ if kept.is_some_and(|index| 3 * index.bytes > bytes) => {
                "set classifier.inverted_index = \"rebuilt\" (a step sorts it anew, part by part)"
            }
            "classifier optimizer states, rewiring, inverted index" => {
                "set optimizer.classifier.kind = \"sgd\" (no states), or a smaller classifier.fan_in"
            }
            "classifier weights, indices, biases" => "set a smaller classifier.fan_in",
            "encoder parameters" | "encoder optimizer states" => {
                "set a smaller encoder (vocabulary, dim, layers), freeze a part, or optimizer.encoder.kind = \"sgd\""
            }
            "intermediate layer and auxiliary head, with their states" => {
                "set a smaller intermediate.width or a larger auxiliary.cluster_size"
            }
            "encoder activations and gradients" => {
                "set encoder.recompute = true, or a smaller train.batch_size with more train.accumulate"
            }
            _ => "set a smaller train.batch_size or evaluate.batch_size",
        };
        format!("most goes to {largest}: {advice}")
    }

    /// Lines for a terminal.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let Some(second) = &self.classifier_device else {
            let mut lines = self.buffer_lines();
            lines.push(self.label_line());
            lines.push(self.device_line());
            return lines;
        };
        let mut lines = vec![format!("encoder on {}", self.device)];
        lines.extend(self.buffer_lines());
        lines.push(self.device_line());
        lines.extend([String::new(), format!("classifier on {}", second.device)]);
        lines.extend(second.lines());
        lines
    }

    /// The buffers of the device, the large ones by name, and their sums.
    fn buffer_lines(&self) -> Vec<String> {
        const SMALL: u64 = 100 << 10;
        let (large, small): (Vec<_>, Vec<_>) = self.memory.buffers.iter().partition(|b| b.bytes >= SMALL);
        let mut lines: Vec<String> = large
            .iter()
            .map(|buffer| {
                let times =
                    if buffer.count > 1 { format!(" in {} blocks", buffer.count) } else { String::new() };
                format!("{:>12}  {}{times}", megabytes(buffer.bytes), buffer.name)
            })
            .collect();
        let (count, bytes) = small.iter().fold((0, 0), |(c, b), buffer| (c + buffer.count, b + buffer.bytes));
        lines.push(format!("{:>12}  {count} buffers below 100 KiB", megabytes(bytes)));
        lines.push(String::new());
        lines.extend(self.purposes.iter().map(|p| format!("{:>12}  {}", megabytes(p.bytes), p.name)));
        lines.push(format!(
            "{:>12}  in all, peak {}",
            megabytes(self.memory.bytes),
            megabytes(self.memory.peak_bytes)
        ));
        if !self.host.is_empty() {
            lines.push(String::new());
            lines.extend(self.host.iter().map(|p| format!("{:>12}  {}", megabytes(p.bytes), p.name)));
            lines.push(format!("{:>12}  on the host beside the buffers", megabytes(self.host_bytes())));
        }
        lines
    }

    fn label_line(&self) -> String {
        format!(
            "{:.1} bytes a label with fan-in {}, {:.2} a connection",
            self.bytes_per_label,
            self.fan_in,
            self.bytes_per_label / self.fan_in as f64
        )
    }

    fn device_line(&self) -> String {
        let available = self.available_bytes.map_or("unknown".to_owned(), megabytes);
        format!(
            "{}: buffers up to {}, free memory {available}",
            self.device,
            megabytes(self.max_buffer_bytes)
        )
    }
}

/// Bytes as MiB with a decimal.
#[must_use]
pub fn megabytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Memory of the machine that is free, where the operating system tells it in a file.
fn available_memory() -> Option<u64> {
    kibibytes("/proc/meminfo", "MemAvailable:")
}

/// The most memory that this process ever had, where the operating system tells it.
#[must_use]
pub fn process_peak() -> Option<u64> {
    kibibytes("/proc/self/status", "VmHWM:")
}

fn kibibytes(file: &str, key: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    let number: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(number << 10)
}

/// The sizes of a run whose data are not there: as many tokens in a document as the config allows, and
/// `labels_per_document` labels.
///
/// # Errors
/// As [`auxiliary_cluster_count`].
pub fn sizes_without_data(
    config: &Config,
    encoder: EncoderSizes,
    labels: usize,
    documents: usize,
    labels_per_document: usize,
) -> Result<ModelSizes> {
    let calendar = Calendar::new(config, documents);
    let train_batch = calendar.step_documents.min(documents);
    let batch = train_batch.max(config.evaluate.batch_size.min(documents));
    Ok(ModelSizes {
        encoder,
        labels,
        auxiliary: auxiliary_sizes(auxiliary_cluster_count(config, labels)?, labels_per_document as f64),
        train_batch,
        feed: FeedSizes {
            positives: batch * labels_per_document,
            ..FeedSizes::of_documents(batch, micro_batch(config), config.data.max_tokens)
        },
        bias_init: 0.0,
        max_block_rows: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::DeviceOptions;

    #[test]
    fn purposes_are_told_by_name() {
        let names = [
            "classifier weights",
            "classifier bias",
            "classifier bias first moment",
            "classifier.dense bias second moment",
            "regrown slots",
            "encoder.embedding.weight",
            "first moment of encoder.norm.bias",
            "batch inputs",
            "gradient of encoder.norm.bias",
            "queries",
            "auxiliary bias first moment",
            "second moment of intermediate.weight",
        ];
        assert_eq!(names.map(purpose_of), [0, 0, 1, 1, 1, 2, 3, 6, 4, 4, 5, 5]);
    }

    /// Counted by hand: SGD keeps no states, so a label has F weights of 4 bytes, F indices of 2, a bias, and a bit
    /// for each connection in words.
    #[test]
    fn a_plan_is_the_sum_of_its_parts() {
        let settings = ["optimizer.classifier.kind=sgd", "classifier.fan_in=32", "encoder.dim=64"];
        let config = Config::with_settings(&settings.map(str::to_owned)).unwrap();
        let device = Device::cpu(DeviceOptions::default()).unwrap();
        let sizes =
            sizes_without_data(&config, EncoderSizes::Bag { vocabulary: 500 }, 1000, 10_000, 3).unwrap();
        let plan = Plan::new(&device, &config, sizes).unwrap();
        // States that the rule does not have still take 16 bytes, four of them.
        assert_eq!(plan.purposes[0].bytes + plan.purposes[1].bytes, 1000 * (32 * 6 + 4 + 4) + 4 * 16);
        assert_eq!(plan.purposes.iter().map(|p| p.bytes).sum::<u64>(), plan.memory.bytes);
        assert!(plan.memory.peak_bytes >= plan.memory.bytes);
        let refused = Plan { available_bytes: Some(plan.memory.peak_bytes - 1), ..plan }.check().unwrap_err();
        assert!(refused.to_string().contains("MiB is free; most goes to"), "{refused}");
    }

    /// Without the one pass, as on a GPU, an index of 2 bytes a connection is a third of what a layer of narrow weights takes;
    /// rebuilt in every step it is scratch.
    #[test]
    fn an_inverted_index_that_is_kept_is_what_to_change() {
        let plan = |index: &str| {
            let index = format!("classifier.inverted_index={index}");
            let settings =
                ["optimizer.classifier.kind=sgd", "classifier.weights=f16", "classifier.fan_in=8", &index];
            let config = Config::with_settings(&settings.map(str::to_owned)).unwrap();
            let device = Device::cpu(DeviceOptions { fused: false, ..DeviceOptions::default() }).unwrap();
            let encoder = EncoderSizes::Bag { vocabulary: 50 };
            Plan::new(&device, &config, sizes_without_data(&config, encoder, 20_000_000, 100, 3).unwrap())
                .unwrap()
        };
        let [kept, rebuilt] = ["kept", "rebuilt"].map(plan);
        assert!(kept.remedy().contains("classifier.inverted_index = \"rebuilt\""), "{}", kept.remedy());
        assert!(!rebuilt.remedy().contains("inverted_index"), "{}", rebuilt.remedy());
        let states = |plan: &Plan| plan.purposes[1].bytes;
        // And offsets, in slices of 256 bytes.
        let saved = states(&kept) - states(&rebuilt) - 20_000_000 * 8 * 2;
        assert!(saved > 0 && saved.is_multiple_of(256), "{saved}");
    }

    /// What is planned is what is taken, of every head.
    #[test]
    fn the_plan_is_what_the_model_takes() {
        let auxiliary = ["intermediate.width=48", "intermediate.activation=gelu", "auxiliary.weight=0.5"];
        let mixed = ["classifier.dense_labels=0.1", "classifier.dense_features=0"];
        for more in [&[][..], &["classifier.head=dense"], &["classifier.head=bottleneck"], &auxiliary, &mixed]
        {
            let plan = taken(more);
            let heads = plan.purposes.iter().find(|p| p.name.starts_with("intermediate")).unwrap().bytes;
            assert_eq!(heads > 0, more.len() == 3 || more == ["classifier.head=bottleneck"], "{more:?}");
        }
        // 300 labels in groups of 32 have 10 rows of 32 indices and of a word of regrown bits instead of 300; buffers
        // are whole vectors of 16 bytes.
        let [own, shared] = [taken(&[]), taken(&["classifier.group=32"])].map(|plan| plan.memory.bytes);
        assert_eq!(own - shared, 300 * (32 * 2 + 4) - (10 * 32 * 2 + 48));
        // A stratum is narrow, so an index takes a byte instead of two.
        let stratified = taken(&["classifier.pattern=stratified"]).memory.bytes;
        assert_eq!(own - stratified, 300 * 32);
        // Growth by gradient keeps the logit gradients of 300 labels and 64 documents, and a loss of each label.
        let growth = taken(&["rewire.growth=gradient"]).memory.bytes - taken(&[]).memory.bytes;
        assert_eq!(growth, 300 * 64 * 4 + 300 * 4);
    }

    /// What is planned for each of two devices is what it takes, and what one device takes twice is planned once.
    #[test]
    fn the_plan_of_two_devices_is_what_each_takes() {
        let settings = ["encoder.dim=32", "intermediate.width=48", "classifier.dense_labels=0.1"];
        let config = Config::with_settings(&settings.map(str::to_owned)).unwrap();
        let device = || Device::cpu(DeviceOptions::default()).unwrap();
        let (below, above) = (device(), device());
        let devices = Devices { encoder: &below, classifier: &above };
        let sizes = sizes_without_data(&config, EncoderSizes::Bag { vocabulary: 200 }, 300, 1000, 3).unwrap();
        let plan = Plan::new(devices, &config, sizes).unwrap();
        let model = Model::new(devices, &config, sizes).unwrap();
        let _ranker = Ranker::new(&above, &model.classifier, DEPTH, config.evaluate.batch_size).unwrap();
        let second = plan.classifier_device.as_ref().unwrap();
        assert_eq!([below.memory(), above.memory()], [plan.memory.clone(), second.memory.clone()]);
        assert_eq!(plan.peak_bytes(), plan.memory.peak_bytes + second.memory.peak_bytes);
        let one = Plan::new(&below, &config, sizes).unwrap();
        assert_eq!(one.bytes_per_label, plan.bytes_per_label);
        // Features and their gradient cross through room of their own; what rounds up in the inputs is a vector or two.
        let crossing = 32 * 256 * 4;
        let more = plan.memory.bytes + second.memory.bytes - one.memory.bytes;
        assert!((crossing..crossing + 64).contains(&more), "{more}");
        // Each fits into what is free for it, but not both together.
        let free = Some(plan.peak_bytes() - 1);
        let second = Some(Box::new(Plan { available_bytes: free, ..(**second).clone() }));
        let refused = Plan { available_bytes: free, classifier_device: second, ..plan }.check().unwrap_err();
        assert!(refused.to_string().contains("MiB is free; most goes to"), "{refused}");
    }

    /// A plan, after a look at what the same model takes.
    fn taken(more: &[&str]) -> Plan {
        let settings: Vec<String> =
            ["encoder.dim=32"].iter().chain(more).map(|setting| (*setting).to_owned()).collect();
        let config = Config::with_settings(&settings).unwrap();
        let device = Device::cpu(DeviceOptions::default()).unwrap();
        let sizes = sizes_without_data(&config, EncoderSizes::Bag { vocabulary: 200 }, 300, 1000, 3).unwrap();
        let plan = Plan::new(&device, &config, sizes).unwrap();
        let model = Model::new(&device, &config, sizes).unwrap();
        let _ranker = Ranker::new(&device, &model.classifier, DEPTH, config.evaluate.batch_size).unwrap();
        assert_eq!(device.memory(), plan.memory, "{more:?}");
        plan
    }
}
