//! Turns `data/syscalls.tsv` into a sorted static table.

use std::fmt::Write;
use std::{env, fs, path::Path};

fn main() {
    println!("cargo::rerun-if-changed=data/syscalls.tsv");
    let text = fs::read_to_string("data/syscalls.tsv").expect("read data/syscalls.tsv");
    let mut rows: Vec<Vec<&str>> =
        text.lines().filter(|l| !l.starts_with('#')).skip(1).map(|l| l.split('\t').collect()).collect();
    rows.sort();
    let mut out = String::from("&[\n");
    for row in rows {
        let (name, numbers) = row.split_first().expect("a name");
        let numbers: Vec<String> = numbers
            .iter()
            .map(|n| match *n {
                "-" => "NONE".to_owned(),
                n => n.parse::<u32>().expect("a number or -").to_string(),
            })
            .collect();
        writeln!(out, "    ({name:?}, [{}]),", numbers.join(", ")).expect("write to a string");
    }
    out.push(']');
    let path = Path::new(&env::var_os("OUT_DIR").expect("OUT_DIR")).join("syscalls.rs");
    fs::write(path, out).expect("write syscalls.rs");
}
