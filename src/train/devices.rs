//! Where the parts of a model lie: all on one device, or the encoder on one and what lies above it on another.

use crate::device::Device;

/// The device of the encoder, and that of everything above it: dropout of the features, intermediate layer, classifier,
/// auxiliary head.
///
/// A [`Device`] alone stands for both. Between two devices the features of a batch, [B, D] f32, and in training later
/// their gradient go through the memory of the host.
#[derive(Clone, Copy)]
pub struct Devices<'d> {
    /// From tokens to features.
    pub encoder: &'d Device,
    /// What lies above.
    pub classifier: &'d Device,
}

impl<'d> From<&'d Device> for Devices<'d> {
    fn from(device: &'d Device) -> Self {
        Self { encoder: device, classifier: device }
    }
}

impl<'d> Devices<'d> {
    /// Whether all parts lie on one device.
    #[must_use]
    pub fn are_one(self) -> bool {
        std::ptr::eq(self.encoder, self.classifier)
    }

    /// The classifier's device where it is another than the encoder's.
    #[must_use]
    pub fn second(self) -> Option<&'d Device> {
        (!self.are_one()).then_some(self.classifier)
    }

    /// What the buffers of all devices took at most, bytes.
    #[must_use]
    pub fn peak_bytes(self) -> u64 {
        let second = self.second().map_or(0, |device| device.memory().peak_bytes);
        self.encoder.memory().peak_bytes + second
    }

    /// A line that names where it runs.
    #[must_use]
    pub fn name(self) -> String {
        match self.second() {
            Some(second) => format!("{}, the classifier on {}", self.encoder.name(), second.name()),
            None => self.encoder.name().to_owned(),
        }
    }
}
