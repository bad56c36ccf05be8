//! The way back from namespaces that were joined for the sake of a child that is born there: later children, hooks among
//! them, are the host's again.

use drydock_core::Result;
use drydock_core::error::CallExt;
use drydock_namespaces::{Kind, join};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::os::fd::AsFd;

/// The caller's own time namespace, where another's is to be joined.
#[derive(Debug)]
pub struct Home(Vec<(Kind, LinkNameSpaceType, File)>);

impl Home {
    /// To be called before these are joined.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn remember(joined: &[(Kind, join::Source)]) -> Result<Self> {
        let kinds = [(Kind::Time, LinkNameSpaceType::Time)];
        let wanted = kinds.into_iter().filter(|(kind, _)| joined.iter().any(|(other, _)| kind == other));
        let open = |(kind, link): (Kind, LinkNameSpaceType)| {
            let path = format!("/proc/self/ns/{kind}");
            Ok((kind, link, File::open(&path).call(|| format!("open({path:?})"))?))
        };
        wanted.map(open).collect::<Result<_>>().map(Self)
    }

    /// Joins them again.
    ///
    /// # Errors
    /// setns(2)'s.
    pub fn back(self) -> Result<()> {
        self.0.into_iter().try_for_each(|(kind, link, file)| {
            move_into_link_name_space(file.as_fd(), Some(link))
                .call(|| format!("setns(own {kind} namespace)"))
        })
    }
}
