//! The `valetd` program: parse, build, wait, drain.

fn main() {}
