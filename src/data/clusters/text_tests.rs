use super::*;
use crate::data::split::Split;
use crate::random::words;

fn vectors(split: &Split, labels: usize) -> LabelVectors {
    LabelVectors::of_split(split, labels, LabelVectors::MAX_TERMS, &mut |_| {})
}

/// Documents of 8 topics with 12 labels each, three documents a label: two words of the label, six of the topic's ten,
/// one of all. Label l is of topic l mod 8.
fn topics() -> Split {
    let document = |number: u32| {
        let label = number % 96;
        let topic = label % 8;
        let drawn = |i: u32| words(5, Purpose::Synth, 0, number, i)[0];
        let mut tokens = vec![100 + label, 300 + label, drawn(9) % 3];
        tokens.extend((0..6).map(|i| 10 + topic * 10 + below(drawn(i), 10)));
        (tokens, [label])
    };
    Split::from_documents((0..3 * 96).map(document))
}

#[test]
fn planted_topics_are_found() {
    let vectors = vectors(&topics(), 96);
    for seed in 0..4 {
        let clusters = vectors.clusters(12, seed, &mut |_| {}).unwrap();
        assert_eq!((clusters.count(), clusters.sizes()), (8, (12, 12)));
        // Of the 66 pairs in each cluster all are of one topic where every topic is found whole.
        let lists = clusters.lists();
        let pairs = |labels: &[u32]| {
            let of_topic = |topic| labels.iter().filter(|label| *label % 8 == topic).count();
            (0..8).map(of_topic).map(|n| n * n.saturating_sub(1) / 2).sum::<usize>()
        };
        let found: usize = (0..8).map(|cluster| pairs(lists.of(cluster))).sum();
        // An unlucky start may still tear a topic apart; by chance it would be 11 of 95 pairs, 61 in all.
        assert!(found >= 420, "seed {seed}: {found} of 528 pairs");
        let random = LabelClusters::random(96, 12, seed);
        let (cosine, by_chance) = (vectors.mean_cosine(&clusters), vectors.mean_cosine(&random));
        assert!(cosine > by_chance + 0.1, "{cosine}, random {by_chance}");
    }
}

/// Two labels of word 0, two of word 1: the only halving that gains is the right one, from any start with different
/// words; the mean cosine is then 1.
#[test]
fn four_labels_by_hand() {
    let split = Split::from_documents([([0], [0]), ([1], [1]), ([1], [2]), ([0], [3])]);
    let vectors = vectors(&split, 4);
    let seeds: Vec<u64> = (0..20)
        .filter(|seed| {
            let [a, b] = starts(*seed, 0, 0, 4).next().unwrap();
            (a == 0 || a == 3) != (b == 0 || b == 3)
        })
        .collect();
    assert!(seeds.len() > 5);
    for seed in seeds {
        let clusters = vectors.clusters(2, seed, &mut |_| {}).unwrap();
        let of = clusters.of_label();
        assert!(of[0] == of[3] && of[1] == of[2] && of[0] != of[1], "{of:?}");
        assert!((vectors.mean_cosine(&clusters) - 1.0).abs() < 1e-6);
    }
    // Mixed by force: a centre is (1, 1)/√2, and each label's cosine with it 1/√2.
    let mixed = LabelClusters::new(vec![0, 0, 1, 1]).unwrap();
    assert!((vectors.mean_cosine(&mixed) - 0.5_f64.sqrt()).abs() < 1e-6);
}

#[test]
fn sizes_differ_by_at_most_one_whatever_is_mute() {
    // Every third label has no document, and documents of one word in all say nothing.
    for labels in [1_u32, 2, 3, 7, 31, 100] {
        let document = |label: u32| (vec![0, 1 + label, 1 + label % 5], [label]);
        let split = Split::from_documents((0..labels).filter(|label| label % 3 != 1).map(document));
        let vectors = vectors(&split, labels as usize);
        for size in [1, 2, 5, 64, 1000] {
            let clusters = vectors.clusters(size, 3, &mut |_| {}).unwrap();
            let (smallest, largest) = clusters.sizes();
            assert!(smallest >= 1 && largest <= size, "{labels} labels by {size}: {smallest} to {largest}");
            assert!(largest - smallest <= 1, "{labels} labels by {size}: {smallest} to {largest}");
            let halvings = (labels as usize).div_ceil(size).next_power_of_two();
            assert_eq!(clusters.count(), halvings.min(labels as usize), "{labels} by {size}");
        }
    }
    let silent = Split::from_documents([([0], [0]), ([0], [1])]);
    assert_eq!(vectors(&silent, 5).clusters(3, 1, &mut |_| {}).unwrap().of_label(), [0, 1, 0, 1, 0]);
    assert!(vectors(&silent, 5).clusters(0, 1, &mut |_| {}).is_err());
}

/// More labels than one thread takes alone, so that the parts of a large node are summed too.
#[test]
fn the_number_of_threads_does_not_matter() {
    let labels = LARGE as u32 * 2 + 77;
    let document = |label: u32| {
        let [a, b, c, _] = words(8, Purpose::Synth, 0, label, 0);
        ([a % 50, b % 500, 500 + c % 3000], [label])
    };
    let split = Split::from_documents((0..labels).map(document));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let vectors = vectors(&split, labels as usize);
            let clusters = vectors.clusters(4000, 7, &mut |_| {}).unwrap();
            (vectors.mean_cosine(&clusters).to_bits(), clusters)
        })
    };
    let (one, three) = (with(1), with(3));
    assert_eq!((one.1.count(), one.1.sizes()), (32, (2050, 2051)));
    assert!(one == three);
}

#[test]
fn progress_reaches_its_end() {
    let mut last = Vec::new();
    let split = topics();
    let mut report = |progress: ClusterProgress| {
        last.retain(|known: &ClusterProgress| known.stage != progress.stage);
        last.push(progress);
    };
    let vectors = LabelVectors::of_split(&split, 96, 9, &mut report);
    vectors.clusters(12, 1, &mut report).unwrap();
    let ends: Vec<(u64, u64)> = last.iter().map(|progress| (progress.done, progress.total)).collect();
    assert_eq!(ends, [(96, 96), (3, 3)]);
}
