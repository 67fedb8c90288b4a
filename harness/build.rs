//! Passes the optimisation level on to the crate, which records whether figures are of an optimised build.

fn main() {
    let level = std::env::var("OPT_LEVEL").unwrap_or_default();
    println!("cargo::rustc-env=INROADS_OPT_LEVEL={level}");
    println!("cargo::rerun-if-changed=build.rs");
}
