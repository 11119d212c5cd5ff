//! Repeats a piece of work and keeps the median.

use std::time::Instant;

use super::Row;
use crate::error::Result;

/// Repetitions whose times are thrown away: they compile shaders and touch memory for the first time.
const WARM_UP: usize = 2;
/// Repetitions at least and at most.
const REPETITIONS: (usize, usize) = (5, 400);

/// Times `work`, which waits for the device, over about `seconds`.
pub(super) fn time(name: &str, seconds: f64, mut work: impl FnMut() -> Result<()>) -> Result<Row> {
    for _ in 0..WARM_UP {
        work()?;
    }
    let began = Instant::now();
    let mut times = Vec::new();
    while times.len() < REPETITIONS.0
        || (times.len() < REPETITIONS.1 && began.elapsed().as_secs_f64() < seconds)
    {
        let start = Instant::now();
        work()?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(Row {
        name: name.to_owned(),
        milliseconds: times[times.len() / 2],
        best: times[0],
        repetitions: times.len(),
        documents_per_second: None,
        work: None,
        shares: None,
        binds: None,
        bytes_over_bound: None,
        memory_bytes_over_bound: None,
    })
}
