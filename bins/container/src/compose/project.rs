//! A whole project: the file's services and networks, checked against each other, in the order in which they start.

use crate::compose::file::File;
use crate::compose::network::Network;
use crate::compose::service::{Condition, Service};
use crate::compose::tree::Node;
use crate::compose::{ORDER, PROJECT, SERVICE};
use drydock_core::{Error, Result, text};
use std::path::Path;

/// A project.
#[derive(Clone, Debug)]
pub struct Project {
    /// Its name.
    pub name: String,
    /// Its services: each after those that it depends on.
    pub services: Vec<Service>,
    /// Its networks.
    pub networks: Vec<Network>,
}

/// How many services, networks, or published ports a project may have.
const MAX: usize = 1000;

const TOP: [&str; 6] = ["name", "version", "services", "networks", "volumes", "x-*"];

/// The name of a project: what was asked for, `COMPOSE_PROJECT_NAME`, what the file says, or its directory's name.
///
/// # Errors
/// [`drydock_core::Kind::BadInput`] for a name that cannot be.
pub fn name(asked: Option<&str>, file: Option<&File>, dir: &Path) -> Result<String> {
    if let Some(name) = asked {
        return checked(name, "--project-name");
    }
    let variable = match file {
        Some(file) => file.vars.get("COMPOSE_PROJECT_NAME"),
        None => std::env::var("COMPOSE_PROJECT_NAME").ok(),
    };
    if let Some(name) = variable.filter(|name| !name.is_empty()) {
        return checked(&name, "COMPOSE_PROJECT_NAME");
    }
    if let Some(file) = file {
        for (key, node) in file.root().entries()? {
            if key == "name" && !node.is_null() {
                return checked(node.text()?, &node.at);
            }
        }
    }
    let base = dir.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let kept: String =
        base.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(*c)).collect();
    let kept: String = kept.trim_start_matches(['_', '-']).chars().take(40).collect();
    Ok(if kept.is_empty() { "default".into() } else { kept })
}

fn checked(name: &str, at: &str) -> Result<String> {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
    if name.len() <= 40 && name.chars().all(ok) && name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return Ok(name.to_string());
    }
    let shown = text::shorten(&text::escape(name), 60);
    Err(Error::bad_input(
        at,
        format!("'{shown}' is not a project name (allowed: 1 to 40 of a-z 0-9 _ -, a letter or digit first)"),
    ))
}

impl Project {
    /// Reads a file.
    ///
    /// # Errors
    /// [`drydock_core::Kind::BadInput`]: the first thing that is wrong, by its place.
    pub fn read(file: &File, asked: Option<&str>) -> Result<Self> {
        let project = name(asked, Some(file), &file.dir)?;
        let root = file.root();
        let (mut services, mut networks) = (Vec::new(), Vec::new());
        for (key, node) in root.entries()? {
            match key {
                // Said by older files; it means nothing any more.
                "version" | "name" => {}
                "services" => {
                    for (name, node) in node.entries()? {
                        services.push(Service::read(name, &node, &project, file)?);
                    }
                }
                "networks" => {
                    for (name, node) in node.entries()? {
                        networks.push(Network::read(name, &node, &project)?);
                    }
                }
                // A named volume cannot be used, so one that is declared has no effect; what it says is checked all the same.
                "volumes" => node.entries()?.iter().try_for_each(|(_, volume)| empty(volume))?,
                key if key.starts_with("x-") => {}
                _ => return Err(node.unsupported(&TOP)),
            }
        }
        if services.len() > MAX || networks.len() > MAX {
            return Err(Error::bad_input(&file.name, format!("more than {MAX} services or networks")));
        }
        if services.is_empty() {
            return Err(Error::bad_input(&file.name, "has no services"));
        }
        if !networks.iter().any(|n| n.key == "default") {
            networks.push(Network::default_of(&project, &format!("{}: /networks/default", file.name)));
        }
        let mut whole = Self { name: project, services: ordered(services)?, networks };
        whole.check()?;
        whole.label();
        Ok(whole)
    }

    /// Writes down whose the containers are.
    pub fn label(&mut self) {
        for (i, service) in self.services.iter_mut().enumerate() {
            let labels =
                [(PROJECT, self.name.clone()), (SERVICE, service.name.clone()), (ORDER, i.to_string())];
            service.options.labels.extend(labels.map(|(key, value)| (key.to_string(), value)));
            service.options.name = Some(service.id.to_string());
            service.options.detach = true;
        }
    }

    fn check(&self) -> Result<()> {
        for (i, service) in self.services.iter().enumerate() {
            let mut earlier = self.services.iter().take(i);
            if let Some(other) = earlier.find(|other| other.id == service.id) {
                let problem = format!("'{}' is the container of service '{}' too", service.id, other.name);
                return Err(Error::bad_input(format!("{}/container_name", service.at), problem));
            }
            for joined in &service.networks {
                if !self.networks.iter().any(|n| n.key == joined.key) {
                    let key = text::shorten(&text::escape(&joined.key), 60);
                    let at = format!("{}/networks/{key}", service.at);
                    return Err(Error::bad_input(at, "no such network (declare it under /networks)"));
                }
            }
        }
        for (i, network) in self.networks.iter().enumerate() {
            let mut earlier = self.networks.iter().take(i);
            if let Some(other) = earlier.find(|n| n.name == network.name || n.bridge() == network.bridge()) {
                return Err(Error::bad_input(
                    &network.at,
                    format!("has the name of network '{}'", other.key),
                ));
            }
        }
        self.check_ports()
    }

    fn check_ports(&self) -> Result<()> {
        let mut all: Vec<drydock_network::Publish> = Vec::new();
        for service in &self.services {
            let bad = |why: String| Error::bad_input(format!("{}/ports", service.at), why);
            for spec in &service.options.publish {
                all.extend(drydock_network::Publish::parse(spec)?);
                if all.len() > MAX {
                    return Err(bad(format!("more than {MAX} ports")));
                }
            }
            drydock_network::publish::check(&all, None).map_err(|e| bad(e.sentence()))?;
        }
        Ok(())
    }
}

fn empty(volume: &Node<'_>) -> Result<()> {
    match volume.entries()?.into_iter().find(|(key, _)| !key.starts_with("x-")) {
        Some((_, field)) => Err(field.bad("not supported (allowed: nothing; named volumes cannot be used)")),
        None => Ok(()),
    }
}

/// Each service after those it depends on; otherwise as in the file.
fn ordered(mut waiting: Vec<Service>) -> Result<Vec<Service>> {
    for service in &waiting {
        for (name, _) in &service.depends_on {
            let at = || format!("{}/depends_on/{}", service.at, text::shorten(&text::escape(name), 60));
            if *name == service.name {
                return Err(Error::bad_input(at(), "a service cannot depend on itself"));
            }
            if !waiting.iter().any(|other| other.name == *name) {
                return Err(Error::bad_input(at(), "no such service"));
            }
        }
    }
    let mut order: Vec<Service> = Vec::new();
    while !waiting.is_empty() {
        let ready = |s: &Service| s.depends_on.iter().all(|(name, _)| order.iter().any(|o| o.name == *name));
        let Some(next) = waiting.iter().position(ready) else {
            let names: Vec<&str> = waiting.iter().map(|s| s.name.as_str()).take(10).collect();
            let at = waiting.first().map(|s| format!("{}/depends_on", s.at)).unwrap_or_default();
            return Err(Error::bad_input(
                at,
                format!("services wait for each other in a circle, among: {}", names.join(", ")),
            ));
        };
        order.push(waiting.remove(next));
    }
    Ok(order)
}

impl Service {
    /// Has every dependency come as far as this service wants it? `ended` tells how a service ended, `started` whether it was.
    ///
    /// # Errors
    /// A dependency that ended otherwise than it should.
    pub fn may_start(
        &self,
        started: impl Fn(&str) -> bool,
        ended: impl Fn(&str) -> Option<u8>,
    ) -> Result<bool> {
        for (name, condition) in &self.depends_on {
            match condition {
                Condition::Started if started(name) => {}
                Condition::Completed => match ended(name) {
                    Some(0) => {}
                    Some(code) => {
                        let problem =
                            format!("not started: '{name}' ended with code {code}, which should have been 0");
                        return Err(Error::failed(format!("service '{}'", self.name), problem));
                    }
                    None => return Ok(false),
                },
                Condition::Started => return Ok(false),
            }
        }
        Ok(true)
    }
}
