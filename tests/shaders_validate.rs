//! Every shader, in every variant, goes through naga to SPIR-V, Metal and Direct3D text. Needs no driver.

use naga::back::{hlsl, msl, spv};
use naga::proc::{BoundsCheckPolicies, BoundsCheckPolicy, Layouter};
use naga::valid::{Capabilities, ModuleInfo, ValidationFlags, Validator};
use naga::{AddressSpace, ImageClass, Module, ResourceBinding, StorageAccess, TypeInner};
use regrow::device::{Access, Cooperative, Device, DeviceOptions, Kernel, Launch, Slice, shader};
use regrow::kernels::activation::Activation;
use regrow::kernels::attention::Attention;
use regrow::kernels::dropout::Dropout;
use regrow::kernels::fan_in_dlogits::{Block, Loss};
use regrow::kernels::fan_in_step::StepOptions;
use regrow::kernels::inverted_index::Sort;
use regrow::kernels::lists::{Lists, Windows};
use regrow::kernels::matmul::Layout;
use regrow::kernels::optimizer::{Rates, Rule};
use regrow::kernels::pool::{Place, PoolKind};
use regrow::kernels::products::{Epilogue, Product};
use regrow::kernels::rewire_histogram::Digit;
use regrow::kernels::rewire_regrow::Growth;
use regrow::kernels::storage::{Indices, Precision, Rounding, StateStorage};
use regrow::kernels::*;

/// A kernel's variant, parsed and validated.
struct Parsed {
    kernel: &'static Kernel,
    name: String,
    module: Module,
    info: ModuleInfo,
}

fn parse(kernel: &'static Kernel, constants: &[(&'static str, u32)], immediates: bool) -> Parsed {
    let parameters = if immediates { "immediates" } else { "uniform" };
    let name = format!("{} ({parameters})", shader::variant_name(kernel, &constants.to_vec()));
    let text =
        shader::expand(kernel, constants, immediates).unwrap_or_else(|error| panic!("{name}: {error}"));
    let module = naga::front::wgsl::parse_str(&text)
        .unwrap_or_else(|error| panic!("{name}, parsing:\n{}", error.emit_to_string(&text)));
    // The floor: the fallback must do without any capability but one, f16 taken out of a word, which wgpu has on Vulkan,
    // Metal and Direct3D whether or not a shader may compute in f16.
    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    if immediates {
        capabilities |= Capabilities::IMMEDIATES;
    }
    if of_subgroups(kernel) {
        capabilities |= Capabilities::SUBGROUP;
    }
    if of_pairs(kernel) {
        capabilities |= Capabilities::SHADER_INT64;
    }
    if cooperative(kernel) {
        capabilities |= Capabilities::COOPERATIVE_MATRIX | Capabilities::SHADER_FLOAT16;
    }
    let info = Validator::new(ValidationFlags::all(), capabilities)
        .validate(&module)
        .unwrap_or_else(|error| panic!("{name}, validating:\n{}", error.emit_to_string(&text)));
    Parsed { kernel, name, module, info }
}

/// Kernels that run only where the adapter has cooperative matrices.
fn cooperative(kernel: &Kernel) -> bool {
    kernel.name.starts_with("matmul_cooperative")
}

/// Kernels that run only where the adapter has integers of 64 bits: on software Vulkan.
fn of_pairs(kernel: &Kernel) -> bool {
    ["_pairs", "_eights"].iter().any(|end| kernel.name.ends_with(end))
}

/// Kernels that run only where the adapter has subgroups: on software Vulkan.
fn of_subgroups(kernel: &Kernel) -> bool {
    kernel.name.starts_with(fan_in_group_step::KERNEL.name)
}

/// Every kernel in every variant, with immediates and without.
fn all() -> Vec<Parsed> {
    let of_kernel = |kernel: &&'static Kernel| {
        let kernel = *kernel;
        let variants = (kernel.variants)();
        assert!(!variants.is_empty(), "{kernel:?} has no variants");
        variants.into_iter().flat_map(move |v| [true, false].map(|immediates| parse(kernel, &v, immediates)))
    };
    ALL.iter().flat_map(of_kernel).collect()
}

impl Parsed {
    /// Size in bytes of the variables in one address space.
    fn bytes_in(&self, space: impl Fn(AddressSpace) -> bool) -> u32 {
        let mut layouter = Layouter::default();
        layouter.update(self.module.to_ctx()).unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let variables = self.module.global_variables.iter().filter(|(_, variable)| space(variable.space));
        variables.map(|(_, variable)| layouter[variable.ty].size).sum()
    }

    fn params_bytes(&self) -> u32 {
        self.bytes_in(|space| matches!(space, AddressSpace::Immediate | AddressSpace::Uniform))
    }

    /// (group, binding, access) of every storage buffer and texture.
    fn bindings(&self) -> Vec<(ResourceBinding, Access)> {
        let of = |variable: &naga::GlobalVariable| match variable.space {
            AddressSpace::Handle => {
                let TypeInner::Image { class: ImageClass::Storage { format, access }, .. } =
                    self.module.types[variable.ty].inner
                else {
                    panic!("{}: a handle that is no texture", self.name)
                };
                assert_eq!(format, naga::StorageFormat::Rgba32Float, "{}", self.name);
                let read = access == StorageAccess::LOAD;
                assert!(read || access == StorageAccess::STORE, "{}: a texture that is changed", self.name);
                Some((variable.binding?, if read { Access::ReadTexture } else { Access::WriteTexture }))
            }
            AddressSpace::Storage { access } => {
                let written = access.contains(StorageAccess::STORE);
                let binding = variable.binding.unwrap_or_else(|| panic!("{}: unbound buffer", self.name));
                Some((binding, if written { Access::Write } else { Access::Read }))
            }
            _ => None,
        };
        self.module.global_variables.iter().filter_map(|(_, variable)| of(variable)).collect()
    }
}

fn bounds(policy: BoundsCheckPolicy) -> BoundsCheckPolicies {
    BoundsCheckPolicies {
        index: policy,
        buffer: policy,
        image_load: policy,
        binding_array: BoundsCheckPolicy::Unchecked,
    }
}

const UNIFORM: ResourceBinding = ResourceBinding { group: 1, binding: 0 };

fn to_spirv(shader: &Parsed, checked: bool) {
    let policy = if checked { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
    let options = spv::Options {
        bounds_check_policies: bounds(policy),
        force_loop_bounding: checked,
        ..Default::default()
    };
    let words = spv::write_vec(&shader.module, &shader.info, &options, None)
        .unwrap_or_else(|error| panic!("{}, SPIR-V: {error}", shader.name));
    assert_eq!(words[0], 0x0723_0203, "{}: no SPIR-V", shader.name);
}

fn to_metal(shader: &Parsed, checked: bool) {
    let policy = if checked { BoundsCheckPolicy::Restrict } else { BoundsCheckPolicy::Unchecked };
    let target = |slot, mutable| msl::BindTarget { buffer: Some(slot), mutable, ..Default::default() };
    let texture = |slot| msl::BindTarget { texture: Some(slot), ..Default::default() };
    let mut resources: msl::BindingMap = shader
        .bindings()
        .into_iter()
        .map(|(binding, access)| {
            let slot = binding.binding as u8;
            let target = match access {
                Access::Read | Access::Write => target(slot, access == Access::Write),
                Access::ReadTexture | Access::WriteTexture => texture(slot),
            };
            (binding, target)
        })
        .collect();
    resources.insert(UNIFORM, target(20, false));
    let entry = msl::EntryPointResources { resources, immediates_buffer: Some(20), sizes_buffer: Some(21) };
    let options = msl::Options {
        lang_version: if cooperative(shader.kernel) || of_pairs(shader.kernel) {
            (2, 3)
        } else if of_subgroups(shader.kernel) {
            (2, 1)
        } else {
            (2, 0)
        },
        per_entry_point_map: msl::EntryPointResourceMap::from([("main".to_owned(), entry)]),
        fake_missing_bindings: false,
        bounds_check_policies: bounds(policy),
        force_loop_bounding: checked,
        ..Default::default()
    };
    let (text, translation) =
        msl::write_string(&shader.module, &shader.info, &options, &msl::PipelineOptions::default())
            .unwrap_or_else(|error| panic!("{}, Metal: {error}", shader.name));
    for entry in translation.entry_point_names {
        let entry = entry.unwrap_or_else(|error| panic!("{}, Metal: {error}", shader.name));
        assert!(
            text.contains(&format!("kernel void {entry}")),
            "{}: no kernel in the Metal text",
            shader.name
        );
    }
}

fn to_hlsl(shader: &Parsed, checked: bool) {
    let target = |space, register| hlsl::BindTarget {
        space,
        register,
        restrict_indexing: checked,
        ..Default::default()
    };
    let mut binding_map: hlsl::BindingMap =
        shader.bindings().into_iter().map(|(binding, _)| (binding, target(0, binding.binding))).collect();
    binding_map.insert(UNIFORM, target(1, 0));
    let options = hlsl::Options {
        binding_map,
        fake_missing_bindings: false,
        // For num_workgroups, which Direct3D does not have.
        special_constants_binding: Some(target(3, 0)),
        immediates_target: Some(target(2, 0)),
        restrict_indexing: checked,
        force_loop_bounding: checked,
        ..Default::default()
    };
    let mut text = String::new();
    let pipeline_options = hlsl::PipelineOptions::default();
    let reflection = hlsl::Writer::new(&mut text, &options, &pipeline_options)
        .write(&shader.module, &shader.info, None)
        .unwrap_or_else(|error| panic!("{}, HLSL: {error}", shader.name));
    for entry in reflection.entry_point_names {
        let entry = entry.unwrap_or_else(|error| panic!("{}, HLSL: {error}", shader.name));
        assert!(text.contains(&format!("void {entry}(")), "{}: no entry point in the HLSL text", shader.name);
    }
}

#[test]
fn every_variant_translates_for_every_backend() {
    for shader in all() {
        for checked in [true, false] {
            to_spirv(&shader, checked);
            to_metal(&shader, checked);
            // Direct3D has no cooperative matrices.
            if !cooperative(shader.kernel) {
                to_hlsl(&shader, checked);
            }
        }
    }
}

#[test]
fn every_variant_stays_within_the_floor_limits() {
    for shader in all() {
        let name = &shader.name;
        let [entry] = &shader.module.entry_points[..] else { panic!("{name} has not one entry point") };
        assert_eq!(entry.name, "main", "{name}");
        assert!(entry.workgroup_size.iter().product::<u32>() <= 256, "{name}: {:?}", entry.workgroup_size);
        let (storage, textures): (Vec<_>, Vec<_>) = shader
            .bindings()
            .into_iter()
            .partition(|(_, access)| matches!(access, Access::Read | Access::Write));
        assert!(storage.len() <= 12, "{name}: {} storage buffers", storage.len());
        assert!(textures.len() <= 4, "{name}: {} textures", textures.len());
        let workgroup = shader.bytes_in(|space| space == AddressSpace::WorkGroup);
        assert!(workgroup <= 16 << 10, "{name}: {workgroup} bytes of workgroup memory");
        let params = shader.params_bytes();
        assert!(params > 0 && params <= 128, "{name}: {params} bytes of parameters");
        for (_, ty) in shader.module.types.iter() {
            if let TypeInner::Atomic(scalar) = ty.inner {
                assert_eq!(scalar, naga::Scalar::U32, "{name}: atomics other than u32 are not deterministic");
            }
        }
    }
}

#[test]
fn bindings_are_those_that_the_kernel_declares() {
    for shader in all() {
        let mut found = shader.bindings();
        found.sort_by_key(|(binding, _)| binding.binding);
        let declared: Vec<_> = shader
            .kernel
            .bindings
            .iter()
            .copied()
            .enumerate()
            .map(|(i, access)| (ResourceBinding { group: 0, binding: i as u32 }, access))
            .collect();
        assert_eq!(found, declared, "{}", shader.name);
    }
}

#[test]
fn kernels_have_different_names() {
    let mut names: Vec<_> = ALL.iter().map(|kernel| kernel.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALL.len());
}

/// One launch of each kernel, however small; `s` stands for every buffer.
fn sample_launches(s: &Slice) -> Vec<Launch> {
    let block =
        Block { rows: 3, first_label: 0, fan_in: 2, group: 1, batch: 2, precision: Precision::default() };
    let (rule, rates) = (Rule::AdamW, Rates::default());
    let growth = Growth { features: 4, bound: 1.0, seed: 1, step: 1, first_wiring: false, states: 2 };
    let digit = Digit { shift: 24, prefix: 0, equal_score: None };
    let place = Place { first_row: 0, width: 1, first_column: 0 };
    let attention =
        Attention { documents: 1, tokens: 1, heads: 1, head_size: 1, max_length: 1, dropout: Dropout::OFF };
    let step = StepOptions {
        loss: Loss::Bce,
        scale: 1.0,
        positives: 0,
        rule,
        rates,
        rounding: Rounding::default(),
        train_bias: true,
        fetch: Fetch::Dear,
    };
    let windows = Windows::with_an_index_each(1, 5);
    let eights = Block { fan_in: 8, ..block };
    let pairs = StepOptions { fetch: Fetch::DearPairs, ..step };
    let textures = StepOptions { fetch: Fetch::Textures, ..step };
    let cpu = Device::cpu(DeviceOptions { threads: 1, ..DeviceOptions::default() }).unwrap();
    let tiles = fan_in_group_step::Tiles::of(&cpu, block, Fetch::Textures).unwrap();
    let mut launches = vec![
        attention_delta::launch(attention, s, s, s),
        attention_forward::launch(attention, s, s, s, s, s, s),
        attention_key_value_gradient::keys(attention, [s; 7], s),
        attention_query_gradient::launch(attention, [s; 7], s),
        activation::forward(Activation::Gelu, 1, s, s),
        activation::backward(Activation::Relu, 1, s, s, s, None),
        activation::backward(Activation::GeluTanh, 1, s, s, s, Some(s)),
        add_norm::launch(1, 1, 1e-5, Dropout::OFF, [s; 7]),
        bag_forward::launch(1, 1, 1, [s; 4]),
        bias_update::launch(block, rule, rates, [s; 4]),
        clip_factor::launch(1, 1.0, s, s),
        column_sum::launch(1, 1, s, s, false),
        dropout_columns::launch(1, 1, Dropout::OFF, s, s),
        dropout_columns_backward::launch(1, 1, Dropout::OFF, s, s),
        dropout_rows::launch(1, Dropout::OFF, s, s),
        embed_tokens::launch(1, 1, 1, 0, [s; 6], false),
        embedding_gradient::launch(1, 1, 1, [s; 5]),
        embedding_update::launch(1, 1, 1, rule, rates, StateStorage::default(), [s; 5]),
        fan_in_dlogits::launch(block, Some(Loss::Bce), 1.0, 0, [s; 7]),
        fan_in_feature_gradient::launch(block, 4, windows, Fetch::Dear, [s; 5]),
        fan_in_feature_gradient::launch(block, 4, windows, Fetch::DearPairs, [s; 5]),
        fan_in_feature_gradient::launch(block, 4, windows, Fetch::Textures, [s; 5]),
        fan_in_group_gradient::launch(block, [s; 3]),
        fan_in_group_logits::launch(block, Loss::Bce, 1.0, 0, [s; 7]),
        fan_in_group_step::launch(block, &step, (4, 1, tiles), [s; 3], [s; 6], [s; 3]),
        fan_in_group_step::launch(block, &pairs, (4, 1, tiles), [s; 3], [s; 6], [s; 3]),
        fan_in_group_step::launch(eights, &pairs, (4, 1, tiles), [s; 3], [s; 6], [s; 3]),
        fan_in_group_step::launch(block, &textures, (4, 1, tiles), [s; 3], [s; 6], [s; 3]),
        fan_in_group_step::launch(eights, &textures, (4, 1, tiles), [s; 3], [s; 6], [s; 3]),
        fan_in_group_update::launch(block, &step, [s; 3], [s; 3]),
        fan_in_step::launch(block, &step, [s; 3], [s; 6], [s; 3]),
        fan_in_step::launch(block, &pairs, [s; 3], [s; 6], [s; 3]),
        fan_in_step::launch(block, &textures, [s; 3], [s; 6], [s; 3]),
        fan_in_step::launch(eights, &textures, [s; 3], [s; 6], [s; 3]),
        fan_in_logits::launch(block, [s; 5]),
        fan_in_top_k::launch(block, 5, [s; 8]),
        feature_texture::launch(1, 1, s, s),
        half_features::launch(2, true, s, s),
        label_loss::launch(block, Some(Loss::Bce), 1.0, 0, [s; 5]),
        layer_norm::launch(1, 1, 1e-5, [s; 5]),
        layer_norm_backward::launch(1, 1, [s; 5]),
        layer_norm_parameters::launch(1, 1, [s; 5], true),
        logits_top_k::launch(block, 5, [s; 6]),
        loss_sum::launch(1, 0, 1.0, s, s),
        matmul_maximum::launch(1, s, s),
        optimizer_step::launch(1, rule, rates, StateStorage::default(), [s; 4]),
        pool::forward(PoolKind::Mean, 1, 1, 1, place, s, s, s),
        pool::backward(PoolKind::First, 1, 1, 1, place, s, s, s, true),
        probe_copy::launch(4, s, s),
        probe_fma::launch(1, 1, s),
        probe_gather::launch(1, 1, [1, 16], Fetch::Cheap, [s, s]),
        probe_gather::launch(1, 1, [1, 16], Fetch::DearPairs, [s, s]),
        probe_gather::launch(1, 1, [1, 16], Fetch::Textures, [s, s]),
        positive_bits::launch(1, 0, 16, 0, [s; 2]),
        position_gradient::launch(1, 1, 1, 1, 0, [s; 3], false),
        rewire_histogram::launch(block, digit, s, s),
        rewire_mask::launch(block, rewire_mask::Rule::PerRow(1), s, s),
        rewire_regrow::launch(block, growth, [s; 7]),
        row_bias::launch(1, 1, s, s),
        scale_by::launch(1, s, s),
        square_sum::launch(1, s, s, 0),
        token_gradient::launch(1, 1, [s; 4], false),
        top_k_merge::launch(16, 1, 5, true, [s; 4]),
    ];
    let activation = Activation::Gelu;
    for epilogue in [Epilogue::Bias(s), Epilogue::BiasActivation { bias: s, activation, activated: s }] {
        let product =
            Product { sizes: [1; 3], layout: Layout::Nt, a: s, b: s, c: s, epilogue, gradient: None };
        launches.extend([matmul::launch(&product), matmul_tiled::launch(8, &product)]);
        let matrices = [8, 16].map(|size| Cooperative { size, subgroup: 32 });
        launches.extend(matrices.map(|matrices| matmul_cooperative::launch(matrices, &product, s)));
    }
    launches.push(rewire_regrow::launch_in_place(block, growth, [s; 7]));
    launches.extend(rewire_gradient::launches(block, growth, 1, 1, [s; 4]));
    let sort = Sort { block, features: 4, lists: windows.lists, fetch: Fetch::Cheap };
    launches.extend(sort.launches([s; 4]));
    launches.push(inverted_index_pack::launch(Lists { narrow: true, ..windows.lists }, 2, 1, s, s));
    let indices = Indices::Stratified { features: 4 };
    let stratified = Block { precision: Precision { indices, ..block.precision }, ..block };
    let [gradient, _] = fan_in_strata_gradient::launches(stratified, 4, 1, [s; 5]);
    launches.push(gradient);
    launches
}

#[test]
fn launches_pass_what_the_shaders_take() {
    let device = Device::cpu(DeviceOptions { threads: 1, ..DeviceOptions::default() }).unwrap();
    let slice = device.allocate("anything", 4096).unwrap().whole();
    let launches = sample_launches(&slice);
    for kernel in ALL {
        assert!(
            launches.iter().any(|l| l.kernel.name == kernel.name),
            "add a launch of {kernel:?} to this test"
        );
    }
    for launch in launches {
        let name = launch.kernel.name;
        let parsed = parse(launch.kernel, &launch.constants, true);
        assert_eq!(launch.params.len() as u32 * 4, parsed.params_bytes(), "{name}: size of Params");
        assert_eq!(launch.bindings.len(), launch.kernel.bindings.len(), "{name}: bindings");
        let names =
            |constants: &[(&'static str, u32)]| constants.iter().map(|(name, _)| *name).collect::<Vec<_>>();
        for variant in (launch.kernel.variants)() {
            assert_eq!(names(&variant), names(&launch.constants), "{name}: constants");
        }
    }
}
