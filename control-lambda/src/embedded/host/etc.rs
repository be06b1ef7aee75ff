//! The files of `/etc` that are the container's own, as Docker writes them.

use std::fmt::Write as _;

use crate::ports::machine::Machine;

/// The address that `slirp4netns` gives to a sandbox.
pub(super) const SLIRP_ADDRESS: &str = "10.0.2.100";

/// What Docker's `/etc/hosts` begins with.
const HOSTS: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
                     fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\n\
                     ff02::2\tip6-allrouters\n";

/// Paths and contents. `address` is the container's own, if it has one, and
/// `name_servers` are those of its network.
pub(super) fn files(
    machine: &Machine,
    address: Option<&str>,
    name_servers: &[String],
) -> Vec<(String, String)> {
    vec![
        (
            "/etc/hostname".to_owned(),
            format!("{}\n", machine.hostname),
        ),
        ("/etc/hosts".to_owned(), hosts(machine, address)),
        (
            "/etc/resolv.conf".to_owned(),
            resolv_conf(machine, name_servers),
        ),
    ]
}

fn hosts(machine: &Machine, address: Option<&str>) -> String {
    let mut text = HOSTS.to_owned();
    for (address, name) in &machine.hosts {
        let _ = writeln!(text, "{address}\t{name}");
    }
    if let Some(address) = address {
        let Machine {
            hostname,
            domainname,
            ..
        } = machine;
        let full = match domainname.as_str() {
            "" => hostname.clone(),
            domain => format!("{hostname}.{domain}"),
        };
        let _ = match full.split_once('.') {
            Some((short, _)) => writeln!(text, "{address}\t{full} {short}"),
            None => writeln!(text, "{address}\t{full}"),
        };
    }
    text
}

fn resolv_conf(machine: &Machine, name_servers: &[String]) -> String {
    let mut text = String::new();
    let servers = if machine.name_servers.is_empty() {
        name_servers
    } else {
        &machine.name_servers
    };
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    // A lone dot takes away what would be searched otherwise.
    let search: Vec<_> = machine
        .search_domains
        .iter()
        .filter(|d| *d != ".")
        .cloned()
        .collect();
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    if !machine.resolver_options.is_empty() {
        let _ = writeln!(text, "options {}", machine.resolver_options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_docker_writes_them() {
        let mut machine = Machine {
            hostname: "h".into(),
            hosts: vec![("1.2.3.4".into(), "foo".into())],
            ..Machine::default()
        };
        assert!(hosts(&machine, None).ends_with("ip6-allrouters\n1.2.3.4\tfoo\n"));
        assert!(hosts(&machine, Some("10.0.2.100")).ends_with("foo\n10.0.2.100\th\n"));
        machine.domainname = "example.com".into();
        assert!(hosts(&machine, Some("1.1.1.1")).ends_with("\n1.1.1.1\th.example.com h\n"));
        machine.domainname.clear();
        machine.hostname = "a.b.c".into();
        assert!(hosts(&machine, Some("1.1.1.1")).ends_with("\n1.1.1.1\ta.b.c a\n"));
    }

    #[test]
    fn what_is_said_of_name_servers_replaces_the_networks_own() {
        let own = ["10.0.2.3".to_owned()];
        let mut machine = Machine::default();
        assert_eq!(resolv_conf(&machine, &own), "nameserver 10.0.2.3\n");
        machine.name_servers = vec!["1.1.1.1".into(), "8.8.8.8".into()];
        machine.search_domains = vec!["example.com".into()];
        machine.resolver_options = vec!["ndots:2".into()];
        assert_eq!(
            resolv_conf(&machine, &own),
            "nameserver 1.1.1.1\nnameserver 8.8.8.8\nsearch example.com\noptions ndots:2\n"
        );
        machine.search_domains = vec![".".into()];
        assert!(!resolv_conf(&machine, &own).contains("search"));
    }
}
