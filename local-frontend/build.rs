//! Takes the agent into the program, if `SOCKERLESS_AGENT` names it at build time.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(embedded_agent)");
    println!("cargo::rerun-if-env-changed=SOCKERLESS_AGENT");
    let Some(agent) = std::env::var_os("SOCKERLESS_AGENT").filter(|agent| !agent.is_empty()) else {
        return;
    };
    match std::fs::canonicalize(&agent) {
        Ok(path) => {
            println!("cargo::rerun-if-changed={}", path.display());
            println!(
                "cargo::rustc-env=SOCKERLESS_EMBEDDED_AGENT={}",
                path.display()
            );
            println!("cargo::rustc-cfg=embedded_agent");
        }
        Err(error) => println!("cargo::error=SOCKERLESS_AGENT={}: {error}", agent.display()),
    }
}
