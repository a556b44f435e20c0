//! The network: a namespace a machine, joined by a bridge inside the control plane's, and one
//! link to the host over which its API is reached. Nothing has a route to anywhere else.

use std::{fs, net::Ipv4Addr, path::Path};

use anyhow::{Context as _, Result};

use super::{
    layout::{Layout, Machine, SERVICES},
    process::run,
};

/// The link to the host takes the first of these blocks of four addresses that is free there.
const LINK_BLOCKS: std::ops::Range<u8> = 0..64;

/// Where `ip netns` keeps namespaces.
pub(super) const NAMESPACES: &str = "/run/netns";

/// The two ends of the link between the host and the control plane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Link {
    /// The host's address.
    pub(super) host: Ipv4Addr,
    /// The API server's, as the host sees it.
    pub(super) api: Ipv4Addr,
}

/// Makes the namespaces and everything that joins them.
pub(super) fn make(layout: &Layout) -> Result<Link> {
    let link = free_link(&used()?).context(
        "No addresses are free for the link to the cluster: 10.213.0.0/24 is routed elsewhere",
    )?;
    for machine in Machine::ALL {
        run("ip", ["netns", "add", &layout.namespace(machine)])?;
        inside(layout, machine, &["link", "set", "lo", "up"])?;
    }
    let control = layout.namespace(Machine::Control);
    let on_control =
        |arguments: &[&str]| inside(layout, Machine::Control, arguments).map(|_output| ());
    on_control(&["link", "add", "nodes", "type", "bridge"])?;
    on_control(&["address", "add", &wide(Machine::Control), "dev", "nodes"])?;
    on_control(&["link", "set", "nodes", "up"])?;
    for node in Machine::NODES {
        join(layout, node)?;
    }
    for node in Machine::NODES {
        route_pods(layout, Machine::Control, node)?;
    }

    run(
        "ip",
        [
            "link",
            "add",
            &layout.name,
            "type",
            "veth",
            "peer",
            "name",
            "host",
            "netns",
            &control,
        ],
    )?;
    let host = format!("{}/30", link.host);
    run("ip", ["address", "add", &host, "dev", &layout.name])?;
    run("ip", ["link", "set", &layout.name, "up"])?;
    let api = format!("{}/30", link.api);
    on_control(&["address", "add", &api, "dev", "host"])?;
    on_control(&["link", "set", "host", "up"])?;
    Ok(link)
}

/// Gives `node` its interface, its routes to the other node's pods and to services.
fn join(layout: &Layout, node: Machine) -> Result<()> {
    let namespace = layout.namespace(node);
    inside(
        layout,
        Machine::Control,
        &[
            "link",
            "add",
            node.name(),
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            &namespace,
        ],
    )?;
    inside(
        layout,
        Machine::Control,
        &["link", "set", node.name(), "master", "nodes", "up"],
    )?;
    inside(
        layout,
        node,
        &["address", "add", &wide(node), "dev", "eth0"],
    )?;
    inside(layout, node, &["link", "set", "eth0", "up"])?;
    for other in Machine::NODES.into_iter().filter(|other| *other != node) {
        route_pods(layout, node, other)?;
    }
    // The node's own connections to services need a route before they can be redirected.
    inside(layout, node, &["route", "add", SERVICES, "dev", "eth0"])?;
    Ok(())
}

/// Lets `from` reach the pods of `node`.
fn route_pods(layout: &Layout, from: Machine, node: Machine) -> Result<()> {
    if let Some(pods) = node.pods() {
        inside(layout, from, &["route", "add", pods, "via", node.address()])?;
    }
    Ok(())
}

/// Removes the host's link and the namespaces, whichever of them are there.
pub(super) fn remove(layout: &Layout) -> Result<()> {
    let namespaces = namespaces(layout)?;
    if link_exists(layout) {
        run("ip", ["link", "delete", &layout.name])?;
    }
    for namespace in namespaces {
        run("ip", ["netns", "delete", &namespace])?;
    }
    // `ip netns` made this folder a mount. It goes with the last namespace, be it anybody's.
    let folder = Path::new(NAMESPACES);
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none()) {
        let _not_a_mount = run("umount", [folder]);
        let _in_use = fs::remove_dir(folder);
    }
    Ok(())
}

/// The namespaces of this cluster that are there.
pub(super) fn namespaces(layout: &Layout) -> Result<Vec<String>> {
    let listed = run("ip", ["netns", "list"])?;
    let ours: Vec<String> = Machine::ALL.map(|machine| layout.namespace(machine)).into();
    Ok(listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .filter(|name| ours.contains(name))
        .collect())
}

/// Whether the host's end of the link is there.
pub(super) fn link_exists(layout: &Layout) -> bool {
    Path::new("/sys/class/net").join(&layout.name).exists()
}

/// Runs `ip` in the namespace of `machine`.
fn inside(layout: &Layout, machine: Machine, arguments: &[&str]) -> Result<String> {
    let namespace = layout.namespace(machine);
    let mut all = vec!["-n", &namespace];
    all.extend(arguments);
    run("ip", all)
}

fn wide(machine: Machine) -> String {
    format!("{}/24", machine.address())
}

/// The IPv4 blocks that the host's routes and addresses take, as `address/bits` or `address`.
fn used() -> Result<Vec<String>> {
    let routes = run("ip", ["-4", "-o", "route", "show", "table", "all"])?;
    Ok(routes
        .lines()
        .filter_map(|line| {
            // `local 10.0.0.1 dev …` and `10.0.0.0/8 via …` alike; `default` is no block.
            line.split_whitespace()
                .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
                .filter(|_| !line.starts_with("default"))
                .map(str::to_owned)
        })
        .collect())
}

/// The first link whose addresses no block in `used` takes.
fn free_link(used: &[String]) -> Option<Link> {
    let used: Vec<(u32, u32)> = used.iter().filter_map(|block| parse(block)).collect();
    LINK_BLOCKS.map(|block| block * 4).find_map(|first| {
        let network = u32::from(Ipv4Addr::new(10, 213, 0, first));
        let taken = used.iter().any(|(address, bits)| {
            let mask = mask(*bits.min(&30));
            address & mask == network & mask
        });
        (!taken).then(|| Link {
            host: Ipv4Addr::from(network | 1),
            api: Ipv4Addr::from(network | 2),
        })
    })
}

fn parse(block: &str) -> Option<(u32, u32)> {
    let (address, bits) = block.split_once('/').unwrap_or((block, "32"));
    Some((
        u32::from(address.parse::<Ipv4Addr>().ok()?),
        bits.parse::<u32>().ok().filter(|bits| *bits <= 32)?,
    ))
}

fn mask(bits: u32) -> u32 {
    u32::MAX.checked_shl(32 - bits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_link_avoids_what_the_host_routes() {
        let link = |used: &[&str]| {
            let used: Vec<String> = used.iter().map(|block| (*block).to_owned()).collect();
            free_link(&used).map(|link| link.api.to_string())
        };
        assert_eq!(link(&[]).as_deref(), Some("10.213.0.2"));
        assert_eq!(link(&["192.0.2.0/24"]).as_deref(), Some("10.213.0.2"));
        assert_eq!(link(&["10.213.0.1"]).as_deref(), Some("10.213.0.6"));
        assert_eq!(link(&["10.213.0.0/28"]).as_deref(), Some("10.213.0.18"));
        assert_eq!(link(&["10.0.0.0/8"]), None);
        assert_eq!(link(&["0.0.0.0/0"]), None);
    }
}
