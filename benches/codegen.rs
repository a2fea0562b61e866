//! Checking and generating servers of 10, 100 and 1,000 tools.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use metamcp_benches::definition;
use metamcp_core::{generate, validate};

fn codegen(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codegen");
    for tools in [10, 100, 1_000] {
        let written = definition("bench", tools);
        let valid = validate(&written).expect("the definition is good");
        group.bench_function(BenchmarkId::new("validate", tools), |bencher| bencher.iter(|| validate(&written)));
        group.bench_function(BenchmarkId::new("generate", tools), |bencher| bencher.iter(|| generate(&valid)));
    }
    group.finish();
}

criterion_group!(benches, codegen);
criterion_main!(benches);
