//! What a load does with latencies: each is recorded, and at the end of a cell histograms are merged, asked for
//! percentiles, written and read.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use inroads_harness::measure::Histogram;

/// Latencies in one histogram: a short cell's.
const COUNT: u32 = 10_000;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .without_plots()
        .configure_from_args();
    histogram(&mut criterion);
    criterion.final_summary();
}

fn histogram(criterion: &mut Criterion) {
    let latencies: Vec<Duration> = (0..COUNT).map(latency).collect();
    let recorded = of(&latencies);
    let text = recorded.encode();
    check(&latencies, &recorded, &text);

    let mut group = criterion.benchmark_group("histogram");
    group.throughput(Throughput::Elements(COUNT.into()));
    let mut all = Histogram::default();
    group.bench_function("record", |bencher| {
        bencher.iter(|| {
            for latency in black_box(&latencies) {
                all.record(*latency);
            }
        });
        black_box(&all);
    });
    group.throughput(Throughput::Elements(1));
    group.bench_function("merge", |bencher| {
        bencher.iter(|| all.merge(black_box(&recorded)));
        black_box(&all);
    });
    group.bench_function("percentile", |bencher| {
        bencher.iter(|| black_box(&recorded).percentile_us(black_box(0.99)));
    });
    group.throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("encode", |bencher| {
        bencher.iter(|| black_box(&recorded).encode());
    });
    group.bench_function("decode", |bencher| {
        bencher.iter(|| Histogram::decode(black_box(&text)));
    });
    group.finish();
}

fn of(latencies: &[Duration]) -> Histogram {
    let mut histogram = Histogram::default();
    latencies.iter().for_each(|it| histogram.record(*it));
    histogram
}

/// The `n`th latency: 50 µs to a millisecond, one of a hundred a hundred times that, in no order that a branch
/// predictor could learn.
fn latency(n: u32) -> Duration {
    // Knuth's multiplicative hash.
    let mixed = n.wrapping_mul(2_654_435_761);
    let base = Duration::from_nanos(50_000 + u64::from(mixed) % 950_000);
    if mixed.is_multiple_of(100) {
        base * 100
    } else {
        base
    }
}

/// What is measured below must be right first.
fn check(latencies: &[Duration], recorded: &Histogram, text: &str) {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    let exact = sorted[sorted.len() / 2 - 1].as_secs_f64() * 1e6;
    let median = recorded.percentile_us(0.5).expect("there are enough");
    assert!(
        (median / exact - 1.0).abs() < 2e-3,
        "{median} µs instead of {exact} µs"
    );
    let read = Histogram::decode(text).expect("it was just written");
    assert_eq!(read.percentile_us(0.99), recorded.percentile_us(0.99));
    let mut twice = recorded.clone();
    twice.merge(&read);
    assert_eq!(twice.len(), 2 * u64::from(COUNT));
}
