//! Lets a static runw begin at its own entry point (wharf_sys::protected_start).

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let of_target = |name: &str| std::env::var(format!("CARGO_CFG_TARGET_{name}")).unwrap_or_default();
    // a dynamic one is started by the dynamic linker, which has done by then what is to be saved
    let is_static = of_target("FEATURE").split(',').any(|feature| feature == "crt-static");
    if is_static && of_target("ARCH") == "x86_64" && of_target("OS") == "linux" {
        println!("cargo:rustc-link-arg-bin=runw=-Wl,--entry=wharf_protected_start");
    }
}
